"""Handles the acts of people on a saga: pause, resume, retry, skip, resolve and abandon.

These are handlers of `decide`, so `docs/state_machine.md` shows their first sentences. An act that the saga's state forbids is
refused with the reason and with the verb that would work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from saga_coordinator.saga.definition.model import Operation
from saga_coordinator.saga.machine.act_entries import (
    FoundDone,
    FoundNotDone,
    FoundUndone,
    OperationRetried,
    OperationSkipped,
    SagaAbandoned,
    SagaPaused,
    SagaResumed,
)
from saga_coordinator.saga.machine.ahead import is_over, is_passed
from saga_coordinator.saga.machine.answers import NotApplied
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.entries import SagaFailed, SagaUnparked
from saga_coordinator.saga.machine.inputs import (
    AbandonAsked,
    CancelAsked,
    Finding,
    PauseAsked,
    PersonAsked,
    ResolveAsked,
    ResumeAsked,
    RetryAsked,
    SkipAsked,
)
from saga_coordinator.saga.machine.place import exists
from saga_coordinator.saga.machine.proceed import look_for_room
from saga_coordinator.saga.machine.step_state import (
    EffectKnown,
    StepState,
    has_standing_effect,
    needs_compensation,
)
from saga_coordinator.saga.machine.touched import LONG_AGO
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.act import Act
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode, clip
from saga_coordinator.saga.words.reasons import Reason

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_Asked = TypeVar("_Asked", bound=PersonAsked)
_Handler = Callable[[Draft, _Asked], None]


def _once(handler: _Handler[_Asked]) -> _Handler[_Asked]:
    """Has an act that the log holds already change nothing more (P9)."""

    @wraps(handler)
    def handle(draft: Draft, given: _Asked) -> None:
        if is_done_already(draft, given.act):
            draft.answer = NotApplied()
        else:
            handler(draft, given)

    return handle


def is_done_already(draft: Draft, act: Act) -> bool:
    """Tells whether the log holds the act."""
    return act.act_id in draft.state.act_ids


def _said(act: Act) -> dict[str, Any]:
    """The fields by which an entry names its act."""
    return {"act_id": act.act_id, "requested_by": clip(act.declared_by), "reason": clip(act.reason)}


# Pause and resume.


@_once
def on_pause(draft: Draft, given: PauseAsked) -> None:
    """Nothing begins until the saga is resumed; what is in flight may end. A paused saga stays as it is."""
    if draft.state.status is SagaStatus.NEEDS_ATTENTION:
        draft.refuse(Reason.WRONG_STATUS, f"the saga is NEEDS_ATTENTION and does not move{_way_on(draft)}")
    elif draft.state.hold is not None:
        draft.answer = NotApplied()
    else:
        draft.record(SagaPaused(**_said(given.act)))


@_once
def on_resume(draft: Draft, given: ResumeAsked) -> None:
    """The paused saga goes on; this is refused if it is not paused."""
    if draft.state.hold is None:
        draft.refuse(Reason.NOT_PAUSED, f"the saga is {draft.state.status} and not paused{_way_on(draft)}")
        return
    draft.record(SagaResumed(**_said(given.act)))
    look_for_room(draft)


def _way_on(draft: Draft) -> str:
    is_parked = draft.state.status is SagaStatus.NEEDS_ATTENTION
    return "; retry, skip, resolve or abandon lets it go on" if is_parked else ""


# Retry.


@_once
def on_retry(draft: Draft, given: RetryAsked) -> None:
    """The operation is attempted again now, with a fresh budget; this is refused where there is nothing to attempt."""
    if given.step:
        if _names_call(draft, given.step) and _may_be_retried(draft, given.step):
            _retry(draft, given.step, given.act)
        return
    keys = [
        key
        for key, step in draft.state.steps.items()
        if waits_for_retry(draft, key, step) and not step.is_let_stand
    ]
    if not keys:
        draft.refuse(
            Reason.NOT_GIVEN_UP,
            "no operation of the saga was given up or is between two attempts, so there is nothing to retry"
            + (
                "; resolve says what became of an effect, and abandon ends the saga"
                if draft.state.remaining
                else ""
            ),
        )
    for key in keys:
        _retry(draft, key, given.act)


def waits_for_retry(draft: Draft, key: str, step: StepState) -> bool:
    """Tells whether the instance's operation was given up and holds up the saga, or is between two attempts."""
    if not isinstance(draft.definition.step(key).action, Operation) or step.is_in_flight or step.is_held:
        return False
    return step.retry_at is not None or _is_given_up(draft, key, step)


def _is_given_up(draft: Draft, key: str, step: StepState) -> bool:
    """Tells whether the instance's present operation has failed, and the saga still needs it."""
    if step.status is not StepStatus.FAILED:
        return False
    definition = draft.definition.step(key)
    if step.operation is _COMPENSATION:
        return needs_compensation(definition, step)
    return draft.state.is_going_forward and not is_over(definition, step)


