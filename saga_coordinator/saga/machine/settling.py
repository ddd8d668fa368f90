"""Outcomes of attempts: what an outcome records about the present operation of a step, and whether the operation ends by it."""

from __future__ import annotations

from saga_coordinator.saga.definition.model import Operation
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    NothingToUndo,
    StepFailed,
)
from saga_coordinator.saga.machine.pending import next_poll_at
from saga_coordinator.saga.machine.step_state import EffectKnown, StepState
from saga_coordinator.saga.machine.transitions import OPERATION_ALLOWED
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    Cause,
    CauseCode,
    Held,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    reclassified,
)

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_RETURN_SECONDS_MAX = 300.0
_RETURNS_DOUBLED_MAX = 30
"""The longest pause, in seconds, before a task that workers gave back is handed out again, and how often the pause doubles at
most. The pauses grow, because each round is two entries.
"""


def settle(
    draft: Draft,
    key: str,
    outcome: Outcome,
    *,
    is_call_over: bool = True,
    settles_doubt: bool | None = None,
) -> None:
    """Records the outcome of the present operation of the instance `key`. The operation must be open.

    `is_call_over` is false when a report arrived before the call returned: the call may be in flight until its timeout (P4).
    `settles_doubt` has the meaning that it has in `AttemptRefused`.
    """
    state = draft.state.step(key)
    kind, number = state.operation, state.attempt
    operation = draft.definition.step(key).operation(kind)
    outcome = reclassified(outcome, operation.outcomes)
    settles_at = None if is_call_over else draft.now + operation.timeout_seconds
    match outcome:
        case Succeeded(output):
            draft.record(AttemptSucceeded(key, kind, number, output, settles_at))
        case Refused(cause) if kind is _COMPENSATION and is_undone(state, outcome):
            draft.record(NothingToUndo(key, kind, number, cause))
        case Refused(cause):
            draft.record(AttemptRefused(key, kind, number, cause, settles_at, settles_doubt))
        case Pending():
            _wait_for_report(draft, key, operation, state)
        case Unknown():
            _retry_or_give_up(draft, key, operation, state, outcome)
        case Held():
            _hold(draft, key, state, outcome)


def is_undone(step: StepState, outcome: Outcome) -> bool:
    """Tells whether a compensation with this outcome leaves no effect: it succeeded, or the participant found nothing to undo
    and no effect was certain.
    """
    match outcome:
        case Succeeded():
            return True
        case Refused(cause):
            return cause.code == "NOT_FOUND" and step.effect < EffectKnown.CERTAIN
        case _:
            return False


def _may_go_on(draft: Draft, kind: OperationKind) -> bool:
    """Tells whether the saga still waits for operations of that kind."""
    return kind in OPERATION_ALLOWED.get(draft.state.status, ())


def _wait_for_report(draft: Draft, key: str, operation: Operation, state: StepState) -> None:
    kind, number = state.operation, state.attempt
    if not _may_go_on(draft, kind):
        message = "the participant accepted it after the saga had turned, so nobody waits for its outcome"
        draft.record(AttemptUnresolved(key, kind, number, Cause(CauseCode.PENDING, message)))
        return
    # The step's deadline bounds its action only. The compensation may be accepted after it.
    deadline_at = state.deadline_at if kind is _ACTION else None
    pending_until = _earliest(_after(draft.now, operation.pending_timeout_seconds), deadline_at)
    poll_at = next_poll_at(draft.now, operation, 0)
    heartbeat_until = _after(draft.now, operation.heartbeat_seconds)
    draft.record(AttemptPending(key, kind, number, pending_until, poll_at, heartbeat_until))


def _retry_or_give_up(
    draft: Draft, key: str, operation: Operation, state: StepState, outcome: Unknown
) -> None:
    kind, number = state.operation, state.attempt
    was_sent = None if outcome.was_sent else False
    failures = state.failures + 1
    delay = max(
        operation.retry.backoff_seconds(failures, draft.jitter),
        outcome.retry_after_seconds,
    )
    retry_at = draft.now + delay
    is_in_time = kind is _COMPENSATION or state.deadline_at is None or retry_at < state.deadline_at
    # A child that a person has abandoned answers the same for ever.
    is_worth_it = outcome.cause.code != CauseCode.CHILD_FAILED and operation.retry.allows(
        outcome.cause.code, failures
    )
    if _may_go_on(draft, kind) and is_in_time and is_worth_it:
        draft.record(AttemptUnknown(key, kind, number, outcome.cause, delay, retry_at, None, was_sent))
    else:
        draft.record(AttemptUnresolved(key, kind, number, outcome.cause, None, was_sent))


def _hold(draft: Draft, key: str, state: StepState, outcome: Held) -> None:
    """Records that the attempt was not made for lack of room, or that a worker gave the task back."""
    kind, number, delay = state.operation, state.attempt, outcome.delay_seconds
    if outcome.was_given:
        delay = _pause_after_return(delay, state.returns)
    look_at = draft.now + delay
    is_given_back = None if outcome.was_given else True
    draft.record(AttemptHeld(key, kind, number, outcome.cause, delay, look_at, is_given_back))
    if _may_go_on(draft, kind):
        draft.look_for_room(key, look_at)
    else:
        draft.record(StepFailed(key, outcome.cause))


def _pause_after_return(seconds: float, returns: int) -> float:
    """The seconds that a task waits after a worker gave it back: `seconds` at first, and twice as long each further time in a
    row.
    """
    return min(seconds * 2.0 ** min(returns, _RETURNS_DOUBLED_MAX), max(_RETURN_SECONDS_MAX, seconds))


def _after(now: float, seconds: float | None) -> float | None:
    return None if seconds is None else now + seconds


def _earliest(*instants: float | None) -> float | None:
    return min((instant for instant in instants if instant is not None), default=None)
