"""What a saga's state allows next: start the next actions, turn, undo, end."""

from __future__ import annotations

from saga_coordinator.saga.definition import Definition, Step
from saga_coordinator.saga.draft import Draft
from saga_coordinator.saga.entries import SagaCompensated, SagaCompleted, SagaFailed, SagaParked
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import Cause, CauseCode, Unknown, clip
from saga_coordinator.saga.state import (
    EffectKnown,
    SagaState,
    SagaStatus,
    StepState,
    StepStatus,
    needs_compensation,
    remaining_effects,
)

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_MOVING = frozenset({SagaStatus.RUNNING, SagaStatus.COMPENSATING})


def proceed(draft: Draft) -> None:
    """Writes everything into the draft that can be done without anything else happening."""
    if draft.state.status in _MOVING:
        _give_up_overdue_reports(draft)
    if draft.state.status is SagaStatus.RUNNING:
        _go_forward(draft)
    if draft.state.status is SagaStatus.COMPENSATING:
        _go_back(draft)


def is_pivot_attempted(definition: Definition, state: SagaState) -> bool:
    """From then on only the pivot's own outcome decides whether the saga can still go back."""
    return definition.pivot is not None and state.step(definition.pivot.name).attempts(_ACTION) > 0


def next_due(definition: Definition, state: SagaState, now: float) -> float | None:
    """When something of the saga is due after `now` without anything else happening; None when nothing is.

    What was due earlier and has not been done by a decision at `now` is held back by something in flight, whose end brings the
    next decision.
    """
    due = [
        instant
        for step in state.steps.values()
        for instant in (step.retry_at, step.pending_until)
        if instant is not None
    ]
    if state.status is SagaStatus.COMPENSATING:
        due += [step.settles_at for step in state.steps.values() if step.settles_at is not None]
    elif state.deadline_at is not None and not is_pivot_attempted(definition, state):
        due.append(state.deadline_at)
    return min((instant for instant in due if instant > now), default=None)


def _give_up_overdue_reports(draft: Draft) -> None:
    for step, state in draft.steps():
        if state.pending_until is not None and state.pending_until <= draft.now:
            limit = step.operation(state.operation).pending_timeout_seconds
            cause = Cause(CauseCode.PENDING_TIMEOUT, f"no outcome was reported within {limit:g} s")
            draft.settle(step.name, Unknown(cause))


# Forward.


def _go_forward(draft: Draft) -> None:
    statuses = [state.status for _, state in draft.steps()]
    if StepStatus.FAILED in statuses:
        _fail(draft, draft.definition.steps[statuses.index(StepStatus.FAILED)])
    elif statuses.count(StepStatus.SUCCEEDED) == len(statuses):
        draft.record(SagaCompleted())
    elif _is_overdue(draft):
        draft.record(
            SagaFailed(Cause(CauseCode.DEADLINE, "the saga's deadline passed before it had completed"))
        )
    elif draft.may_call:
        _start_actions(draft)


def _fail(draft: Draft, step: Step) -> None:
    state = draft.state.step(step.name)
    assert state.cause is not None, f"step {step.name} has failed without a cause"
    cause = Cause(state.cause.code, state.cause.message, step.name)
    # With the pivot done or in doubt, undoing the steps before it could be as wrong as going on: a person decides.
    is_in_doubt = step.is_pivot and state.effect > EffectKnown.NONE
    if not (is_in_doubt or draft.definition.is_after_pivot(step.name)):
        draft.record(SagaFailed(cause))
    elif not any(other.is_in_flight for _, other in draft.steps()):
        draft.record(SagaParked(cause, remaining_effects(draft.definition, draft.state)))
    # else nothing new starts; the end of what is in flight brings the next decision


def _is_overdue(draft: Draft) -> bool:
    deadline_at = draft.state.deadline_at
    return (
        deadline_at is not None
        and deadline_at <= draft.now
        and not is_pivot_attempted(draft.definition, draft.state)
    )


def _start_actions(draft: Draft) -> None:
    for step, state in draft.steps():
        is_ready = state.status is StepStatus.PENDING and all(
            draft.state.step(other).status is StepStatus.SUCCEEDED for other in step.after
        )
        if is_ready or _is_retry_due(draft, state):
            draft.attempt(step, _ACTION)
            if draft.state.step(step.name).status is StepStatus.FAILED:  # its input could not be computed
                _fail(draft, step)
                return


def _is_retry_due(draft: Draft, state: StepState) -> bool:
    return state.retry_at is not None and state.retry_at <= draft.now


# Back.


def _go_back(draft: Draft) -> None:
    for step, state in draft.steps() if draft.may_call else ():
        if _is_retry_due(draft, state) or (
            _may_be_undone(draft, step, state) and not _is_held(draft, step, state)
        ):
            draft.attempt(step, _COMPENSATION)
    if any(state.is_open or _may_be_undone(draft, step, state) for step, state in draft.steps()):
        return
    if remaining := remaining_effects(draft.definition, draft.state):
        draft.record(SagaParked(_cause_of_parking(draft, remaining), remaining))
    else:
        draft.record(SagaCompensated())


def _is_held(draft: Draft, step: Step, state: StepState) -> bool:
    """Whether an attempt of the action that nobody saw end may still be in flight (P4).

    One of a step that depends on this one counts too, as long as nobody has told what became of it: such a step may have no
    compensation that would be waited for.
    """
    dependents = (draft.state.step(name) for name in draft.definition.dependents[step.name])
    unseen = (state, *(other for other in dependents if not (other.is_output_known or other.is_refused)))
    return any(other.settles_at is not None and other.settles_at > draft.now for other in unseen)


def _may_be_undone(draft: Draft, step: Step, state: StepState) -> bool:
    """Whether the step's compensation is wanted and every step that depends on this one is done with (P3, P4)."""
    if state.is_in_flight or state.operation is not _ACTION or not needs_compensation(step, state):
        return False
    for name in draft.definition.dependents[step.name]:
        other = draft.state.step(name)
        if other.is_in_flight or needs_compensation(draft.definition.step(name), other):
            return False
    return True


def _cause_of_parking(draft: Draft, remaining: tuple[str, ...]) -> Cause:
    for name in remaining:
        state = draft.state.step(name)
        if state.operation is _COMPENSATION:
            assert state.cause is not None, f"the compensation of {name} has failed without a cause"
            message = clip(f"the compensation did not succeed: {state.cause.message}")
            return Cause(state.cause.code, message, name)
    return Cause(CauseCode.IRREVERSIBLE, "the saga failed after a step that cannot be undone", remaining[0])
