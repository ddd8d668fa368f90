"""Every RPC is answered in one way: with a caller, within the deadline, and with a status for whatever is raised."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn, cast
from unittest.mock import Mock

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from saga_coordinator.api import health
from saga_coordinator.api.answering import CallsInFlight, Context, Rpc, answering, handler_of
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.definition_service import DefinitionService
from saga_coordinator.api.directory_service import DirectoryService
from saga_coordinator.api.forward_service import ForwardService
from saga_coordinator.api.health import HealthService
from saga_coordinator.api.listening import SocketRights
from saga_coordinator.api.operator_service import OperatorService
from saga_coordinator.api.peer_server import PeerServer
from saga_coordinator.api.reflection import described_services
from saga_coordinator.api.saga_service import SagaService
from saga_coordinator.api.server import Served, Server
from saga_coordinator.api.worker_service import WorkerService
from saga_coordinator.pb.saga.internal.v1 import forward_service_pb2
from saga_coordinator.pb.saga.v1 import (
    definition_service_pb2,
    directory_service_pb2,
    operator_service_pb2,
    saga_service_pb2,
    worker_service_pb2,
)
from saga_coordinator.saga.words.errors import NotFound, Resource
from saga_coordinator.saga.words.reasons import Reason
from tests.eventually import PATIENCE_SECONDS
from tests.integration.proxy import proxy_to

LIMIT = 1024 * 1024

Work = Callable[[], Awaitable[None]]

SERVICES: list[ServiceDescriptor] = [
    *(
        service
        for file in (
            definition_service_pb2,
            directory_service_pb2,
            operator_service_pb2,
            saga_service_pb2,
            worker_service_pb2,
            forward_service_pb2,
        )
        for service in cast("Any", file).DESCRIPTOR.services_by_name.values()
    ),
    health.DESCRIPTOR,
    *described_services(),
]


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, str]]:
    """The addresses of everything that the public server and the one for other coordinators were given to serve, by method."""
    taken: list[grpc.GenericRpcHandler] = []
    kind: Any = cast("Any", grpc.aio)._server.Server
    add = kind.add_generic_rpc_handlers

    def note(server: grpc.aio.Server, handlers: Any) -> None:
        taken.extend(handlers)
        add(server, handlers)

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a service was added past the one way into the services")

    monkeypatch.setattr(kind, "add_generic_rpc_handlers", note)
    monkeypatch.setattr(kind, "add_registered_method_handlers", refuse)
    nobody: Any = Mock()  # calls come no farther than to the services
    services = Served(
        DefinitionService(nobody, nobody, nobody),
        SagaService(nobody, nobody, nobody, nobody, nobody, payload_bytes_max=LIMIT),
        WorkerService(
            nobody,
            nobody,
            nobody,
            declared_steps=nobody,
            lists=nobody,
            coordinator_id="this one",
            payload_bytes_max=LIMIT,
        ),
        DirectoryService(nobody, nobody, nobody, nobody),
        OperatorService(nobody, nobody, nobody, nobody, nobody, payload_bytes_max=LIMIT),
    )
    server = Server(services, problems=lambda _: (), payload_bytes_max=LIMIT, shares_port=False)
    peers = PeerServer(nobody, "this one")
    (address,) = server.listen(["127.0.0.1:0"], SocketRights())
    peer_address = peers.listen("127.0.0.1:0")
    await server.start()
    await peers.start()
    yield {
        method: peer_address if "internal" in method else address
        for handler in taken
        for method in cast("Any", handler)._method_handlers
    }
    await server.stop()
    await peers.stop()


async def status_of_call(
    channel: Any, method: MethodDescriptor, metadata: tuple[tuple[str, str], ...]
) -> tuple[grpc.StatusCode, str]:
    path = f"/{method.containing_service.full_name}/{method.name}"
    more: Any = {"metadata": metadata, "timeout": PATIENCE_SECONDS}
    try:
        if method.client_streaming:
            async for _ in channel.stream_stream(path)(iter([b""]), **more):
                pass
        elif method.server_streaming:
            async for _ in channel.unary_stream(path)(b"", **more):
                pass
        else:
            await channel.unary_unary(path)(b"", **more)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def test_every_method_of_every_service_is_answered_in_the_one_way(served: dict[str, str]) -> None:
    methods = [method for service in SERVICES for method in service.methods]
    assert set(served) == {f"/{method.containing_service.full_name}/{method.name}" for method in methods}
    told: dict[str, tuple[grpc.StatusCode, str]] = {}
    for address in set(served.values()):
        async with grpc.aio.insecure_channel(address) as channel:
            for method in methods:
                path = f"/{method.containing_service.full_name}/{method.name}"
                if served[path] == address:
                    told[path] = await status_of_call(channel, method, (("saga-namespace", "No name"),))
    refused = {path for path, (code, words) in told.items() if "metadata saga-namespace" in words}
    assert refused == set(served), "these do not look at who calls"
    assert {code for code, _ in told.values()} == {grpc.StatusCode.INVALID_ARGUMENT}


@pytest.mark.parametrize(
    "service",
    [
        DefinitionService,
        DirectoryService,
        OperatorService,
        SagaService,
        WorkerService,
        ForwardService,
        HealthService,
    ],
)
def test_methods_take_the_request_and_the_caller(service: type) -> None:
    methods = [method for name, method in vars(service).items() if name[0].isupper()]
    assert methods
    for method in methods:
        _, request, caller = inspect.signature(method).parameters
        assert (request, caller) in (("request", "caller"), ("conversation", "caller"))


@asynccontextmanager
async def health_served_by(service: HealthService, calls: CallsInFlight) -> AsyncIterator[int]:
    """The port at which a service is served."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([handler_of(health.DESCRIPTOR, service, calls)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


