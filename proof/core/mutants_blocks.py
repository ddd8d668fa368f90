"""More ways to break the core: conditions, blocks, events, people, limits and child sagas."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from proof.core.seams import failing_turns_the_saga
from proof.mutant import Mutants, Patches, folded, handled, instead_of
from saga_coordinator.saga.definition.model import Approval, ForEach, OnFailure, Repeat, Step, Switch
from saga_coordinator.saga.expressions.condition import evaluate_condition
from saga_coordinator.saga.machine import ahead, decide, forward, settling, undoing
from saga_coordinator.saga.machine.agenda import Agenda
from saga_coordinator.saga.machine.ahead import Ahead, is_over
from saga_coordinator.saga.machine.attempts import call, start_attempt
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.effects import Effect, LookForEvent
from saga_coordinator.saga.machine.entries import (
    AttemptSucceeded,
    BlockClosed,
    BlockOpened,
    Entry,
    EventReceived,
    SagaFailed,
    SagaRecalled,
)
from saga_coordinator.saga.machine.forward import end_wait, has_room, has_room_again
from saga_coordinator.saga.machine.inputs import ApprovalDecided, EventArrived, OwnershipGained, RecallAsked
from saga_coordinator.saga.machine.pending import poll
from saga_coordinator.saga.machine.place import Node, Place, place_at
from saga_coordinator.saga.machine.state import SagaState, apply
from saga_coordinator.saga.machine.step_state import StepState, needs_compensation
from saga_coordinator.saga.machine.touched import Loop, is_unfinished
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.machine.undoing import Undoing
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key

MUTANTS = Mutants()
ACTION = OperationKind.ACTION
RUNNING, COMPLETED = SagaStatus.RUNNING, SagaStatus.COMPLETED
LOOPS = ("for_each", "repeat")


# Conditions and blocks.


@MUTANTS.broken()
def skipped_steps_are_compensated() -> Patches:
    def needs_to_be(step: Step, known: StepState) -> bool:
        is_skipped = known.status is StepStatus.SKIPPED and step.compensation is not None
        return is_skipped or needs_compensation(step, known)

    yield instead_of(needs_compensation, needs_to_be)


MUTANTS.replaced(
    dependents_of_a_skipped_step_never_start=lambda: instead_of(
        is_over, lambda step, known: known.status is not StepStatus.SKIPPED and is_over(step, known)
    ),
    conditions_always_hold=lambda: instead_of(evaluate_condition, lambda condition, variables: True),
    items_share_a_key=lambda: instead_of(
        idempotency_key, lambda saga, step, kind: f"{saga}/{re.sub(r'[0-9]+]', ']', step)}/{kind}"
    ),
    calls_begin_without_limit=lambda: instead_of(has_room, lambda draft: True),
)


@MUTANTS.broken()
def passes_share_their_instances() -> Patches:
    def first_place_at(node: Node, known: StepState, index: int) -> Place:
        found = place_at(node, known, index)
        is_repeat = isinstance(node.step.action, Repeat)
        return found._replace(prefix=place_at(node, known, 0).prefix) if is_repeat else found

    yield instead_of(place_at, first_place_at)


@MUTANTS.broken(about=LOOPS)
def passes_are_undone_oldest_first() -> Patches:
    return _undo_in_another_order(Repeat)


@MUTANTS.broken(about=LOOPS)
def items_that_ran_in_turn_are_undone_oldest_first() -> Patches:
    return _undo_in_another_order(ForEach)


def _undo_in_another_order(kind: type) -> Patches:
    in_order = undoing._in_order

    def in_another_order(loop: Loop) -> list[int]:
        step = loop.part.node.step
        return in_order(loop)[:: -1 if step.is_in_turn and isinstance(step.action, kind) else 1]

    yield instead_of(in_order, in_another_order)


def _blocks_otherwise(
    seam: Callable[..., None], kind: type, broken: Callable[..., Entry | None]
) -> AbstractContextManager[None]:
    """Blocks of that kind have another entry recorded than by the seam, where `broken` makes one."""

    def otherwise(draft: Draft, node: Node, *more: Any) -> None:
        entry = broken(node, *more) if isinstance(node.step.action, kind) else None
        if entry is None:
            seam(draft, node, *more)
        else:
            draft.record(entry)

    return instead_of(seam, otherwise)


MUTANTS.replaced(
    loop_ends_after_its_first_pass=lambda: _blocks_otherwise(
        forward._close, Repeat, lambda node, places: BlockClosed(node.key)
    ),
    loop_goes_on_after_its_last_pass=lambda: _blocks_otherwise(
        forward._close,
        Repeat,
        lambda node, places: BlockOpened(node.key) if len(places) <= node.step.action.max_passes else None,
    ),
    last_branch_is_taken=lambda: _blocks_otherwise(
        forward._open,
        Switch,
        lambda node: BlockOpened(node.key, branch=len(node.step.action.cases) - 1),
    ),
)


@MUTANTS.broken(about=LOOPS)
def items_begin_all_at_once() -> Patches:
    loop = Ahead._loop

    def without_limit(self: Ahead, *given: Any) -> ahead.Loop:
        made = loop(self, *given)
        made.limit = 0
        return made

    yield instead_of(loop, without_limit)


@MUTANTS.broken(about=LOOPS)
def items_are_undone_all_at_once() -> Patches:
    enable_loop = Undoing._enable_loop

    def without_limit(self: Undoing, loop: Loop) -> None:
        loop.limit = 0
        enable_loop(self, loop)

    yield instead_of(enable_loop, without_limit)


@MUTANTS.broken(about=LOOPS)
def calls_begin_again_without_limit() -> Patches:
    yield instead_of(has_room_again, lambda draft: True)


@MUTANTS.broken()
def block_is_over_with_its_first_step() -> Patches:
    note_over = Ahead._is_over

    def is_over_soon(self: Ahead, known: SagaState, tally: ahead.Tally, step: Step) -> None:
        note_over(self, known, tally, step)
        if tally.loop is not None and tally.to_come:
            tally.loop.open_runs -= 1
            self._close_if_done(tally.loop)

    yield instead_of(note_over, is_over_soon)


# What failures mean.

MUTANTS.replaced(
    failure_that_does_not_matter_turns_the_saga=lambda: instead_of(
        is_over, lambda step, known: known.status is not StepStatus.FAILED and is_over(step, known)
    ),
    failure_for_a_person_turns_the_saga=lambda: failing_turns_the_saga(
        lambda step: step.on_failure is OnFailure.PAUSE
    ),
    any_compensation_may_fail=lambda: instead_of(
        is_unfinished, lambda step, known: is_unfinished(replace(step, is_undo_optional=True), known)
    ),
    no_compensation_may_fail=lambda: instead_of(
        is_unfinished, lambda step, known: is_unfinished(replace(step, is_undo_optional=False), known)
    ),
)


# Events, people and time.


@MUTANTS.broken(about=("event",))
def event_is_taken_twice() -> Patches:
    def keep(saga_id: str, state: SagaState | None, entry: Entry) -> SagaState:
        after = apply(saga_id, state, entry)
        is_taken = isinstance(entry, AttemptSucceeded) and entry.event_id is not None
        return replace(after, events=state.events) if state is not None and is_taken else after

    yield instead_of(apply, keep)


@MUTANTS.broken(about=("event",))
def event_is_received_twice() -> Patches:
    def receive(draft: Draft, happened: EventArrived) -> None:
        draft.record(EventReceived(happened.event_id, happened.name, happened.correlation, happened.payload))

    yield handled(receive, EventArrived, RUNNING)


@MUTANTS.broken(about=("event",))
def event_of_another_correlation_is_taken() -> Patches:
    waiting_for = Agenda.waiting_for
    yield instead_of(waiting_for, lambda self, event, _: waiting_for(self, event, ""))
    yield instead_of(forward._is_awaited, lambda wait, event: wait.event == event.name)


@MUTANTS.broken(about=("event",))
def early_events_are_forgotten() -> Patches:
    receive = decide.HANDLERS[RUNNING, EventArrived]

    def receive_if_awaited(draft: Draft, happened: EventArrived) -> None:
        if any(step.wait is not None and step.is_open for step in draft.state.steps.values()):
            receive(draft, happened)

    yield handled(receive_if_awaited, EventArrived, RUNNING)


@MUTANTS.broken(about=("event",))
def nobody_looks_for_earlier_events() -> Patches:
    effects = decide._effects

    def without_lookups(draft: Draft) -> tuple[Effect, ...]:
        return tuple(effect for effect in effects(draft) if not isinstance(effect, LookForEvent))

    yield instead_of(effects, without_lookups)


@MUTANTS.broken(about=("event",))
def nobody_looks_for_earlier_events_after_a_crash() -> Patches:
    adopt = decide.HANDLERS[RUNNING, OwnershipGained]

    def adopt_alone(draft: Draft, happened: OwnershipGained) -> None:
        adopt(draft, happened)
        draft.lookups.clear()

    yield handled(adopt_alone, OwnershipGained, RUNNING)


MUTANTS.replaced(
    wait_ends_too_early=lambda: instead_of(
        forward._after, lambda draft, seconds: seconds and draft.now + seconds / 2
    ),
    deadline_of_a_step_is_forgotten=lambda: folded(
        lambda before, entry, after: replace(after, deadline_at=None)
    ),
    deadline_of_a_step_does_not_count_between_attempts=lambda: instead_of(
        forward._try_again, lambda draft, node: start_attempt(draft, node, ACTION)
    ),
    deadline_of_a_step_does_not_bound_reports=lambda: instead_of(
        settling._earliest, lambda reported, deadline: reported
    ),
)


@MUTANTS.broken()
def wait_for_a_person_goes_on_without_one() -> Patches:
    def end_at_once(draft: Draft, key: str) -> bool:
        if isinstance(draft.definition.step(key).action, Approval):
            draft.record(AttemptSucceeded(key, ACTION, 1))
            return True
        return end_wait(draft, key)

    yield instead_of(end_wait, end_at_once)


def _decided_otherwise(**change: Any) -> Patches:
    take = decide.HANDLERS[RUNNING, ApprovalDecided]
    yield handled(lambda draft, happened: take(draft, replace(happened, **change)), ApprovalDecided, RUNNING)


@MUTANTS.broken(about=("approval",))
def anybody_may_approve() -> Patches:
    return _decided_otherwise(decided_by="ann")


@MUTANTS.broken(about=("approval",))
def rejection_is_an_approval() -> Patches:
    return _decided_otherwise(is_approved=True)


# Child sagas.


@MUTANTS.broken(about=("saga",))
def polls_have_no_entry() -> Patches:
    def poll_without_entry(draft: Draft, node: Node) -> None:
        known = draft.state.step(node.key)
        question = call(draft, node, known.operation, known.attempt)
        draft.invocations.append(replace(question, is_poll=True))

    yield instead_of(poll, poll_without_entry)


@MUTANTS.broken(about=("saga",))
def polls_are_attempts() -> Patches:
    def poll_as_attempt(draft: Draft, node: Node) -> None:
        poll(draft, node)
        draft.invocations[-1] = replace(draft.invocations[-1], is_poll=False)

    yield instead_of(poll, poll_as_attempt)


@MUTANTS.broken(about=("saga",))
def polls_come_too_early() -> Patches:
    yield folded(lambda before, entry, after: replace(after, poll_at=after.poll_at and after.poll_at - 1))


MUTANTS.replaced(
    completed_child_is_not_undone=lambda: handled(
        decide.HANDLERS[SagaStatus.COMPENSATED, RecallAsked], RecallAsked, COMPLETED
    ),
    completed_child_is_undone_after_its_pivot=lambda: handled(
        lambda draft, happened: draft.record(SagaRecalled(happened.cause)), RecallAsked, COMPLETED
    ),
    running_child_is_undone_after_its_pivot=lambda: handled(
        lambda draft, happened: draft.record(SagaFailed(happened.cause)), RecallAsked, RUNNING
    ),
)
