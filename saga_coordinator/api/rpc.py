"""Wraps each RPC's method once, when the server is built: bytes to request, answer to bytes, errors to statuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from saga_coordinator import telemetry
from saga_coordinator.api.status import status_of
from saga_coordinator.lifecycle import Background
from saga_coordinator.saga.words.errors import Resource, SagaError
from saga_coordinator.wire.conversion import convert_request
from saga_coordinator.wire.request_bytes import request_reader

Context = grpc.aio.ServicerContext[bytes, bytes]
_Method = Callable[[Any, Context], Awaitable[Message]]
_StreamMethod = Callable[[Any, Context], AsyncIterator[Message]]
_DuplexMethod = Callable[[AsyncIterator[bytes], Context], Awaitable[None]]
_T = TypeVar("_T")

log = telemetry.logger()

_unfinished = Background()


class Service(Protocol):
    """Has a method for each RPC, named like it, that takes the request and the context: a coroutine that returns the answer, or
    an asynchronous generator of answers. One that takes a stream gets an iterator of serialized requests, and writes serialized
    answers into the context by itself.
    """

    def resource(self, request: Any) -> Resource | None:
        """What a request is about, for errors that say it does not exist."""


class CallsInFlight:
    """Counts the calls being answered. Streams, such as those of health, are not among them: they end when the server does."""

    def __init__(self) -> None:
        self.count = 0
        self._last_ended = asyncio.Event()

    def ended(self) -> None:
        self.count -= 1
        if not self.count:
            self._last_ended.set()

    async def wait(self) -> None:
        """Returns once none is left."""
        while self.count:
            self._last_ended.clear()
            await self._last_ended.wait()


def handler_of(
    descriptor: ServiceDescriptor,
    service: Service,
    calls: CallsInFlight,
    payload_bytes_max: int | None = None,
) -> grpc.GenericRpcHandler:
    """What the server calls for the RPCs of one service; requests have been through another's limits where none is given.

    The generated `add_..._to_server` would parse requests outside of our reach: a request that is no message, or that is nested
    deeper than parsers go, would be answered with UNKNOWN.
    """
    methods = {
        method.name: _kind(method)(method, service, calls, payload_bytes_max) for method in descriptor.methods
    }
    return grpc.method_handlers_generic_handler(descriptor.full_name, methods)


def _kind(
    method: MethodDescriptor,
) -> Callable[[MethodDescriptor, Service, CallsInFlight, int | None], grpc.RpcMethodHandler[bytes, bytes]]:
    if method.client_streaming:
        return _duplex_handler
    return _stream_handler if method.server_streaming else _handler


def _handler(
    descriptor: MethodDescriptor, service: Service, calls: CallsInFlight, payload_bytes_max: int | None
) -> grpc.RpcMethodHandler[bytes, bytes]:
    method: _Method = getattr(service, descriptor.name)
    name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
    read = request_reader(descriptor, payload_bytes_max)

    async def handle(raw: bytes, context: Context) -> bytes:
        request: Message | None = None
        calls.count += 1
        try:
            request = await convert_request(len(raw), read, raw)
            return (await method(request, context)).SerializeToString()
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets a status, and defects are logged
            resource = None if request is None else service.resource(request)
            await context.abort_with_status(status_of(error, method=name, resource=resource))
        finally:
            calls.ended()

    return grpc.unary_unary_rpc_method_handler(handle)


def _stream_handler(
    descriptor: MethodDescriptor, service: Service, calls: CallsInFlight, payload_bytes_max: int | None
) -> grpc.RpcMethodHandler[bytes, bytes]:
    method: _StreamMethod = getattr(service, descriptor.name)
    name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
    read = request_reader(descriptor, payload_bytes_max)

    async def handle(raw: bytes, context: Context) -> AsyncIterator[bytes]:
        request: Message | None = None
        calls.count += 1
        try:
            request = await convert_request(len(raw), read, raw)
            async for response in method(request, context):
                yield response.SerializeToString()
        except grpc.aio.InternalError as error:
            _caller_is_gone(name, error)
        except Exception as error:  # noqa: BLE001  # as above
            resource = None if request is None else service.resource(request)
            await context.abort_with_status(status_of(error, method=name, resource=resource))
        finally:
            calls.ended()

    return grpc.unary_stream_rpc_method_handler(handle)


def _duplex_handler(
    descriptor: MethodDescriptor, service: Service, calls: CallsInFlight, payload_bytes_max: int | None
) -> grpc.RpcMethodHandler[bytes, bytes]:
    method: _DuplexMethod = getattr(service, descriptor.name)
    name = f"{descriptor.containing_service.full_name}/{descriptor.name}"

    async def handle(_: AsyncIterator[bytes], context: Context) -> None:
        calls.count += 1
        try:
            await method(_received(context), context)
        except grpc.aio.InternalError as error:
            _caller_is_gone(name, error)
        except Exception as error:  # noqa: BLE001  # as above
            await context.abort_with_status(status_of(error, method=name))
        finally:
            calls.ended()

    return grpc.stream_stream_rpc_method_handler(handle)


def _caller_is_gone(method: str, error: Exception) -> None:
    """What gRPC raises where a stream is written to or read from whose other end is not there any more: no defect of ours."""
    log.debug("caller_gone", method=method, reason=repr(error))


async def _received(context: Context) -> AsyncIterator[bytes]:
    end: object = grpc.aio.EOF  # said to be no bytes, which it is not
    while (raw := await context.read()) is not end:
        yield raw


async def unhindered(work: Coroutine[Any, Any, _T]) -> _T:
    """Awaits `work`, which goes on to its end also when the caller hangs up meanwhile.

    What a caller asked for and the coordinator began must not stop half-way: a start would be durable and yet not driven.
    """
    task = _unfinished.begin("unhindered call", work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_ended_unheard)
        raise


def _ended_unheard(task: asyncio.Future[Any]) -> None:
    """Nobody is there any more to be told how it ended; a defect is logged all the same."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, SagaError):
        log.error("unheard_call_failed", exc_info=error)
