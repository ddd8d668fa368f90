"""The room in an answer, and the writing of payloads that may be larger than it."""

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
    """Tells whether one answer can hold the payloads. No time is spent on writing those that do not fit."""
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
    """Writes a payload that a definition has computed. Where it is nested too deeply to be shown, a note says so."""
    try:
        fill(value, payload)
    except PayloadError as error:
        value.string_value = f"[not shown: {error}]"
