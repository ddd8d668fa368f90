"""The limit of calls in flight at once: a fixed number, or a number that adapts to what the participant can take.

The adaptive limit is AIMD, like TCP's congestion window (RFC 5681): a tenth less when a call fails or is slow, one more for each
round of good calls that needed the room.
"""

from __future__ import annotations

_SHRINK = 0.9
_LEAST = 2
_RESERVED_SHARE = 8


class CallsInFlight:
    """The calls of one participant that are in flight: how many, and when a call began or ended last (monotonic seconds)."""

    __slots__ = ("actions", "count", "moved_at")

    def __init__(self) -> None:
        self.count = 0
        self.actions = 0
        self.moved_at = float("-inf")

    def began(self, now: float, *, is_compensation: bool) -> None:
        self.count += 1
        self.actions += not is_compensation
        self.moved_at = now

    def ended(self, now: float, *, is_compensation: bool) -> None:
        self.count -= 1
        self.actions -= not is_compensation
        self.moved_at = now


class Concurrency:
    """`limit` calls at once, of which an eighth, but at least one, is for compensations alone. None: no limit."""

    __slots__ = ("_is_adaptive", "_limit", "_limit_max", "_shrunk_at")

    def __init__(self, limit: int | None, *, is_adaptive: bool) -> None:
        self._limit_max = limit
        self._limit = float(limit or 0)
        self._is_adaptive = is_adaptive and limit is not None
        self._shrunk_at = float("-inf")

    @property
    def limit(self) -> int | None:
        return None if self._limit_max is None else int(self._limit)

    def has_room(self, in_flight: int, actions_in_flight: int, *, is_compensation: bool) -> bool:
        """Tells whether one more call may be made. With a limit of one, no call is reserved for compensations."""
        if self._limit_max is None:
            return True
        limit = int(self._limit)
        if is_compensation or limit < _LEAST:
            return in_flight < limit
        return in_flight < limit and actions_in_flight < limit - max(1, limit // _RESERVED_SHARE)

    def ended(self, now: float, seconds: float, in_flight: int, *, is_bad: bool) -> None:
        """Notes that a call has ended while `in_flight` calls, itself included, were in flight."""
        if not self._is_adaptive or self._limit_max is None:
            return
        if not is_bad:
            if in_flight * 2 >= self._limit:
                self._limit = min(self._limit_max, self._limit + 1 / self._limit)
        elif now - seconds >= self._shrunk_at:  # one that began before says nothing about what there is now
            self._limit = max(min(_LEAST, self._limit_max), self._limit * _SHRINK)
            self._shrunk_at = now
