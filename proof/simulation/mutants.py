"""Broken engines: each breaks one promise on purpose, to prove that the checker would notice.

A mutant is a context manager that patches the program while a batch runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from proof.simulation.commits import CommitFailed
from proof.simulation.database import SimulatedDatabase
from proof.simulation.loop import node_of_context
from proof.simulation.mutant import Patches, forgetting, mutant
from proof.simulation.stores import LogSession
from saga_coordinator.engine.advance import Advance
from saga_coordinator.engine.claiming import Claiming
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.performing import Performing
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine import agenda, decide, entries, forward, reports, state, undoing
from saga_coordinator.saga.machine import draft as drafts
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.entries import (
    AttemptRefused,
    AttemptUnknown,
    NothingToUndo,
    OutcomeLate,
    SagaAdopted,
)
from saga_coordinator.saga.machine.inputs import AttemptEnded, CancelAsked, OutcomeReported, OwnershipGained
from saga_coordinator.saga.machine.state import EffectKnown, SagaState, StepState
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.machine.undoing import Undoing
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Refused, Succeeded, Unknown
from saga_coordinator.store.journal import Journal

# The order and the moment of what is undone.


@mutant("P3")
def undoes_in_any_order() -> Patches:
    yield undoing, "is_unfinished", lambda *_: False


@mutant("P4", first=3)
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

    yield state, "_turn", turn_at_once


@mutant("P4")
def undoes_what_may_be_in_flight_elsewhere() -> Patches:
    yield Undoing, "_held_until", lambda *_: 0.0


@mutant("P2", first=6)
def goes_back_after_the_pivot() -> Patches:
    yield decide, "is_past_return", lambda *_: False
    yield forward, "is_past_return", lambda *_: False


# Keys.


def _with_key(key: Callable[[Any], str]) -> Patches:
    call_once = Performing._call

    async def call_with_key(self: Performing, run: Any, call: Any) -> None:
        await call_once(self, run, replace(call, idempotency_key=key(call)))

    yield Performing, "_call", call_with_key


@mutant("P5")
def puts_the_attempt_into_the_key() -> Patches:
    return _with_key(lambda call: f"{call.idempotency_key}/{call.attempt}")


@mutant("P5")
def puts_the_coordinator_into_the_key() -> Patches:
    return _with_key(lambda call: f"{call.idempotency_key}/{node_of_context().id}")


@mutant("P5")
def uses_one_key_for_both_operations() -> Patches:
    return _with_key(lambda call: f"{call.saga_id}/{call.step}")


# What is known.


@mutant("P2", first=4)
def forgets_doubt_when_refused() -> Patches:
    moved = state._moved

    def forget(step: StepState, status: StepStatus, entry: Any) -> StepState:
        after = moved(step, status, entry)
        is_refused = isinstance(entry, AttemptRefused) and entry.operation is OperationKind.ACTION
        return replace(after, effect=EffectKnown.NONE) if is_refused else after

    yield state, "_moved", forget


@mutant("P2")
def takes_not_found_for_undone() -> Patches:
    settle = Draft.settle

    def gullible(self: Draft, name: str, outcome: Any, **more: Any) -> None:
        at = self.state.step(name)
        is_undoing = at.operation is OperationKind.COMPENSATION
        if is_undoing and isinstance(outcome, Refused) and outcome.cause.code == "NOT_FOUND":
            self.record(NothingToUndo(name, at.operation, at.attempt, outcome.cause))
        else:
            settle(self, name, outcome, **more)

    yield Draft, "settle", gullible


@mutant("P2")
def leaves_out_what_remains() -> Patches:
    yield drafts, "remaining_effects", lambda *_: ()


@mutant("P12", "P2")
def takes_unknown_for_success() -> Patches:
    settle = Draft.settle

    def optimistic(self: Draft, name: str, outcome: Any, **more: Any) -> None:
        settle(self, name, Succeeded(None) if isinstance(outcome, Unknown) else outcome, **more)

    yield Draft, "settle", optimistic


@mutant("P9")
def records_what_it_was_told_again() -> Patches:
    learn = reports._learn

    def learn_again(sketch: Draft, name: str, kind: OperationKind, attempt: int, outcome: Any) -> None:
        before = len(sketch.entries)
        learn(sketch, name, kind, attempt, outcome)
        if len(sketch.entries) == before and isinstance(outcome, Succeeded):
            sketch.record(OutcomeLate(name, kind, attempt, "SUCCEEDED", outcome.output))

    yield reports, "_learn", learn_again


# Commit, then act.


@mutant("P6")
def acts_before_it_commits() -> Patches:
    append = Journal.append

    async def append_later(self: Journal, what: Any) -> float | None:
        if what.start is not None:
            return await append(self, what)
        asyncio.get_running_loop().create_task(append(self, what)).add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )
        return None

    yield Journal, "append", append_later


@mutant("P6", "P7", "P8")
def writes_without_a_fence() -> Patches:
    async def no_loss(*_: Any) -> None:
        return None

    yield Journal, "_loss", no_loss


@mutant("P6", "P7", "P8")
def takes_every_doubtful_append_for_its_own() -> Patches:
    loss = Journal._loss

    async def own(self: Journal, session: Any, waiting: Any) -> Exception | None:
        return None if waiting.is_in_doubt else await loss(self, session, waiting)

    yield Journal, "_loss", own


@mutant("P1", "P6", "P7", "defect")
def loses_what_waits_when_the_database_leaves() -> Patches:
    begin_outage = Journal._begin_outage

    def lose(self: Journal, error: Exception) -> None:
        for each in self._waiting:
            if each.append.start is None:
                each.end(None)
        begin_outage(self, error)
        self._waiting = [each for each in self._waiting if not each.committed.done()]

    yield Journal, "_begin_outage", lose


# Whose saga it is.


@mutant("P8")
def ignores_its_lease() -> Patches:
    yield Lease, "may_act", property(lambda _: True)


@mutant("P1")
def never_claims_orphans() -> Patches:
    yield SimulatedDatabase, "claim_orphaned", lambda *_: []


@mutant("P1")
def never_looks_over_what_is_its_own() -> Patches:
    async def reconcile(_: Claiming) -> None:
        return None

    yield Claiming, "reconcile", reconcile


@mutant("P1", "defect")
def adopts_without_minding_calls_in_flight() -> Patches:
    def adopt(sketch: Draft, happened: OwnershipGained) -> None:
        if happened.previous_owner is not None:
            sketch.record(SagaAdopted(happened.previous_owner))

    handlers = {
        **decide.HANDLERS,
        (SagaStatus.RUNNING, OwnershipGained): adopt,
        (SagaStatus.COMPENSATING, OwnershipGained): adopt,
    }
    yield decide, "HANDLERS", handlers


@mutant("P4", "P8", first=3)
def calls_for_sagas_it_has_lost() -> Patches:
    async def call_anyway(self: Performing, run: Any, call: Any) -> None:
        outcome = await self._performers.invoke(call)
        if not run.is_dropped:
            self._mover.post(run, AttemptEnded(call.step, call.operation, call.attempt, outcome))

    yield Performing, "_call", call_anyway


# What the simulation found in the engine, and what would be back without its mending.


@mutant("P7", "P2")
def keeps_the_row_of_a_parked_saga_as_it_was() -> Patches:
    moved = SimulatedDatabase._moved

    def only_what_is_owned(self: SimulatedDatabase, append: Any, coordinator_id: str) -> Any:
        row = self.sagas.get(append.saga_id)
        is_foreign = append.start is None and row is not None and row.owner != coordinator_id
        return None if is_foreign else moved(self, append, coordinator_id)

    yield SimulatedDatabase, "_moved", only_what_is_owned


# Time.


@mutant("P1")
def drops_timers() -> Patches:
    yield decide, "next_due", lambda *_: None


@mutant("P1")
def never_wakes_sleepers() -> Patches:
    wake_at = Advance._wake_at

    def oversleep(self: Advance, *given: Any, **more: Any) -> float | None:
        due_at = wake_at(self, *given, **more)
        return None if due_at is None else due_at + 1e6

    yield Advance, "_wake_at", oversleep


@mutant("P1", first=7)
def waits_for_reports_forever() -> Patches:
    instants = agenda.instants

    def without_reports(at: StepState, status: SagaStatus) -> agenda.Instants:
        return instants(replace(at, pending_until=None) if at.is_waiting_for_report else at, status)

    yield agenda, "instants", without_reports


@mutant("P10")
def retries_before_its_time() -> Patches:
    def retry(self: agenda.Agenda, known: SagaState, now: float) -> Any:
        return next((((), key) for key, at in known.steps.items() if at.retry_at is not None), None)

    yield agenda.Agenda, "retry", retry


@mutant("P10")
def ignores_deadlines() -> Patches:
    yield forward, "is_overdue", lambda _: False


@mutant("P12")
def never_spends_its_attempts() -> Patches:
    moved = state._moved

    def forgive(step: StepState, status: StepStatus, entry: Any) -> StepState:
        after = moved(step, status, entry)
        return replace(after, failures=0) if isinstance(entry, AttemptUnknown) else after

    yield state, "_moved", forgive


# What is written, and read again.


@mutant("P5")
def takes_payloads_as_postgres_has_them() -> Patches:
    yield entries, "canonical", lambda payload: payload


@mutant("P1", "P6", "P7")
def takes_a_failed_commit_for_success() -> Patches:
    write = LogSession.write

    async def hopeful(self: LogSession, appends: Any) -> None:
        with suppress(CommitFailed):
            await write(self, appends)

    yield LogSession, "write", hopeful


# What clients are told.


@mutant("P9")
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

    yield Advance, "start", start_again


@mutant("P9")
def gives_a_key_to_any_request() -> Patches:
    yield StartSaga, "digest", lambda _: b"the same"


@mutant("P1")
def promises_cancels_it_forgets() -> Patches:
    yield forgetting(CancelAsked)


@mutant("P1", pending=0.6)
def takes_reports_it_forgets() -> Patches:
    yield forgetting(OutcomeReported)


@mutant("P9", pending=0.6, first=6)
def refuses_reports_on_an_old_state() -> Patches:
    ask = Drive.ask

    async def hasty(self: Drive, run: Any, happened: Any) -> Any:
        with patch.object(Lease, "may_act", property(lambda _: True)):
            decision = decide.decide(run.definition, run.state, happened, self._lease.now(), 0.5)
        return decision if isinstance(decision.answer, Refusal) else await ask(self, run, happened)

    yield Drive, "ask", hasty
