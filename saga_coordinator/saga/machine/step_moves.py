"""How each kind of entry changes the state of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from saga_coordinator.saga.machine.act_entries import (
    FoundDone,
    FoundNotDone,
    FoundUndone,
    OperationRetried,
    OperationSkipped,
)
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    BlockClosed,
    BlockOpened,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    StepEntry,
    StepFailed,
    StepSkipped,
    WaitStarted,
)
from saga_coordinator.saga.machine.step_state import REFUSED, SUCCEEDED, EffectKnown, StepState
from saga_coordinator.saga.machine.transitions import StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION

_LEAVING_DOUBT = (AttemptUnknown, AttemptUnresolved, AttemptPending)
_MAY_BE_UNSEEN = (AttemptSucceeded, AttemptRefused, AttemptUnknown, AttemptUnresolved)
"""Entries with a `settles_at`: until that instant, the call itself may still be in flight."""


def moved_step(step: StepState, status: StepStatus, entry: StepEntry) -> StepState:
    """The step as the entry leaves it. `status` is the status that the transition table gives it."""
    return _MOVES.get(type(entry), _moved)(step, status, entry)


def _late(step: StepState, entry: OutcomeLate) -> StepState:
    told = step.told | {(entry.operation, entry.outcome)}
    if entry.settles_doubt:
        cause = step.cause if entry.is_passed else entry.cause
        return replace(step, told=told, effect=EffectKnown.NONE, accepted_attempt=0, cause=cause)
    if entry.operation is _COMPENSATION or entry.outcome != SUCCEEDED:
        return replace(step, told=told)
    # Every attempt of a compensation carries the same input, so the output comes too late once the compensation was attempted.
    # The output that a person gave to a skipped action has been told to the steps after it (P5).
    is_new = step.operation is _ACTION and step.status is not StepStatus.SKIPPED
    output = entry.output if is_new else step.output
    return replace(step, told=told, effect=EffectKnown.CERTAIN, output=output)


def _after_refusal(step: StepState, entry: AttemptRefused | NothingToUndo) -> EffectKnown:
    """The knowledge about the action's effect after a refusal. A doubt goes if the refused attempt had left it."""
    if step.status is StepStatus.WAITING:
        return step.effect_before_pending
    is_settled = isinstance(entry, AttemptRefused) and entry.settles_doubt
    return EffectKnown.NONE if is_settled else step.effect


def _doubt_left(
    step: StepState, entry: AttemptUnknown | AttemptUnresolved | AttemptPending
) -> tuple[EffectKnown, int]:
    """The step's `effect` and `accepted_attempt` after an attempt of the action that left a doubt."""
    is_first = isinstance(entry, AttemptPending) and step.effect is EffectKnown.NONE
    is_only_doubt = is_first or entry.attempt == step.accepted_attempt
    return max(step.effect, EffectKnown.POSSIBLE), entry.attempt if is_only_doubt else 0


def _started(step: StepState, status: StepStatus, entry: AttemptStarted) -> StepState:
    operation, attempt = entry.operation, entry.attempt
    is_again = operation is step.operation
    return StepState(
        status=status,
        effect=step.effect,
        operation=operation,
        attempt=attempt,
        failures=step.failures if is_again else 0,
        is_in_flight=True,
        returns=step.returns if is_again else 0,
        output=step.output,
        cause=step.cause,
        settles_at=step.settles_at,
        deadline_at=entry.deadline_at or step.deadline_at,
        opened=step.opened,
        wait=step.wait,
        action_attempts=attempt if operation is _ACTION else step.action_attempts,
        effect_before_pending=step.effect_before_pending,
        accepted_attempt=step.accepted_attempt,
        told=step.told,
    )


def _moved(step: StepState, status: StepStatus, entry: StepEntry) -> StepState:
    operation, attempt = entry.operation, entry.attempt
    is_action = operation is _ACTION
    effect, accepted_attempt = step.effect, step.accepted_attempt
    output, told = step.output, step.told
    failures = step.failures if operation is step.operation else 0
    cause, retry_at, settles_at, pending_until = step.cause, None, step.settles_at, None
    poll_at, polls, effect_before_pending = None, 0, step.effect_before_pending
    heartbeat_until = heartbeat_from = None
    match entry:
        case AttemptSucceeded():
            told |= {(operation, SUCCEEDED)}
            if is_action:
                output, cause = entry.output, None
                effect = EffectKnown.CERTAIN if step.wait is None else effect
        case AttemptRefused() | NothingToUndo():
            told |= {(operation, REFUSED)}
            cause = entry.cause
            if is_action:
                effect = _after_refusal(step, entry)
        case AttemptUnknown():
            cause, retry_at = entry.cause, entry.retry_at
            failures += entry.settles_at is None  # one cut off by a crash says nothing about the participant
        case AttemptUnresolved():
            cause = entry.cause
        case AttemptPending():
            pending_until, poll_at = entry.pending_until, entry.poll_at
            heartbeat_until = entry.heartbeat_until
            is_again = step.status is StepStatus.WAITING
            heartbeat_from = step.heartbeat_from if is_again else heartbeat_until
            polls = step.polls + (is_again and heartbeat_until == step.heartbeat_until)
            effect_before_pending = effect_before_pending if is_again else effect
        case InputInvalid():
            cause = entry.cause
            attempt -= 1  # it was never made
        case _:  # the others do not come here
            pass
    if is_action and isinstance(entry, _LEAVING_DOUBT) and getattr(entry, "was_sent", None) is not False:
        effect, accepted_attempt = _doubt_left(step, entry)
    if is_action and isinstance(entry, _MAY_BE_UNSEEN) and entry.settles_at is not None:
        settles_at = max(settles_at or entry.settles_at, entry.settles_at)
    return StepState(
        status=status,
        effect=effect,
        operation=operation,
        attempt=attempt,
        failures=failures,
        output=output,
        cause=cause,
        retry_at=retry_at,
        settles_at=settles_at,
        pending_until=pending_until,
        poll_at=poll_at,
        polls=polls,
        heartbeat_until=heartbeat_until,
        heartbeat_from=heartbeat_from,
        deadline_at=step.deadline_at,
        opened=step.opened,
        wait=step.wait,
        action_attempts=attempt if is_action else step.action_attempts,
        effect_before_pending=effect_before_pending,
        accepted_attempt=accepted_attempt,
        told=told,
    )


