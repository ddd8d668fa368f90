"""Ways to break the core, each by replacing one function or table: what a careless change might do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from saga_coordinator.saga.definition.model import Block, Definition, Step
from saga_coordinator.saga.machine import (
    agenda,
    ahead,
    decide,
    draft,
    forward,
    proceed,
    reports,
    state,
    undoing,
)
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.entries import (
    AttemptPending,
    AttemptRefused,
    AttemptUnknown,
    AttemptUnresolved,
    OutcomeLate,
    SagaAdopted,
    SagaFailed,
    StepEntry,
)
from saga_coordinator.saga.machine.inputs import OwnershipGained, TimerFired
from saga_coordinator.saga.machine.place import Node, remaining_effects
from saga_coordinator.saga.machine.state import EffectKnown, SagaState, StepState
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Outcome, Pending, Refused, Succeeded, Unknown
from saga_coordinator.saga.words.retry import RetryPolicy

Break = Callable[[pytest.MonkeyPatch], None]
BROKEN_CORES: list[Break] = []

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_moved, _late = state._moved, state._late
_settle, _attempt = Draft.settle, Draft.attempt
_fail = forward._fail


def broken(how: Break) -> Break:
    BROKEN_CORES.append(how)
    return how


def fold_otherwise(
    patch: pytest.MonkeyPatch, change: Callable[[StepState, StepEntry, StepState], StepState]
) -> None:
    """`change(before, entry, after)` says what the fold should have made of the entry."""

    def moved(before: StepState, status: StepStatus, entry: StepEntry) -> StepState:
        return change(before, entry, _moved(before, status, entry))

    patch.setattr(state, "_moved", moved)


def forget_instants(patch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing is due any more because of that field of a step."""
    instants = agenda.instants

    def without(step: StepState, status: SagaStatus) -> agenda.Instants:
        quiet: Any = {name: None}
        return instants(replace(step, **quiet), status)

    patch.setattr(agenda, "instants", without)


# Keys and intents.


@broken
def key_contains_the_attempt(patch: pytest.MonkeyPatch) -> None:
    numbers = count()
    patch.setattr(draft, "idempotency_key", lambda saga, step, kind: f"{saga}/{step}/{kind}/{next(numbers)}")


@broken
def action_and_compensation_share_a_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft, "idempotency_key", lambda saga, step, kind: f"{saga}/{step}")


@broken
def call_is_made_twice_for_one_intent(patch: pytest.MonkeyPatch) -> None:
    def attempt(self: Draft, node: Node, kind: OperationKind) -> None:
        _attempt(self, node, kind)
        self.invocations.extend(self.invocations[-1:])

    patch.setattr(Draft, "attempt", attempt)


@broken
def attempts_are_counted_from_one_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StepState, "attempts", lambda self, kind: 0)


# Order.


@broken
def compensations_start_in_any_order(patch: pytest.MonkeyPatch) -> None:
    nobody = property(lambda self: {step.name: frozenset() for step in self.steps})
    patch.setattr(Block, "dependents", nobody)


@broken
def compensations_run_forwards(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Block, "dependents", property(lambda self: self.dependencies))


@broken
def compensation_starts_while_the_action_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undoing, "may_be_undone", state.needs_compensation)
    patch.setattr(undoing, "is_unfinished", state.needs_compensation)


@broken
def nobody_waits_for_lost_attempts_to_settle(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(patch, lambda before, entry, after: replace(after, settles_at=None))


@broken
def nobody_waits_for_lost_attempts_of_later_steps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undoing, "unseen_until", lambda known: float("-inf"))