class _Call:
    """What the way into the services uses of gRPC's context, for one call."""

    def __init__(self, seconds: float | None = None, *metadata: tuple[str, str]) -> None:
        self._seconds = seconds
        self._metadata = metadata or None
        self.status: tuple[grpc.StatusCode, str] | None = None

    def time_remaining(self) -> float | None:
        return self._seconds

    def invocation_metadata(self) -> Any:
        return self._metadata

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self.status = (status.code, status.details)
        raise grpc.aio.AbortError


def rpc_of(service: Any, name: str, *, is_stream: bool = False) -> Rpc:
    return Rpc(
        f"{health.DESCRIPTOR.full_name}/{name}",
        service,
        getattr(service, name),
        health.pb.HealthCheckRequest.FromString,
        CallsInFlight(),
        is_stream,
    )


def fail_with(error: Exception) -> Work:
    async def work() -> None:
        raise error

    return work


async def nothing() -> None:
    pass


async def told_by(call: _Call, work: Work = nothing, *, is_stream: bool = False) -> Caller | None:
    """Who the caller is taken for by the method, which does `work`; None where the call does not come so far."""
    rpc = rpc_of(HealthService(), "Check", is_stream=is_stream)
    found: Caller | None = None
    with suppress(grpc.aio.AbortError):
        async with answering(rpc, cast("Context", call), b"") as (_, found):
            assert rpc.calls.count == 1
            await work()
    assert rpc.calls.count == 0
    return found


async def test_who_says_nothing_is_anonymous_in_the_default_namespace_and_waits_for_any_time() -> None:
    caller = await told_by(_Call())
    assert caller == Caller("anonymous", cast("Any", "default"), None, ())
    assert caller.seconds_left is None


async def test_a_caller_has_a_deadline_by_the_clock_of_the_event_loop() -> None:
    before = asyncio.get_running_loop().time()
    caller = await told_by(_Call(60.0, ("saga-namespace", "default"), ("traceparent", "00-1")))
    assert caller is not None
    assert caller.deadline is not None
    assert caller.seconds_left is not None
    assert before + 60 <= caller.deadline
    assert caller.seconds_left <= 60
    assert ("traceparent", "00-1") in caller.metadata


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ((("saga-namespace", "shop"),), "is `shop`, and there is only the namespace `default` here"),
        (
            (("saga-namespace", "Shop!"),),
            "is 'Shop!'; the name of a namespace has up to 63 lower-case letters",
        ),
        ((("saga-namespace", "default"), ("saga-namespace", "default")), "is given more than once"),
    ],
)
async def test_a_namespace_that_is_not_served_is_refused(
    metadata: tuple[tuple[str, str], ...], words: str
) -> None:
    call = _Call(None, *metadata)
    assert await told_by(call) is None
    assert call.status is not None
    code, told = call.status
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.startswith(f"metadata saga-namespace: {words}")


async def test_work_is_cancelled_at_the_deadline_of_a_caller_of_whom_nothing_more_is_heard() -> None:
    has_begun, was_cancelled = asyncio.Event(), asyncio.Event()

    class Hanging(HealthService):
        async def Check(self, request: Any, caller: Caller) -> Any:  # noqa: N802  # the RPC's name
            has_begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                was_cancelled.set()
                raise

    calls = CallsInFlight()
    async with (
        health_served_by(Hanging(), calls) as port,
        proxy_to(f"postgresql://127.0.0.1:{port}") as proxy,
    ):
        channel: Any = grpc.aio.insecure_channel(f"127.0.0.1:{proxy.port}")
        call = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=1.0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await has_begun.wait()
            proxy.freeze()
            await was_cancelled.wait()
            await calls.wait()
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await channel.close()


async def test_a_time_limit_of_the_work_itself_is_a_defect() -> None:
    call = _Call(60.0)
    await told_by(call, fail_with(TimeoutError()))
    assert call.status is not None
    assert call.status[0] is grpc.StatusCode.INTERNAL


async def test_the_far_end_of_a_stream_that_is_gone_is_no_defect() -> None:
    of_stream, of_unary = _Call(), _Call()
    for call in (of_stream, of_unary):
        await told_by(call, fail_with(grpc.aio.InternalError("gone")), is_stream=call is of_stream)
    assert of_stream.status is None
    assert of_unary.status is not None
    assert of_unary.status[0] is grpc.StatusCode.INTERNAL


async def test_what_is_not_found_is_named_in_the_status() -> None:
    class Service(HealthService):
        def resource(self, request: Any) -> Resource | None:
            return Resource("saga.v1.Saga", request.service)

        async def Check(self, request: Any, caller: Caller) -> Any:  # noqa: N802  # the RPC's name
            raise NotFound(Reason.NO_SUCH_SAGA, "there is none")

    async with (
        health_served_by(Service(), CallsInFlight()) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        request = health.pb.HealthCheckRequest(service="the seventh").SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(request, timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    assert b"saga.v1.Saga" in details
    assert b"the seventh" in details
