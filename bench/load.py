"""The load: so many customers at once, each asking again as soon as it is answered."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value
from saga_client.v1 import saga_pb2, saga_service_pb2

from bench.http2 import Http2Connection
from bench.record import Outcome, Shape

START_SAGA: Final = "/saga.v1.SagaService/StartSaga"
_IN_FLIGHT_PER_CONNECTION: Final = 128
"""So that requests stay within the window that every server grants from the start."""

STEPS: Final = ("first", "second", "third")
ENDS: Final[dict[Outcome, saga_pb2.SagaStatus.ValueType]] = {
    "success": saga_pb2.SAGA_STATUS_COMPLETED,
    "rollback": saga_pb2.SAGA_STATUS_COMPENSATED,
}


class WrongAnswer(Exception):
    """A saga did not end as it had to; a figure taken of such sagas would mean nothing."""


@dataclass(slots=True)
class Driven:
    """What came of it. `latencies` are in seconds; `load_cpu_seconds` is this process's processor time meanwhile."""

    seconds: float
    load_cpu_seconds: float
    latencies: list[float] = field(default_factory=list)


async def drive(ask: Callable[[], Awaitable[None]], in_flight: int, seconds: float) -> Driven:
    """Has `in_flight` customers ask for `seconds`, and waits for their last answers."""
    latencies: list[float] = []
    worked, began = time.process_time(), time.perf_counter()
    until = began + seconds

    async def customer() -> None:
        while (sent := time.perf_counter()) < until:
            await ask()
            latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*(customer() for _ in range(in_flight)))
    return Driven(time.perf_counter() - began, time.process_time() - worked, latencies)


class SagaStarter:
    """Starts sagas over gRPC and waits for their ends."""

    def __init__(self, connections: Sequence[Http2Connection]) -> None:
        self._connections = connections
        self._turn = itertools.cycle(connections)
        # One draw for all, and a counter: drawing an identity for each would cost as much as the call.
        self._prefix, self._numbers = str(uuid.uuid4()), itertools.count()

    @classmethod
    async def open(cls, addresses: Sequence[str], in_flight: int, connections_min: int = 1) -> SagaStarter:
        count = min(in_flight, max(connections_min, -(-in_flight // _IN_FLIGHT_PER_CONNECTION)))
        return cls(
            [await Http2Connection.open(addresses[number % len(addresses)]) for number in range(count)]
        )

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def customer(self, definition: str, shape: Shape) -> Callable[[], Awaitable[None]]:
        """One call of a saga of that definition; it raises WrongAnswer when the saga ends otherwise than the shape says."""
        request = saga_service_pb2.StartSagaRequest(
            definition=definition, input=saga_input(shape.outcome, shape.steps), wait=True
        )
        expected = ENDS[shape.outcome]

        async def ask() -> None:
            request.start_key = f"{self._prefix}-{next(self._numbers)}"
            answered = await next(self._turn).call(START_SAGA, request.SerializeToString())
            saga = saga_service_pb2.StartSagaResponse.FromString(answered).saga
            if saga.status != expected:
                raise WrongAnswer(f"{definition}: {saga_pb2.SagaStatus.Name(saga.status)}, {saga.failure}")

        return ask

    async def start(self, definition: str, given: dict[str, Any], *, wait: bool = True) -> saga_pb2.Saga:
        """One saga with this input; raises CallFailed."""
        fields = Struct()
        fields.update(given)
        request = saga_service_pb2.StartSagaRequest(
            definition=definition,
            start_key=f"{self._prefix}-{next(self._numbers)}",
            input=Value(struct_value=fields),
            wait=wait,
        )
        answered = await next(self._turn).call(START_SAGA, request.SerializeToString())
        return saga_service_pb2.StartSagaResponse.FromString(answered).saga


def saga_input(outcome: Outcome, steps: int) -> Value:
    """What the participants read: which step is to be refused, if any."""
    fields = Struct()
    fields.update({"refuse": STEPS[steps - 1] if outcome == "rollback" else "", "order": 1})
    return Value(struct_value=fields)
