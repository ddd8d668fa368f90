"""Ways to break the core: what a careless change might do. Each must be caught by the oracle in some story."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import patch

from proof.mutant import Mutants, Patches, folded, handled, instead_of, never_due
from saga_coordinator.saga.definition.model import Block, Definition, Step
from saga_coordinator.saga.machine import agenda, ahead, decide, forward, proceed, reports
from saga_coordinator.saga.machine.ahead import is_over
from saga_coordinator.saga.machine.draft import Draft, is_past_return
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptUnknown,
    AttemptUnresolved,
    OutcomeLate,
    SagaAdopted,
    SagaFailed,
)
from saga_coordinator.saga.machine.forward import is_blocked
from saga_coordinator.saga.machine.inputs import OwnershipGained, RoomFound, TimerFired
from saga_coordinator.saga.machine.place import Node, remaining_effects
from saga_coordinator.saga.machine.progress import is_progress
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import EffectKnown, StepState, needs_compensation
from saga_coordinator.saga.machine.takeover import pause_seconds
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.machine.undo import can_go_back
from saga_coordinator.saga.machine.undoing import is_unfinished, may_be_undone, unseen_until
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome, Pending, Refused, Succeeded, Unknown
from saga_coordinator.saga.words.retry import RetryPolicy

MUTANTS = Mutants()
TAKEN_OVER = Mutants()
"""What shows where coordinators are lost one after the other."""
ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
MOVING = (SagaStatus.RUNNING, SagaStatus.COMPENSATING)


def told_otherwise(change: Callable[[Draft, str, Outcome], Outcome]) -> AbstractContextManager[None]:
    """`change(draft, key, outcome)` says for what the outcome of an operation is taken."""
    settle = Draft.settle

    def settle_otherwise(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        settle(self, name, change(self, name, outcome), **more)

    return instead_of(Draft.settle, settle_otherwise)


def called_otherwise(change: Callable[[Draft, Node, Invoke], list[Invoke]]) -> AbstractContextManager[None]:
    """`change(draft, node, call)` says which calls are made in the place of one."""
    attempt = Draft.attempt

    def attempt_otherwise(self: Draft, node: Node, kind: OperationKind) -> None:
        before = len(self.invocations)
        attempt(self, node, kind)
        if len(self.invocations) > before:
            self.invocations[-1:] = change(self, node, self.invocations[-1])

    return instead_of(Draft.attempt, attempt_otherwise)


def no_later_than(draft: Draft, call: Invoke, deadline_at: float | None) -> list[Invoke]:
    if deadline_at is None:
        return [call]
    left = max(0.001, deadline_at - draft.now)
    return [replace(call, timeout_seconds=min(left, call.timeout_seconds))]


# Keys and intents.


@MUTANTS.broken()
def key_contains_the_attempt() -> Patches:
    numbers = count()
    yield instead_of(idempotency_key, lambda saga, step, kind: f"{saga}/{step}/{kind}/{next(numbers)}")


@MUTANTS.broken()
def action_and_compensation_share_a_key() -> Patches:
    yield instead_of(idempotency_key, lambda saga, step, kind: f"{saga}/{step}")


@MUTANTS.broken()
def call_is_made_twice_for_one_intent() -> Patches:
    yield called_otherwise(lambda draft, node, call: [call, call])


@MUTANTS.broken()
def attempts_are_counted_from_one_again() -> Patches:
    yield instead_of(StepState.attempts, lambda self, kind: 0)


# Order.


@MUTANTS.broken()
def compensations_start_in_any_order() -> Patches:
    nobody = property(lambda self: {step.name: frozenset() for step in self.steps})
    yield instead_of(Block.dependents, nobody)


@MUTANTS.broken()
def compensations_run_forwards() -> Patches:
    yield instead_of(Block.dependents, property(lambda self: self.dependencies))


@MUTANTS.broken()
def compensation_starts_while_the_action_is_in_flight() -> Patches:
    yield instead_of(may_be_undone, needs_compensation)
    yield instead_of(is_unfinished, needs_compensation)


@MUTANTS.broken()
def nobody_waits_for_lost_attempts_to_settle() -> Patches:
    yield folded(lambda before, entry, after: replace(after, settles_at=None))


@MUTANTS.broken()
def nobody_waits_for_lost_attempts_of_later_steps() -> Patches:
    yield instead_of(unseen_until, lambda known: float("-inf"))


@MUTANTS.broken()
def report_ends_the_call() -> Patches:
    settle = Draft.settle
    yield instead_of(Draft.settle, lambda self, name, outcome, **_: settle(self, name, outcome))


@MUTANTS.broken()
def retry_does_not_wait() -> Patches:
    def retry(self: agenda.Agenda, known: SagaState, now: float) -> tuple[tuple[int, ...], str] | None:
        return next((((), key) for key, step in known.steps.items() if step.retry_at is not None), None)

    yield instead_of(agenda.Agenda.retry, retry)


@MUTANTS.broken()
def actions_start_before_what_they_come_after() -> Patches:
    yield instead_of(ahead._missing, lambda step, over: 0)
    yield instead_of(Block.followers, property(lambda self: {step.name: () for step in self.steps}))


# Effects.


@MUTANTS.broken()
def refusal_forgets_earlier_doubts() -> Patches:
    def forget(before: StepState, entry: Any, after: StepState) -> StepState:
        is_refused = isinstance(entry, AttemptRefused) and entry.operation is ACTION
        return replace(after, effect=EffectKnown.NONE) if is_refused else after

    yield folded(forget)


@MUTANTS.broken()
def unknown_counts_as_nothing_happened() -> Patches:
    def ignore(before: StepState, entry: Any, after: StepState) -> StepState:
        is_unknown = isinstance(entry, AttemptUnknown | AttemptUnresolved)
        return replace(after, effect=before.effect) if is_unknown else after

    yield folded(ignore)


@MUTANTS.broken()
def what_was_never_sent_may_have_happened() -> Patches:
    yield told_otherwise(
        lambda draft, key, told: replace(told, was_sent=True) if isinstance(told, Unknown) else told
    )


@MUTANTS.broken()
def what_is_about_to_be_undone_is_asked_about() -> Patches:
    end_waits, poll = proceed._end_waits, proceed._poll

    def end_waits_and_poll(draft: Draft) -> None:
        end_waits(draft)
        poll(draft)

    yield instead_of(end_waits, end_waits_and_poll)


def when_late(change: Callable[[StepState, OutcomeLate, StepState], StepState]) -> Any:
    return folded(
        lambda before, entry, after: change(before, entry, after) if isinstance(entry, OutcomeLate) else after
    )


@MUTANTS.broken()
def late_success_is_forgotten() -> Patches:
    yield when_late(lambda before, entry, after: replace(after, effect=before.effect))


@MUTANTS.broken()
def late_success_keeps_its_output_from_the_compensation() -> Patches:
    yield when_late(lambda before, entry, after: replace(after, output=before.output))


@MUTANTS.broken()
def late_success_changes_a_compensation_under_way() -> Patches:
    yield when_late(lambda before, entry, after: replace(after, output=entry.output))


@MUTANTS.broken()
def refused_steps_are_compensated() -> Patches:
    def needs_to_be(step: Step, known: StepState) -> bool:
        return needs_compensation(replace(step, compensate_on_refusal=True), known)

    yield instead_of(needs_compensation, needs_to_be)


@MUTANTS.broken()
def doubtful_steps_are_not_compensated() -> Patches:
    def needs_to_be(step: Step, known: StepState) -> bool:
        return known.effect is EffectKnown.CERTAIN and needs_compensation(step, known)

    yield instead_of(needs_compensation, needs_to_be)


def is_not_found(outcome: Outcome) -> bool:
    return isinstance(outcome, Refused) and outcome.cause.code == "NOT_FOUND"


@MUTANTS.broken()
def not_found_undoes_what_was_certain() -> Patches:
    def take_for_undone(draft: Draft, key: str, told: Outcome) -> Outcome:
        is_undoing = draft.state.step(key).operation is COMPENSATION
        return Succeeded() if is_not_found(told) and is_undoing else told

    yield told_otherwise(take_for_undone)


@MUTANTS.broken()
def not_found_never_means_done() -> Patches:
    yield told_otherwise(
        lambda draft, key, told: (
            Refused(Cause("ABORTED", told.cause.message)) if isinstance(told, Refused) else told
        )
    )


# Budgets.


@MUTANTS.broken()
def retries_never_end() -> Patches:
    yield folded(lambda before, entry, after: replace(after, failures=0))


@MUTANTS.broken()
def crashes_burn_attempts() -> Patches:
    def burn(before: StepState, entry: Any, after: StepState) -> StepState:
        is_lost = isinstance(entry, AttemptUnknown) and entry.settles_at is not None
        return replace(after, failures=after.failures + is_lost)

    yield folded(burn)


@MUTANTS.broken()
def pending_burns_attempts() -> Patches:
    yield folded(
        lambda before, entry, after: replace(
            after, failures=after.failures + isinstance(entry, AttemptPending)
        )
    )


@MUTANTS.broken()
def compensation_inherits_the_failures_of_the_action() -> Patches:
    yield folded(
        lambda before, entry, after: (
            replace(after, failures=before.failures) if entry.operation is not before.operation else after
        )
    )


@MUTANTS.broken()
def held_attempts_burn_the_budget() -> Patches:
    yield folded(
        lambda before, entry, after: replace(after, failures=after.failures + isinstance(entry, AttemptHeld))
    )


@MUTANTS.broken()
def pauses_are_not_capped() -> Patches:
    def grow(self: RetryPolicy, failures: int, jitter: float) -> float:
        return self.initial_backoff_seconds * (1 + self.multiplier) ** failures

    yield instead_of(RetryPolicy.backoff_seconds, grow)


# Held attempts.


def held_for(seconds: Callable[[float], float]) -> AbstractContextManager[None]:
    return told_otherwise(
        lambda draft, key, told: (
            replace(told, delay_seconds=seconds(told.delay_seconds)) if isinstance(told, Held) else told
        )
    )


@MUTANTS.broken()
def held_attempts_are_made_at_once() -> Patches:
    yield held_for(lambda _: 0.01)


def looked_for_otherwise(due_at: Callable[[float, float], float]) -> AbstractContextManager[None]:
    """`due_at(now, asked_for)` says from when on it is looked for room."""
    look = Draft.look_for_room
    return instead_of(look, lambda self, key, at: look(self, key, due_at(self.now, at)))


@MUTANTS.broken()
def room_for_what_is_held_is_looked_for_before_its_time() -> Patches:
    yield looked_for_otherwise(lambda now, at: now)


@MUTANTS.broken()
def room_for_what_is_held_is_looked_for_long_after_its_time() -> Patches:
    yield looked_for_otherwise(lambda now, at: at + 60)


@MUTANTS.broken()
def held_attempts_are_made_when_they_are_due_whether_there_is_room_or_not() -> Patches:
    yield folded(lambda before, entry, after: replace(after, is_held=False))


@MUTANTS.broken()
def room_that_was_found_is_left_to_others() -> Patches:
    yield handled(lambda draft, happened: None, RoomFound, *MOVING)


# The turn and the pivot.


@MUTANTS.broken()
def deadline_passes_unnoticed() -> Patches:
    yield instead_of(forward.is_overdue, lambda draft: False)


@MUTANTS.broken()
def deadline_of_the_saga_cuts_attempts_off() -> Patches:
    yield called_otherwise(lambda draft, node, call: no_later_than(draft, call, draft.state.deadline_at))


@MUTANTS.broken()
def deadline_of_a_step_cuts_attempts_off() -> Patches:
    yield called_otherwise(
        lambda draft, node, call: no_later_than(
            draft, call, draft.state.step(node.key).deadline_at if call.operation is ACTION else None
        )
    )


@MUTANTS.broken()
def deadline_counts_after_the_pivot() -> Patches:
    yield instead_of(is_past_return, lambda definition, known: False, within=forward)


@MUTANTS.broken()
def cancel_is_taken_after_the_pivot() -> Patches:
    yield instead_of(is_past_return, lambda definition, known: False, within=decide)


def failing_turns_the_saga(where: Callable[[Step], bool]) -> AbstractContextManager[None]:
    fail = forward._fail

    def turn(draft: Draft, node: Node) -> None:
        if where(node.step):
            draft.record(SagaFailed(Cause("UNKNOWN", "", node.key)))
        else:
            fail(draft, node)

    return instead_of(fail, turn)


@MUTANTS.broken()
def pivot_in_doubt_turns_the_saga() -> Patches:
    yield failing_turns_the_saga(lambda step: step.is_pivot)


@MUTANTS.broken()
def saga_turns_after_the_pivot() -> Patches:
    yield instead_of(Definition.is_after_pivot, lambda self, name: False)


# Ends.


@MUTANTS.broken()
def doubtful_effects_are_not_listed() -> Patches:
    def certain_effects(definition: Definition, known: SagaState) -> tuple[str, ...]:
        keys = remaining_effects(definition, known)
        return tuple(key for key in keys if known.step(key).effect is EffectKnown.CERTAIN)

    yield instead_of(remaining_effects, certain_effects)


@MUTANTS.broken()
def exhausted_compensation_counts_as_done() -> Patches:
    yield instead_of(remaining_effects, lambda definition, known: ())


@MUTANTS.broken()
def saga_ends_while_a_compensation_is_in_flight() -> Patches:
    yield instead_of(StepState.is_open, property(lambda self: self.status is StepStatus.WAITING))


# A parked saga's way out.


@MUTANTS.broken()
def parked_saga_has_no_way_out() -> Patches:
    yield instead_of(proceed._unpark, lambda draft: None)


@MUTANTS.broken()
def parked_saga_goes_on_while_a_failure_holds_it_up() -> Patches:
    yield instead_of(is_blocked, lambda draft: False)


@MUTANTS.broken()
def parked_saga_never_goes_on_forward() -> Patches:
    yield instead_of(is_blocked, lambda draft: True)


@MUTANTS.broken()
def undo_that_was_parked_goes_on_for_any_reason() -> Patches:
    yield instead_of(can_go_back, lambda draft: True)


@MUTANTS.broken()
def undo_that_was_parked_goes_on_only_when_nothing_remains() -> Patches:
    yield instead_of(can_go_back, lambda draft: False)


@MUTANTS.broken()
def compensation_that_was_given_up_is_tried_again() -> Patches:
    def may_be(step: Step, known: StepState) -> bool:
        is_begun = known.is_open or known.status is StepStatus.COMPENSATING
        return not is_begun and needs_compensation(step, known)

    yield instead_of(may_be_undone, may_be)


@MUTANTS.broken()
def late_success_of_what_holds_the_saga_up_is_only_late() -> Patches:
    yield instead_of(is_over, lambda step, known: True, within=reports)


@MUTANTS.broken()
def late_refusal_never_settles_a_doubt() -> Patches:
    yield instead_of(reports._is_only_doubt, lambda known, kind, attempt: False)


@MUTANTS.broken()
def late_refusal_settles_every_doubt() -> Patches:
    def is_settled(known: StepState, kind: OperationKind, attempt: int) -> bool:
        return kind is known.operation is ACTION and not known.is_in_flight

    yield instead_of(reports._is_only_doubt, is_settled)


# Coming back.


@MUTANTS.broken()
def reports_have_no_timer() -> Patches:
    yield never_due("pending_until")


@MUTANTS.broken()
def compensations_held_back_have_no_timer() -> Patches:
    yield never_due("settles_at")


@MUTANTS.broken()
def polls_have_no_timer() -> Patches:
    yield never_due("poll_at")


@MUTANTS.broken()
def overdue_reports_are_noticed_only_by_their_timer() -> Patches:
    end_waits = proceed._end_waits
    yield instead_of(end_waits, lambda draft: None)
    yield handled(lambda draft, happened: end_waits(draft), TimerFired, *MOVING)


@MUTANTS.broken()
def adoption_leaves_attempts_in_flight() -> Patches:
    def adopt(draft: Draft, happened: OwnershipGained) -> None:
        draft.record(SagaAdopted(happened.previous_owner or ""))

    yield instead_of(proceed._give_up_lost, lambda draft, adoption: True)
    yield handled(adopt, OwnershipGained, *MOVING)


@MUTANTS.broken()
def adoption_leaves_no_entry() -> Patches:
    yield handled(lambda draft, happened: None, OwnershipGained, *MOVING)


@MUTANTS.broken()
def repetitions_are_recorded_again() -> Patches:
    yield folded(lambda before, entry, after: replace(after, told=frozenset()))


@MUTANTS.broken()
def pending_is_a_success() -> Patches:
    yield told_otherwise(lambda draft, key, told: Succeeded() if isinstance(told, Pending) else told)


@MUTANTS.broken()
def unknown_is_a_refusal() -> Patches:
    yield told_otherwise(lambda draft, key, told: Refused(told.cause) if isinstance(told, Unknown) else told)


# Takeovers.


@TAKEN_OVER.broken()
def retries_at_once() -> Patches:
    yield instead_of(pause_seconds, lambda takeovers: 0.0)


@TAKEN_OVER.broken()
def forgets_progress() -> Patches:
    yield instead_of(is_progress, lambda entry: False)


@TAKEN_OVER.broken()
def takes_a_lost_attempt_for_progress() -> Patches:
    yield instead_of(is_progress, lambda entry: True)


@TAKEN_OVER.broken()
def adopts_for_ever() -> Patches:
    yield patch.object(proceed, "TAKEOVERS_MAX", 1000)


@TAKEN_OVER.broken()
def parks_early() -> Patches:
    yield patch.object(proceed, "TAKEOVERS_MAX", 6)
