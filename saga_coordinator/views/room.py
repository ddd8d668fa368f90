"""How much an answer holds, and what is done with payloads that are more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import struct_pb2

from saga_coordinator.saga.words.size import Measure, TooLarge
from saga_coordinator.store.pages import PAGE_BYTES_MAX
from saga_coordinator.wire.payload import PayloadError, fill

RESPONSE_BYTES_MAX = PAGE_BYTES_MAX
"""A page ends early rather than exceed what gRPC clients take by default (4 MiB); a single item may be larger."""


def fits(payloads: Iterable[Any]) -> bool:
    """Whether they may be in one answer, before the time is spent to write them into it."""
    measure = Measure(RESPONSE_BYTES_MAX, RESPONSE_BYTES_MAX)
    room = RESPONSE_BYTES_MAX
    try:
        for payload in payloads:
            room -= measure.check(payload)
            if room < 0:
                return False
    except TooLarge:
        return False
    return True


def show(value: struct_pb2.Value, payload: Any) -> None:
    """Writes what a definition has computed, which may be more deeply nested than anything that comes in from outside."""
    try:
        fill(value, payload)
    except PayloadError as error:
        value.string_value = f"[not shown: {error}]"
