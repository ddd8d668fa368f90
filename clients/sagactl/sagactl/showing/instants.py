"""Instants, as the contract's JSON form has them (RFC 3339), for people."""

from __future__ import annotations

from datetime import UTC, datetime

from sagactl.spans import in_words


def instant(written: str | None) -> datetime | None:
    """The instant; None for one that is unset or that cannot be read."""
    if not written:
        return None
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def of_epoch(seconds: object) -> datetime | None:
    """The instant that an entry's body holds as seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) else None


def clock(at: datetime | None) -> str:
    """The time of day in UTC, to the millisecond."""
    return "" if at is None else at.astimezone(UTC).strftime("%H:%M:%S.") + f"{at.microsecond // 1000:03d}"


def day_and_time(at: datetime | None) -> str:
    """The day and the time in UTC, to the second."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def from_now(at: datetime | None, now: datetime) -> str:
    """How long ago, or how long from now: `3 min ago`, `in 5 s`."""
    if at is None:
        return ""
    seconds = (at - now).total_seconds()
    return f"in {in_words(seconds)}" if seconds > 0 else f"{in_words(-seconds)} ago"
