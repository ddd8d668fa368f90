"""Measures serialized requests before it parses them, and refuses those that cannot be parsed in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.wire.parsing import parse_into
from saga_coordinator.wire.payload import too_large
from saga_coordinator.wire.unparsed import largest_payload

_M = TypeVar("_M", bound=Message)


def request_reader(method: MethodDescriptor, payload_bytes_max: int | None) -> Callable[[bytes], Message]:
    """The function that makes a request of `method` from its bytes, or raises InvalidRequest.

    It spends no time on a payload of more than `payload_bytes_max` bytes, not even on parsing it. None: there is no such limit,
    because the payloads have been through another server's.
    """
    kind = GetMessageClass(method.input_type)

    def read(raw: bytes) -> Message:
        if payload_bytes_max is not None and len(raw) > payload_bytes_max:
            path, size = largest_payload(method.input_type, raw)
            if size > payload_bytes_max:
                raise too_large(size, payload_bytes_max, path)
        return parsed(kind, raw)

    return read


def parsed(kind: type[_M], raw: bytes) -> _M:
    """The message in `raw`. Raises InvalidRequest."""
    try:
        parse_into(message := kind(), raw)
    except DecodeError as error:
        raise InvalidRequest.at(
            "",
            f"the request cannot be parsed, or is nested deeper than the 100 levels that protobuf reads: {error}",
        ) from None
    return message
