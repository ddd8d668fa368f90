"""Engines that are broken where sagas wait for others: for events, for people, for their children, and in blocks."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from contextlib import suppress
from typing import Any

from proof.mutant import Mutants, Patches, instead_of
from proof.simulation import database, stores
from proof.simulation.database import SimulatedDatabase
from proof.simulation.mutant import doing_nothing, forgetting
from saga_coordinator.engine import children
from saga_coordinator.engine.admission import Admission
from saga_coordinator.engine.advance import Advance
from saga_coordinator.engine.awaited import Awaited
from saga_coordinator.engine.children import Children
from saga_coordinator.engine.performing import Performing
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.entries import WaitStarted
from saga_coordinator.saga.machine.inputs import ApprovalDecided
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import SagaError, Unavailable
from saga_coordinator.saga.words.outcome import Succeeded
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.appends import Move
from saga_coordinator.store.journal import Journal

MUTANTS = Mutants()

# Events and people.


MUTANTS.replaced("P1", about=("event",), never_looks_for_events=lambda: doing_nothing(Awaited.look))


@MUTANTS.broken("P1", about=("event",))
def tells_of_events_it_does_not_keep() -> Patches:
    publish = Awaited.publish

    async def publish_only(self: Awaited, namespace: Any, event: Any) -> Any:
        published = await publish(self, namespace, event)
        if not published.sagas:
            self._events._database.events.pop(event.event_id, None)  # type: ignore[attr-defined]
        return published

    yield instead_of(Awaited.publish, publish_only)


@MUTANTS.broken("P1", about=("event",))
def looks_for_events_before_it_waits() -> Patches:
    append = Journal.append

    async def append_later(self: Journal, what: Any) -> float | None:
        waits = [entry for entry in what.entries if isinstance(entry, WaitStarted) and entry.correlation]
        if what.start is None and what.move is None and waits:
            asyncio.get_running_loop().create_task(_in_a_moment(append(self, what)))
            return None
        return await append(self, what)

    yield instead_of(Journal.append, append_later)


async def _in_a_moment(work: Any, seconds: float = 1.0) -> None:
    await asyncio.sleep(seconds)
    with suppress(SagaError):
        await work


@MUTANTS.broken("P9", about=("event",), sharing=0.7)
def gives_a_kept_event_to_everybody() -> Patches:
    take = SimulatedDatabase.take_event

    def take_and_leave(self: SimulatedDatabase, *wanted: Any) -> Any:
        event = take(self, *wanted)
        if event is not None:
            self.events[event.event_id].taken_at = self.events[event.event_id].taken_by = None
        return event

    yield instead_of(SimulatedDatabase.take_event, take_and_leave)


@MUTANTS.broken("P9", about=("event",), sharing=0.7)
def gives_what_was_meant_for_an_earlier_saga_to_the_next() -> Patches:
    take = SimulatedDatabase.take_event

    def look_back_for_ever(
        self: SimulatedDatabase, saga_id: str, name: str, correlation: str, _: float
    ) -> Any:
        return take(self, saga_id, name, correlation, math.inf)

    yield instead_of(SimulatedDatabase.take_event, look_back_for_ever)


@MUTANTS.broken("P9", about=("event",))
def keeps_events_for_ever() -> Patches:
    insert = SimulatedDatabase.insert_event

    def keep(self: SimulatedDatabase, event: Any) -> bool:
        return insert(self, dataclasses.replace(event, keep_seconds=math.inf))

    yield instead_of(SimulatedDatabase.insert_event, keep)


@MUTANTS.broken("P9", about=("event",), sharing=0.7)
def keeps_an_event_that_it_has_told_sagas_of() -> Patches:
    yield instead_of(SimulatedDatabase.match_event, lambda *_: None)


@MUTANTS.broken("P1")
def promises_decisions_it_forgets() -> Patches:
    yield forgetting(ApprovalDecided)


# Sagas of sagas.


@MUTANTS.broken("P5", about=("saga",))
def starts_a_child_for_each_attempt() -> Patches:
    key = children._start_key
    yield instead_of(children._start_key, lambda call: f"{key(call)}/{call.attempt}")


MUTANTS.replaced(
    "P2",
    about=("saga",),
    forgets_to_recall_children=lambda: doing_nothing(Children._undo, Succeeded()),
)


@MUTANTS.broken("P2", about=("saga",))
def leaves_no_tombstone() -> Patches:
    undo_child = Children._undo

    async def undo_what_is_there(self: Children, call: Any) -> Any:
        namespace = await self._front.namespace_of(call.saga_id)
        if await self._front.id_of(namespace, children._start_key(call)) is None:
            return Succeeded()
        return await undo_child(self, call)

    yield instead_of(Children._undo, undo_what_is_there)
    yield instead_of(Admission.start_saga, _start_children_late(Admission.start_saga))


def _start_children_late(start_saga: Any) -> Any:
    """Nothing is broken by this alone: the database hangs, and commits a start long after everyone has given it up."""

    async def start_late(self: Admission, request: StartSaga) -> Any:
        is_awaited = request.parent is None or request.recalled_for is not None
        if is_awaited or self._dice.random() > 0.5:
            return await start_saga(self, request)
        asyncio.get_running_loop().create_task(_in_a_moment(start_saga(self, request), 4.0))
        raise Unavailable(Reason.DATABASE_UNAVAILABLE, "nothing was heard of the database for a while")

    return start_late


MUTANTS.replaced(
    "P1",
    about=("saga",),
    never_hears_what_it_polls_for=lambda: doing_nothing(Performing._poll),
)


# What the simulation found there.


@MUTANTS.broken("P1", about=("event",), first=4)
def sleeps_while_it_asks() -> Patches:
    wake_at = Advance._wake_at

    def fall_asleep(self: Advance, *given: Any, **_: Any) -> float | None:
        return wake_at(self, *given)

    yield instead_of(Advance._wake_at, fall_asleep)
    look = Awaited.look

    async def look_slowly(self: Awaited, wanted: Any) -> Any:  # which alone breaks nothing
        event = await look(self, wanted)
        await asyncio.sleep(3.0)
        return event

    yield instead_of(Awaited.look, look_slowly)


@MUTANTS.broken("P1", about=("event",), sharing=0.7)
def tells_nobody_of_an_event_that_was_taken() -> Patches:
    keep = stores.SimulatedEvents.keep

    async def keep_untaken(self: stores.SimulatedEvents, namespace: Any, event: Any) -> Any:
        is_first = event.event_id not in self._database.events
        kept = await keep(self, namespace, event)
        if is_first:  # which alone breaks nothing
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the connection broke")
        is_taken = self._database.events[event.event_id].taken_at is not None
        return dataclasses.replace(kept, is_told=kept.is_told or is_taken)

    yield instead_of(stores.SimulatedEvents.keep, keep_untaken)


@MUTANTS.broken("P13", about=("saga",))
def keeps_the_row_of_a_recalled_child_as_it_was() -> Patches:
    moves = {
        (SagaStatus.COMPLETED, SagaStatus.COMPENSATING),
        (SagaStatus.NEEDS_ATTENTION, SagaStatus.NEEDS_ATTENTION),
    }
    yield instead_of(database._may_move_settled, lambda before, move: (before, move.status) in moves)


@MUTANTS.broken("P13", about=("saga",))
def keeps_the_row_of_a_parked_saga_as_it_was() -> Patches:
    def may_move(before: SagaStatus, move: Move) -> bool:
        parked = SagaStatus.NEEDS_ATTENTION
        return before is move.settled_as and not (before is parked is not move.status)

    yield instead_of(database._may_move_settled, may_move)
