"""A unary method of a service that knows nothing of sagas: JSON to its request, its reply to JSON, its status to an outcome.

The mapping is protobuf's own (https://protobuf.dev/programming-guides/json/), replies with the names that the .proto file gives
its fields. Fields without presence are always there, so that `${steps.count.output.total}` finds the 0 that protobuf leaves out;
64-bit integers are strings, as they are in that mapping, because a double cannot hold them all.

Trailers that the service may send, for what a status cannot say:

    saga-outcome: succeeded | refused | retry | pending     what this attempt came to, whatever the status is
    saga-retry-after: 2.5                                   not to be attempted again for so many seconds
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from saga_coordinator.participants.calls.contract import metadata_of
from saga_coordinator.participants.calls.described import DescribedServices
from saga_coordinator.participants.calls.fit import CONVERSION_ERRORS, SPECIAL, misfits, not_base64
from saga_coordinator.participants.directory.descriptors import Method, NotDescribed
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.canonical import canonical
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import (
    Cause,
    CauseCode,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    clip,
)
from saga_coordinator.saga.words.size import VALUES_MAX
from saga_coordinator.wire.conversion import convert, size_of
from saga_coordinator.wire.not_before import pause_asked
from saga_coordinator.wire.outcomes import invalid_reply, no_reply
from saga_coordinator.wire.parsing import parse_into
from saga_coordinator.wire.payload import NESTING_MAX, PayloadError, check_message, check_size

OUTCOME_TRAILER = "saga-outcome"

_READY = grpc.ChannelConnectivity.READY

Trailers = Iterable[tuple[str, str | bytes]]


class PlainMethods:
    """Calls the methods of one participant over its channel."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        services: DescribedServices,
        *,
        payload_bytes_max: int,
        request_bytes_max: int,
    ) -> None:
        self.services = services
        self._channel = channel
        self._payload_bytes_max = payload_bytes_max
        self._request_bytes_max = request_bytes_max
        self._rpcs: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def attempt(self, call: Invoke, token: str) -> Outcome:
        """Makes one attempt, which `token` names.

        Raises:
            grpc.aio.AioRpcError: the attempt ended with another status than OK.
        """
        ends_at = asyncio.get_running_loop().time() + call.timeout_seconds
        if self._channel.get_state() is not _READY:
            self.services.suspect()  # whoever answers next may be another version of the service
        try:
            async with asyncio.timeout_at(ends_at):
                method, request = await self._prepare(call)
        except NotDescribed as error:
            return Unknown(Cause(error.code, clip(f"{call.participant}: {error}")), was_sent=False)
        except PayloadError as error:  # nothing was sent, and nothing will be different next time
            return Refused(Cause(CauseCode.INPUT_INVALID, clip(f"the input does not fit: {error}")))
        except TimeoutError:
            message = (
                f"{call.participant} did not say within {call.timeout_seconds:g} s what {call.method} takes"
            )
            return Unknown(Cause("DEADLINE_EXCEEDED", clip(message)), was_sent=False)
        if method.streams:
            message = f"{call.method} is {method.streams}; a step calls a unary method"
            return Refused(Cause(CauseCode.NO_SUCH_METHOD, clip(message)))
        remaining = max(0.001, ends_at - asyncio.get_running_loop().time())
        rpc = self._rpc(method.path)(request, timeout=remaining, metadata=_metadata(call, token))
        try:
            reply = await rpc
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                self.services.suspect(call.method.partition("/")[0])
            raise
        told = outcome_told("OK", "", await rpc.trailing_metadata())
        if told is not None and not isinstance(told, Succeeded):
            return told
        return await convert(
            len(reply or b""), outcome_of_plain_reply, method, reply, self._payload_bytes_max
        )

    async def _prepare(self, call: Invoke) -> tuple[Method, bytes]:
        """The method and its request. If the input does not fit, the method's descriptors are asked for again first."""
        service_name, _, method_name = call.method.partition("/")
        service = self.services.known(service_name)
        method = service.methods.get(method_name) if service else None
        if service is None or method is None:
            method = await self.services.method(call.method, call.timeout_seconds)
            service = self.services.known(service_name)
        if method.streams:
            return method, b""
        try:
            return method, await self._encode(method, call.input)
        except PayloadError:
            newer = await self.services.newer(service, call.timeout_seconds) if service else None
            if newer is None:
                raise
            method = newer.method(method_name)
            return method, await self._encode(method, call.input)

    async def _encode(self, method: Method, payload: Any) -> bytes:
        request = await convert(size_of(payload), encode_plain_request, method, payload)
        return check_message(request, self._request_bytes_max)

    def _rpc(self, path: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        rpc = self._rpcs.get(path)
        if rpc is None:
            rpc = self._rpcs[path] = self._channel.unary_unary(path)
        return rpc


def _metadata(call: Invoke, token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of the contract. A compensation's metadata also has the key of the action that it undoes."""
    metadata = metadata_of(call, token)
    if call.operation is OperationKind.ACTION:
        return metadata
    action = idempotency_key(call.saga_id, call.step, OperationKind.ACTION)
    return (*metadata, ("action-idempotency-key", action))


def encode_plain_request(method: Method, payload: Any) -> bytes:
    """The serialized request whose JSON form is `payload`; an empty request for null.

    Raises:
        PayloadError: `payload` is not the JSON form of a request.
    """
    request = method.request()
    try:
        if not isinstance(payload, dict):
            _fill_from_other(request, payload, method)
        else:
            json_format.ParseDict(payload, request, descriptor_pool=method.pool)
        descriptor: Any = method.request.DESCRIPTOR  # the stubs tell two classes apart that are one
        if altered := list(not_base64(payload, descriptor)):
            raise PayloadError("", "; ".join(map(str, altered)))
        # Keys are in order, because protobuf orders its maps differently in each process (P5).
        return request.SerializeToString(deterministic=True)
    except (*CONVERSION_ERRORS, EncodeError) as error:
        found = misfits(payload, method)
        raise PayloadError("", "; ".join(map(str, found)) or str(error)) from None


def _fill_from_other(request: Message, payload: Any, method: Method) -> None:
    """Writes a payload that is no object. Raises TypeError if only an object fits, which `json_format` does not check."""
    name = request.DESCRIPTOR.full_name
    if name in SPECIAL and (payload is not None or name == "google.protobuf.Value"):
        json_format.ParseDict(payload, request, descriptor_pool=method.pool)
    elif payload is not None:
        raise TypeError(f"{name} needs an object")


def outcome_of_plain_reply(
    method: Method, reply: bytes | None, payload_bytes_max: int
) -> Succeeded | Unknown:
    """The outcome that status OK with `reply` means. A reply that cannot be read or kept leaves open what happened."""
    if reply is None:
        return no_reply()
    message = method.reply()
    try:
        parse_into(message, reply)
        _count_values(message, VALUES_MAX)
        output = canonical(to_payload(message, method))
        _check(output, NESTING_MAX)
        check_size(output, payload_bytes_max)
    except DecodeError as error:
        return invalid_reply(f"the reply does not parse as {message.DESCRIPTOR.full_name}: {error}")
    except PayloadError as error:
        return invalid_reply(f"the reply cannot be kept: {error}")
    except CONVERSION_ERRORS as error:
        return invalid_reply(f"the reply has no JSON form: {error}")
    return Succeeded(output)


def _count_values(message: Message, room: int) -> int:
    """The number of values that a payload may have beside those of `message`. Raises PayloadError if it has too many.

    This check comes first, because the JSON form takes long to make and also has the fields that the wire leaves out.
    """
    room -= _fields_always_there(message.DESCRIPTOR)
    for field, value in message.ListFields():
        kind = field.message_type
        room -= len(value) if field.is_repeated else 1
        if room < 0:
            raise PayloadError(
                "", f"has more than {VALUES_MAX} values, counting each item and field; that is the limit"
            )
        if kind is None:
            continue
        if not field.is_repeated:
            room = _count_values(value, room)
        elif not kind.GetOptions().map_entry:
            for item in value:
                room = _count_values(item, room)
        elif kind.fields_by_name["value"].message_type is not None:
            for key in value:
                room = _count_values(value[key], room)
    return room


@functools.lru_cache(maxsize=1000)
def _fields_always_there(descriptor: Descriptor) -> int:
    return sum(1 for field in descriptor.fields if not field.has_presence and not field.is_repeated)


def to_payload(message: Message, method: Method) -> Any:
    """The JSON form of a message made from the method's descriptors. Raises the errors in `CONVERSION_ERRORS`."""
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=method.pool,
    )


def _check(payload: Any, room: int) -> None:
    """Raises PayloadError for what the log cannot hold: NUL characters, and too many levels."""
    if isinstance(payload, str):
        if "\0" in payload:
            raise PayloadError("", "must not contain NUL characters")
    elif isinstance(payload, Mapping | list):
        if room <= 0:
            raise PayloadError("", f"is one level of lists and objects too deep; {NESTING_MAX} is the limit")
        for key, item in payload.items() if isinstance(payload, Mapping) else enumerate(payload):
            if isinstance(key, str) and "\0" in key:
                raise PayloadError("", "has a key with a NUL character")
            if isinstance(item, str | Mapping | list):
                try:
                    _check(item, room - 1)
                except PayloadError as error:
                    raise error.inside(key) from None


def outcome_told(status: str, message: str, trailers: Trailers | None) -> Outcome | None:
    """The outcome that the trailer tells, for an attempt that ended with the gRPC status of that name; None if it tells none."""
    said = next((value for key, value in trailers or () if key == OUTCOME_TRAILER), None)
    match said:
        case None:
            return None
        case "succeeded":
            return Succeeded()
        case "pending":
            return Pending()
        case "refused":
            said_why = clip(message or f"the trailer {OUTCOME_TRAILER} says that it is refused")
            return Refused(Cause(status, said_why), is_explicit=True)
        case "retry":
            said_why = clip(message or f"the trailer {OUTCOME_TRAILER} asks for another attempt")
            return Unknown(Cause(status, said_why), pause_asked(trailers), is_explicit=True)
        case other:
            shown = other if isinstance(other, str) else repr(other)
            return invalid_reply(
                f"the trailer {OUTCOME_TRAILER} is `{shown[:80]}`; it can be succeeded, refused, retry or pending"
            )
