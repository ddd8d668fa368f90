"""The one way into the services: every RPC goes through `answering`, be it unary or a stream, public or between coordinators.

`handler_of` puts it around each method of a service when a server is built. A method takes the request and the caller, and knows
nothing of gRPC. A method that takes a stream gets a `Conversation` for its request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from saga_coordinator import telemetry
from saga_coordinator.api.caller import Caller, Metadata
from saga_coordinator.api.status import status_of
from saga_coordinator.saga.words.act import ANONYMOUS
from saga_coordinator.saga.words.errors import InvalidRequest, Resource
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace, parse_namespace
from saga_coordinator.wire.conversion import AT_ONCE_BYTES_MAX, convert, convert_request
from saga_coordinator.wire.pieces import serialized, size_at_most
from saga_coordinator.wire.request_bytes import request_reader

NAMESPACE_METADATA = "saga-namespace"
"""The metadata by which a caller says which namespace a call is about."""

Context = grpc.aio.ServicerContext[bytes, bytes]

log = telemetry.logger()


class RpcService(Protocol):
    """A service of the contract. For each RPC it has a method of the same name, which takes the request and the caller.

    The method is a coroutine that returns the answer, or an asynchronous generator of answers. If the RPC takes a stream, the
    method is a coroutine that reads serialized requests from a `Conversation` and writes serialized answers into it.
    """

    def resource(self, request: Any) -> Resource | None:
        """The resource that a request is about, for errors that say it does not exist."""


class CallsInFlight:
    """Counts the calls being answered. Streams, such as those of health, are not among them: they end when the server does."""

    def __init__(self) -> None:
        self.count = 0
        self._last_ended = asyncio.Event()

    def begun(self) -> None:
        self.count += 1

    def ended(self) -> None:
        self.count -= 1
        if not self.count:
            self._last_ended.set()

    async def wait(self) -> None:
        """Waits until no call is left."""
        while self.count:
            self._last_ended.clear()
            await self._last_ended.wait()


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of a service. `name` looks like `saga.v1.SagaService/StartSaga`."""

    name: str
    service: RpcService
    method: Callable[[Any, Caller], Any]
    read: Callable[[bytes], Message]
    calls: CallsInFlight
    is_stream: bool


class answering:  # noqa: N801  # reads as what goes on inside
    """Yields what the method is called with: the request that is serialized in `raw`, or else a conversation, and the caller.

    What is raised inside becomes the status that the caller gets; defects are logged. gRPC cancels what goes on inside at the
    caller's deadline, also when it hears nothing more of the caller. Meanwhile the call counts as one in flight.
    """

    __slots__ = ("_context", "_raw", "_request", "_rpc")

    def __init__(self, rpc: Rpc, context: Context, raw: bytes | None = None) -> None:
        self._rpc = rpc
        self._context = context
        self._raw = raw
        self._request: Any = None

    async def __aenter__(self) -> tuple[Any, Caller]:
        rpc, raw = self._rpc, self._raw
        rpc.calls.begun()
        try:
            caller = caller_of(self._context)
            if raw is None:
                self._request = _GrpcConversation(self._context)
            else:
                self._request = await convert_request(len(raw), rpc.read, raw)
        except BaseException as error:
            await self._end(error)
            raise
        return self._request, caller

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        await self._end(error)
        return error is not None and isinstance(error, Exception)

    async def _end(self, error: BaseException | None) -> None:
        """Tells the caller of an error. Cancellations and the like are passed on."""
        rpc = self._rpc
        try:
            if not isinstance(error, Exception):
                return
            if rpc.is_stream and isinstance(error, grpc.aio.InternalError):
                # gRPC raises this when the other end of a stream is gone, which is no defect of ours.
                log.debug("caller_gone", method=rpc.name, reason=repr(error))
                return
            resource = None if self._request is None else rpc.service.resource(self._request)
            await self._context.abort_with_status(status_of(error, method=rpc.name, resource=resource))
        finally:
            rpc.calls.ended()


class let_go_of_aborts:  # noqa: N801  # reads as what goes on inside
    """Keeps the error by which gRPC ends an aborted call from holding the call's frames.

    gRPC keeps the error with the call and raises it once more when the method has returned. With its traceback, the error would
    hold the request and the call in a cycle, which the collector may never look at (`collector.py`).
    """

    __slots__ = ()

    async def __aenter__(self) -> None:
        """Does nothing."""

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, grpc.aio.AbortError):
            return False
        error.__context__ = error.__cause__ = error.__traceback__ = None
        return True


