"""Handles what participants tell: heartbeats, and the outcomes of attempts, from the call itself or from a report.

These are handlers of `decide`, so `docs/state_machine.md` shows their first sentences.
"""

from __future__ import annotations

from saga_coordinator.saga.definition.model import Operation
from saga_coordinator.saga.machine.ahead import is_over, is_passed
from saga_coordinator.saga.machine.answers import APPLIED, NotApplied, WhyNot
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.entries import OutcomeLate
from saga_coordinator.saga.machine.inputs import AttemptEnded, HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.machine.pending import take_heartbeat
from saga_coordinator.saga.machine.settling import is_undone, settle
from saga_coordinator.saga.machine.step_state import REFUSED, SUCCEEDED, EffectKnown, StepState
from saga_coordinator.saga.machine.transitions import StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Outcome, Refused, Succeeded, Unknown, clip
from saga_coordinator.saga.words.reasons import Reason


def on_attempt_ended(draft: Draft, given: AttemptEnded) -> None:
    """The attempt's outcome is recorded; if nobody waits for the attempt any more, the outcome is late."""
    step = draft.state.step(given.step)
    if step.is_in_flight and (step.operation, step.attempt) == (given.operation, given.attempt):
        settle(draft, given.step, given.outcome)
    else:
        _learn(draft, given.step, given.operation, given.attempt, given.outcome)


def on_outcome_reported(draft: Draft, given: OutcomeReported) -> None:
    """The outcome of an open operation is recorded; if the operation was decided before, the outcome is late; if it was never
    attempted, the report is refused.
    """
    if not draft.definition.has_step(given.step):
        draft.refuse(Reason.NO_SUCH_STEP, f"the saga has no step `{given.step}`")
        return
    step = draft.state.step(given.step)
    attempts = step.attempts(given.operation)
    is_awaited = step.is_waiting_for_report and step.operation is given.operation
    if not isinstance(draft.definition.step(given.step).action, Operation):
        draft.refuse(
            Reason.STEP_CALLS_NOBODY, f"step `{given.step}` makes no call, so there is no outcome to report"
        )
    elif attempts == 0:
        draft.refuse(
            Reason.NOT_ATTEMPTED, f"the {given.operation} of step `{given.step}` has not been attempted"
        )
    elif not isinstance(given.outcome, Unknown):
        _learn(draft, given.step, given.operation, given.attempt or attempts, given.outcome)
        if isinstance(draft.answer, NotApplied):
            draft.answer = NotApplied(_why_not_applied(draft, step, given))
    elif given.attempt in (0, step.attempt) and is_awaited:
        settle(draft, given.step, given.outcome)
    else:
        draft.answer = NotApplied(_why_unknown_is_nothing(step, given))


def _why_not_applied(draft: Draft, before: StepState, given: OutcomeReported) -> WhyNot:
    if draft.entries:
        return WhyNot.LATE
    return WhyNot.CONTRADICTS if _contradicts(before, given) else WhyNot.REPEATED


def _contradicts(step: StepState, given: OutcomeReported) -> bool:
    """Tells whether the action had succeeded with another output.

    Outputs of compensations are not kept, so they contradict nothing. The same holds for an action's output that was first told
    after the compensation had begun.
    """
    if given.operation is not OperationKind.ACTION or not isinstance(given.outcome, Succeeded):
        return False
    is_output_known = step.operation is OperationKind.ACTION or step.output is not None
    return is_output_known and step.is_output_known and given.outcome.output != step.output


def _why_unknown_is_nothing(step: StepState, given: OutcomeReported) -> WhyNot:
    if step.operation is not given.operation:
        return WhyNot.LATE
    if given.attempt not in (0, step.attempt):
        return WhyNot.OTHER_ATTEMPT
    return WhyNot.EARLY if step.is_in_flight else WhyNot.LATE


def on_heartbeat(draft: Draft, given: HeartbeatReceived) -> None:
    """The heartbeat timeout of a pending attempt begins anew, unless the saga no longer waits for the operation."""
    if not draft.definition.has_step(given.step):
        draft.refuse(Reason.NO_SUCH_STEP, f"the saga has no step `{given.step}`")
        return
    step = draft.state.step(given.step)
    if not isinstance(draft.definition.step(given.step).action, Operation):
        draft.refuse(
            Reason.STEP_CALLS_NOBODY,
            f"step `{given.step}` makes no call, so there is nothing to send heartbeats for",
        )
    elif step.attempts(given.operation) == 0:
        draft.refuse(
            Reason.NOT_ATTEMPTED, f"the {given.operation} of step `{given.step}` has not been attempted"
        )
    elif step.operation is not given.operation or given.attempt not in (0, step.attempt):
        draft.answer = NotApplied()
    elif step.is_waiting_for_report or step.is_in_flight:
        take_heartbeat(draft, given.step, clip(given.details))
    else:
        draft.answer = NotApplied()


def _learn(draft: Draft, name: str, kind: OperationKind, attempt: int, outcome: Outcome) -> None:
    """Records an outcome that is not the answer to the present call.

    All attempts of an operation carry one key. So a decisive outcome of any attempt decides the operation while it is open.
    After that the outcome is late, unless it removes the reason for which the saga is or would be parked: a compensation that
    had been given up has succeeded (P2), or an action has succeeded whose failure holds up the saga. An outcome that was told
    before is accepted, and not recorded again (P9).
    """
    step = draft.state.step(name)
    is_failed = step.status is StepStatus.FAILED and step.operation is kind
    is_given_up = is_failed and kind is OperationKind.COMPENSATION
    is_held_up = (
        is_failed
        and not is_given_up
        and draft.state.is_going_forward
        and not is_over(draft.definition.step(name), step)
    )
    settles_doubt = _is_only_doubt(step, kind, attempt) or None
    match outcome:
        case Succeeded() | Refused() if step.operation is kind and step.is_open:
            is_call_over = not step.is_in_flight or kind is OperationKind.COMPENSATION
            settle(draft, name, outcome, is_call_over=is_call_over, settles_doubt=settles_doubt)
        case Succeeded() | Refused() if is_given_up and is_undone(step, outcome):
            settle(draft, name, outcome)
        case Succeeded() if is_held_up:
            settle(draft, name, outcome)
        case Succeeded(output) if (kind, SUCCEEDED) not in step.told:
            draft.answer = NotApplied()
            draft.record(OutcomeLate(name, kind, attempt, SUCCEEDED, output))
        case Refused(cause) if (kind, REFUSED) not in step.told:
            draft.answer = APPLIED if settles_doubt else NotApplied()
            passed = is_passed(draft.definition.step(name), draft.state, step) or None
            is_kept = passed if settles_doubt else None
            draft.record(
                OutcomeLate(
                    name, kind, attempt, REFUSED, cause=cause, settles_doubt=settles_doubt, is_passed=is_kept
                )
            )
        case _:
            draft.answer = NotApplied()


def _is_only_doubt(step: StepState, kind: OperationKind, attempt: int) -> bool:
    """Tells whether that attempt has left the only doubt about the action: it was PENDING, and the saga no longer waits for
    it.
    """
    if (
        kind is not OperationKind.ACTION
        or step.operation is not kind
        or step.effect is not EffectKnown.POSSIBLE
    ):
        return False
    is_awaited = step.is_in_flight or step.status is StepStatus.WAITING
    return not is_awaited and attempt == step.accepted_attempt