def _may_be_retried(draft: Draft, key: str) -> bool:
    step = draft.state.step(key)
    what = f"the {step.operation} of `{key}`"
    if waits_for_retry(draft, key, step):
        return True
    if step.is_in_flight:
        draft.refuse(
            Reason.STILL_IN_FLIGHT, f"attempt {step.attempt} of {what} is in flight; wait for its outcome"
        )
    elif step.is_held:
        draft.refuse(
            Reason.NOT_GIVEN_UP,
            f"{what} waits for room at its participant and begins as soon as there is some: "
            f"{step.cause.message if step.cause else 'there is none yet'}",
        )
    elif step.is_waiting_for_report:
        draft.refuse(
            Reason.NOT_GIVEN_UP,
            f"{what} was accepted, and its outcome is awaited; resolve says what became of it",
        )
    else:
        draft.refuse(
            Reason.NOT_GIVEN_UP,
            f"step `{key}` is {step.status}: only what was given up or is between two attempts is retried"
            f"{_other_way(draft, key, step)}",
        )
    return False


def _other_way(draft: Draft, key: str, step: StepState) -> str:
    if draft.state.has_turned and has_standing_effect(draft.definition.step(key), step):
        return "; resolve says that the effect is undone"
    return ""


def _retry(draft: Draft, key: str, act: Act) -> None:
    step = draft.state.step(key)
    retry_at = max(draft.now, _lost_until(draft, key, step))
    draft.record(OperationRetried(key, step.operation, step.attempt, retry_at, **_said(act)))


def _lost_until(draft: Draft, key: str, step: StepState) -> float:
    """The instant until which a worker may have the task that a lost coordinator gave it (P8). Nobody else gets it before."""
    is_lost = step.cause is not None and step.cause.code == CauseCode.COORDINATOR_LOST
    if not is_lost or step.retry_at is None:
        return draft.now
    timeout = draft.definition.step(key).operation(step.operation).timeout_seconds
    return min(step.retry_at, draft.now + timeout)


# Skip.


@_once
def on_skip(draft: Draft, given: SkipAsked) -> None:
    """The saga goes on as if the step's operation had ended; this is refused unless the operation has not begun or was given
    up.
    """
    if not _names_instance(draft, given.step):
        return
    key, step = given.step, draft.state.step(given.step)
    definition = draft.definition.step(key)
    if definition.is_pivot and step.operation is _ACTION:
        draft.refuse(
            Reason.WRONG_STATUS,
            f"`{key}` is the pivot, and the way back depends on it, so it is not skipped; resolve says whether it took "
            "effect",
        )
    elif _may_be_skipped(draft, key, step):
        draft.record(
            OperationSkipped(key, step.operation, step.attempt, output=given.output, **_said(given.act))
        )
    elif step.is_in_flight:
        draft.refuse(
            Reason.STILL_IN_FLIGHT,
            f"attempt {step.attempt} of the {step.operation} of `{key}` is in flight; wait for its outcome",
        )
    else:
        draft.refuse(
            Reason.NOT_GIVEN_UP,
            f"step `{key}` is {step.status}: only a step that has not begun, or whose operation was given up, is skipped"
            f"{_other_way(draft, key, step)}",
        )


def _may_be_skipped(draft: Draft, key: str, step: StepState) -> bool:
    is_ahead = step.status is StepStatus.PENDING and draft.state.status is SagaStatus.RUNNING
    return is_ahead or (_is_given_up(draft, key, step) and not step.is_let_stand)


# Resolve.


@_once
def on_resolve(draft: Draft, given: ResolveAsked) -> None:
    """What a person found out about the operation counts from now on; this is refused where it is known better."""
    if not _names_call(draft, given.step):
        return
    key, step = given.step, draft.state.step(given.step)
    has_ended = draft.now >= may_arrive_until(step)
    if step.is_in_flight or (not has_ended and given.finding is not Finding.DONE):
        draft.refuse(
            Reason.STILL_IN_FLIGHT,
            f"attempt {step.attempt} of the {step.operation} of `{key}` may still be in flight; wait for its end",
        )
        return
    match given.finding:
        case Finding.DONE:
            _find_done(draft, given, step)
        case Finding.NOT_DONE:
            _find_not_done(draft, given, step)
        case Finding.UNDONE:
            find_undone(draft, given, step)


def may_arrive_until(step: StepState) -> float:
    """The instant until which an attempt of the action may still arrive, also one whose outcome was reported: after the effect
    was undone by hand, it would take effect again (P4).
    """
    return LONG_AGO if step.settles_at is None else step.settles_at


def _find_done(draft: Draft, given: ResolveAsked, step: StepState) -> None:
    if step.operation is _COMPENSATION:
        draft.refuse(
            Reason.WRONG_STATUS,
            f"the compensation of `{given.step}` has begun, so its effect counts already; UNDONE says that it is undone",
        )
    elif _is_action_open(step):
        passed = is_passed(draft.definition.step(given.step), draft.state, step) or None
        draft.record(FoundDone(given.step, output=given.output, is_passed=passed, **_said(given.act)))
    else:
        _refuse_finding(draft, given, step)


