"""What it is like when very many workers dial one coordinator in the same instant, each on a connection of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import psutil
from google.protobuf.json_format import ParseDict
from saga_client.v1 import directory_service_pb2, saga_pb2, worker_service_pb2
from saga_client.v1.directory_service_pb2_grpc import DirectoryServiceStub
from saga_client.v1.saga_service_pb2 import StartSagaRequest
from saga_client.v1.saga_service_pb2_grpc import SagaServiceStub
from saga_client.v1.worker_service_pb2_grpc import WorkerServiceStub

from proof.torture.definitions import STEADY
from proof.torture.measuring import CALL_SECONDS, Fault, operation, scaled_world, statuses_of, until_drained
from proof.torture.resumption import percentile

FAR: Final = "far"
AGAIN_SECONDS: Final = (0.2, 2.0)
"""As the Python worker does: after at least so long, and at most so long, it dials again."""


def _one_step(name: str, participant: str) -> dict[str, Any]:
    action = operation(participant, STEADY, timeout="30s")
    return {"name": name, "steps": [{"name": "take", "action": action, "read_only": True}]}


class Caller:
    """A worker that keeps dialling until it is welcome, and then does whatever it is given."""

    def __init__(self, address: str, dice: random.Random) -> None:
        self._channel = grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._dice = dice
        self.dialled = 0
        self.is_welcome = asyncio.Event()

    async def work(self) -> None:
        stub: Any = WorkerServiceStub(self._channel)
        hello = worker_service_pb2.Hello(participant=FAR, credits=4, worker_id=f"{self._dice.random()}")
        while True:
            self.dialled += 1
            stream = stub.Work(wait_for_ready=True)
            try:
                await stream.write(worker_service_pb2.WorkRequest(hello=hello))
                await self._listen(stream)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await asyncio.sleep(self._dice.uniform(*AGAIN_SECONDS))

    async def _listen(self, stream: Any) -> None:
        while (message := await stream.read()) is not grpc.aio.EOF:
            self.is_welcome.set()
            done = [
                worker_service_pb2.TaskOutcome(task_id=task.task_id, success=saga_pb2.Success())
                for task in message.tasks
            ]
            if done:
                await stream.write(worker_service_pb2.WorkRequest(outcomes=done))

    async def close(self) -> None:
        await self._channel.close()


def _beside(address: str, until: Path) -> list[float]:
    """How long somebody else's sagas take meanwhile, one after the other; in a process that is not busy being 10,000 workers."""
    seconds: list[float] = []
    with grpc.insecure_channel(address) as channel:
        stub: Any = SagaServiceStub(channel)
        while not (seconds and until.exists()):
            request = StartSagaRequest(definition="near", start_key=f"near-{len(seconds)}", wait=True)
            began_at = time.monotonic()
            stub.StartSaga(request, timeout=CALL_SECONDS)
            seconds.append(time.monotonic() - began_at)
    return seconds


async def dialling(workers: int = 10_000, sagas: int = 10_000) -> list[Fault]:
    specs: list[Mapping[str, Any]] = [_one_step("near", "stock"), _one_step("far", FAR)]
    async with scaled_world(specs, coordinators=1) as (world, clients):
        stub: Any = DirectoryServiceStub(clients.channel(world.addresses[0]))
        request = directory_service_pb2.PutParticipantRequest()
        ParseDict({"participant": {"name": FAR, "worker": True}}, request)
        await stub.PutParticipant(request, timeout=CALL_SECONDS)
        process = psutil.Process(world.coordinators[0].life.popen.pid)
        bytes_before = process.memory_info().rss

        dice = random.Random(1)
        callers = [Caller(world.addresses[0], random.Random(dice.random())) for _ in range(workers)]
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        over = world.folder / "over"
        beside = asyncio.get_running_loop().run_in_executor(pool, _beside, world.addresses[0], over)
        began_at = time.monotonic()
        at_work = [asyncio.create_task(caller.work()) for caller in callers]
        await asyncio.gather(*(caller.is_welcome.wait() for caller in callers))
        welcomed = time.monotonic() - began_at
        over.touch()
        seconds = await beside
        pool.shutdown()
        kilobytes = (process.memory_info().rss - bytes_before) / workers / 1000
        before = statuses_of(world).get("COMPLETED", 0)
        await clients.many((clients.start("far", f"far-{n}") for n in range(sagas)), 256)
        drained = await until_drained(world, before + sagas, 120)
        counts = statuses_of(world)
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
        await asyncio.gather(*(caller.close() for caller in callers))
    dials = sum(caller.dialled for caller in callers)
    print(
        f"dialling: {workers} workers at once, each on its own connection, welcome within {welcomed:.1f} s,"
    )
    print(
        f"          {dials} dials, {kilobytes:.0f} kB each; sagas of others meanwhile: {len(seconds)}, "
        f"p50 {1000 * percentile(seconds, 0.5):.0f} ms, p99 {1000 * percentile(seconds, 0.99):.0f} ms, "
        f"max {1000 * max(seconds):.0f} ms;"
    )
    print(f"          {sagas} sagas on them, drained {drained:.1f} s after the last start; {counts}")
    completed = counts.get("COMPLETED", 0)
    return [] if completed >= before + sagas else [f"dialling: {before + sagas} were to complete, {counts}"]
