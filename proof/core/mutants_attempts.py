"""Ways to break what becomes of attempts: their keys, order, effects and budgets, and how they come back after a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from proof.core.seams import MOVING, called_otherwise, held_for, looked_for_otherwise, told_otherwise
from proof.mutant import Mutants, Patches, folded, handled, instead_of, never_due
from saga_coordinator.saga.definition.model import Block, Step
from saga_coordinator.saga.machine import agenda, ahead, proceed
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptUnknown,
    AttemptUnresolved,
    OutcomeLate,
    SagaAdopted,
)
from saga_coordinator.saga.machine.inputs import OwnershipGained, RoomFound, TimerFired
from saga_coordinator.saga.machine.settling import settle
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import EffectKnown, StepState, needs_compensation
from saga_coordinator.saga.machine.touched import is_unfinished, may_be_undone, unseen_until
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import Cause, Outcome, Pending, Refused, Succeeded, Unknown
from saga_coordinator.saga.words.retry import RetryPolicy

MUTANTS = Mutants()
ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


# Keys and intents.


@MUTANTS.broken()
def key_contains_the_attempt() -> Patches:
    numbers = count()
    yield instead_of(idempotency_key, lambda saga, step, kind: f"{saga}/{step}/{kind}/{next(numbers)}")


MUTANTS.replaced(
    action_and_compensation_share_a_key=lambda: instead_of(
        idempotency_key, lambda saga, step, kind: f"{saga}/{step}"
    ),
    call_is_made_twice_for_one_intent=lambda: called_otherwise(lambda draft, node, call: [call, call]),
    attempts_are_counted_from_one_again=lambda: instead_of(StepState.attempts, lambda self, kind: 0),
)


# Order.


@MUTANTS.broken()
def compensations_start_in_any_order() -> Patches:
    nobody = property(lambda self: {step.name: frozenset() for step in self.steps})
    yield instead_of(Block.dependents, nobody)


MUTANTS.replaced(
    compensations_run_forwards=lambda: instead_of(Block.dependents, property(lambda self: self.dependencies)),
    nobody_waits_for_lost_attempts_to_settle=lambda: folded(
        lambda before, entry, after: replace(after, settles_at=None)
    ),
    nobody_waits_for_lost_attempts_of_later_steps=lambda: instead_of(
        unseen_until, lambda known: float("-inf")
    ),
    report_ends_the_call=lambda: instead_of(
        settle, lambda draft, key, outcome, **_: settle(draft, key, outcome)
    ),
)


@MUTANTS.broken()
def compensation_starts_while_the_action_is_in_flight() -> Patches:
    yield instead_of(may_be_undone, needs_compensation)
    yield instead_of(is_unfinished, needs_compensation)


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


MUTANTS.replaced(
    what_was_never_sent_may_have_happened=lambda: told_otherwise(
        lambda draft, key, told: replace(told, was_sent=True) if isinstance(told, Unknown) else told
    ),
    late_success_is_forgotten=lambda: when_late(
        lambda before, entry, after: replace(after, effect=before.effect)
    ),
    late_success_keeps_its_output_from_the_compensation=lambda: when_late(
        lambda before, entry, after: replace(after, output=before.output)
    ),
    late_success_changes_a_compensation_under_way=lambda: when_late(
        lambda before, entry, after: replace(after, output=entry.output)
    ),
    not_found_never_means_done=lambda: told_otherwise(
        lambda draft, key, told: (
            Refused(Cause("ABORTED", told.cause.message)) if isinstance(told, Refused) else told
        )
    ),
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


# Budgets.

MUTANTS.replaced(
    retries_never_end=lambda: folded(lambda before, entry, after: replace(after, failures=0)),
    pending_burns_attempts=lambda: folded(
        lambda before, entry, after: replace(
            after, failures=after.failures + isinstance(entry, AttemptPending)
        )
    ),
    compensation_inherits_the_failures_of_the_action=lambda: folded(
        lambda before, entry, after: (
            replace(after, failures=before.failures) if entry.operation is not before.operation else after
        )
    ),
    held_attempts_burn_the_budget=lambda: folded(
        lambda before, entry, after: replace(after, failures=after.failures + isinstance(entry, AttemptHeld))
    ),
)


@MUTANTS.broken()
def crashes_burn_attempts() -> Patches:
    def burn(before: StepState, entry: Any, after: StepState) -> StepState:
        is_lost = isinstance(entry, AttemptUnknown) and entry.settles_at is not None
        return replace(after, failures=after.failures + is_lost)

    yield folded(burn)


@MUTANTS.broken()
def pauses_are_not_capped() -> Patches:
    def grow(self: RetryPolicy, failures: int, jitter: float) -> float:
        return self.initial_backoff_seconds * (1 + self.multiplier) ** failures

    yield instead_of(RetryPolicy.backoff_seconds, grow)


@MUTANTS.broken()
def listed_pauses_are_drawn() -> Patches:
    right = RetryPolicy.backoff_seconds

    def draw(self: RetryPolicy, failures: int, jitter: float) -> float:
        return right(self, failures, jitter) * (jitter if self.pauses else 1)

    yield instead_of(RetryPolicy.backoff_seconds, draw)


@MUTANTS.broken()
def every_cause_is_retried() -> Patches:
    def allow(self: RetryPolicy, code: str, failures: int) -> bool:
        return failures < self.max_attempts

    yield instead_of(RetryPolicy.allows, allow)


# Held attempts.

MUTANTS.replaced(
    held_attempts_are_made_at_once=lambda: held_for(lambda _: 0.01),
    room_for_what_is_held_is_looked_for_before_its_time=lambda: looked_for_otherwise(lambda now, at: now),
    room_for_what_is_held_is_looked_for_long_after_its_time=lambda: looked_for_otherwise(
        lambda now, at: at + 60
    ),
    held_attempts_are_made_when_they_are_due_whether_there_is_room_or_not=lambda: folded(
        lambda before, entry, after: replace(after, is_held=False)
    ),
    room_that_was_found_is_left_to_others=lambda: handled(lambda draft, happened: None, RoomFound, *MOVING),
)


# Coming back.

MUTANTS.replaced(
    reports_have_no_timer=lambda: never_due("pending_until"),
    compensations_held_back_have_no_timer=lambda: never_due("settles_at"),
    polls_have_no_timer=lambda: never_due("poll_at"),
    adoption_leaves_no_entry=lambda: handled(lambda draft, happened: None, OwnershipGained, *MOVING),
    repetitions_are_recorded_again=lambda: folded(
        lambda before, entry, after: replace(after, told=frozenset())
    ),
    pending_is_a_success=lambda: told_otherwise(
        lambda draft, key, told: Succeeded() if isinstance(told, Pending) else told
    ),
    unknown_is_a_refusal=lambda: told_otherwise(
        lambda draft, key, told: Refused(told.cause) if isinstance(told, Unknown) else told
    ),
)


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
