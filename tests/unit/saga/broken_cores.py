"""Ways to break the core, each by replacing one function or table: what a careless change might do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from saga_coordinator.saga import decide, draft, forward, place, proceed, state, undo
from saga_coordinator.saga.decide import (
    ApprovalDecided,
    Effect,
    EventArrived,
    LookForEvent,
    OwnershipGained,
    RecallAsked,
)
from saga_coordinator.saga.definition import Approval, Block, Definition, OnFailure, Repeat, Step, Switch
from saga_coordinator.saga.draft import Draft
from saga_coordinator.saga.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    BlockClosed,
    BlockOpened,
    EventReceived,
    OutcomeLate,
    SagaAdopted,
    SagaFailed,
    SagaRecalled,
    StepEntry,
)
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import Cause, Held, Outcome, Pending, Refused, Succeeded, Unknown
from saga_coordinator.saga.place import Node, Place, places_in, remaining_effects
from saga_coordinator.saga.retry import RetryPolicy
from saga_coordinator.saga.state import EffectKnown, SagaState, SagaStatus, StepState, StepStatus

Break = Callable[[pytest.MonkeyPatch], None]
BROKEN_CORES: list[Break] = []

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_moved, _late = state._moved, state._late
_settle, _attempt = Draft.settle, Draft.attempt
_start_ready, _fail = forward._start_ready, forward._fail


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
    patch.setattr(undo, "_may_be_undone", state.needs_compensation)
    patch.setattr(undo, "_is_unfinished", state.needs_compensation)


@broken
def nobody_waits_for_lost_attempts_to_settle(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(patch, lambda before, entry, after: replace(after, settles_at=None))


@broken
def nobody_waits_for_lost_attempts_of_later_steps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undo, "_unseen_until", lambda known: float("-inf"))


@broken
def report_ends_the_call(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, *, is_call_over: bool = True) -> None:
        _settle(self, name, outcome)

    patch.setattr(Draft, "settle", settle)


@broken
def retry_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undo, "_is_retry_due", lambda draft_, known: known.retry_at is not None)


@broken
def actions_start_before_what_they_come_after(patch: pytest.MonkeyPatch) -> None:
    def start_ready(draft_: Draft, place_: Place) -> bool:
        for step in place_.block.steps:
            key = place_.prefix + step.name
            if draft_.state.step(key).status is StepStatus.PENDING:
                forward._start(draft_, Node(key, step, place_))
        return _start_ready(draft_, place_)

    patch.setattr(forward, "_start_ready", start_ready)


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
        undo,
        "needs_compensation",
        lambda step, known: state.needs_compensation(replace(step, compensate_on_refusal=True), known),
    )


@broken
def doubtful_steps_are_not_compensated(patch: pytest.MonkeyPatch) -> None:
    def needs_compensation(step: Step, known: StepState) -> bool:
        return known.effect is EffectKnown.CERTAIN and state.needs_compensation(step, known)

    patch.setattr(undo, "needs_compensation", needs_compensation)


@broken
def not_found_undoes_what_was_certain(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, *, is_call_over: bool = True) -> None:
        is_not_found = isinstance(outcome, Refused) and outcome.cause.code == "NOT_FOUND"
        is_undoing = self.state.step(name).operation is COMPENSATION
        _settle(
            self, name, Succeeded() if is_not_found and is_undoing else outcome, is_call_over=is_call_over
        )

    patch.setattr(Draft, "settle", settle)


@broken
def not_found_never_means_done(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, *, is_call_over: bool = True) -> None:
        if isinstance(outcome, Refused):
            outcome = Refused(Cause("ABORTED", outcome.cause.message))
        _settle(self, name, outcome, is_call_over=is_call_over)

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

    patch.setattr(undo, "remaining_effects", certain_effects)
    patch.setattr(forward, "remaining_effects", certain_effects)


@broken
def exhausted_compensation_counts_as_done(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undo, "remaining_effects", lambda definition, known: ())


@broken
def saga_ends_while_a_compensation_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StepState, "is_open", property(lambda self: self.status is StepStatus.WAITING))


# Coming back.


@broken
def reports_have_no_timer(patch: pytest.MonkeyPatch) -> None:
    def next_due(definition: Definition, known: SagaState, now: float) -> float | None:
        quiet = {name: replace(step, pending_until=None) for name, step in known.steps.items()}
        return proceed.next_due(definition, replace(known, steps=quiet), now)

    patch.setattr(decide, "next_due", next_due)


@broken
def compensations_held_back_have_no_timer(patch: pytest.MonkeyPatch) -> None:
    def next_due(definition: Definition, known: SagaState, now: float) -> float | None:
        quiet = {name: replace(step, settles_at=None) for name, step in known.steps.items()}
        return proceed.next_due(definition, replace(known, steps=quiet), now)

    patch.setattr(decide, "next_due", next_due)


@broken
def overdue_reports_are_noticed_only_by_their_timer(patch: pytest.MonkeyPatch) -> None:
    end_waits = proceed._end_waits

    def on_timer(draft_: Draft, happened: Any) -> None:
        end_waits(draft_)

    patch.setattr(proceed, "_end_waits", lambda draft_: None)
    for status in (SagaStatus.RUNNING, SagaStatus.COMPENSATING):
        patch.setitem(_handlers(), (status, decide.TimerFired), on_timer)


@broken
def adoption_leaves_attempts_in_flight(patch: pytest.MonkeyPatch) -> None:
    def on_ownership(draft_: Draft, happened: OwnershipGained) -> None:
        draft_.record(SagaAdopted(happened.previous_owner or ""))

    for status in (SagaStatus.RUNNING, SagaStatus.COMPENSATING):
        patch.setitem(_handlers(), (status, OwnershipGained), on_ownership)


@broken
def adoption_leaves_no_entry(patch: pytest.MonkeyPatch) -> None:
    for status in (SagaStatus.RUNNING, SagaStatus.COMPENSATING):
        patch.setitem(_handlers(), (status, OwnershipGained), lambda draft_, happened: None)


@broken
def repetitions_are_recorded_again(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(patch, lambda before, entry, after: replace(after, told=frozenset()))
    patch.setattr(state, "_late", lambda step, entry: replace(_late(step, entry), told=step.told))


@broken
def pending_is_a_success(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, *, is_call_over: bool = True) -> None:
        _settle(
            self, name, Succeeded() if isinstance(outcome, Pending) else outcome, is_call_over=is_call_over
        )

    patch.setattr(Draft, "settle", settle)


@broken
def unknown_is_a_refusal(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, *, is_call_over: bool = True) -> None:
        _settle(
            self,
            name,
            Refused(outcome.cause) if isinstance(outcome, Unknown) else outcome,
            is_call_over=is_call_over,
        )

    patch.setattr(Draft, "settle", settle)


# Conditions and blocks.


@broken
def skipped_steps_are_compensated(patch: pytest.MonkeyPatch) -> None:
    def needs_compensation(step: Step, known: StepState) -> bool:
        is_skipped = known.status is StepStatus.SKIPPED and step.compensation is not None
        return is_skipped or state.needs_compensation(step, known)

    patch.setattr(undo, "needs_compensation", needs_compensation)


@broken
def dependents_of_a_skipped_step_never_start(patch: pytest.MonkeyPatch) -> None:
    is_over = forward.is_over
    patch.setattr(
        forward,
        "is_over",
        lambda step, known: known.status is not StepStatus.SKIPPED and is_over(step, known),
    )


@broken
def conditions_always_hold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "evaluate_condition", lambda condition, variables: True)


@broken
def items_share_a_key(patch: pytest.MonkeyPatch) -> None:
    def key(saga: str, step: str, kind: OperationKind) -> str:
        return f"{saga}/{re.sub(r'[0-9]+]', ']', step)}/{kind}"

    patch.setattr(draft, "idempotency_key", key)


@broken
def passes_share_their_instances(patch: pytest.MonkeyPatch) -> None:
    def places(node: Node, known: StepState) -> list[Place]:
        found = places_in(node, known)
        is_repeat = isinstance(node.step.action, Repeat)
        return [place_._replace(prefix=found[0].prefix) for place_ in found] if is_repeat else found

    for module in (forward, undo, place):
        patch.setattr(module, "places_in", places)


@broken
def passes_are_undone_oldest_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undo, "reversed", lambda places: places, raising=False)


@broken
def loop_ends_after_its_first_pass(patch: pytest.MonkeyPatch) -> None:
    close = forward._close

    def close_early(draft_: Draft, node: Node, places: list[Place]) -> None:
        if isinstance(node.step.action, Repeat):
            draft_.record(BlockClosed(node.key))
        else:
            close(draft_, node, places)

    patch.setattr(forward, "_close", close_early)


@broken
def loop_goes_on_after_its_last_pass(patch: pytest.MonkeyPatch) -> None:
    close = forward._close

    def close_late(draft_: Draft, node: Node, places: list[Place]) -> None:
        if isinstance(node.step.action, Repeat) and len(places) <= node.step.action.max_passes:
            draft_.record(BlockOpened(node.key))
        else:
            close(draft_, node, places)

    patch.setattr(forward, "_close", close_late)


@broken
def items_begin_all_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "_is_begun", lambda draft_, place_: True)


@broken
def items_are_undone_all_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(undo._Walk, "_rank", lambda self, place_: undo._Rank.UNDER_WAY)


@broken
def calls_begin_without_limit(patch: pytest.MonkeyPatch) -> None:
    for module in (forward, undo):
        patch.setattr(module, "has_room", lambda draft_: True)


@broken
def calls_begin_again_without_limit(patch: pytest.MonkeyPatch) -> None:
    for module in (forward, undo):
        patch.setattr(module, "has_room_again", lambda draft_: True)


@broken
def block_is_over_with_its_first_step(patch: pytest.MonkeyPatch) -> None:
    def is_over_all(draft_: Draft, place_: Place) -> bool:
        over = [
            forward.is_over(step, draft_.state.step(place_.prefix + step.name)) for step in place_.block.steps
        ]
        return any(over) if place_.prefix else all(over)

    patch.setattr(forward, "is_over_all", is_over_all)


@broken
def last_branch_is_taken(patch: pytest.MonkeyPatch) -> None:
    open_ = forward._open

    def open_last(draft_: Draft, node: Node) -> bool:
        if isinstance(node.step.action, Switch):
            draft_.record(BlockOpened(node.key, branch=len(node.step.action.cases) - 1))
            return True
        return open_(draft_, node)

    patch.setattr(forward, "_open", open_last)


# What failures mean.


@broken
def failure_that_does_not_matter_turns_the_saga(patch: pytest.MonkeyPatch) -> None:
    is_over = forward.is_over
    patch.setattr(
        forward, "is_over", lambda step, known: known.status is not StepStatus.FAILED and is_over(step, known)
    )


@broken
def failure_for_a_person_turns_the_saga(patch: pytest.MonkeyPatch) -> None:
    def fail(draft_: Draft, node: Node) -> None:
        if node.step.on_failure is OnFailure.PAUSE:
            draft_.record(SagaFailed(Cause("UNKNOWN", "", node.key)))
        else:
            _fail(draft_, node)

    patch.setattr(forward, "_fail", fail)


@broken
def any_compensation_may_fail(patch: pytest.MonkeyPatch) -> None:
    is_unfinished = undo._is_unfinished
    patch.setattr(
        undo,
        "_is_unfinished",
        lambda step, known: is_unfinished(replace(step, is_undo_optional=True), known),
    )


@broken
def no_compensation_may_fail(patch: pytest.MonkeyPatch) -> None:
    is_unfinished = undo._is_unfinished
    patch.setattr(
        undo,
        "_is_unfinished",
        lambda step, known: is_unfinished(replace(step, is_undo_optional=False), known),
    )


# Events, people and time.


@broken
def event_is_taken_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state, "_without", lambda events, entry: events)


@broken
def event_is_received_twice(patch: pytest.MonkeyPatch) -> None:
    def on_event(draft_: Draft, happened: EventArrived) -> None:
        draft_.record(EventReceived(happened.event_id, happened.name, happened.correlation, happened.payload))

    patch.setitem(_handlers(), (SagaStatus.RUNNING, EventArrived), on_event)


@broken
def event_of_another_correlation_is_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "_is_awaited", lambda wait, event: wait.event == event.name)


@broken
def early_events_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    on_event = decide._on_event

    def on_event_awaited(draft_: Draft, happened: EventArrived) -> None:
        if any(step.wait is not None and step.is_open for step in draft_.state.steps.values()):
            on_event(draft_, happened)

    patch.setitem(_handlers(), (SagaStatus.RUNNING, EventArrived), on_event_awaited)


@broken
def nobody_looks_for_earlier_events(patch: pytest.MonkeyPatch) -> None:
    effects = decide._effects

    def without_lookups(draft_: Draft) -> tuple[Effect, ...]:
        return tuple(effect for effect in effects(draft_) if not isinstance(effect, LookForEvent))

    patch.setattr(decide, "_effects", without_lookups)


@broken
def nobody_looks_for_earlier_events_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    on_ownership = decide._on_ownership

    def on_ownership_alone(draft_: Draft, happened: OwnershipGained) -> None:
        on_ownership(draft_, happened)
        draft_.lookups.clear()

    patch.setitem(_handlers(), (SagaStatus.RUNNING, OwnershipGained), on_ownership_alone)


@broken
def wait_ends_too_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "_after", lambda draft_, seconds: seconds and draft_.now + seconds / 2)


@broken
def wait_for_a_person_goes_on_without_one(patch: pytest.MonkeyPatch) -> None:
    end_wait = forward.end_wait

    def end_at_once(draft_: Draft, key: str) -> bool:
        if isinstance(draft_.definition.step(key).action, Approval):
            draft_.record(AttemptSucceeded(key, ACTION, 1))
            return True
        return end_wait(draft_, key)

    patch.setattr(forward, "end_wait", end_at_once)


@broken
def anybody_may_approve(patch: pytest.MonkeyPatch) -> None:
    on_approval = decide._on_approval
    patch.setitem(
        _handlers(),
        (SagaStatus.RUNNING, ApprovalDecided),
        lambda draft_, happened: on_approval(draft_, replace(happened, decided_by="anna")),
    )


@broken
def rejection_is_an_approval(patch: pytest.MonkeyPatch) -> None:
    on_approval = decide._on_approval
    patch.setitem(
        _handlers(),
        (SagaStatus.RUNNING, ApprovalDecided),
        lambda draft_, happened: on_approval(draft_, replace(happened, is_approved=True)),
    )


@broken
def deadline_of_a_step_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(patch, lambda before, entry, after: replace(after, deadline_at=None))


@broken
def deadline_of_a_step_does_not_count_between_attempts(patch: pytest.MonkeyPatch) -> None:
    def try_again(draft_: Draft, node: Node, known: StepState) -> bool:
        draft_.attempt(node, ACTION)
        return False

    patch.setattr(forward, "_try_again", try_again)


@broken
def deadline_of_a_step_does_not_bound_reports(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft, "_earliest", lambda reported, deadline: reported)


@broken
def held_attempts_burn_the_budget(patch: pytest.MonkeyPatch) -> None:
    def held(step: StepState, status: StepStatus, entry: AttemptHeld) -> StepState:
        return replace(state._held(step, status, entry), failures=step.failures + 1)

    moves: Any = state._MOVES
    patch.setitem(moves, AttemptHeld, held)


@broken
def held_attempts_are_made_at_once(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Draft, name: str, outcome: Outcome, *, is_call_over: bool = True) -> None:
        if isinstance(outcome, Held):
            outcome = replace(outcome, delay_seconds=0.01)
        _settle(self, name, outcome, is_call_over=is_call_over)

    patch.setattr(Draft, "settle", settle)


# Child sagas.


@broken
def polls_have_no_entry(patch: pytest.MonkeyPatch) -> None:
    def poll(self: Draft, node: Node) -> None:
        known = self.state.step(node.key)
        call = self._call(node, known.operation, known.attempt)
        self.invocations.append(replace(call, is_poll=True))

    patch.setattr(Draft, "poll", poll)


@broken
def polls_are_attempts(patch: pytest.MonkeyPatch) -> None:
    poll = Draft.poll

    def poll_as_attempt(self: Draft, node: Node) -> None:
        poll(self, node)
        self.invocations[-1] = replace(self.invocations[-1], is_poll=False)

    patch.setattr(Draft, "poll", poll_as_attempt)


@broken
def polls_have_no_timer(patch: pytest.MonkeyPatch) -> None:
    def next_due(definition: Definition, known: SagaState, now: float) -> float | None:
        quiet = {name: replace(step, poll_at=None) for name, step in known.steps.items()}
        return proceed.next_due(definition, replace(known, steps=quiet), now)

    patch.setattr(decide, "next_due", next_due)


@broken
def polls_come_too_early(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(
        patch, lambda before, entry, after: replace(after, poll_at=after.poll_at and after.poll_at - 1)
    )


@broken
def completed_child_is_not_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(_handlers(), (SagaStatus.COMPLETED, RecallAsked), decide._on_nothing)


@broken
def completed_child_is_undone_after_its_pivot(patch: pytest.MonkeyPatch) -> None:
    def recall(draft_: Draft, happened: RecallAsked) -> None:
        draft_.record(SagaRecalled(happened.cause))

    patch.setitem(_handlers(), (SagaStatus.COMPLETED, RecallAsked), recall)


@broken
def running_child_is_undone_after_its_pivot(patch: pytest.MonkeyPatch) -> None:
    def recall(draft_: Draft, happened: RecallAsked) -> None:
        draft_.record(SagaFailed(happened.cause))

    patch.setitem(_handlers(), (SagaStatus.RUNNING, RecallAsked), recall)


def _handlers() -> dict[Any, Any]:
    handlers: Mapping[Any, Any] = decide.HANDLERS
    assert isinstance(handlers, dict)
    return handlers
