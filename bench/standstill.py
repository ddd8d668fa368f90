"""How long one large saga keeps the event loop from everybody else: `python -m bench.standstill [ITEMS ...]`.

One coordinator in this process, on a real Postgres, with participants that answer at once. A probe wakes every millisecond; a
standstill is the processor time that the loop's thread spends between two of its wakings, so other load on the machine does not
count.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.system import Site
from saga_coordinator import collector
from saga_coordinator.app import postgres_stores
from saga_coordinator.catalog.catalog import Catalog
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.engine.settings import EngineSettings
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.saga.machine.effects import Invoke, LookForRoom
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome, Refused, Succeeded, Unknown
from saga_coordinator.store import schema
from saga_coordinator.store.database import Database
from saga_coordinator.store.sagas import SagaRows

_LOOKING = "${input.lines.exists(l, l.sku == item.sku && l.qty > 0)}"
_SECONDS_MAX = 300.0


def _call(method: str, **more: Any) -> dict[str, Any]:
    return {"participant": "p", "method": method, **more}


def _loop(name: str, **action: Any) -> dict[str, Any]:
    one = {"name": "one", "action": _call("do", **action), "compensation": _call("undo", input={})}
    return {
        "name": name,
        "steps": [
            {"name": "each", "for_each": {"items": "${input.lines}", "steps": [one]}},
            {"name": "last", "action": _call("last", input={}), "compensation": _call("undo", input={})},
        ],
    }


def _parallel(steps: int) -> dict[str, Any]:
    every = [
        {
            "name": f"s{index}",
            "after": [],
            "action": _call("do", input={}),
            "compensation": _call("undo", input={}),
        }
        for index in range(steps - 1)
    ]
    last = {"name": "last", "after": ["s0"], "action": _call("last", input={}), "irreversible": True}
    return {"name": "parallel", "steps": [*every, last]}


class Participants:
    """They do what they are asked at once; the last step is refused where the saga is to be undone, and undoing may be down."""

    names = frozenset({"p"})
    worker_names: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.refuses = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.down = 0
        """So many attempts to undo still fail."""

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        return None

    async def room_found(self) -> str:
        await asyncio.Event().wait()
        return "p"

    async def invoke(self, call: Invoke) -> Outcome:
        await self.answers.wait()
        await asyncio.sleep(0)
        if call.method == "last" and self.refuses:
            return Refused(Cause("FAILED_PRECONDITION", "no"))
        if call.operation is OperationKind.COMPENSATION and self.down > 0:
            self.down -= 1
            return Unknown(Cause("UNAVAILABLE", "down"))
        return Succeeded({"id": call.step})


@dataclass
class Probe:
    """The longest standstill so far, in milliseconds of the loop's processor time."""

    longest: float = 0.0

    async def watch(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest = max(self.longest, 1000 * (now - before))
            before = now


def _catalog(database: Database) -> Catalog:
    return Catalog.of(database, Attempts(Directory.empty(), payload_bytes_max=2**20))


class Bench:
    def __init__(self, url: str) -> None:
        self._url = url
        self.participants = Participants()

    @contextlib.asynccontextmanager
    async def coordinator(self) -> AsyncIterator[tuple[Coordinator, Database]]:
        database = Database(self._url)
        stores = postgres_stores(
            database, str(uuid.uuid4()), _catalog(database).runnable, address="bench:1", version="0"
        )
        coordinator = Coordinator(
            stores, self.participants, EngineSettings(lease_seconds=3.0), random.Random(1)
        )
        await coordinator.start()
        try:
            yield coordinator, database
        finally:
            await coordinator.stop(0.1)
            await database.stop()

    async def measure(
        self, what: str, definition: str, lines: int, *, refuses: bool = False, down: int = 0
    ) -> None:
        self.participants.refuses, self.participants.down = refuses, down
        async with self.coordinator() as (coordinator, database):
            await asyncio.sleep(0.5)
            await self._run(what, coordinator, database, definition, lines)

    async def _run(
        self, what: str, coordinator: Coordinator, database: Database, definition: str, lines: int
    ) -> None:
        probe = Probe()
        probing = asyncio.create_task(probe.watch())
        began, spent = time.monotonic(), time.process_time()
        payload = {"lines": [{"sku": f"sku-{index}", "qty": 1} for index in range(lines)]}
        saga_id, _ = await coordinator.start_saga(StartSaga(definition, str(uuid.uuid4()), input=payload))
        await coordinator.wait(saga_id, _SECONDS_MAX)
        status = await SagaRows(database).status(saga_id)
        probing.cancel()
        took, work = time.monotonic() - began, time.process_time() - spent
        print(
            f"| {what} | {lines} | {status} | {work:.2f} | {took:.1f} | {probe.longest:.1f} |",
            flush=True,
        )

    async def adopt(self, lines: int) -> None:
        """A saga with all its items in flight, whose coordinator is gone."""
        self.participants.answers.clear()
        self.participants.refuses = False
        payload = {"lines": [{"sku": f"sku-{index}", "qty": 1} for index in range(lines)]}
        async with self.coordinator() as (coordinator, _):
            saga_id, _ = await coordinator.start_saga(StartSaga("loop", str(uuid.uuid4()), input=payload))
            async with asyncio.timeout(_SECONDS_MAX):
                while (await coordinator.state_of(saga_id)).in_flight < lines:
                    await coordinator.changed(saga_id, 0.05)
        async with self.coordinator() as (coordinator, database):
            probe = Probe()
            probing = asyncio.create_task(probe.watch())
            began, spent = time.monotonic(), time.process_time()
            self.participants.answers.set()
            await coordinator.wait(saga_id, _SECONDS_MAX)
            status = await SagaRows(database).status(saga_id)
            probing.cancel()
            print(
                f"| adopted with all in flight | {lines} | {status} | {time.process_time() - spent:.2f} | "
                f"{time.monotonic() - began:.1f} | {probe.longest:.1f} |",
                flush=True,
            )


async def main(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Site(Path(folder)) as site:
            url = site.make_database("standstill")
            await asyncio.to_thread(schema.upgrade, url)
            database = Database(url)
            registration = _catalog(database).registration
            for source in (_loop("loop"), _loop("looking", input={"known": _LOOKING}), _parallel(200)):
                await registration.register(DEFAULT_NAMESPACE, source)
            await database.stop()
            collector.tune()
            bench = Bench(url)
            print(
                "| saga | items | ends as | processor s | s | longest standstill, ms |\n|---|---|---|---|---|---|"
            )
            for size in sizes:
                await bench.measure("loop", "loop", size)
                await bench.measure("loop, undone", "loop", size, refuses=True)
                await bench.measure(
                    "loop, undone while that is down", "loop", size, refuses=True, down=2 * size
                )
                await bench.measure("loop, looking through the list for each item", "looking", size)
                await bench.adopt(size)
            await bench.measure("200 parallel steps, undone", "parallel", 0, refuses=True)


if __name__ == "__main__":
    asyncio.run(main([int(size) for size in sys.argv[1:]] or [100, 400, 1000]))
