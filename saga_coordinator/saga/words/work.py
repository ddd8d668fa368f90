"""Budgets for the work of checking a definition, a schema or an input.

A unit of work is about a microsecond of one core of a small machine. Work is counted before it is done, from its size and not
from the time it takes. So the same request is refused at the same place on every machine, however busy the machine is. Nothing
here looks at a clock.

    with budget(INPUT_WORK_MAX):
        ...  # whatever spends in here shares the budget
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

INPUT_WORK_MAX = 500_000
"""The units of work for checking one input by its definition's schema."""
INLINE_WORK_MAX = 4_000
"""The units of work that may be done on the event loop, where all sagas wait for it: a few milliseconds. Most inputs need a
small part of that.
"""
DEFINITION_WORK_MAX = 2_000_000
"""The units of work for checking one definition, or everything that one participant declares."""


class TooMuchWork(Exception):
    """The work is more than its budget."""

    def __init__(self, units_max: int) -> None:
        self.units_max = units_max
        super().__init__(f"takes more than {units_max} units of work")


class Budget:
    """The units of work that are left of a budget."""

    __slots__ = ("_units_max", "left")

    def __init__(self, units_max: int) -> None:
        self._units_max = units_max
        self.left = units_max

    def part(self, units_max: int) -> Budget:
        """A new budget. It has at most what is left of this budget."""
        if units_max <= self.left:
            return Budget(units_max)
        part = Budget(self._units_max)
        part.left = max(0, self.left)
        return part

    def spend(self, units: int) -> None:
        """Takes work from the budget. Raises TooMuchWork if less than that is left."""
        self.left -= units
        if self.left < 0:
            raise TooMuchWork(self._units_max)


_present: ContextVar[Budget | None] = ContextVar("budget of the work that is being done", default=None)


@contextmanager
def budget(units_max: int) -> Iterator[Budget]:
    """Takes everything that is spent inside from one budget, and from the budget around it, if there is one."""
    around = _present.get()
    given = Budget(units_max) if around is None else around.part(units_max)
    before = given.left
    token = _present.set(given)
    try:
        yield given
    finally:
        _present.reset(token)
        if around is not None:
            around.left -= before - given.left


def spend(units: int) -> None:
    """Takes work from the present budget, if there is one. Raises TooMuchWork."""
    present = _present.get()
    if present is not None:
        present.spend(units)
