"""What a coordinator is given instead of the store: the same questions, put to the simulated database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from proof.simulation.database import SimulatedDatabase
from proof.simulation.loop import node_of_context
from saga_coordinator.engine.ports import Listener
from saga_coordinator.saga.definition.model import RunnableDefinition
from saga_coordinator.saga.machine.stored_entry import StoredEntry
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import AlreadyExists, NotFound, Resource
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.appends import Append, WrittenAppend
from saga_coordinator.store.records import (
    Claim,
    ClaimGroup,
    Driver,
    Event,
    KeptEvent,
    Letter,
    LoggedEntry,
    LogPage,
)

_PAGE_ENTRIES = 20
"""Small, so that many logs are read in several pages."""


class LogSession:
    def __init__(self, database: SimulatedDatabase, coordinator_id: str) -> None:
        self._database = database
        self._coordinator_id = coordinator_id

    async def write(self, appends: Sequence[WrittenAppend]) -> None:
        database = self._database
        await database.ask(lambda: database.write(appends, self._coordinator_id), is_write=True)

    async def start_key_holder(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        return await self._database.ask(lambda: self._database.start_keys.get(start_key))

    async def taken(self, appends: Sequence[Append]) -> list[int]:
        database = self._database

        def is_there(append: Append) -> bool:
            is_key_taken = append.start is not None and append.start.start_key in database.start_keys
            return is_key_taken or (
                bool(append.entries) and len(database.logs.get(append.saga_id, [])) >= append.sequence
            )

        return await database.ask(lambda: [index for index, append in enumerate(appends) if is_there(append)])

    async def written(self, saga_id: str, sequence: int, count: int) -> list[tuple[str, StoredEntry]]:
        def statement() -> list[tuple[str, StoredEntry]]:
            rows = self._database.logs.get(saga_id, [])[sequence - 1 : sequence - 1 + count]
            return [(row.recorded_by, row.stored()) for row in rows]

        return await self._database.ask(statement)

    async def ping(self) -> None:
        await self._database.ask(lambda: None)


class LogWriter:
    def __init__(self, database: SimulatedDatabase, coordinator_id: str) -> None:
        self._database = database
        self._coordinator_id = coordinator_id

    @asynccontextmanager
    async def session(self) -> AsyncIterator[LogSession]:
        await self._database.ask(lambda: None)
        yield LogSession(self._database, self._coordinator_id)


class Ownership:
    def __init__(self, database: SimulatedDatabase, coordinator_id: str) -> None:
        self._database = database
        self._id = coordinator_id

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[Ownership]:
        """There is one event loop for everything."""
        yield self

    async def renew(self, lease_seconds: float) -> float:
        return await self._database.ask(lambda: self._database.renew(self._id, lease_seconds), is_write=True)

    async def claim(self, limit: int, passed_over: Collection[str] = ()) -> list[Claim]:
        database = self._database
        claims = await database.ask(
            lambda: database.claim_orphaned(self._id, limit, passed_over), is_write=True
        )
        if len(claims) < limit:
            room = limit - len(claims)
            claims = claims + await database.ask(
                lambda: database.claim_due(self._id, room, passed_over), is_write=True
            )
        return claims

    async def claim_one(self, saga_id: str) -> Claim | None:
        return await self._database.ask(lambda: self._database.claim_one(self._id, saga_id), is_write=True)

    async def owned(self) -> dict[str, Namespace]:
        return await self._database.ask(lambda: self._database.owned(self._id))

    async def release(self, saga_ids: list[str], after_seconds: float) -> None:
        await self._database.ask(
            lambda: self._database.release(self._id, saga_ids, after_seconds), is_write=True
        )

    async def wake(self, saga_ids: list[str]) -> None:
        await self._database.ask(lambda: self._database.wake(saga_ids), is_write=True)

    async def wake_within(self, seconds: float, limit: int) -> None:
        await self._database.ask(lambda: self._database.wake_within(seconds, limit), is_write=True)

    async def retire(self) -> int:
        return await self._database.ask(lambda: self._database.retire(self._id), is_write=True)

    async def backlog(self, limit: int) -> int:
        return await self._database.ask(lambda: self._database.backlog(limit))

    async def driver_of(self, saga_id: str) -> Driver | None:
        return await self._database.ask(lambda: self._database.driver_of(saga_id))

    async def groups(self) -> list[ClaimGroup]:
        """All are of one group, and its coordinators come back."""
        return []

    async def tidy(self) -> None:
        """No story lasts so long that a coordinator is forgotten."""


class SimulatedSagas:
    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database

    async def page(self, saga_ids: Sequence[str], after: int = 0) -> LogPage:
        def statement() -> LogPage:
            found = [
                LoggedEntry(place, sequence, row.stored(), len(row.facts) + len(row.payload or b""))
                for place, saga_id in enumerate(saga_ids)
                for sequence, row in enumerate(self._database.logs.get(saga_id, ()), start=1)
                if place or sequence > after
            ]
            is_full = len(found) >= _PAGE_ENTRIES
            # As the statement does: where a log is missing it stops, and the last of those that it returns has ended.
            return LogPage(tuple(found[:_PAGE_ENTRIES]), has_more=is_full)

        return await self._database.ask(statement)

    async def status(self, saga_id: str) -> SagaStatus:
        def statement() -> SagaStatus:
            row = self._database.sagas.get(saga_id)
            if row is None:
                raise NotFound(Reason.NO_SUCH_SAGA, f"there is no saga {saga_id}")
            return row.status

        return await self._database.ask(statement)

    async def place(self, saga_id: str) -> tuple[Namespace, SagaStatus]:
        return DEFAULT_NAMESPACE, await self.status(saga_id)

    async def started_by(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        return await self._database.ask(lambda: self._database.start_keys.get(start_key))

    async def id_of(self, namespace: Namespace, start_key: str) -> str | None:
        found = await self.started_by(namespace, start_key)
        return None if found is None else found[0]


class SimulatedEvents:
    """`store.events`, statement by statement."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database

    async def keep(self, namespace: Namespace, event: Event) -> KeptEvent:
        database = self._database
        is_new = await database.ask(lambda: database.insert_event(event), is_write=True)

        def state() -> tuple[Event, KeptEvent]:
            row = database.events[event.event_id]
            is_kept = row.taken_at is None and row.expires_at > database.now
            is_told = row.taken_at is not None and row.taken_by is None
            remembered_until = row.published_at + EVENT_KEPT_SECONDS
            return row.event, KeptEvent(
                is_new, is_told, row.expires_at if is_kept else None, remembered_until
            )

        first, kept = await database.ask(state)
        if (first.name, first.correlation, first.payload) != (event.name, event.correlation, event.payload):
            raise AlreadyExists(
                Reason.EVENT_ID_TAKEN,
                f"event {event.event_id!r} was published before, with other content",
                Resource("saga.v1.Event", event.event_id),
            )
        return kept

    async def waiting(self, namespace: Namespace, event_id: str) -> list[str]:
        return await self._database.ask(lambda: self._database.waiting(event_id))

    async def matched(self, namespace: Namespace, event_id: str) -> None:
        await self._database.ask(lambda: self._database.match_event(event_id), is_write=True)

    async def take(
        self, saga_id: str, name: str, correlation: str, look_back_seconds: float = 0.0
    ) -> Event | None:
        database = self._database
        return await database.ask(
            lambda: database.take_event(saga_id, name, correlation, look_back_seconds), is_write=True
        )

    async def tidy(self) -> None:
        """No story lasts so long that an event is forgotten."""


