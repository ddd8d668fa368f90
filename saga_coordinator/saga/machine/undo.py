"""The way back: compensations in the reverse of the order in which the steps ran, those independent of each other at once."""

from __future__ import annotations

from saga_coordinator.saga.machine.attempts import start_attempt
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.entries import SagaCompensated, SagaParked
from saga_coordinator.saga.machine.forward import has_room, next_retry
from saga_coordinator.saga.machine.place import node_of
from saga_coordinator.saga.machine.undoing import Undoing
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode, clip

_COMPENSATION = OperationKind.COMPENSATION


def go_back(draft: Draft) -> None:
    """Starts the compensations whose turn it is; ends the saga when none is left."""
    undoing = draft.agenda.undoing
    assert undoing is not None, "the saga does not go back"
    while draft.may_call and _undo_next(draft, undoing):
        pass
    if not undoing.is_over:
        return
    if remaining := draft.remaining_effects():
        draft.record(SagaParked(_cause_of_parking(draft, remaining), remaining))
    else:
        draft.record(SagaCompensated())


def can_go_back(draft: Draft) -> bool:
    """Tells whether a parked saga has a compensation that may start or make another attempt, now or once the attempts in flight
    have ended.
    """
    return not draft.undoing().is_over


def _undo_next(draft: Draft, undoing: Undoing) -> bool:
    """Makes the first attempt whose turn it is. Returns False if there is none, or if this decision may do no more work."""
    retry = next_retry(draft)
    ready = undoing.ready(draft.now) if retry is None and has_room(draft) else None
    if (retry is None and ready is None) or not draft.may_do_more():
        return False
    if retry is not None:
        start_attempt(draft, node_of(draft.definition, draft.state, retry[1]), _COMPENSATION)
    elif ready is not None:
        start_attempt(draft, ready, _COMPENSATION)
    return True


def _cause_of_parking(draft: Draft, remaining: tuple[str, ...]) -> Cause:
    for key in remaining:
        state = draft.state.step(key)
        if state.operation is _COMPENSATION:
            assert state.cause is not None, f"the compensation of {key} has failed without a cause"
            message = clip(f"the compensation did not succeed: {state.cause.message}")
            return Cause(state.cause.code, message, key)
    return Cause(CauseCode.IRREVERSIBLE, "the saga failed after a step that cannot be undone", remaining[0])
