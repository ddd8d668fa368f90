"""How coordinators reach each other's workers: the table that says where those are, and the calls between coordinators.

Who looks and forwards is `participants.forwarding`, who answers is `api.forward_service`; the channels in between are simulated.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import grpc.aio

from proof.simulation.database import SimulatedDatabase
from proof.simulation.directory import STATUS_METHOD
from proof.simulation.loop import Node, SimulatedLoop, node_of_context
from proof.simulation.wire import Wire
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.forward_service import ForwardService
from saga_coordinator.participants.workers.tasks import operation_of
from saga_coordinator.pb.saga.internal.v1.forward_service_pb2 import ForwardRequest
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.workers import WorkersElsewhere
from saga_coordinator.wire.times import seconds_of

_LOOK_SECONDS = 0.05


class Whereabouts:
    """`store.workers`, statement by statement. A coordinator's address is its identity."""

    def __init__(self, database: SimulatedDatabase, coordinator_id: str) -> None:
        self._database = database
        self._id = coordinator_id

    async def publish(self, namespace: Namespace, served: Mapping[str, frozenset[str]]) -> None:
        database, said = self._database, dict(served)
        await database.ask(lambda: database.workers.__setitem__(self._id, said), is_write=True)

    async def elsewhere(self, namespace: Namespace) -> list[WorkersElsewhere]:
        database = self._database

        def statement() -> list[WorkersElsewhere]:
            return [
                WorkersElsewhere(participant, methods, coordinator_id, coordinator_id)
                for coordinator_id, served in database.workers.items()
                if coordinator_id != self._id and database.leases.get(coordinator_id, 0.0) >= database.now
                for participant, methods in served.items()
            ]

        return await database.ask(statement)


@dataclass(slots=True)
class Exchange:
    """The servers that coordinators have for each other, by address."""

    loop: SimulatedLoop
    dice: random.Random
    wire: Wire
    servers: dict[str, tuple[Node, ForwardService]] = field(default_factory=dict)

    def dial(self, address: str) -> grpc.aio.Channel:
        return cast("grpc.aio.Channel", _Channel(self, address))

    def reached(self, address: str) -> tuple[Node, ForwardService] | None:
        found = self.servers.get(address)
        return found if found is not None and found[0].is_alive else None

    def is_forwarded(self, task: Task) -> None:
        """A task leaves the coordinator that drives its saga."""
        if task.method != STATUS_METHOD:
            key = (task.saga_id, task.step, str(operation_of(task)), task.attempt)
            call = self.wire.asked[key][1]
            if (
                call.node == node_of_context().id
            ):  # else it has been forwarded before, and may be late as any request
                self.wire.sent(call, seconds_of(task.timeout))


class _Channel:
    """What `participants.forwarding` uses of a gRPC channel."""

    def __init__(self, exchange: Exchange, address: str) -> None:
        self._exchange = exchange
        self._address = address

    def get_state(self, *, try_to_connect: bool) -> grpc.ChannelConnectivity:
        is_there = self._exchange.reached(self._address) is not None
        return grpc.ChannelConnectivity.READY if is_there else grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def channel_ready(self) -> None:
        while self._exchange.reached(self._address) is None:  # noqa: ASYNC110  # nothing tells, as in a network
            await asyncio.sleep(_LOOK_SECONDS)

    def unary_unary(self, method: str) -> Any:
        return self._call

    async def close(self, grace: float | None = None) -> None:
        pass

    async def _call(self, request: bytes, timeout: float) -> bytes:  # noqa: ASYNC109  # as gRPC's
        exchange, draw = self._exchange, self._exchange.dice.random
        answered: asyncio.Future[bytes] = exchange.loop.create_future()
        call = _Forwarded(exchange, answered)
        there = 0.0003 + 0.002 * draw()
        exchange.is_forwarded(ForwardRequest.FromString(request).task)
        if exchange.wire.participants.happens("forward_lost"):
            exchange.loop.later(2 * draw() ** 2, call.fail, grpc.StatusCode.UNAVAILABLE, "connection reset")
            if draw() < 0.5:
                there = timeout + 1.0
        exchange.loop.later(there, call.arrive, self._address, request)
        exchange.loop.later(
            max(0.0, timeout), call.fail, grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"
        )
        try:
            return await answered
        finally:
            exchange.loop.later(0.0003 + 0.002 * draw(), call.cancel)


class _Forwarded:
    """One call from a coordinator to another."""

    def __init__(self, exchange: Exchange, answered: asyncio.Future[bytes]) -> None:
        self._exchange = exchange
        self._answered = answered
        self._node: Node | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False

    def arrive(self, address: str, request: bytes) -> None:
        found = self._exchange.reached(address)
        if self._is_cancelled:
            return
        if found is None:
            self.fail(grpc.StatusCode.UNAVAILABLE, "connection refused")
            return
        self._node, service = found
        self._task = self._node.spawn(self._serve(service, request))
        self._watch()

    def _watch(self) -> None:
        """A connection breaks when the process at the other end is gone."""
        assert self._node is not None
        if not self._node.is_alive:
            self.fail(grpc.StatusCode.UNAVAILABLE, "connection reset by peer")
        elif not self._answered.done():
            self._exchange.loop.later(0.1, self._watch)

    async def _serve(self, service: ForwardService, request: bytes) -> None:
        loop, back = self._exchange.loop, 0.0003 + 0.002 * self._exchange.dice.random()
        try:
            response = await service.Forward(ForwardRequest.FromString(request), Caller())
        except SagaError as error:
            loop.later(back, self.fail, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        else:
            loop.later(back, self._succeed, response.SerializeToString())

    def _succeed(self, reply: bytes) -> None:
        if not self._answered.done():
            self._answered.set_result(reply)

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        if not self._answered.done():
            metadata = grpc.aio.Metadata()
            self._answered.set_exception(grpc.aio.AioRpcError(code, metadata, metadata, details))
            self._answered.exception()  # whoever asked may be gone

    def cancel(self) -> None:
        """The caller waits no longer: gRPC cancels what serves it."""
        self._is_cancelled = True
        if self._task is not None and self._node is not None and self._node.is_alive:
            self._exchange.loop.call_soon(self._task.cancel, context=self._node.context.copy())
