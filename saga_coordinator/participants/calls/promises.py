"""When held calls come back: at instants that follow each other as quickly as their participant takes calls.

Otherwise ten thousand held sagas would all come back at once, to be held again.
"""

from __future__ import annotations

from collections.abc import Callable

from saga_coordinator.saga.words.outcome import Cause, CauseCode, Held, clip

HELD_SECONDS_MAX = 300.0

_LONG_AGO = float("-inf")
_BRIEFLY_SECONDS = 0.1


class Promises:
    """The instants promised to the held calls of one participant, each later than the instants promised before it.

    `draw` gives numbers from [0, 1). Times are monotonic seconds.
    """

    __slots__ = ("_draw", "_last_at", "held")

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._last_at = _LONG_AGO
        self.held = 0
        """How many calls have been held so far."""

    def forget(self) -> None:
        """Lets the next call that is held come back as soon as it may, whatever was promised to others."""
        self._last_at = _LONG_AGO

    def hold(
        self, now: float, code: CauseCode, message: str, least_seconds: float, spacing_seconds: float
    ) -> Held:
        """Holds a call for `least_seconds` or longer: until `spacing_seconds` after the instant that was promised last."""
        self.held += 1
        at = max(now + least_seconds, self._last_at + spacing_seconds)
        latest = now + HELD_SECONDS_MAX
        if at <= latest:
            self._last_at = at
        else:  # then anywhere in the second half of the time that a call is held at most
            at = now + HELD_SECONDS_MAX * (0.5 + 0.5 * self._draw())
        return Held(Cause(code, clip(message)), at - now + _BRIEFLY_SECONDS * self._draw())
