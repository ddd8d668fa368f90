"""A path to a value in the scope of an expression: `input.lines[0].sku`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saga_coordinator.saga.words.errors import ExpressionError
from saga_coordinator.saga.words.meter import Meter

_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")

Scope = Mapping[str, Any]
"""The values that expressions read: JSON values by the names of the roots."""


class Metered(dict[str, Any]):
    """A scope that counts the work of what is evaluated in it."""

    __slots__ = ("meter",)

    def __init__(self, values: Mapping[str, Any], meter: Meter) -> None:
        super().__init__(values)
        self.meter = meter


def charge(scope: Scope, units: int) -> None:
    """Counts work if the scope is metered. Raises TooMuchHere."""
    if isinstance(scope, Metered):
        scope.meter.charge(units)


def charge_aside(scope: Scope, units: int) -> None:
    """Counts work that does not count towards the end of a decision, if the scope is metered. Raises TooMuchHere."""
    if isinstance(scope, Metered):
        scope.meter.charge_aside(units)


@dataclass(frozen=True, slots=True)
class Reference:
    """The root's name, then field names and list indexes."""

    root: str
    selectors: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        return self.root + "".join(
            f"[{each}]" if isinstance(each, int) else f".{each}" for each in self.selectors
        )

    @property
    def parent(self) -> Reference:
        """The path without its last selector."""
        return Reference(self.root, self.selectors[:-1])

    def find(self, scope: Scope) -> Any:
        """The value referred to; null for whatever is selected from an `output` that is null.

        Raises:
            ExpressionError: the root, a field or an item on the way does not exist; says which, and what was there instead.
        """
        if self.root not in scope:
            raise ExpressionError(f"there is no `{self.root}` here")
        value = scope[self.root]
        if value is None and self.root == "output":
            return None
        for position, selector in enumerate(self.selectors):
            if not has(value, selector):
                raise ExpressionError(
                    dead_end(Reference(self.root, self.selectors[:position]), value, selector)
                )
            value = value[selector]
        return value


def has(value: Any, selector: str | int) -> bool:
    """Tells whether an object has the field, or a list the item."""
    if isinstance(selector, str):
        return isinstance(value, Mapping) and selector in value
    return isinstance(value, list) and selector < len(value)


def dead_end(reached: Reference, value: Any, selector: str | int) -> str:
    """The message that the selector leads nowhere from the value that was reached, and how to ask before."""
    path = Reference(reached.root, (*reached.selectors, selector))
    if isinstance(selector, int):
        wanted, question = f"item {selector}", f"size({reached}) > {selector}"
    elif _FIELD.fullmatch(selector):
        wanted, question = f"field {selector!r}", f"has({path})"
    else:
        wanted, question = f"field {selector!r}", f"{selector!r} in {reached}"
    hint = f"; ask `{question}` first" if isinstance(value, list | dict) else ""
    return f"no {wanted} in `{reached}`, which is {describe(value)}{hint}"


def describe(value: Any) -> str:
    """A JSON value in words: `a list of 3`."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return f"a list of {len(value)}"
        case _:
            names = ", ".join(name[:80] for name in sorted(itertools.islice(value, 64))[:8])
            return f"an object with {len(value)} field(s){': ' + names if names else ''}"
