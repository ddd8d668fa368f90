"""Broken engines: each breaks one promise on purpose, to prove that the checker would notice.

What breaks the core alone, and shows there too, is in `CORE`: the same mutants that the oracle must catch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from proof.core import mutants
from proof.definitions import EVERYTHING, Focus
from proof.mutant import Mutant, Mutants, Patches, instead_of
from proof.simulation.commits import CommitFailed
from proof.simulation.database import SimulatedDatabase
from proof.simulation.loop import node_of_context
from proof.simulation.mutant import doing_nothing, forgetting
from proof.simulation.stores import LogSession
from saga_coordinator.engine.advance import Advance
from saga_coordinator.engine.claiming import Claiming
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.performing import Performing
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine import decide, inputs, state
from saga_coordinator.saga.machine.inputs import AttemptEnded, CancelAsked, OutcomeReported
from saga_coordinator.saga.machine.proceed import next_due
from saga_coordinator.saga.machine.step_state import EffectKnown, StepState
from saga_coordinator.saga.machine.transitions import StepStatus
from saga_coordinator.saga.words.canonical import canonical
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.store.commits import Commits
from saga_coordinator.store.journal import Journal

MUTANTS = Mutants()


def _of_the_core() -> Iterator[Mutant]:
    of_core = {each.name: each for each in mutants.MUTANTS}
    for name, (breaks, focus, first) in CORE.items():
        yield replace(of_core[name], breaks=breaks, focus=focus, first=first)


CORE: Mapping[str, tuple[tuple[str, ...], Focus, int]] = {
    "action_and_compensation_share_a_key": (("P5",), EVERYTHING, 0),
    "adoption_leaves_attempts_in_flight": (("P1", "defect"), EVERYTHING, 0),
    "calls_begin_without_limit": (("P11",), EVERYTHING, 0),
    "cancel_is_taken_after_the_pivot": (("P2",), EVERYTHING, 0),
    "compensations_start_in_any_order": (("P3",), EVERYTHING, 0),
    "conditions_always_hold": (("P2",), EVERYTHING, 0),
    "deadline_passes_unnoticed": (("P10",), EVERYTHING, 0),
    "event_is_received_twice": (("P9",), Focus(("event",)), 0),
    "event_is_taken_twice": (("P9",), Focus(("event",)), 0),
    "exhausted_compensation_counts_as_done": (("P2",), EVERYTHING, 0),
    "held_attempts_are_made_when_they_are_due_whether_there_is_room_or_not": (("P10",), EVERYTHING, 0),
    "key_contains_the_attempt": (("P5",), EVERYTHING, 0),
    "nobody_waits_for_lost_attempts_to_settle": (("P4",), EVERYTHING, 0),
    "not_found_undoes_what_was_certain": (("P2", "P12"), EVERYTHING, 0),
    "passes_are_undone_oldest_first": (("P3",), Focus(("repeat",)), 0),
    "refusal_forgets_earlier_doubts": (("P2",), EVERYTHING, 0),
    "repetitions_are_recorded_again": (("P9",), EVERYTHING, 0),
    "reports_have_no_timer": (("P1",), EVERYTHING, 0),
    "retries_never_end": (("P12",), EVERYTHING, 0),
    "retry_does_not_wait": (("P10",), EVERYTHING, 0),
    "unknown_is_a_refusal": (("P12",), EVERYTHING, 0),
    "wait_ends_too_early": (("P10", "P12"), EVERYTHING, 0),
}
"""The promises of which each breaks one here too, in batches about what, and the batch with which to begin."""
MUTANTS += _of_the_core()


# The order and the moment of what is undone, and keys.


@MUTANTS.broken("P4")
def undoes_what_is_in_flight() -> Patches:
    turn = state._turn

    def turn_at_once(steps: Any) -> dict[str, StepState]:
        return {
            name: replace(
                step,
                status=StepStatus.FAILED,
                is_in_flight=False,
                effect=max(step.effect, EffectKnown.POSSIBLE),
            )
            if step.is_in_flight
            else step
            for name, step in turn(steps).items()
        }

    yield instead_of(turn, turn_at_once)


@MUTANTS.broken("P5")
def puts_the_coordinator_into_the_key() -> Patches:
    call_once = Performing._call

    async def call_with_key(self: Performing, run: Any, call: Any) -> None:
        key = f"{call.idempotency_key}/{node_of_context().id}"
        await call_once(self, run, replace(call, idempotency_key=key))

    yield instead_of(call_once, call_with_key)


# Commit, then act.


@MUTANTS.broken("P6")
def acts_before_it_commits() -> Patches:
    append = Journal.append

    async def append_later(self: Journal, what: Any) -> float | None:
        if what.start is not None:
            return await append(self, what)
        asyncio.get_running_loop().create_task(append(self, what)).add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )
        return None

    yield instead_of(Journal.append, append_later)


MUTANTS.replaced("P6", "P7", "P8", writes_without_a_fence=lambda: doing_nothing(Commits._loss))


@MUTANTS.broken("P6", "P7", "P8")
def takes_every_doubtful_append_for_its_own() -> Patches:
    loss = Commits._loss

    async def own(self: Commits, waiting: Any) -> Exception | None:
        return None if waiting.is_in_doubt else await loss(self, waiting)

    yield instead_of(Commits._loss, own)


@MUTANTS.broken("P1", "P6", "P7", "defect")
def loses_what_waits_when_the_database_leaves() -> Patches:
    give_up_starts = Journal._give_up_starts

    def lose(self: Journal, error: BaseException) -> None:
        for each in self._queue.waiting:
            if each.append.start is None:
                each.end(None)
        give_up_starts(self, error)

    yield instead_of(give_up_starts, lose)


# Whose saga it is.


MUTANTS.replaced("P8", ignores_its_lease=lambda: instead_of(Lease.may_act, property(lambda _: True)))
MUTANTS.replaced(
    "P1",
    never_claims_orphans=lambda: instead_of(SimulatedDatabase.claim_orphaned, lambda *_: []),
    never_looks_over_what_is_its_own=lambda: doing_nothing(Claiming.reconcile),
)


@MUTANTS.broken("P4", "P8", first=3)
def calls_for_sagas_it_has_lost() -> Patches:
    async def call_anyway(self: Performing, run: Any, call: Any) -> None:
        outcome = await self._performers.invoke(call)
        if not run.is_dropped:
            self._mover.post(run, AttemptEnded(call.step, call.operation, call.attempt, outcome))

    yield instead_of(Performing._call, call_anyway)


# What the simulation found in the engine, and what would be back without its mending.


@MUTANTS.broken("P7", "P2")
def keeps_the_row_of_a_parked_saga_as_it_was() -> Patches:
    moved = SimulatedDatabase._moved

    def only_what_is_owned(self: SimulatedDatabase, append: Any, coordinator_id: str) -> Any:
        row = self.sagas.get(append.saga_id)
        is_foreign = append.start is None and row is not None and row.owner != coordinator_id
        return None if is_foreign else moved(self, append, coordinator_id)

    yield instead_of(SimulatedDatabase._moved, only_what_is_owned)


# Time.


@MUTANTS.broken("P1")
def drops_timers() -> Patches:
    yield instead_of(next_due, lambda *_: None)


@MUTANTS.broken("P1")
def never_wakes_sleepers() -> Patches:
    wake_at = Advance._wake_at

    def oversleep(self: Advance, *given: Any, **more: Any) -> float | None:
        due_at = wake_at(self, *given, **more)
        return None if due_at is None else due_at + 1e6

    yield instead_of(Advance._wake_at, oversleep)


# What is written, and read again.


@MUTANTS.broken("P1", "P6", "P7")
def takes_a_failed_commit_for_success() -> Patches:
    write = LogSession.write

    async def hopeful(self: LogSession, appends: Any) -> None:
        with suppress(CommitFailed):
            await write(self, appends)

    yield instead_of(LogSession.write, hopeful)


@MUTANTS.broken("defect")
def lets_payloads_in_as_they_come() -> Patches:
    yield instead_of(canonical, lambda payload: payload, within=inputs)


# What clients are told.


@MUTANTS.broken("P9")
def starts_once_per_request() -> Patches:
    start = Advance.start

    def start_again(
        self: Advance,
        namespace: Any,
        definition: Any,
        request: Any,
        decision: Any,
        start_key: str,
        *more: Any,
        **others: Any,
    ) -> Any:
        key = f"{start_key}/{request.saga_id}"
        return start(self, namespace, definition, request, decision, key, *more, **others)

    yield instead_of(Advance.start, start_again)


@MUTANTS.broken("P9")
def gives_a_key_to_any_request() -> Patches:
    yield instead_of(StartSaga.digest, lambda _: b"the same")


@MUTANTS.broken("P1")
def promises_cancels_it_forgets() -> Patches:
    yield forgetting(CancelAsked)


@MUTANTS.broken("P1", pending=0.6)
def takes_reports_it_forgets() -> Patches:
    yield forgetting(OutcomeReported)


@MUTANTS.broken("P9", pending=0.6, first=6)
def refuses_reports_on_an_old_state() -> Patches:
    ask = Drive.ask

    async def hasty(self: Drive, run: Any, happened: Any) -> Any:
        with patch.object(Lease, "may_act", property(lambda _: True)):
            decision = decide.decide(run.definition, run.state, happened, self._lease.now(), 0.5)
        return decision if isinstance(decision.answer, Refusal) else await ask(self, run, happened)

    yield instead_of(Drive.ask, hasty)