@broken
def report_ends_the_call(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        _settle(self, name, outcome)

    patch.setattr(Draft, "settle", settle)


@broken
def retry_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    def retry(self: agenda.Agenda, known: SagaState, now: float) -> tuple[tuple[int, ...], str] | None:
        return next((((), key) for key, step in known.steps.items() if step.retry_at is not None), None)

    patch.setattr(agenda.Agenda, "retry", retry)


@broken
def actions_start_before_what_they_come_after(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ahead, "_missing", lambda step, over: 0)
    patch.setattr(Block, "followers", property(lambda self: {step.name: () for step in self.steps}))


# Effects.


@broken
def refusal_forgets_earlier_doubts(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(
        patch,
        lambda before, entry, after: (
            replace(after, effect=EffectKnown.NONE)
            if isinstance(entry, AttemptRefused) and entry.operation is ACTION
            else after
        ),
    )


@broken
def unknown_counts_as_nothing_happened(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(
        patch,
        lambda before, entry, after: (
            replace(after, effect=before.effect)
            if isinstance(entry, AttemptUnknown | AttemptUnresolved)
            else after
        ),
    )


@broken
def what_was_never_sent_may_have_happened(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        sent = replace(outcome, was_sent=True) if isinstance(outcome, Unknown) else outcome
        _settle(self, name, sent, **more)

    patch.setattr(Draft, "settle", settle)


@broken
def what_is_about_to_be_undone_is_asked_about(patch: pytest.MonkeyPatch) -> None:
    end_waits, poll = proceed._end_waits, proceed._poll

    def end_waits_and_poll(draft_: Draft) -> None:
        end_waits(draft_)
        poll(draft_)

    patch.setattr(proceed, "_end_waits", end_waits_and_poll)


@broken
def late_success_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state, "_late", lambda step, entry: replace(_late(step, entry), effect=step.effect))


@broken
def late_success_keeps_its_output_from_the_compensation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state, "_late", lambda step, entry: replace(_late(step, entry), output=step.output))


@broken
def late_success_changes_a_compensation_under_way(patch: pytest.MonkeyPatch) -> None:
    def late(step: StepState, entry: OutcomeLate) -> StepState:
        return replace(_late(step, entry), output=entry.output)

    patch.setattr(state, "_late", late)


@broken
def refused_steps_are_compensated(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        undoing,
        "needs_compensation",
        lambda step, known: state.needs_compensation(replace(step, compensate_on_refusal=True), known),
    )


@broken
def doubtful_steps_are_not_compensated(patch: pytest.MonkeyPatch) -> None:
    def needs_compensation(step: Step, known: StepState) -> bool:
        return known.effect is EffectKnown.CERTAIN and state.needs_compensation(step, known)

    patch.setattr(undoing, "needs_compensation", needs_compensation)


@broken
def not_found_undoes_what_was_certain(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        is_not_found = isinstance(outcome, Refused) and outcome.cause.code == "NOT_FOUND"
        is_undoing = self.state.step(name).operation is COMPENSATION
        _settle(self, name, Succeeded() if is_not_found and is_undoing else outcome, **more)

    patch.setattr(Draft, "settle", settle)


@broken
def not_found_never_means_done(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        if isinstance(outcome, Refused):
            outcome = Refused(Cause("ABORTED", outcome.cause.message))
        _settle(self, name, outcome, **more)

    patch.setattr(Draft, "settle", settle)


# Budgets.


@broken
def retries_never_end(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(patch, lambda before, entry, after: replace(after, failures=0))


@broken
def crashes_burn_attempts(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(
        patch,
        lambda before, entry, after: (
            replace(after, failures=after.failures + (entry.settles_at is not None))
            if isinstance(entry, AttemptUnknown)
            else after
        ),
    )


@broken
def pending_burns_attempts(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(
        patch,
        lambda before, entry, after: (
            replace(after, failures=after.failures + 1) if isinstance(entry, AttemptPending) else after
        ),
    )


@broken
def compensation_inherits_the_failures_of_the_action(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(
        patch,
        lambda before, entry, after: (
            replace(after, failures=before.failures) if entry.operation is not before.operation else after
        ),
    )


@broken
def pauses_are_not_capped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        RetryPolicy,
        "backoff_seconds",
        lambda self, failures, jitter: self.initial_backoff_seconds * (1 + self.multiplier) ** failures,
    )


# The turn and the pivot.


@broken
def deadline_passes_unnoticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "is_overdue", lambda draft_: False)


@broken
def deadline_of_the_saga_cuts_attempts_off(patch: pytest.MonkeyPatch) -> None:
    def attempt(self: Draft, node: Node, kind: OperationKind) -> None:
        _attempt(self, node, kind)
        if self.state.deadline_at is not None and self.invocations:
            left = max(0.001, self.state.deadline_at - self.now)
            call = self.invocations[-1]
            self.invocations[-1] = replace(call, timeout_seconds=min(left, call.timeout_seconds))

    patch.setattr(Draft, "attempt", attempt)


@broken
def deadline_counts_after_the_pivot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "is_past_return", lambda definition, known: False)


@broken
def cancel_is_taken_after_the_pivot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "is_past_return", lambda definition, known: False)


@broken
def pivot_in_doubt_turns_the_saga(patch: pytest.MonkeyPatch) -> None:
    def fail(draft_: Draft, node: Node) -> None:
        if node.step.is_pivot:
            draft_.record(SagaFailed(Cause("UNKNOWN", "", node.key)))
        else:
            _fail(draft_, node)

    patch.setattr(forward, "_fail", fail)


@broken
def saga_turns_after_the_pivot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Definition, "is_after_pivot", lambda self, name: False)


# Ends.


@broken
def doubtful_effects_are_not_listed(patch: pytest.MonkeyPatch) -> None:
    def certain_effects(definition: Definition, known: SagaState) -> tuple[str, ...]:
        keys = remaining_effects(definition, known)
        return tuple(key for key in keys if known.step(key).effect is EffectKnown.CERTAIN)

    patch.setattr(draft, "remaining_effects", certain_effects)


@broken
def exhausted_compensation_counts_as_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft, "remaining_effects", lambda definition, known: ())


@broken
def saga_ends_while_a_compensation_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StepState, "is_open", property(lambda self: self.status is StepStatus.WAITING))


# A parked saga's way out.


@broken
def parked_saga_has_no_way_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proceed, "_unpark", lambda draft_: None)