def caller_of(context: Context) -> Caller:
    """The caller in the call's `context`. Raises InvalidRequest."""
    metadata = context.invocation_metadata() or ()
    return Caller(ANONYMOUS, _namespace(metadata), _deadline(context.time_remaining()), metadata)


def _deadline(remaining_seconds: float | None) -> float | None:
    return None if remaining_seconds is None else asyncio.get_running_loop().time() + remaining_seconds


def _namespace(metadata: Metadata) -> Namespace:
    given = [value for name, value in metadata if name == NAMESPACE_METADATA]
    if not given:
        return DEFAULT_NAMESPACE
    path = f"metadata {NAMESPACE_METADATA}"
    if len(given) > 1:
        raise InvalidRequest.at(path, "is given more than once; a call is about one namespace")
    namespace = parse_namespace(str(given[0]), path)
    if namespace != DEFAULT_NAMESPACE:
        raise InvalidRequest.at(
            path,
            f"is `{namespace}`, and there is only the namespace `{DEFAULT_NAMESPACE}` here: send that, or leave the metadata out",
        )
    return namespace


def handler_of(
    descriptor: ServiceDescriptor,
    service: RpcService,
    calls: CallsInFlight,
    payload_bytes_max: int | None = None,
) -> grpc.GenericRpcHandler:
    """The handler of one service's RPCs. `payload_bytes_max` is None if another server has limited the requests already.

    The generated `add_..._to_server` would parse requests outside of our reach. It would answer UNKNOWN to a request that is no
    message, or that is nested deeper than parsers go.
    """
    methods = {
        method.name: _handler(
            method,
            Rpc(
                name=f"{descriptor.full_name}/{method.name}",
                service=service,
                method=getattr(service, method.name),
                read=request_reader(method, payload_bytes_max),
                calls=calls,
                is_stream=method.client_streaming or method.server_streaming,
            ),
        )
        for method in descriptor.methods
    }
    return grpc.method_handlers_generic_handler(descriptor.full_name, methods)


def _handler(method: MethodDescriptor, rpc: Rpc) -> grpc.RpcMethodHandler[bytes, bytes]:
    if method.client_streaming:
        return _duplex_handler(rpc)
    return _stream_handler(rpc) if method.server_streaming else _unary_handler(rpc)


def _unary_handler(rpc: Rpc) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(raw: bytes, context: Context) -> bytes:
        async with let_go_of_aborts(), answering(rpc, context, raw) as (request, caller):
            return await _bytes_of(await rpc.method(request, caller))
        return b""  # is not sent: the call has ended with a status

    return grpc.unary_unary_rpc_method_handler(handle)


def _stream_handler(rpc: Rpc) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(raw: bytes, context: Context) -> None:
        async with (
            let_go_of_aborts(),
            answering(rpc, context, raw) as (request, caller),
            aclosing(rpc.method(request, caller)) as answers,
        ):
            async for answer in answers:
                await context.write(await _bytes_of(answer))

    return grpc.unary_stream_rpc_method_handler(handle)


def _duplex_handler(rpc: Rpc) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(_: AsyncIterator[bytes], context: Context) -> None:
        async with let_go_of_aborts(), answering(rpc, context) as (conversation, caller):
            await rpc.method(conversation, caller)

    return grpc.stream_stream_rpc_method_handler(handle)


async def _bytes_of(answer: Message) -> bytes:
    """The serialized answer. A large answer is empty afterwards."""
    size = size_at_most(answer, enough=AT_ONCE_BYTES_MAX + 1)
    if size <= AT_ONCE_BYTES_MAX:
        return answer.SerializeToString()
    return await convert(size, serialized, answer)


class _GrpcConversation:
    """The conversation over one gRPC stream."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __aiter__(self) -> AsyncIterator[bytes]:
        end: object = grpc.aio.EOF  # said to be no bytes, which it is not
        while (raw := await self._context.read()) is not end:
            yield raw

    async def write(self, message: bytes) -> None:
        await self._context.write(message)