def _find_not_done(draft: Draft, given: ResolveAsked, step: StepState) -> None:
    if step.is_output_known:
        draft.refuse(
            Reason.WRONG_STATUS,
            f"the participant said that `{given.step}` took effect; UNDONE says that the effect is undone",
        )
    elif step.operation is _COMPENSATION:
        find_undone(draft, given, step)
    elif _is_action_open(step):
        passed = is_passed(draft.definition.step(given.step), draft.state, step) or None
        draft.record(FoundNotDone(given.step, is_passed=passed, **_said(given.act)))
    else:
        _refuse_finding(draft, given, step)


def find_undone(draft: Draft, given: ResolveAsked, step: StepState) -> None:
    if not draft.state.has_turned:
        draft.refuse(
            Reason.WRONG_STATUS,
            f"the saga is {draft.state.status} and goes forward, so no effect is undone; cancel turns it",
        )
    elif has_standing_effect(draft.definition.step(given.step), step):
        draft.record(FoundUndone(given.step, **_said(given.act)))
    else:
        _refuse_finding(draft, given, step)


def _is_action_open(step: StepState) -> bool:
    """Tells whether the action's effect is in doubt, or its outcome is awaited."""
    is_doubtful = step.status is StepStatus.FAILED and step.effect > EffectKnown.NONE
    is_attempted = step.operation is _ACTION and step.action_attempts > 0
    return is_attempted and (step.is_open or is_doubtful)


def _refuse_finding(draft: Draft, given: ResolveAsked, step: StepState) -> None:
    if step.action_attempts == 0:
        why = "it has not been attempted, so there is nothing to resolve; skip leaves it out"
    else:
        why = "nothing about it is open"
    draft.refuse(Reason.WRONG_STATUS, f"step `{given.step}` is {step.status}: {why}")


# Abandon and cancel.


@_once
def on_abandon(draft: Draft, given: AbandonAsked) -> None:
    """The saga ends with the effects that remain; this is refused unless it is paused or needs a person."""
    state = draft.state
    if state.status is not SagaStatus.NEEDS_ATTENTION and state.hold is None:
        draft.refuse(
            Reason.WRONG_STATUS,
            f"the saga is {state.status} and moves by itself; pause it first, or cancel it to have it undone",
        )
    elif state.in_flight:
        draft.refuse(
            Reason.STILL_IN_FLIGHT,
            f"attempts of the saga are in flight: {state.in_flight}; wait for their outcomes",
        )
    else:
        draft.record(SagaAbandoned(draft.remaining_effects(), **_said(given.act)))


def on_cancel_parked(draft: Draft, given: CancelAsked) -> None:
    """The saga turns if it was parked on its way forward and may still go back; otherwise this is refused."""
    if draft.state.has_turned:
        draft.refuse(
            Reason.SAGA_ENDED,
            "the saga is NEEDS_ATTENTION and has gone back already; retry, skip or resolve lets it go on, abandon ends it",
        )
    elif _may_be_past_pivot(draft):
        draft.refuse(
            Reason.PIVOT_ATTEMPTED,
            "the pivot may have taken effect, so there is no way back; retry, skip or resolve lets it go on, abandon ends it",
        )
    else:
        draft.record(SagaUnparked())
        cause = Cause(CauseCode.CANCELLED, clip(given.reason), requested_by=clip(given.requested_by))
        draft.record(SagaFailed(cause))


@_once
def refuse_ended(draft: Draft, given: PersonAsked) -> None:
    """Refused: the saga has ended, so nothing of it can be changed."""
    draft.refuse(
        Reason.SAGA_ENDED, f"the saga is {draft.state.status}, which is an end: nothing of it moves any more"
    )


def _may_be_past_pivot(draft: Draft) -> bool:
    """Tells whether the pivot has, or may have, taken effect."""
    pivot = draft.definition.pivot
    return pivot is not None and draft.state.step(pivot.name).effect > EffectKnown.NONE


# Names.


def _names_instance(draft: Draft, key: str) -> bool:
    """Tells whether the saga has that instance of a step; refuses the act if not."""
    if not draft.definition.has_step(key):
        draft.refuse(Reason.NO_SUCH_STEP, f"the saga has no step `{key}`")
        return False
    if not exists(draft.definition, draft.state, key):
        draft.refuse(
            Reason.NO_SUCH_STEP, f"step `{key}` does not exist yet: the step around it has not begun"
        )
        return False
    return True


def _names_call(draft: Draft, key: str) -> bool:
    """Tells whether the saga has that instance and it calls a participant; refuses the act if not."""
    if not _names_instance(draft, key):
        return False
    if not isinstance(draft.definition.step(key).action, Operation):
        draft.refuse(
            Reason.STEP_CALLS_NOBODY,
            f"step `{key}` makes no call; skip lets the saga go on if the step has failed",
        )
        return False
    return True
