"""Real coordinators on a real database, with participants in this process."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from saga_coordinator.app import postgres_stores
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.awaited import Published
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.engine.settings import EngineSettings
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.inputs import Asked, CancelAsked, OutcomeReported, TimerFired
from saga_coordinator.saga.machine.stored_entry import decode
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Outcome
from saga_coordinator.store.database import Database
from saga_coordinator.store.records import Event
from saga_coordinator.store.sagas import SagaRecord, SagaRows
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.catalogs import catalog_of
from tests.integration.engine.participants import ACTION, Gate, Participants
from tests.integration.proxy import Proxy, proxy_to

Query = Callable[..., Awaitable[list[tuple[Any, ...]]]]

LEASE_SECONDS = 15.0
"""Longer than a busy machine keeps an event loop waiting; what is to be over sooner is ended by `Engine.expire`."""


class Engine:
    """A coordinator of the test's, with everything below it."""

    def __init__(self, name: str, dsn: str, participants: Participants, settings: EngineSettings) -> None:
        self.database = Database(dsn)
        self.coordinator_id = str(uuid.uuid4())
        self.sagas = SagaRows(self.database)
        self.catalog = catalog_of(self.database)
        self.definitions = self.catalog.registration
        self.stores = postgres_stores(
            self.database,
            self.coordinator_id,
            self.catalog.runnable,
            address=f"{name}:7242",
            version="0",
        )
        self.participants = participants
        self.coordinator = Coordinator(self.stores, participants, settings, random.Random(name))
        self._keys = itertools.count(1)
        self._name = name
        self.is_running = False

    async def begin(self) -> None:
        await self.coordinator.start()
        self.is_running = True

    async def register(self, *definitions: dict[str, Any]) -> None:
        for each in definitions:
            await self.definitions.register(DEFAULT_NAMESPACE, each)

    async def start(self, definition: str = "order", *, key: str = "", **request: Any) -> str:
        """Starts a saga; returns its identity. Asks again, as callers do, when a busy machine let the lease run out."""
        key = key or f"{self._name} {next(self._keys)}"

        async def begin() -> str | None:
            try:
                return await self.start_at_once(definition, key=key, **request)
            except Unavailable:
                return None

        saga_id: str = await eventually(begin, "the start to be taken")
        return saga_id

    async def start_at_once(self, definition: str = "order", *, key: str = "at once", **request: Any) -> str:
        """The same, asking once. Raises Unavailable."""
        saga_id, _ = await self.coordinator.start_saga(StartSaga(definition, key, **request))
        return saga_id

    async def settled(self, saga_id: str, seconds: float = PATIENCE_SECONDS) -> SagaRecord:
        """The saga, once nothing more moves by itself."""

        async def wait() -> SagaRecord | None:
            try:
                assert await self.coordinator.wait(saga_id, seconds), await self.story(saga_id)
                return await self.saga(saga_id)
            except Unavailable:  # as callers do: ask again
                return None

        record: SagaRecord = await eventually(wait, "an answer", seconds)
        return record

    async def saga(self, saga_id: str) -> SagaRecord:
        return await self.sagas.get(DEFAULT_NAMESPACE, saga_id)

    async def reaches(self, saga_id: str, status: SagaStatus) -> None:
        """Waits until the saga's row has that status."""

        async def is_there() -> bool:
            return (await self.saga(saga_id)).status is status

        await eventually(is_there, f"the saga to be {status}")

    async def ask(self, saga_id: str, asked: Asked) -> Answered:
        """Asks something of a saga. Asks again, as callers do, when a busy machine did not answer in time."""

        async def answer() -> Answered | None:
            try:
                return await self.coordinator.ask(saga_id, asked)
            except Unavailable:
                return None

        answered: Answered = await eventually(answer, "an answer")
        return answered

    async def cancel(self, saga_id: str, reason: str = "changed my mind", by: str = "ann") -> None:
        """Cancels a saga, and asks again like `ask`."""
        await self.ask(saga_id, CancelAsked(reason, by))

    async def report(
        self, saga_id: str, step: str, outcome: Outcome, kind: OperationKind = ACTION, *, attempt: int = 0
    ) -> bool:
        """Tells an outcome, as a caller does; returns whether it was applied."""
        told = OutcomeReported(step, kind, outcome, attempt)
        return (await self.coordinator.ask(saga_id, told)).is_applied

    async def publish(self, event: Event) -> Published:
        return await self.coordinator.publish(DEFAULT_NAMESPACE, event)

    async def halted_at(
        self, step: str, definition: str = "order", *, kind: OperationKind = ACTION, **request: Any
    ) -> tuple[str, Gate]:
        """Starts a saga that waits in a call of that step until the gate is opened, which is returned beside its identity."""
        gate = Gate()
        self.participants.on(step, gate, kind)
        saga_id = await self.start(definition, **request)
        await eventually(lambda: gate.waiting, f"the {kind} of {step} to be in flight")
        return saga_id, gate

    async def run(self, definition: str = "order", **request: Any) -> SagaRecord:
        """Starts a saga and waits for it."""
        return await self.settled(await self.start(definition, **request))

    async def story(self, saga_id: str) -> list[str]:
        """The log, one short line an entry."""
        log = await self.sagas.log(saga_id)
        return [
            " ".join(
                str(word)
                for word in (entry.entry.type, entry.entry.step, entry.entry.operation, entry.entry.attempt)
                if word
            )
            for entry in log
        ]

    async def entries(self, saga_id: str) -> list[Entry]:
        """The log, decoded."""
        return [decode(stored.entry) for stored in await self.sagas.log(saga_id, limit=10_000)]

    @property
    def drives(self) -> set[str]:
        """The sagas in its memory."""
        return {run.saga_id for run in self.coordinator._runs}

    def pass_time(self, seconds: float) -> None:
        """Has this coordinator take the time for so much later, and look at what is due of the sagas in its memory."""
        lease = self.coordinator._lease
        real_now = lease.now
        setattr(lease, "now", lambda: real_now() + seconds)  # noqa: B010
        for run in self.coordinator._runs:
            self.coordinator._drive.post(run, TimerFired())

    async def stop(self, grace_seconds: float = 5.0) -> None:
        if self.is_running:
            self.is_running = False
            await self.coordinator.stop(grace_seconds)
        await self._close()

    async def kill(self) -> None:
        """Ends it as a crash does: nothing is committed any more, nothing let go, nobody told. Its lease is over at once."""
        self.is_running = False
        coordinator = self.coordinator
        for run in coordinator._runs:
            run.is_dropped = True
            run.set_timer(None)
        parts = (
            coordinator._housekeeping,
            coordinator._room_watch,
            coordinator._claiming,
            coordinator._mailbox,
            coordinator._journal,
        )
        running = [part._background for part in parts] + [
            coordinator._drive._performing._calls,
            coordinator._drive._moves,
        ]
        for start in coordinator._admission._on_their_way:
            start.cancel()
        await asyncio.gather(coordinator._keeper.stop(), *(each.stop(None) for each in running))
        await self.expire()
        await self._close()

    async def expire(self) -> None:
        """Its lease is over by the database's clock, whatever it thinks itself."""
        async with self.database.connection() as connection:
            statement = (
                "UPDATE saga.coordinators SET lease_until = clock_timestamp() WHERE coordinator_id = :id"
            )
            await connection.execute(text(statement), {"id": self.coordinator_id})

    async def _close(self) -> None:
        await self.database.stop()
        # A connection whose making was cancelled is closed with the last memory of it; until then Postgres keeps its database.
        gc.collect()


