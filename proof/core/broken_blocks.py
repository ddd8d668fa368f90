"""More ways to break the core: conditions, blocks, events, people, limits and child sagas."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from proof.core.broken_cores import Break, fold_otherwise, forget_instants, handlers
from saga_coordinator.saga.definition.model import Approval, ForEach, OnFailure, Repeat, Step, Switch
from saga_coordinator.saga.machine import agenda, ahead, decide, draft, forward, place, state, undo, undoing
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.effects import Effect, LookForEvent
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptSucceeded,
    BlockClosed,
    BlockOpened,
    EventReceived,
    SagaFailed,
    SagaRecalled,
)
from saga_coordinator.saga.machine.inputs import ApprovalDecided, EventArrived, OwnershipGained, RecallAsked
from saga_coordinator.saga.machine.place import Node, Place, place_at
from saga_coordinator.saga.machine.state import SagaState, StepState
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome

BROKEN_BLOCKS: list[Break] = []

ACTION = OperationKind.ACTION
_settle, _fail = Draft.settle, forward._fail


def broken(how: Break) -> Break:
    BROKEN_BLOCKS.append(how)
    return how


# Conditions and blocks.


@broken
def skipped_steps_are_compensated(patch: pytest.MonkeyPatch) -> None:
    def needs_compensation(step: Step, known: StepState) -> bool:
        is_skipped = known.status is StepStatus.SKIPPED and step.compensation is not None
        return is_skipped or state.needs_compensation(step, known)

    patch.setattr(undoing, "needs_compensation", needs_compensation)


@broken
def dependents_of_a_skipped_step_never_start(patch: pytest.MonkeyPatch) -> None:
    is_over = ahead.is_over
    patch.setattr(
        ahead,
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
    def first_place_at(node: Node, known: StepState, index: int) -> Place:
        found = place_at(node, known, index)
        is_repeat = isinstance(node.step.action, Repeat)
        return found._replace(prefix=place_at(node, known, 0).prefix) if is_repeat else found

    for module in (ahead, undoing, place):
        patch.setattr(module, "place_at", first_place_at)


@broken
def passes_are_undone_oldest_first(patch: pytest.MonkeyPatch) -> None:
    _undo_in_another_order(patch, Repeat)


@broken
def items_that_ran_in_turn_are_undone_oldest_first(patch: pytest.MonkeyPatch) -> None:
    _undo_in_another_order(patch, ForEach)


def _undo_in_another_order(patch: pytest.MonkeyPatch, kind: type) -> None:
    in_order = undoing._in_order

    def in_another_order(loop: undoing.Loop) -> list[int]:
        step = loop.part.node.step
        return in_order(loop)[:: -1 if step.is_in_turn and isinstance(step.action, kind) else 1]

    patch.setattr(undoing, "_in_order", in_another_order)


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
    loop = ahead.Ahead._loop

    def without_limit(self: ahead.Ahead, *given: Any) -> ahead.Loop:
        made = loop(self, *given)
        made.limit = 0
        return made

    patch.setattr(ahead.Ahead, "_loop", without_limit)


@broken
def items_are_undone_all_at_once(patch: pytest.MonkeyPatch) -> None:
    enable_loop = undoing.Undoing._enable_loop

    def without_limit(self: undoing.Undoing, loop: undoing.Loop) -> None:
        loop.limit = 0
        enable_loop(self, loop)

    patch.setattr(undoing.Undoing, "_enable_loop", without_limit)


@broken
def calls_begin_without_limit(patch: pytest.MonkeyPatch) -> None:
    for module in (forward, undo):
        patch.setattr(module, "has_room", lambda draft_: True)


@broken
def calls_begin_again_without_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(forward, "has_room_again", lambda draft_: True)


@broken
def block_is_over_with_its_first_step(patch: pytest.MonkeyPatch) -> None:
    is_over = ahead.Ahead._is_over

    def is_over_soon(self: ahead.Ahead, known: SagaState, tally: ahead.Tally, step: Step) -> None:
        is_over(self, known, tally, step)
        if tally.loop is not None and tally.to_come:
            tally.loop.open_runs -= 1
            self._close_if_done(tally.loop)

    patch.setattr(ahead.Ahead, "_is_over", is_over_soon)


@broken
def last_branch_is_taken(patch: pytest.MonkeyPatch) -> None:
    open_ = forward._open

    def open_last(draft_: Draft, node: Node) -> None:
        if isinstance(node.step.action, Switch):
            draft_.record(BlockOpened(node.key, branch=len(node.step.action.cases) - 1))
        else:
            open_(draft_, node)

    patch.setattr(forward, "_open", open_last)


# What failures mean.


@broken
def failure_that_does_not_matter_turns_the_saga(patch: pytest.MonkeyPatch) -> None:
    is_over = ahead.is_over
    patch.setattr(
        ahead, "is_over", lambda step, known: known.status is not StepStatus.FAILED and is_over(step, known)
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
    is_unfinished = undoing.is_unfinished
    patch.setattr(
        undoing,
        "is_unfinished",
        lambda step, known: is_unfinished(replace(step, is_undo_optional=True), known),
    )


@broken
def no_compensation_may_fail(patch: pytest.MonkeyPatch) -> None:
    is_unfinished = undoing.is_unfinished
    patch.setattr(
        undoing,
        "is_unfinished",
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

    patch.setitem(handlers(), (SagaStatus.RUNNING, EventArrived), on_event)


@broken
def event_of_another_correlation_is_taken(patch: pytest.MonkeyPatch) -> None:
    waiting_for = agenda.Agenda.waiting_for
    patch.setattr(agenda.Agenda, "waiting_for", lambda self, event, _: waiting_for(self, event, ""))
    patch.setattr(forward, "_is_awaited", lambda wait, event: wait.event == event.name)


@broken
def early_events_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    on_event = decide._on_event

    def on_event_awaited(draft_: Draft, happened: EventArrived) -> None:
        if any(step.wait is not None and step.is_open for step in draft_.state.steps.values()):
            on_event(draft_, happened)

    patch.setitem(handlers(), (SagaStatus.RUNNING, EventArrived), on_event_awaited)


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

    patch.setitem(handlers(), (SagaStatus.RUNNING, OwnershipGained), on_ownership_alone)


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
        handlers(),
        (SagaStatus.RUNNING, ApprovalDecided),
        lambda draft_, happened: on_approval(draft_, replace(happened, decided_by="anna")),
    )


@broken
def rejection_is_an_approval(patch: pytest.MonkeyPatch) -> None:
    on_approval = decide._on_approval
    patch.setitem(
        handlers(),
        (SagaStatus.RUNNING, ApprovalDecided),
        lambda draft_, happened: on_approval(draft_, replace(happened, is_approved=True)),
    )


@broken
def deadline_of_a_step_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(patch, lambda before, entry, after: replace(after, deadline_at=None))


@broken
def deadline_of_a_step_cuts_attempts_off(patch: pytest.MonkeyPatch) -> None:
    attempt = draft.Draft.attempt

    def cut_off(self: Draft, node: Node, kind: OperationKind) -> None:
        attempt(self, node, kind)
        deadline_at = self.state.step(node.key).deadline_at
        if kind is ACTION and deadline_at is not None and self.invocations:
            call = self.invocations[-1]
            left = max(0.001, deadline_at - self.now)
            self.invocations[-1] = replace(call, timeout_seconds=min(left, call.timeout_seconds))

    patch.setattr(draft.Draft, "attempt", cut_off)


@broken
def deadline_of_a_step_does_not_count_between_attempts(patch: pytest.MonkeyPatch) -> None:
    def try_again(draft_: Draft, node: Node) -> None:
        draft_.attempt(node, ACTION)

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
    def settle(self: Draft, name: str, outcome: Outcome, **more: Any) -> None:
        if isinstance(outcome, Held):
            outcome = replace(outcome, delay_seconds=0.01)
        _settle(self, name, outcome, **more)

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
    forget_instants(patch, "poll_at")


@broken
def polls_come_too_early(patch: pytest.MonkeyPatch) -> None:
    fold_otherwise(
        patch, lambda before, entry, after: replace(after, poll_at=after.poll_at and after.poll_at - 1)
    )


@broken
def completed_child_is_not_undone(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(handlers(), (SagaStatus.COMPLETED, RecallAsked), decide._on_nothing)


@broken
def completed_child_is_undone_after_its_pivot(patch: pytest.MonkeyPatch) -> None:
    def recall(draft_: Draft, happened: RecallAsked) -> None:
        draft_.record(SagaRecalled(happened.cause))

    patch.setitem(handlers(), (SagaStatus.COMPLETED, RecallAsked), recall)


@broken
def running_child_is_undone_after_its_pivot(patch: pytest.MonkeyPatch) -> None:
    def recall(draft_: Draft, happened: RecallAsked) -> None:
        draft_.record(SagaFailed(happened.cause))

    patch.setitem(handlers(), (SagaStatus.RUNNING, RecallAsked), recall)