class SimulatedDefinitions:
    """Every coordinator has all definitions in memory."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database

    async def get(self, namespace: Namespace, name: str, version: int) -> RunnableDefinition:
        return self._database.definitions[name]

    async def for_start(self, namespace: Namespace, name: str, version: int) -> RunnableDefinition:
        return self._database.definitions[name]


class SimulatedMail:
    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database

    async def put(self, letter: Letter) -> None:
        await self._database.ask(lambda: self._database.put(letter), is_write=True)

    async def unanswered(self, owner: str, limit: int) -> list[Letter]:
        return await self._database.ask(lambda: self._database.unanswered(owner, limit))

    async def answer(self, letter: Letter, answer: dict[str, Any]) -> None:
        await self._database.ask(lambda: self._database.answer(letter, answer), is_write=True)

    async def answer_to(self, letter: Letter) -> dict[str, Any] | None:
        def statement() -> dict[str, Any] | None:
            found = self._database.letters.get(letter.letter_id)
            if found is None or found[2] is None:
                return None
            answer: dict[str, Any] = orjson.loads(found[2])
            return answer

        return await self._database.ask(statement)

    async def delete_abandoned(self) -> None:
        """No story lasts so long either."""

    async def delete(self, letter: Letter) -> None:
        await self._database.ask(lambda: self._database.letters.pop(letter.letter_id, None), is_write=True)


class Ears(Listener):
    """`store.mail.Listener`."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database

    async def listen(self, owner: str, on_letter: Callable[[], None]) -> None:
        await self._database.ask(lambda: None)
        ended: asyncio.Future[None] = self._database.loop.create_future()
        context = node_of_context().context
        self._database.listeners.append((owner, on_letter, ended, context))
        await ended