StartEngine = Callable[..., Awaitable[Engine]]


@pytest.fixture
def participants() -> Participants:
    """Tells all participants what to do, and knows what they did."""
    return Participants("")


@pytest.fixture
async def start_engine(database_dsn: str, participants: Participants) -> AsyncIterator[StartEngine]:
    """Starts coordinators, stopped with the test. The first one registers the definition `order`."""
    engines: list[Engine] = []

    async def start(name: str = "here", dsn: str = database_dsn, **settings: Any) -> Engine:
        settings = {"lease_seconds": LEASE_SECONDS, "poll_seconds": 0.05, **settings}
        engine = Engine(name, dsn, participants.seen_from(name), EngineSettings(**settings))
        engines.append(engine)
        await engine.begin()
        if len(engines) == 1:
            await engine.register(ORDER)
        return engine

    yield start
    await asyncio.gather(*(engine.stop(0) for engine in engines))


@pytest.fixture
async def engine(start_engine: StartEngine) -> Engine:
    return await start_engine()


@pytest.fixture
async def query(database_dsn: str) -> AsyncIterator[Query]:
    """Runs a statement beside the coordinators, and returns its rows."""
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:

        async def run(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
async def proxy(database_dsn: str) -> AsyncIterator[Proxy]:
    """The way to the test's database that can fail."""
    async with proxy_to(database_dsn) as opened:
        yield opened


RETRY = {"max_attempts": 3, "initial_backoff": "0.01s", "max_backoff": "0.02s"}


def a_step(name: str, participant: str, **more: Any) -> dict[str, Any]:
    """A step whose operations are tried three times, quickly."""
    operation = {"participant": participant, "timeout": "5s", "retry": RETRY}
    action = operation | more.pop("action", {})
    step = {"name": name, "action": action, **more}
    if not more.get("pivot") and not more.get("read_only") and not more.get("irreversible"):
        step["compensation"] = operation | more.get("compensation", {})
    return step


def a_definition(*steps: dict[str, Any], name: str = "order", **more: Any) -> dict[str, Any]:
    return {"name": name, "steps": list(steps), **more}


ORDER = a_definition(a_step("reserve", "inventory"), a_step("charge", "payments"), a_step("ship", "shipping"))
