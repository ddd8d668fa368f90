"""How much work a decision is, counted in the units of `expressions.cost`, of about 30 nanoseconds.

One event loop serves every saga, so none may have it for long (P11). Two things see to that. A decision that has done
`DECISION_MAX` ends, and the saga goes on with the next one. What counts for this follows from the definition, the state and the
input alone, so the same decision always ends at the same place. And a decision that turns out to be more than the loop should do
at a stretch is given up, which costs nothing because it is pure, and made anew in a thread.
"""

from __future__ import annotations

DECISION_MAX = 250_000
"""After so much a decision ends; what it has begun by then, such as the expressions of one call's input, it finishes."""
ENTRY = 2_000
"""For deciding on one entry and writing it."""
CHARACTERS_PER_UNIT = 6
"""Of a value that becomes a part of a longer text."""


class TooMuchHere(Exception):
    """The decision is more work than was allowed at this place, and nothing has come of it. Never raised without a limit."""


class Meter:
    """Counts the work of one decision. `here_max` is the most that may be done where it is made; None sets no limit."""

    __slots__ = ("_aside", "_here_max", "spent")

    def __init__(self, here_max: int | None = None) -> None:
        self.spent = 0
        self._aside = 0
        self._here_max = here_max

    @property
    def is_spent(self) -> bool:
        """Whether the decision should end here."""
        return self.spent >= DECISION_MAX

    def charge(self, units: int) -> None:
        """Counts work that has to be done wherever the decision is made. Raises TooMuchHere."""
        self.spent += units
        self._check()

    def charge_aside(self, units: int) -> None:
        """Counts what depends on what was kept from the decision before, and so must not end this one. Raises TooMuchHere."""
        self._aside += units
        self._check()

    def _check(self) -> None:
        if self._here_max is not None and self.spent + self._aside > self._here_max:
            raise TooMuchHere
