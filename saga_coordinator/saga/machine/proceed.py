"""Does what a saga's state allows next: ends waits, goes forward, turns, undoes, ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from saga_coordinator.saga.machine.draft import Draft, is_past_return
from saga_coordinator.saga.machine.entries import (
    AttemptUnknown,
    AttemptUnresolved,
    SagaAdopted,
    SagaParked,
    SagaUnparked,
    StepFailed,
    UndoUnparked,
)
from saga_coordinator.saga.machine.forward import end_wait, go_forward, is_blocked
from saga_coordinator.saga.machine.pending import poll
from saga_coordinator.saga.machine.place import node_of
from saga_coordinator.saga.machine.settling import settle
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.takeover import TAKEOVERS_MAX, pause_seconds
from saga_coordinator.saga.machine.transitions import OPERATION_ALLOWED, SagaStatus
from saga_coordinator.saga.machine.undo import can_go_back, go_back
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Unknown, clip

_STEPS_NAMED_MAX = 5
_MOVING = frozenset({SagaStatus.RUNNING, SagaStatus.COMPENSATING})


def proceed(draft: Draft) -> None:
    """Writes everything into the draft that can be done before the next input."""
    if draft.state.status is SagaStatus.NEEDS_ATTENTION:
        _unpark(draft)
        if draft.state.status in _MOVING:
            look_for_room(draft)
    if draft.state.status not in _MOVING:
        return
    if draft.state.adoption is not None:
        if not _give_up_lost(draft, draft.state.adoption):
            return
        if draft.state.takeovers >= TAKEOVERS_MAX:
            _park_for_takeovers(draft)
            return
    _end_waits(draft)
    status = draft.state.status
    if status is SagaStatus.RUNNING:
        go_forward(draft)
    if draft.state.status is not status:  # after the turn, other things are due
        _end_waits(draft)
    if draft.state.status is SagaStatus.COMPENSATING:
        go_back(draft)
    if draft.state.status in _MOVING and draft.may_call:
        _poll(draft)


def next_due(draft: Draft) -> float | None:
    """The next instant after now at which something in the saga is due; None when nothing is.

    If this decision has not done what was due earlier, an attempt in flight holds it back. The end of that attempt brings the
    next decision.
    """
    due = [draft.agenda.next_due(draft.state)]
    deadline_at = draft.state.deadline_at
    is_bound = draft.state.status is SagaStatus.RUNNING and not is_past_return(draft.definition, draft.state)
    if is_bound and deadline_at is not None and deadline_at > draft.now:
        due.append(deadline_at)
    return min((instant for instant in due if instant is not None), default=None)


def _give_up_lost(draft: Draft, adoption: SagaAdopted) -> bool:
    """Records the attempts that were in flight at the previous owner: their outcomes are unknown, and they may be in flight
    until their timeouts (P4).

    Returns True when no such attempt is left. Nothing begins before that, so the previous owner made every attempt that is in
    flight until then.
    """
    for key in keys_in_flight(draft.state):
        if not draft.may_do_more():
            return False
        record_lost(draft, key, adoption.workers or ())
    return True


def keys_in_flight(state: SagaState) -> list[str]:
    """Yields the keys of the instances whose present operation is in flight."""
    return [key for key, step in state.steps.items() if step.is_in_flight]


def record_lost(draft: Draft, key: str, workers: tuple[str, ...]) -> None:
    """Records that a lost coordinator made the attempt in flight. If its participant is one of `workers`, a worker may still be
    working at it (P8).
    """
    state = draft.state.step(key)
    kind, number = state.operation, state.attempt
    cause = Cause(CauseCode.COORDINATOR_LOST, "the coordinator that made this attempt is gone")
    operation = draft.definition.step(key).operation(kind)
    settles_at = draft.now + operation.timeout_seconds
    if kind in OPERATION_ALLOWED[draft.state.status]:
        pause = _pause_after_takeover(draft, state)
        if operation.participant in workers:
            pause = max(pause, operation.timeout_seconds)
        draft.record(AttemptUnknown(key, kind, number, cause, pause, draft.now + pause, settles_at))
    else:
        draft.record(AttemptUnresolved(key, kind, number, cause, settles_at))


def _pause_after_takeover(draft: Draft, step: StepState) -> float:
    """The seconds until the step's next attempt: not beyond the step's deadline, after which the step counts as failed."""
    pause = pause_seconds(draft.state.takeovers)
    if step.operation is OperationKind.ACTION and step.deadline_at is not None:
        pause = min(pause, max(0.0, step.deadline_at - draft.now))
    return pause


def _park_for_takeovers(draft: Draft) -> None:
    """Parks the saga for a person, once nothing is in flight any more: further takeovers would lead nowhere (P1)."""
    state = draft.state
    steps = ", ".join(f"`{key}`" for key in islice(_between_attempts(state), _STEPS_NAMED_MAX))
    said = f"; what was in flight: {steps}" if steps else ""
    times = f"taken over {state.takeovers} times without progress"
    cause = Cause(CauseCode.NO_PROGRESS, clip(f"{times}, each time because its coordinator was lost{said}"))
    draft.record(SagaParked(cause, draft.remaining_effects()))


def _between_attempts(state: SagaState) -> Iterator[str]:
    return (key for key, step in state.steps.items() if step.retry_at is not None)


def _unpark(draft: Draft) -> None:
    """Lets a parked saga go on if the reason for parking it is gone. If something else holds it up, parks it for that reason.

    The remaining effects may also have become more: an action that had counted as never done was reported to have succeeded
    (P2). A saga that was parked for its takeovers goes on once anything new is known of a step.
    """
    state = draft.state
    if state.takeovers >= TAKEOVERS_MAX:
        return
    remaining = draft.remaining_effects()
    is_listed = remaining == state.remaining
    if state.has_turned:
        if not is_listed or is_mended(state) or can_go_back(draft):
            draft.record(UndoUnparked())
    elif not is_listed or not is_blocked(draft):
        draft.record(SagaUnparked())


def is_mended(state: SagaState) -> bool:
    """Tells whether a saga that was parked on its way back no longer has the reason that it gives, though it may have others."""
    assert state.blocked_by is not None, "a saga was parked without a cause"
    return state.blocked_by.step not in state.remaining


def _end_waits(draft: Draft) -> None:
    """Ends the waits whose time is up, and gives up reports that are overdue."""
    if draft.state.status not in _MOVING:
        return
    agenda = draft.agenda
    while (key := agenda.overdue(draft.state, draft.now)) is not None and draft.may_do_more():
        state = draft.state.step(key)
        if state.wait is not None:
            end_wait(draft, key)
        elif state.pending_until is not None and state.pending_until <= draft.now:
            settle(draft, key, Unknown(_cause_of_giving_up(draft, key, state)))
        elif state.heartbeat_until is not None and state.heartbeat_until <= draft.now:
            settle(draft, key, Unknown(_cause_of_silence(draft, key, state)))
        else:
            why = "" if state.cause is None else f": {state.cause.message}"
            message = clip(f"the step's deadline passed while the attempt was held{why}")
            draft.record(StepFailed(key, Cause(CauseCode.STEP_DEADLINE, message)))


def look_for_room(draft: Draft) -> None:
    """Asks to look at once for room for every held attempt: the look that was asked for before went with the previous owner, or
    has been answered already.
    """
    for key, step in draft.state.steps.items():
        if step.is_held:
            draft.look_for_room(key, draft.now)


def _poll(draft: Draft) -> None:
    """Polls pending operations. It comes last, so that no participant is polled about an operation that is undone from now
    on.
    """
    agenda = draft.agenda
    while agenda.is_poll_due(draft.state, draft.now) and draft.may_do_more():
        key = agenda.take_poll()
        poll(draft, node_of(draft.definition, draft.state, key))


def _cause_of_giving_up(draft: Draft, key: str, state: StepState) -> Cause:
    is_action = state.operation is OperationKind.ACTION
    if is_action and state.deadline_at is not None and state.deadline_at <= draft.now:
        return Cause(CauseCode.STEP_DEADLINE, "no outcome was reported before the step's deadline")
    limit = draft.definition.step(key).operation(state.operation).pending_timeout_seconds or 0.0
    return Cause(CauseCode.PENDING_TIMEOUT, f"no outcome was reported within {limit:g} s")


def _cause_of_silence(draft: Draft, key: str, state: StepState) -> Cause:
    timeout = draft.definition.step(key).operation(state.operation).heartbeat_seconds or 0.0
    return Cause(CauseCode.HEARTBEAT_TIMEOUT, f"no heartbeat came for {timeout:g} s, and no outcome")
