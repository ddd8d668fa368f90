"""A bad spell of one participant: when it began to fail and when it was well again, told once each.

A breaker tells the same of a participant that is called often. It tells nothing of one that gets a call a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTEMPTS_MIN = 3
"""So many attempts that fail in a row make a spell."""

QUIET_SECONDS = 60.0
"""Between two spells that are told: a participant that fails every now and then would fill the log."""


@dataclass(frozen=True, slots=True)
class Failing:
    """The beginning of a spell: so many attempts failed in a row, for so long."""

    attempts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Recovered:
    """The end of a spell that was told: an attempt ended well after so many that failed, so long after the first of these."""

    attempts: int
    seconds: float


class Spell:
    """Hears how each attempt has ended. `now` is a monotonic time in seconds."""

    def __init__(self) -> None:
        self._attempts = 0
        self._since = 0.0
        self._is_told = False
        self._told_at = float("-inf")

    def failed(self, now: float) -> Failing | None:
        """Notes that an attempt has ended without a known outcome."""
        if not self._attempts:
            self._since = now
        self._attempts += 1
        if self._is_told or self._attempts < ATTEMPTS_MIN or now < self._told_at + QUIET_SECONDS:
            return None
        self._is_told, self._told_at = True, now
        return Failing(self._attempts, now - self._since)

    def answered(self, now: float) -> Recovered | None:
        """Notes that an attempt has ended with a known outcome, whichever it is."""
        attempts, self._attempts = self._attempts, 0
        if not self._is_told:
            return None
        self._is_told = False
        return Recovered(attempts, now - self._since)
