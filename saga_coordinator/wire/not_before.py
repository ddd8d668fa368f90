"""Reads how long a participant asks to be left alone, in gRPC's three ways to say so, whatever the participant's shape."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from saga_coordinator.wire.times import seconds_of

OWN_TRAILER = "saga-retry-after"
"""Seconds, as in 2.5."""
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"
"""Milliseconds, as gRPC's own retries have them (gRFC A6); a negative number forbids those, and says nothing of ours."""
DETAILS_TRAILER = "grpc-status-details-bin"
"""A google.rpc.Status, which may carry a google.rpc.RetryInfo."""

SECONDS_MAX = 3600.0
"""What asks for more is asked again after this."""


def pause_asked(trailers: Iterable[tuple[str, str | bytes]] | None) -> float:
    """The seconds until the next attempt: the longest if several ways are used, 0 if none is."""
    return max((_pause(key, value) for key, value in trailers or ()), default=0.0)


def _pause(key: str, value: str | bytes) -> float:
    if key == OWN_TRAILER:
        return _bounded(value, 1.0)
    if key == PUSHBACK_TRAILER:
        return _bounded(value, 0.001)
    if key == DETAILS_TRAILER and isinstance(value, bytes):
        return _in_details(value)
    return 0.0


def _bounded(number: str | bytes, unit_seconds: float) -> float:
    """The seconds, bounded; 0 for anything that is no number."""
    try:
        seconds = float(number) * unit_seconds
    except ValueError:
        return 0.0
    return min(seconds, SECONDS_MAX) if seconds > 0 else 0.0


def _in_details(serialized: bytes) -> float:
    try:
        return max(map(_retry_delay, Status.FromString(serialized).details), default=0.0)
    except DecodeError:
        return 0.0


def _retry_delay(detail: AnyMessage) -> float:
    if not detail.Is(RetryInfo.DESCRIPTOR):
        return 0.0
    return duration_asked(RetryInfo.FromString(detail.value).retry_delay)


def duration_asked(duration: Duration) -> float:
    """The seconds of the duration in a message's own field, bounded like a trailer's."""
    return _bounded(str(seconds_of(duration)), 1.0)
