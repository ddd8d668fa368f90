"""Reads the constants of filters: `timestamp("...")`, `duration("...")` and what is `now`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(-?)((?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us|ns))+)", re.ASCII)
_PART = re.compile(r"([0-9]+)(?:\.([0-9]+))?(h|ms|m|s|us|ns)", re.ASCII)
_NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)

SPAN_MAX = timedelta(days=36_500)
"""The longest duration of a filter: a hundred years."""


def duration(text: str) -> timedelta | str:
    """The duration that CEL writes so (`1h30m`, `1.5s`), or what is wrong with it."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return 'is no duration: write one such as "90s", "1h30m" or "1.5s"; the longest unit is the hour'
    nanoseconds = 0
    for whole, fraction, unit in _PART.findall(found[2]):
        scaled, rest = divmod(int(whole + fraction) * _NANOSECONDS[unit], 10 ** len(fraction))
        if rest:
            return "is finer than a nanosecond"
        nanoseconds += scaled
    microseconds, rest = divmod(nanoseconds, 1000)
    if rest:
        return "is finer than a microsecond, which is as fine as times are kept"
    if microseconds > SPAN_MAX // timedelta(microseconds=1):
        return "is longer than a hundred years"
    span = timedelta(microseconds=microseconds)
    return -span if found[1] else span


def timestamp(text: str) -> datetime | str:
    """The instant that RFC 3339 writes so, in UTC, or what is wrong with it."""
    found = _TIMESTAMP.fullmatch(text)
    wrong = 'is no time with an offset, as in "2026-01-31T09:00:00Z" or "2026-01-31T10:00:00+01:00"'
    if found is None:
        return wrong
    fraction = (found[3] or "").ljust(6, "0")
    if fraction[6:].strip("0"):
        return "is finer than a microsecond, which is as fine as times are kept"
    offset = "+00:00" if found[4] in "Zz" else found[4]
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}.{fraction[:6]}{offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        return wrong
