"""How many sagas a second: `python -m bench [--seconds N]`, or `make bench`.

One coordinator, two participants (one is called, one dials in) and the load, each a process, with an embedded PostgreSQL that
syncs every commit. Each figure is taken several times, the shapes taking turns, and printed as the median with its spread.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from grpc_health.v1 import health_pb2, health_pb2_grpc
from saga_client.v1 import definition_pb2 as definition
from saga_client.v1 import definition_service_pb2 as definitions
from saga_client.v1 import definition_service_pb2_grpc as definitions_grpc
from saga_client.v1 import saga_pb2 as saga
from saga_client.v1 import saga_service_pb2 as sagas
from saga_client.v1 import saga_service_pb2_grpc as sagas_grpc

from saga_coordinator.store.embedded import EmbeddedPostgres

_BIN = Path(sys.executable).parent
_READY_SECONDS = 30.0


@dataclass(frozen=True)
class Shape:
    """One row of the table: a 2-step saga, so many at once, going through or rolled back, by calls or by a worker's stream."""

    name: str
    participant: str
    in_flight: int
    refused_step: str
    ends_as: saga.SagaStatus.ValueType


SHAPES = (
    Shape("success", "contract", 1, "", saga.SAGA_STATUS_COMPLETED),
    Shape("success", "worker", 1, "", saga.SAGA_STATUS_COMPLETED),
    Shape("success", "contract", 64, "", saga.SAGA_STATUS_COMPLETED),
    Shape("success", "worker", 64, "", saga.SAGA_STATUS_COMPLETED),
    Shape("success", "contract", 256, "", saga.SAGA_STATUS_COMPLETED),
    Shape("success", "worker", 256, "", saga.SAGA_STATUS_COMPLETED),
    Shape("rollback", "contract", 32, "second", saga.SAGA_STATUS_COMPENSATED),
    Shape("rollback", "worker", 32, "second", saga.SAGA_STATUS_COMPENSATED),
)


@dataclass(frozen=True)
class Taken:
    sagas_per_second: float
    p50_ms: float
    p99_ms: float
    coordinator_us: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each figure is taken [4]")
    parser.add_argument("--rounds", type=int, default=3, help="how often [3]")
    arguments = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_cache())))
        database = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        coordinator, participant = f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}"
        file = folder / "participants.yaml"
        participants = (
            f"participants: {{contract: {{target: 'dns:///{participant}'}}, worker: {{worker: true}}}}\n"
        )
        file.write_text(participants, encoding="utf-8")
        subprocess.run([_BIN / "saga-coordinator", "migrate", "--database-url", database.dsn], check=True)
        stack.enter_context(_process(sys.executable, "-m", "bench.participant", participant))
        serve = (
            "serve",
            "--address",
            coordinator,
            "--database-url",
            database.dsn,
            "--participants",
            str(file),
        )
        process = stack.enter_context(
            _process(str(_BIN / "saga-coordinator"), *serve, "--log-level", "warning")
        )
        stack.enter_context(_process(sys.executable, "-m", "bench.worker", coordinator))
        asyncio.run(_measure(coordinator, psutil.Process(process.pid), arguments.seconds, arguments.rounds))


async def _measure(address: str, coordinator: psutil.Process, seconds: float, rounds: int) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await _until_ready(channel)
        for name in sorted({shape.participant for shape in SHAPES}):
            await definitions_grpc.DefinitionServiceStub(channel).RegisterDefinition(
                definitions.RegisterDefinitionRequest(definition=_two_steps(name))
            )
        taken: dict[Shape, list[Taken]] = {shape: [] for shape in SHAPES}
        for _ in range(rounds):
            for shape in SHAPES:
                await _take(channel, coordinator, shape, seconds / 4)  # warms up
                taken[shape].append(await _take(channel, coordinator, shape, seconds))
    print(
        f"{'2-step saga':12} {'participant':11} {'in flight':>9} {'sagas/s':>9} {'lowest-highest':>16} {'p50 ms':>8} "
        f"{'p99 ms':>8} {'coordinator us/saga':>20}"
    )
    for shape, figures in taken.items():
        rates = [each.sagas_per_second for each in figures]
        p50, p99, cpu = (
            statistics.median(getattr(each, name) for each in figures)
            for name in ("p50_ms", "p99_ms", "coordinator_us")
        )
        spread = f"{min(rates):.0f}-{max(rates):.0f}"
        print(
            f"{shape.name:12} {shape.participant:11} {shape.in_flight:9} {statistics.median(rates):9.0f} {spread:>16} "
            f"{p50:8.1f} {p99:8.1f} {cpu:20.0f}"
        )


async def _take(
    channel: grpc.aio.Channel, coordinator: psutil.Process, shape: Shape, seconds: float
) -> Taken:
    start = sagas_grpc.SagaServiceStub(channel).StartSaga
    fields = Struct()
    fields.update({"refuse": shape.refused_step, "order": 1})
    given = Value(struct_value=fields)
    latencies: list[float] = []
    worked_before = _cpu_seconds(coordinator)
    began = time.perf_counter()
    until = began + seconds

    async def customer() -> None:
        while (sent := time.perf_counter()) < until:
            request = sagas.StartSagaRequest(
                definition=shape.participant, start_key=str(uuid.uuid4()), input=given, wait=True
            )
            reply = await start(request, timeout=30)
            if reply.saga.status != shape.ends_as:
                raise SystemExit(
                    f"a saga ended as {saga.SagaStatus.Name(reply.saga.status)}: {reply.saga.failure}"
                )
            latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*(customer() for _ in range(shape.in_flight)))
    latencies.sort()
    rate = len(latencies) / (time.perf_counter() - began)
    p50, p99 = (1000 * latencies[int(len(latencies) * part)] for part in (0.5, 0.99))
    return Taken(rate, p50, p99, 1e6 * (_cpu_seconds(coordinator) - worked_before) / len(latencies))


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _two_steps(participant: str) -> definition.Definition:
    def operation() -> definition.Operation:
        return definition.Operation(participant=participant, method="perform", timeout=Duration(seconds=10))

    steps = [
        definition.Step(name=name, action=operation(), compensation=operation())
        for name in ("first", "second")
    ]
    return definition.Definition(name=participant, steps=steps)


async def _until_ready(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        await channel.channel_ready()
        stub: Any = health_pb2_grpc.HealthStub(channel)
        check = stub.Check
        while (  # noqa: ASYNC110  # no event crosses processes
            await check(health_pb2.HealthCheckRequest())
        ).status != health_pb2.HealthCheckResponse.SERVING:
            await asyncio.sleep(0.05)


@contextmanager
def _process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _cache() -> Path:
    folder = Path(".cache")
    folder.mkdir(exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
