"""Spans of time as people write them: `250ms`, `10s`, `5m`, `2h`, `1d`."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)?")


def seconds_of(written: str) -> float:
    """The seconds that `written` says; a number without a unit means seconds. Raises ValueError."""
    found = _SPAN.fullmatch(written.strip())
    if found is None:
        raise ValueError(f"{written!r} is no span of time such as 500ms, 10s, 5m or 1h")
    return float(found["number"]) * _UNITS[found["unit"] or "s"]


def duration_text(written: str) -> str:
    """The same span as a google.protobuf.Duration is written in JSON: `300s`. Raises ValueError."""
    return f"{seconds_of(written):.9f}".rstrip("0").rstrip(".") + "s"


def in_words(seconds: float) -> str:
    """A span as people read it, in at most two units: `250 ms`, `4.2 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 0:
        return f"-{in_words(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    for unit, size, smaller, smaller_size in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            second = int(rest // smaller_size)
            return f"{int(whole)} {unit}" + (f" {second} {smaller}" if second else "")
    raise AssertionError("every span is below a minute or has a unit")
