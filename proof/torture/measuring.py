"""What the measures of scale share: their clients, the world that they run in, and what its books say."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import psycopg
from google.protobuf.json_format import ParseDict
from saga_client.v1 import saga_pb2, saga_service_pb2
from saga_client.v1.saga_service_pb2_grpc import SagaServiceStub

from proof.torture.definitions import SECOND_TIME, STEADY
from proof.torture.load import AGAIN
from proof.torture.processes import CHANNEL_OPTIONS, TortureError, World, eventually
from proof.torture.run import make_folder

PARENT: Final = Path(".cache/torture")


def operation(participant: str, method: str, **more: Any) -> dict[str, Any]:
    return {"participant": participant, "method": method, **more}


RETRYING: Final = {
    "name": "retrying",
    "steps": [
        {
            "name": "take",
            "action": operation("stock", SECOND_TIME, retry={"initial_backoff": "0.2s", "max_attempts": 5}),
            "compensation": operation("stock", STEADY),
        }
    ],
}

Fault = str
CALL_SECONDS: Final = 60.0


class Clients:
    """Starts sagas through the coordinators at `addresses`, which may change, in turn."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.addresses = list(addresses)
        self._turn = itertools.count()
        self.repeated = 0

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def start(self, definition: str, start_key: str, *, wait: bool = False) -> str:
        """Repeats the start until it is accepted; returns the saga's status in the answer."""
        request = saga_service_pb2.StartSagaRequest(definition=definition, start_key=start_key, wait=wait)
        ParseDict({"key": start_key}, request.input)
        while True:
            stub: Any = SagaServiceStub(self.channel(self.addresses[next(self._turn) % len(self.addresses)]))
            try:
                answer = await stub.StartSaga(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN:
                    raise
                self.repeated += 1
                await asyncio.sleep(0.05)
            else:
                return saga_pb2.SagaStatus.Name(answer.saga.status).removeprefix("SAGA_STATUS_")

    async def many(self, starts: Iterator[Awaitable[Any]], in_flight: int) -> None:
        """Has so many of `starts` under way at once until there are no more."""

        async def client() -> None:
            for start in starts:
                await start

        await asyncio.gather(*(client() for _ in range(in_flight)))

    def channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        return self._channels[address]


@asynccontextmanager
async def scaled_world(
    specs: list[Mapping[str, Any]],
    *,
    coordinators: int,
    started: int | None = None,
    flags: Mapping[str, object] | None = None,
) -> Any:
    folder = make_folder(PARENT, "scale-")
    world = World(folder, seed=1, coordinators=coordinators, is_direct=True, keeps_calls=False, flags=flags)
    clients = Clients(world.addresses[: started or coordinators])
    try:
        await world.start(specs, coordinators=started)
        yield world, clients
    finally:
        await clients.close()
        await world.stop()
        shutil.rmtree(folder, ignore_errors=True)


def ask(world: World, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def statuses_of(world: World) -> dict[str, int]:
    return dict(ask(world, "SELECT status, count(*) FROM saga.sagas GROUP BY status"))


def effects_of(world: World, name: str) -> tuple[int, int]:
    """How many effects a participant's books show, and how many different keys they bear."""
    with sqlite3.connect(world.participants[name].books) as books:
        found: tuple[int, int] = books.execute("select count(*), count(distinct key) from effects").fetchone()
    books.close()
    return found


async def until_drained(world: World, sagas: int, seconds: float) -> float:
    """Waits until so many sagas have completed; returns how long that took."""
    began_at = time.monotonic()
    with suppress(TortureError):  # the counts will show it
        await eventually(
            lambda: statuses_of(world).get("COMPLETED", 0) >= sagas, "all to complete", seconds, 0.5
        )
    return time.monotonic() - began_at
