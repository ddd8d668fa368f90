"""The conditions that random definitions use, each beside what it means: judges must not ask the program's own CEL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Variables = Mapping[str, Any]

ANYWHERE = ("input.n % 2 == 0", "input.n % 3 != 0", "input.flag", "input.maybe == 'yes'")
IN_FOR_EACH = ("index % 2 == 0", "item != 'b'")
UNTILS = ("number >= 1", "number >= 2", "number >= 3", "number > input.n % 4")

_MEANINGS: Mapping[str, Callable[[Variables], bool]] = {
    "input.n % 2 == 0": lambda v: v["input"]["n"] % 2 == 0,
    "input.n % 3 != 0": lambda v: v["input"]["n"] % 3 != 0,
    "input.flag": lambda v: v["input"]["flag"],
    "input.maybe == 'yes'": lambda v: v["input"]["maybe"] == "yes",
    "index % 2 == 0": lambda v: v["index"] % 2 == 0,
    "item != 'b'": lambda v: v["item"] != "b",
    "number >= 1": lambda v: v["number"] >= 1,
    "number >= 2": lambda v: v["number"] >= 2,
    "number >= 3": lambda v: v["number"] >= 3,
    "number > input.n % 4": lambda v: v["number"] > v["input"]["n"] % 4,
}


def holds(condition: str | None, variables: Variables) -> bool | None:
    """Whether it holds; one that is not there does. None: it cannot be computed, for want of a field."""
    if condition is None:
        return True
    try:
        return _MEANINGS[condition](variables)
    except KeyError:
        return None
