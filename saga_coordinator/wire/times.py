"""Converts instants and durations between protobuf's messages and the seconds that the rest of the program counts in."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

NANOS_MAX = 999_999_999
DURATION_SECONDS_MAX = 315_576_000_000
"""Ten thousand years, by the definition of `google.protobuf.Duration`."""

_NANOS = 1_000_000_000


def timestamp_of(at: datetime) -> Timestamp:
    """The message of an instant; one without a time zone counts as UTC."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


def timestamp_of_epoch(seconds: float) -> Timestamp:
    """The message of an instant given in seconds since 1970, rounded to the microsecond."""
    message = Timestamp()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def duration_of(seconds: float) -> Duration:
    """The message of so many seconds, rounded to the microsecond."""
    message = Duration()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def write_duration(message: Duration, seconds: float) -> None:
    """Writes 0 or more seconds into a message in place; parts of a nanosecond are cut off."""
    message.seconds, message.nanos = divmod(int(seconds * 1e9), _NANOS)


def seconds_of(duration: Duration) -> float:
    """The seconds of a duration."""
    return duration.seconds + duration.nanos / 1e9


def duration_problem(value: Duration) -> str | None:
    """The reason why a duration has no JSON form; None if it has one."""
    if value.seconds * value.nanos < 0:
        return "is no duration: its seconds and nanos must have the same sign"
    if abs(value.nanos) > NANOS_MAX:
        return f"is no duration: its nanos must be at most {NANOS_MAX}"
    if abs(value.seconds) > DURATION_SECONDS_MAX:
        return f"is no duration: its seconds must be at most {DURATION_SECONDS_MAX}"
    return None
