"""What a fault costs those that it does not hit: one of three coordinators killed, and a participant that hangs."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from saga_client.v1 import saga_service_pb2

from bench.http2 import CallFailed, Http2Connection
from bench.load import ENDS, START_SAGA, SagaStarter, drive, saga_input
from bench.ours import Coordinators, definition_name, definition_of, register
from bench.processes import until_serving
from bench.record import Shape, latencies_ms
from bench.system import Site

IN_FLIGHT: Final = 48
BUCKET_SECONDS: Final = 0.25
RESUMED_SHARE: Final = 0.9
LEASE_SECONDS: Final = 3.0
"""The program's default: for so long the dead one's sagas stand still."""
HUNG: Final = 64
_AGAIN_SECONDS: Final = 0.05


@dataclass(slots=True)
class _Customers:
    """Ask the coordinators in turn; one that gets no answer asks the next with the same start key (P9)."""

    addresses: list[str]
    ended: list[tuple[float, float]] = field(default_factory=list)
    """When each saga was done, and how long it took, by the machine's clock, which is Postgres' too."""
    repeated: int = 0
    wrong: int = 0

    async def run(self, seconds: float) -> None:
        until = time.time() + seconds
        await asyncio.gather(*(self._customer(number, until) for number in range(IN_FLIGHT)))

    async def _customer(self, number: int, until: float) -> None:
        turn = itertools.cycle(self.addresses[number % 3 :] + self.addresses[: number % 3])
        connection = await Http2Connection.open(next(turn))
        request = saga_service_pb2.StartSagaRequest(
            definition=definition_name("unary", 2), input=saga_input("success", 2), wait=True
        )
        while (sent := time.time()) < until:
            request.start_key = str(uuid.uuid4())
            answer: bytes | None = None
            while answer is None:
                try:
                    answer = await connection.call(START_SAGA, request.SerializeToString())
                except CallFailed:
                    self.repeated += 1
                    connection.close()
                    await asyncio.sleep(_AGAIN_SECONDS)
                    connection = await _open(turn)
            status = saga_service_pb2.StartSagaResponse.FromString(answer).saga.status
            self.wrong += status != ENDS["success"]
            self.ended.append((time.time(), time.time() - sent))
        connection.close()


async def _open(turn: itertools.cycle[str]) -> Http2Connection:
    while True:
        try:
            return await Http2Connection.open(next(turn))
        except OSError:
            await asyncio.sleep(_AGAIN_SECONDS)


async def killed(site: Site, seconds: float) -> dict[str, Any]:
    """`kill -9` of one of three under load: how deep throughput falls, and how long its sagas stand still."""
    first = Coordinators(site, "killed-1")
    others = [Coordinators(site, f"killed-{number}") for number in (2, 3)]
    group = [first, *others]
    try:
        await first.start(definition_of("unary", 2))
        for each in others:
            each.url = first.url
            each.launch()
            await until_serving(each.address, each.popen, each.log)
        customers = _Customers([each.address for each in group])
        driving = asyncio.create_task(customers.run(2.5 * seconds))
        await asyncio.sleep(seconds)
        died_at = time.time()
        others[0].kill()
        await driving
        adopted = [
            float(at) - died_at
            for (at,) in site.ask(
                "SELECT extract(epoch FROM recorded_at) FROM saga.log"
                f" WHERE type = 'saga_adopted' AND recorded_at > to_timestamp({died_at})",
                first.name,
            )
        ]
        unfinished = site.ask(
            "SELECT count(*) FROM saga.sagas WHERE status IN ('RUNNING', 'COMPENSATING')", first.name
        )[0][0]
    finally:
        for each in group:
            each.stop()
    found = {
        **throughput_around([at - died_at for at, _ in customers.ended]),
        "adopted_sagas": len(adopted),
        "first_resumed_seconds": _rounded(min(adopted, default=None)),
        "last_resumed_seconds": _rounded(max(adopted, default=None)),
        "repeated_starts": customers.repeated,
        "wrong_ends": customers.wrong,
        "unfinished_at_the_end": unfinished,
    }
    _print("killed", found)
    return found


def throughput_around(ended: list[float]) -> dict[str, float | None]:
    """From the seconds at which sagas ended, the fault at 0: the rate before, until the lease is over, the lowest in a
    quarter of a second, and when it was back.

    Back is the end of the last quarter of a second below nine tenths of the rate before, in a row from the fault on.
    """
    counts: dict[int, int] = {}
    for at in ended:
        bucket = int(at // BUCKET_SECONDS)
        counts[bucket] = counts.get(bucket, 0) + 1
    before = [counts.get(bucket, 0) for bucket in range(min(counts, default=0) + 1, 0)]
    usual = statistics.median(before) if before else 0.0
    after = [counts.get(bucket, 0) for bucket in range(max(counts, default=0))]
    low = list(itertools.takewhile(lambda count: count < RESUMED_SHARE * usual, after))
    return {
        "sagas_per_second_before": round(usual / BUCKET_SECONDS, 1),
        "sagas_per_second_within_lease": round(
            sum(0 <= at < LEASE_SECONDS for at in ended) / LEASE_SECONDS, 1
        ),
        "sagas_per_second_lowest": round(min(after, default=0) / BUCKET_SECONDS, 1),
        "back_after_seconds": len(low) * BUCKET_SECONDS if len(low) < len(after) else None,
    }


async def hung(site: Site, seconds: float) -> dict[str, Any]:
    """Healthy sagas' latency alone, and beside so many that wait for a participant which never answers."""
    more = f"  hung: {{target: 'dns:///{site.address('contract')}'}}\n"
    group = Coordinators(site, "hung", more=more)
    shape = Shape("success", 2, 16)
    hanging = {
        "name": "hanging",
        "steps": [
            {
                "name": "first",
                "action": {"participant": "hung", "method": "hang", "timeout": "600s"},
                "compensation": {"participant": "hung", "method": "perform"},
            }
        ],
    }
    try:
        await group.start(definition_of("unary", 2))
        await register(group.address, hanging)
        starter = await SagaStarter.open([group.address], shape.concurrency)
        ask = starter.customer(definition_name("unary", 2), shape)
        await drive(ask, shape.concurrency, seconds / 2)
        alone = await drive(ask, shape.concurrency, seconds)
        await asyncio.gather(*(starter.start("hanging", {"refuse": ""}, wait=False) for _ in range(HUNG)))
        await drive(ask, shape.concurrency, seconds / 2)
        beside = await drive(ask, shape.concurrency, seconds)
        starter.close()
    finally:
        group.stop()
    p50, p99 = latencies_ms(alone.latencies)
    p50_beside, p99_beside = latencies_ms(beside.latencies)
    found = {
        "hung_sagas": HUNG,
        "p50_ms_alone": round(p50, 1),
        "p99_ms_alone": round(p99, 1),
        "p50_ms_beside": round(p50_beside, 1),
        "p99_ms_beside": round(p99_beside, 1),
        "p99_ratio": round(p99_beside / p99, 3),
        "rate_ratio": round(
            len(beside.latencies) / beside.seconds / (len(alone.latencies) / alone.seconds), 3
        ),
    }
    _print("hung", found)
    return found


async def faults(site: Site, seconds: float, rounds: int) -> dict[str, Any]:
    return {
        "killed": [await killed(site, max(4.0, 2 * seconds)) for _ in range(rounds)],
        "hung": [await hung(site, seconds) for _ in range(rounds)],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _print(name: str, found: dict[str, Any]) -> None:
    print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
