"""What a saga's state allows next: end waits, go forward, turn, undo, end."""

from __future__ import annotations

from saga_coordinator.saga.definition import Definition
from saga_coordinator.saga.draft import Draft, is_past_return
from saga_coordinator.saga.entries import SagaUnparked, UndoUnparked
from saga_coordinator.saga.forward import end_wait, go_forward, is_blocked
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import Cause, CauseCode, Unknown
from saga_coordinator.saga.place import node_of, remaining_effects
from saga_coordinator.saga.state import SagaState, StepState
from saga_coordinator.saga.transitions import SagaStatus
from saga_coordinator.saga.undo import can_go_back, go_back

_MOVING = frozenset({SagaStatus.RUNNING, SagaStatus.COMPENSATING})


def proceed(draft: Draft) -> None:
    """Writes everything into the draft that can be done without anything else happening."""
    if draft.state.status is SagaStatus.NEEDS_ATTENTION:
        _unpark(draft)
    if draft.state.status in _MOVING:
        _end_waits(draft)
    if draft.state.status is SagaStatus.RUNNING:
        go_forward(draft)
    if draft.state.status is SagaStatus.COMPENSATING:
        go_back(draft)
    if draft.state.status in _MOVING and draft.may_call:
        _poll(draft)


def next_due(definition: Definition, state: SagaState, now: float) -> float | None:
    """When something of the saga is due after `now` without anything else happening; None when nothing is.

    What was due earlier and has not been done by a decision at `now` is held back by something in flight, whose end brings the
    next decision.
    """
    due = [
        instant
        for step in state.steps.values()
        for instant in (step.retry_at, step.pending_until, step.poll_at, step.heartbeat_until)
        if instant is not None
    ]
    if state.status is SagaStatus.COMPENSATING:
        due += [step.settles_at for step in state.steps.values() if step.settles_at is not None]
    elif state.deadline_at is not None and not is_past_return(definition, state):
        due.append(state.deadline_at)
    return min((instant for instant in due if instant > now), default=None)


def _unpark(draft: Draft) -> None:
    """Goes on where what the saga was parked for is gone. Where something else holds it up, it is parked for that.

    What remains may also have become more: an action that had counted as never done is reported to have succeeded (P2).
    """
    state = draft.state
    remaining = remaining_effects(draft.definition, state)
    is_listed = remaining == state.remaining
    if state.has_turned:
        if not is_listed or not remaining or can_go_back(draft):
            draft.record(UndoUnparked())
    elif not is_listed or not is_blocked(draft):
        draft.record(SagaUnparked())


def _end_waits(draft: Draft) -> None:
    """Ends the waits that are over, and gives up reports that are overdue."""
    for key, state in tuple(draft.state.steps.items()):
        if state.wait is not None and state.is_open:
            end_wait(draft, key)
        elif state.pending_until is not None and state.pending_until <= draft.now:
            draft.settle(key, Unknown(_cause_of_giving_up(draft, key, state)))
        elif state.heartbeat_until is not None and state.heartbeat_until <= draft.now:
            draft.settle(key, Unknown(_cause_of_silence(draft, key, state)))


def _poll(draft: Draft) -> None:
    """Asks about operations that are pending. Last of all, because nobody is asked about what is undone from now on."""
    for key, state in tuple(draft.state.steps.items()):
        if state.poll_at is not None and state.poll_at <= draft.now:
            draft.poll(node_of(draft.definition, draft.state, key))


def _cause_of_giving_up(draft: Draft, key: str, state: StepState) -> Cause:
    is_action = state.operation is OperationKind.ACTION
    if is_action and state.deadline_at is not None and state.deadline_at <= draft.now:
        return Cause(CauseCode.STEP_DEADLINE, "no outcome was reported before the step's deadline")
    limit = draft.definition.step(key).operation(state.operation).pending_timeout_seconds or 0.0
    return Cause(CauseCode.PENDING_TIMEOUT, f"no outcome was reported within {limit:g} s")


def _cause_of_silence(draft: Draft, key: str, state: StepState) -> Cause:
    timeout = draft.definition.step(key).operation(state.operation).heartbeat_seconds or 0.0
    return Cause(CauseCode.HEARTBEAT_TIMEOUT, f"no heartbeat came for {timeout:g} s, and no outcome")
