"""A limit of calls a second, with a few at once after a pause: a token bucket, kept as one instant (GCRA, ITU-T I.371)."""

from __future__ import annotations


class Rate:
    """`per_second` calls on average, `burst` at once after a pause. Times are monotonic seconds."""

    __slots__ = ("_interval", "_slack", "_theoretical")

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1 / per_second
        self._slack = (burst - 1) * self._interval
        self._theoretical = float("-inf")  # when the next call would come if all came evenly

    def wait_seconds(self, now: float) -> float:
        """The seconds until a call may be made; 0 if one may be made now."""
        return max(0.0, self._theoretical - self._slack - now)

    def take(self, now: float) -> None:
        """Notes that a call is made now."""
        self._theoretical = max(now, self._theoretical) + self._interval