@broken
def parked_saga_goes_on_while_a_failure_holds_it_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proceed, "is_blocked", lambda draft_: False)


@broken
def parked_saga_never_goes_on_forward(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proceed, "is_blocked", lambda draft_: True)


@broken
def undo_that_was_parked_goes_on_for_any_reason(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proceed, "can_go_back", lambda draft_: True)


@broken
def undo_that_was_parked_goes_on_only_when_nothing_remains(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proceed, "can_go_back", lambda draft_: False)


@broken
def compensation_that_was_given_up_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        undoing,
        "may_be_undone",
        lambda step, known: (
            not known.is_open
            and known.status is not StepStatus.COMPENSATING
            and state.needs_compensation(step, known)
        ),
    )


@broken
def late_success_of_what_holds_the_saga_up_is_only_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reports, "is_over", lambda step, known: True)


@broken
def late_refusal_never_settles_a_doubt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reports, "_is_only_doubt", lambda known, kind, attempt: False)


@broken
def late_refusal_settles_every_doubt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        reports,
        "_is_only_doubt",
        lambda known, kind, attempt: kind is known.operation is ACTION and not known.is_in_flight,
    )


# Coming back.


@broken
def reports_have_no_timer(patch: pytest.MonkeyPatch) -> None:
    forget_instants(patch, "pending_until")


@broken
def compensations_held_back_have_no_timer(patch: pytest.MonkeyPatch) -> None:
    forget_instants(patch, "settles_at")


@broken
def overdue_reports_are_noticed_only_by_their_timer(patch: pytest.MonkeyPatch) -> None:
    end_waits = proceed._end_waits

    def on_timer(draft_: Draft, happened: Any) -> None:
        end_waits(draft_)

    patch.setattr(proceed, "_end_waits", lambda draft_: None)
    for status in (SagaStatus.RUNNING, SagaStatus.COMPENSATING):
        patch.setitem(handlers(), (status, TimerFired), on_timer)


@broken
def adoption_leaves_attempts_in_flight(patch: pytest.MonkeyPatch) -> None:
    def on_ownership(draft_: Draft, happened: OwnershipGained) -> None:
        draft_.record(SagaAdopted(happened.previous_owner or ""))

    patch.setattr(proceed, "_give_up_lost", lambda draft_, adoption: True)
    for status in (SagaStatus.RUNNING, SagaStatus.COMPENSATING):
        patch.setitem(handlers(), (status, OwnershipGained), on_ownership)


@broken
def adoption_leaves_no_entry(patch: pytest.MonkeyPatch) -> None:
    for status in (SagaStatus.RUNNING, SagaStatus.COMPENSATING):
        patch.setitem(handlers(), (status, OwnershipGained), lambda draft_, happened: None)


@broken
def repetitions_are_recorded_again(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(patch, lambda before, entry, after: replace(after, told=frozenset()))
    patch.setattr(state, "_late", lambda step, entry: replace(_late(step, entry), told=step.told))


@broken
def pending_is_a_success(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        _settle(self, name, Succeeded() if isinstance(outcome, Pending) else outcome, **more)

    patch.setattr(Draft, "settle", settle)


@broken
def unknown_is_a_refusal(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        _settle(
            self,
            name,
            Refused(outcome.cause) if isinstance(outcome, Unknown) else outcome,
            **more,
        )

    patch.setattr(Draft, "settle", settle)


def handlers() -> dict[Any, Any]:
    handlers: Mapping[Any, Any] = decide.HANDLERS
    assert isinstance(handlers, dict)
    return handlers
