"""Estimates the most work that evaluating a CEL expression can be.

One event loop serves every saga, so no definition may hold it for long. Work is counted in units of about 30 nanoseconds,
measured with cel-expr-python 0.1.3 on one core of a small machine: of what `WORK_MAX` admits, nothing was found to take more
than four milliseconds. The estimate walks the tree once. Comprehensions are not nested, so the estimate itself is quick.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from saga_coordinator.saga.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Entries,
    Items,
    Name,
    Node,
    Select,
    children,
    walk,
)

WORK_MAX = 250_000
PATTERN_WEIGHT_MAX = 2_000
CHARACTERS_PER_UNIT = 16

_WORK_PER_PATTERN_WEIGHT = 30
_WORK_PER_PYTHON_CALL = 50
_MAKING_NUMBERS = frozenset(
    {
        "_-_",
        "_*_",
        "-_",
        "@quotient",
        "@remainder",
        "@exact",
        "@sum",
        "@round",
        "@floor",
        "@ceil",
        "double",
        "size",
    }
)
_ADDING_ONLY = frozenset("0123456789+ ")
"""The characters of a formula whose result may be a text or a list; every other formula makes a number."""
_WORK_PER_DECIMAL = 60
_WORK_PER_UNIT_CARRIED = {
    **dict.fromkeys(("@add", "@end", "@end_in_order", "@calculate", "@min", "@max"), 6),
    "@sum": 40,
}
"""The functions in Python that take or return lists, and the work for each unit: it is made anew on the other side."""
_OPERATORS_THAT_LOOK_INSIDE = frozenset({"_==_", "_!=_", "@in", "_<_", "_<=_", "_>_", "_>=_"})
_LAZY = frozenset({"_&&_", "_||_", "!_", "@not_strictly_false"})


@dataclass(frozen=True, slots=True)
class Extent:
    """The largest size of a value: `units` (one for each node, and one for every 16 characters), and `items`, the number of its
    own items.
    """

    units: int
    items: int = 1


_SMALL = Extent(1)


def work(node: Node, extents: Mapping[str, Extent]) -> int:
    """The most work that evaluating the tree and reading its result may be; `extents` are those of its variables."""
    spent, result = _estimate(node, extents)
    return spent + result.units


def _estimate(node: Node, extents: Mapping[str, Extent]) -> tuple[int, Extent]:
    match node:
        case Constant():
            size = len(node.value) if isinstance(node.value, str | bytes) else 0
            return 1, Extent(1 + size // CHARACTERS_PER_UNIT)
        case Name():
            return 1, extents.get(node.name, _SMALL)
        case Select():
            spent, extent = _estimate(node.operand, extents)
            return spent + 1, _SMALL if node.is_test else Extent(extent.units, extent.units)
        case Comprehension():
            return _comprehension(node, extents)
        case Call():
            return _call(node, extents)
        case Items() | Entries():
            spent, units = _sum(children(node), extents)
            return spent + units, Extent(1 + units, len(children(node)))


def _sum(nodes: tuple[Node, ...], extents: Mapping[str, Extent]) -> tuple[int, int]:
    estimates = [_estimate(node, extents) for node in nodes]
    return 1 + sum(spent for spent, _ in estimates), sum(extent.units for _, extent in estimates)


def _call(node: Call, extents: Mapping[str, Extent]) -> tuple[int, Extent]:
    spent, units = _sum(children(node), extents)
    if node.function in _LAZY:
        return spent, _SMALL
    if node.function in _OPERATORS_THAT_LOOK_INSIDE:
        return spent + units, _SMALL
    if node.function in {"_?_:_", "_[_]", "dyn"}:
        return spent, Extent(units, units)
    if node.function == "matches":
        pattern = children(node)[-1]
        weight = pattern_weight(pattern.value) if isinstance(pattern, Constant) else PATTERN_WEIGHT_MAX
        per_unit = CHARACTERS_PER_UNIT * weight // 8
        return spent + weight * _WORK_PER_PATTERN_WEIGHT + units * per_unit, _SMALL
    python = _WORK_PER_PYTHON_CALL if node.function.startswith("@") else 0
    if node.function == "@calculate":
        python += _WORK_PER_DECIMAL * len(children(node.arguments[1]))
    carried = units * _WORK_PER_UNIT_CARRIED.get(node.function, 0)
    spent += units + python + carried
    return spent, _SMALL if makes_number(node) else Extent(units + 2, units)


def makes_number(node: Call) -> bool:
    """Tells whether the result is a number or a duration."""
    match node:
        case Call("@calculate", (Constant(str() as formula), _)):
            return not _ADDING_ONLY.issuperset(formula)
        case _:
            return node.function in _MAKING_NUMBERS


def _comprehension(node: Comprehension, extents: Mapping[str, Extent]) -> tuple[int, Extent]:
    """Counts the body once for each item. The sum over the items is the same as if every item were the average one."""
    spent, ranged = _estimate(node.range, extents)
    items = max(1, ranged.items)
    average = Extent(1 + ranged.units // items, 1 + ranged.units // items)
    inside = {**extents, node.variable: average, node.accumulator: _SMALL}
    body, _ = _sum(node.body, inside)
    added = [_estimate(each.arguments[1], inside)[1].units for each in walk(node.step) if is_adding(each)]
    result = Extent(1 + items * sum(added), items) if added else _SMALL
    ending, _ = _estimate(node.result, {**extents, node.accumulator: result})
    return spent + ranged.units + items * body + ending, result


def is_adding(node: Node) -> TypeGuard[Call]:
    """Tells whether the node adds an item to the list that a macro makes."""
    return isinstance(node, Call) and node.function == "@add"


# ---------------------------------------------------------------------------------------------------------------------
# Patterns

_PATTERN_PART = re.compile(
    r"""(?P<unicode>\\[pP](?:\{[^}]*\}|.)) | (?P<escape>\\(?s:.)) | (?P<class>\[\^?\]?(?:\\(?s:.)|\[:[^\]]*:\]|[^\]\\])*\])
      | (?P<open>\((?:\?(?:P?<[^>]*>|[a-zA-Z-]*:)?)?) | (?P<close>\))
      | (?P<repeat>\{(?P<low>[0-9]{1,4})(?:,(?P<high>[0-9]{0,4}))?\})
      | (?P<free>[*+?|^$]) | (?P<any>\.) | (?P<other>(?s:.))""",
    re.VERBOSE,
)
_WEIGHT = {"unicode": 1000, "escape": 5, "class": 5, "any": 10, "other": 1}


def pattern_weight(pattern: object) -> int:
    """The approximate number of instructions that a regular expression compiles to. Counted repetitions multiply it, nested
    ones too.
    """
    groups: list[int] = [0]
    last = 0
    for part in _PATTERN_PART.finditer(str(pattern)):
        kind = part.lastgroup
        if part["repeat"]:
            times = max(int(part["low"]), int(part["high"] or 0), 1)
            groups[-1] += last * (times - 1)
            last *= times
        elif kind == "open":
            groups.append(1)
            last = 0
        elif kind == "close":
            last = groups.pop() if len(groups) > 1 else 0
            groups[-1] += last
        elif kind == "free":
            groups[-1] += 1
        else:
            last = _weight(part)
            groups[-1] += last
    total = sum(groups)
    return total * 2 if re.search(r"\(\?[a-zA-Z]*i", str(pattern)) else total


def _weight(part: re.Match[str]) -> int:
    text = part.group()
    if part["class"] and ("\\p" in text or "\\P" in text):
        return _WEIGHT["unicode"] * (text.count("\\p") + text.count("\\P"))
    if part["class"]:
        return _WEIGHT["class"] + len(text) // 4 + (10 if text.startswith("[^") else 0)
    return _WEIGHT[part.lastgroup or "other"]