def _held(step: StepState, status: StepStatus, entry: AttemptHeld) -> StepState:
    attempt = entry.attempt - 1 if entry.is_given_back else entry.attempt
    return replace(
        step,
        status=status,
        attempt=attempt,
        action_attempts=attempt if entry.operation is _ACTION else step.action_attempts,
        is_in_flight=False,
        is_held=True,
        returns=step.returns + (not entry.is_given_back),
        cause=entry.cause,
        retry_at=entry.retry_at,
    )


def _skipped(step: StepState, status: StepStatus, entry: StepSkipped) -> StepState:
    return replace(step, status=status, retry_at=None)


def _failed(step: StepState, status: StepStatus, entry: StepFailed) -> StepState:
    return replace(step, status=status, cause=entry.cause, retry_at=None, is_held=False)


def _waiting(step: StepState, status: StepStatus, entry: WaitStarted) -> StepState:
    return replace(
        step,
        status=status,
        attempt=entry.attempt,
        action_attempts=entry.attempt,
        wait=entry,
        pending_until=entry.until,
    )


def _inside(step: StepState, status: StepStatus, entry: BlockOpened) -> StepState:
    return replace(step, status=status, opened=_opened(step, entry), output=entry.previous)


def _closed(step: StepState, status: StepStatus, entry: BlockClosed) -> StepState:
    return replace(step, status=status, output=entry.output, told=step.told | {(_ACTION, SUCCEEDED)})


# Acts of people.


def _retried(step: StepState, status: StepStatus, entry: OperationRetried) -> StepState:
    return replace(
        step,
        status=status,
        failures=0,
        is_held=False,
        is_let_stand=False,
        returns=0,
        retry_at=entry.retry_at,
        deadline_at=None if entry.operation is _ACTION else step.deadline_at,
    )


def _skipped_by_person(step: StepState, status: StepStatus, entry: OperationSkipped) -> StepState:
    if entry.operation is _COMPENSATION:
        return replace(step, status=status, is_let_stand=True)
    is_ahead = status is StepStatus.PENDING
    return replace(_closed_by_person(step, status), output=entry.output, is_to_skip=is_ahead)


def _found_done(step: StepState, status: StepStatus, entry: FoundDone) -> StepState:
    told = step.told | {(_ACTION, SUCCEEDED)}
    known = replace(step, effect=EffectKnown.CERTAIN, output=entry.output, told=told)
    return known if entry.is_passed else replace(_closed_by_person(known, status), cause=None)


def _found_not_done(step: StepState, status: StepStatus, entry: FoundNotDone) -> StepState:
    told = step.told | {(_ACTION, REFUSED)}
    found = Cause(CauseCode.NEVER_DONE, entry.reason, requested_by=entry.requested_by)
    cause = step.cause if entry.is_passed else found
    undone = _closed_by_person(step, status)
    return replace(undone, effect=EffectKnown.NONE, accepted_attempt=0, cause=cause, told=told)


def _found_undone(step: StepState, status: StepStatus, entry: FoundUndone) -> StepState:
    attempt = step.attempt if step.operation is _COMPENSATION else 0
    return replace(
        _closed_by_person(step, status),
        operation=_COMPENSATION,
        attempt=attempt,
        told=step.told | {(_COMPENSATION, SUCCEEDED)},
    )


def _closed_by_person(step: StepState, status: StepStatus) -> StepState:
    """The step with its operation over, so that nothing of it is due any more."""
    return replace(
        step,
        status=status,
        is_held=False,
        is_let_stand=False,
        retry_at=None,
        pending_until=None,
        poll_at=None,
        heartbeat_until=None,
    )


_MOVES: Mapping[type[StepEntry], Callable[[StepState, StepStatus, Any], StepState]] = {
    OutcomeLate: lambda step, status, entry: _late(step, entry),
    AttemptStarted: _started,
    AttemptHeld: _held,
    StepSkipped: _skipped,
    StepFailed: _failed,
    WaitStarted: _waiting,
    BlockOpened: _inside,
    BlockClosed: _closed,
    OperationRetried: _retried,
    OperationSkipped: _skipped_by_person,
    FoundDone: _found_done,
    FoundNotDone: _found_not_done,
    FoundUndone: _found_undone,
}
"""The function that applies each kind of entry to a step. `_moved` applies the entries about what became of attempts."""


def _opened(step: StepState, entry: BlockOpened) -> tuple[Any, ...]:
    if entry.items is not None:
        return entry.items
    if entry.branch is not None:
        return (entry.branch,)
    return (*(step.opened or ()), entry.previous)
