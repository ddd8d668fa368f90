"""A shop's hours in compressed time: orders that arrive whether or not the last ones are done, spikes, a gateway with moods.

Arrivals are compressed, what the gateway takes is not: more sagas are in flight at once than in the hours that are told.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc.aio
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value
from saga_client.v1 import participant_service_pb2 as participant
from saga_client.v1 import participant_service_pb2_grpc as participant_grpc
from saga_client.v1 import saga_pb2

from bench.load import SagaStarter
from bench.ours import Coordinators
from bench.processes import HOST, BenchError, free_port, running, spawn_module, until_open
from bench.record import percentile
from bench.system import Site

COMPRESSION: Final = 20
USUAL_PER_HOUR: Final = 10_000
SPIKE_PER_HOUR: Final = 50_000
_SAMPLE_SECONDS: Final = 0.25
_DRAIN_SECONDS: Final = 120.0
_EFFECTS: Final = ("charge", "inventory", "receipt", "shipping")


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute that is told, in `60 / COMPRESSION` real seconds."""

    per_hour: int = USUAL_PER_HOUR
    is_slow: bool = False

    @property
    def kind(self) -> str:
        rate = "spike" if self.per_hour == SPIKE_PER_HOUR else "usual"
        return f"{rate}, gateway slow" if self.is_slow else rate


TEN_MINUTES: Final = (
    *[Minute()] * 3,
    *[Minute(SPIKE_PER_HOUR)] * 2,
    Minute(),
    Minute(is_slow=True),
    Minute(SPIKE_PER_HOUR, is_slow=True),
    *[Minute()] * 2,
)


def definition() -> dict[str, Any]:
    def step(name: str, **more: Any) -> dict[str, Any]:
        retry = {"initial_backoff": "0.1s", "max_attempts": 5}
        return {
            "name": name,
            "action": {"participant": "shop", "method": name, "timeout": "10s", "retry": retry},
            **({} if name == "validate" else {"compensation": {"participant": "shop", "method": name}}),
            **more,
        }

    parallel = [step(name, after=["charge"]) for name in _EFFECTS[1:]]
    return {
        "name": "orders",
        "steps": [step("validate", read_only=True), step("charge", after=["validate"]), *parallel],
    }


@dataclass(slots=True)
class Orders:
    """What became of the customers' orders. Latencies are in seconds from when an order was due, by the kind of its minute."""

    latencies: dict[str, list[float]] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, starter: SagaStarter, kind: str, due: float) -> None:
        task = asyncio.create_task(self._order(starter, kind, due))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _order(self, starter: SagaStarter, kind: str, due: float) -> None:
        try:
            saga = await starter.start("orders", {"order": 1})
        except Exception:  # noqa: BLE001  # counted, and a fault in the report
            self.failed += 1
            return
        self.latencies.setdefault(kind, []).append(time.perf_counter() - due)
        name = saga_pb2.SagaStatus.Name(saga.status).removeprefix("SAGA_STATUS_")
        self.ends[name] = self.ends.get(name, 0) + 1


async def scenario(site: Site, repeats: int) -> dict[str, Any]:
    """Ten minutes, so many times over; then waits until nothing is left, and compares the books."""
    port = free_port()
    log = site.folder / "gateway.log"
    group = Coordinators(site, "scenario", more=f"  shop: {{target: 'dns:///{HOST}:{port}'}}\n")
    with running(spawn_module("bench.gateway", f"{HOST}:{port}", log=log)) as popen:
        await until_open(port, popen, log)
        try:
            await group.start(definition())
            starter = await SagaStarter.open([group.address], 8, 8)
            async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
                gateway: Any = participant_grpc.ParticipantServiceStub(channel)
                orders, depths = await _replay(site, group, starter, gateway, TEN_MINUTES * repeats)
                books = MessageToDict(
                    (await gateway.Execute(participant.ExecuteRequest(method="books"))).output
                )
            starter.close()
            query = "SELECT status, count(*) FROM saga.sagas GROUP BY status"
            statuses = dict(site.ask(query, group.name))
        finally:
            group.stop()
    found = report(orders, depths, books, statuses, 10 * repeats)
    _print(found)
    return found


async def _replay(
    site: Site, group: Coordinators, starter: SagaStarter, gateway: Any, minutes: Sequence[Minute]
) -> tuple[Orders, list[int]]:
    orders, depths = Orders(), list[int]()
    watching = asyncio.create_task(_watch(site, group, depths))
    dice = random.Random(1)
    due = began = time.perf_counter()
    for number, minute in enumerate(minutes):
        mood = participant.ExecuteRequest(method="mood", input=Value(bool_value=minute.is_slow))
        await gateway.Execute(mood)
        until = began + (number + 1) * 60 / COMPRESSION
        while (due := due + dice.expovariate(minute.per_hour * COMPRESSION / 3600)) < until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            orders.begin(starter, minute.kind, due)
        due = until
    await gateway.Execute(participant.ExecuteRequest(method="mood", input=Value(bool_value=False)))
    if orders.tasks:
        _, late = await asyncio.wait(orders.tasks, timeout=_DRAIN_SECONDS)
        if late:
            raise BenchError(f"{len(late)} orders had no end {_DRAIN_SECONDS:g} s after the last had come")
    watching.cancel()
    return orders, depths


async def _watch(site: Site, group: Coordinators, depths: list[int]) -> None:
    """How many sagas are unfinished, four times a second."""
    query = "SELECT count(*) FROM saga.sagas WHERE status IN ('RUNNING', 'COMPENSATING')"
    while True:
        rows = await asyncio.to_thread(site.ask, query, group.name)
        depths.append(int(rows[0][0]))
        await asyncio.sleep(_SAMPLE_SECONDS)


def report(
    orders: Orders, depths: list[int], books: dict[str, Any], statuses: dict[str, int], minutes: int
) -> dict[str, Any]:
    """What is kept of a replay. Nothing is lost when all that was asked has ended, as the answers said, and the participants'
    books (effects by step) show each step's effect for every completed order and for no other.
    """
    kinds = {**orders.latencies, "all": [each for kind in orders.latencies.values() for each in kind]}
    count = len(kinds["all"])
    completed = statuses.get("COMPLETED", 0)
    is_whole = sum(statuses.values()) == count and statuses == orders.ends and not orders.failed
    effects = {step: int(books.get(step, 0)) for step in _EFFECTS}
    return {
        "minutes": minutes,
        "compression": COMPRESSION,
        "orders": count,
        "ends": statuses,
        "gateway": {name: int(books.get(name, 0)) for name in ("declined", "unavailable", "undone")},
        "effects": effects,
        "unanswered": orders.failed,
        "is_nothing_lost": is_whole and set(effects.values()) == {completed},
        "unfinished_median": percentile(depths, 0.5),
        "unfinished_max": max(depths, default=0),
        "latencies": [
            {"kind": kind, "orders": len(found)}
            | {
                f"p{share * 100:g}_ms": round(1000 * percentile(found, share), 1)
                for share in (0.5, 0.9, 0.99, 0.999)
            }
            for kind, found in kinds.items()
        ],
    }


def _print(found: dict[str, Any]) -> None:
    print(
        f"{found['orders']} orders of {found['minutes']} minutes, {found['compression']} times as fast; ended {found['ends']}; "
        f"nothing lost: {found['is_nothing_lost']}"
    )
    print(
        f"effects {found['effects']}, gateway {found['gateway']}; unfinished at once: {found['unfinished_median']} usually, "
        f"{found['unfinished_max']} at most"
    )
    for each in found["latencies"]:
        print(", ".join(f"{name} {value}" for name, value in each.items()))
