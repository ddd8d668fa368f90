"""Counts the work of a decision, in the units of `expressions.cost`, which are about 30 nanoseconds each.

One event loop serves every saga, so no saga may hold it for long (P11). Two rules ensure that. First, a decision that has done
`DECISION_MAX` units ends, and the saga goes on with the next decision. The work that counts for this follows from the
definition, the state and the input alone, so the same decision always ends at the same place. Second, a decision that turns out
to be too much for the event loop is given up and made anew in a thread. Giving it up does no harm, because a decision is pure.
"""

from __future__ import annotations

DECISION_MAX = 250_000
"""The units of work after which a decision ends. It finishes what it has begun by then, such as the expressions of one call's
input.
"""
ENTRY = 2_000
"""The units of work for deciding on one entry and writing it."""
CHARACTERS_PER_UNIT = 6
"""Characters for one unit of work, of a value that becomes a part of a longer text."""


class TooMuchHere(Exception):
    """The decision is more work than `here_max` allows, and has changed nothing. Never raised without a limit."""


class Meter:
    """Counts the work of one decision. `here_max` is the most work that may be done in the present thread; None sets no
    limit.
    """

    __slots__ = ("_aside", "_here_max", "spent")

    def __init__(self, here_max: int | None = None) -> None:
        self.spent = 0
        self._aside = 0
        self._here_max = here_max

    @property
    def is_spent(self) -> bool:
        """Tells whether the decision should end here."""
        return self.spent >= DECISION_MAX

    def charge(self, units: int) -> None:
        """Counts work that every coordinator has to do for this decision. Raises TooMuchHere."""
        self.spent += units
        self._check()

    def charge_aside(self, units: int) -> None:
        """Counts work that depends on what this process has kept from the decision before, or that version 0.1.0 did not
        count. Such work does not count towards `DECISION_MAX`. Raises TooMuchHere.
        """
        self._aside += units
        self._check()

    def _check(self) -> None:
        if self._here_max is not None and self.spent + self._aside > self._here_max:
            raise TooMuchHere
