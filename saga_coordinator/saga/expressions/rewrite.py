"""Rewrites the tree of a CEL expression into the tree that is evaluated, and lists what the expression reads.

Three things are changed on the way. What the expression reads (`input.lines[0].sku`, `size(input.lines)`, `has(input.note)`)
becomes one variable each, so that the library gets only these values and not the whole input. Numbers become doubles, so that
`input.total * 2` is as good as `input.total * 2.0`: JSON has one kind of number. And the few functions that would give
surprising results for doubles are replaced.

Besides, arithmetic within `int`, `round`, `sum` and their like is done in decimals (`decimals.py`): one call for each formula.
`map` and `filter` add to a list in Python, because the library copies the list for each item. `sum`, `count`, `min` and
`max` are macros as well: `input.lines.sum(line, line.price)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from saga_coordinator.saga.expressions.cost import PATTERN_WEIGHT_MAX, pattern_weight
from saga_coordinator.saga.expressions.reference import Reference
from saga_coordinator.saga.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Entries,
    Items,
    Name,
    Node,
    Select,
)
from saga_coordinator.saga.words.errors import ExpressionError
from saga_coordinator.saga.words.nearest import did_you_mean

EXACT_MAX = 2**53 - 1
"""Up to this size every whole number has a double of its own. Larger numbers stay integers, which can be compared but not
calculated with.
"""

TYPES = frozenset({"bool", "bytes", "double", "list", "map", "null_type", "string"})
_OPERATORS = frozenset(
    {"_&&_", "_||_", "!_", "_?_:_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_+_", "_-_", "_*_", "-_"}
    | {"_/_", "_%_", "@in", "_[_]", "@not_strictly_false"}
)
_MANY = range(1, 33)
_FUNCTIONS = {
    **dict.fromkeys(("bool", "bytes", "double", "duration", "dyn", "int", "size", "string", "timestamp", "type"), range(1, 2)),
    **dict.fromkeys(("ceil", "exact", "floor", "sum"), range(1, 2)),
    "matches": range(2, 3),
    "max": _MANY,
    "min": _MANY,
    "round": range(1, 3),
}  # fmt: skip
"""The functions, and how many arguments each takes."""
_METHODS = {
    **dict.fromkeys(("contains", "endsWith", "matches", "startsWith"), range(1, 2)),
    "size": range(1),
}  # fmt: skip
_MACROS = frozenset({"count", "max", "min", "sum"})
"""The macros that are not CEL's own: `list.sum(item, expression)`."""
_CEL_MACROS = ("all", "exists", "exists_one", "filter", "map")
_EXACT_INSIDE = frozenset({"ceil", "exact", "floor", "int", "round", "sum"})
_SIGNS = {"_+_": "+", "_-_": "-", "_*_": "*", "_/_": "/", "_%_": "%", "-_": "~"}
_DATE_PARTS = ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")
_CLOCK_PARTS = ("Hours", "Minutes", "Seconds", "Milliseconds")
TIME_METHODS = frozenset(f"get{part}" for part in (*_DATE_PARTS, *_CLOCK_PARTS))
_INTEGRAL = {**dict.fromkeys((*TIME_METHODS, "size"), "double"), "int": "@exact"}
"""The functions that return an integer of the library, and the function that makes a double of it. The integers of `int` may be
too large for a double.
"""
_REPLACED = {
    "_%_": "@remainder",
    "_/_": "@quotient",
    "string": "@text",
    "sum": "@sum",
    "floor": "@floor",
    "ceil": "@ceil",
}


class BindingKind(StrEnum):
    """The kinds of what a variable can hold of the value that the expression refers to."""

    VALUE = "value"
    PRESENCE = "presence"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Binding:
    """A variable of the rewritten tree."""

    name: str
    kind: BindingKind
    reference: Reference


class Rewriting:
    """Rewrites one tree; `bindings` are the variables of the result."""

    def __init__(self) -> None:
        self._bindings: dict[tuple[BindingKind, Reference], Binding] = {}

    @property
    def bindings(self) -> tuple[Binding, ...]:
        return tuple(self._bindings.values())

    def rewrite(self, node: Node, bound: frozenset[str] = frozenset(), *, is_exact: bool = False) -> Node:
        """The tree with variables for what it reads; `bound` are the names that macros around it have introduced. If `is_exact`,
        its arithmetic is done in decimals.

        Raises:
            ExpressionError: it uses a part of CEL that is not available here; says which.
        """
        if (reference := _reference(node, bound)) is not None:
            return self._bind(BindingKind.VALUE, reference)
        match node:
            case Constant():
                return _number(node)
            case Name():
                return node
            case Select():
                return self._select(node, bound, is_exact=is_exact)
            case Call():
                return self._call(node, bound, is_exact=is_exact)
            case Items():
                return Items(tuple(self.rewrite(each, bound, is_exact=is_exact) for each in node.items))
            case Entries():
                return self._entries(node, bound, is_exact=is_exact)
            case Comprehension():
                return self._comprehension(node, bound, is_exact=is_exact)

    def _bind(self, kind: BindingKind, reference: Reference) -> Name:
        name = f"@{len(self._bindings)}"
        return Name(self._bindings.setdefault((kind, reference), Binding(name, kind, reference)).name)

    def _select(self, node: Select, bound: frozenset[str], *, is_exact: bool) -> Node:
        reference = _reference(Select(node.operand, node.field), bound) if node.is_test else None
        if reference is not None:
            return self._bind(BindingKind.PRESENCE, reference)
        return Select(self.rewrite(node.operand, bound, is_exact=is_exact), node.field, node.is_test)

    def _call(self, node: Call, bound: frozenset[str], *, is_exact: bool) -> Node:
        if node.target is not None and node.function in _MACROS:
            return self._macro(node.function, node.target, node.arguments, bound, is_exact=is_exact)
        _check_call(node)
        if is_exact and node.function in _SIGNS and not _is_time(node):
            return self._formula(node, bound)
        written = (node.target, *node.arguments) if node.target is not None else node.arguments
        if node.function == "size" and (reference := _reference(written[0], bound)) is not None:
            return self._bind(BindingKind.SIZE, reference)
        is_exact = is_exact or node.function in _EXACT_INSIDE
        arguments = tuple(self.rewrite(each, bound, is_exact=is_exact) for each in node.arguments)
        target = self.rewrite(node.target, bound, is_exact=is_exact) if node.target is not None else None
        match node.function:
            case "exact":
                return arguments[0]
            case "timestamp":
                arguments = (Call("@whole", arguments),)
            case "round":
                return Call("@round", (*arguments, Constant(0.0))[:2])
            case "min" | "max":
                return Call(f"@{node.function}", arguments if len(arguments) == 1 else (Items(arguments),))
            case _:
                pass
        call = Call(_REPLACED.get(node.function, node.function), arguments, target)
        made_double_by = _INTEGRAL.get(node.function)
        return call if made_double_by is None else Call(made_double_by, (call,))

    def _formula(self, node: Call, bound: frozenset[str]) -> Node:
        """The arithmetic at the top of the tree as one call; see `decimals.calculated`."""
        words: list[str] = []
        operands: list[Node] = []

        def add(part: Node) -> None:
            if isinstance(part, Call) and part.target is None and part.function in _SIGNS:
                for argument in part.arguments:
                    add(argument)
                words.append(_SIGNS[part.function])
            else:
                words.append(str(len(operands)))
                operands.append(self.rewrite(part, bound, is_exact=True))

        add(node)
        return Call("@calculate", (Constant(" ".join(words)), Items(tuple(operands))))

    def _entries(self, node: Entries, bound: frozenset[str], *, is_exact: bool) -> Node:
        if node.message:
            raise ExpressionError(
                f"makes a message `{node.message}`; only maps such as `{{'name': 1}}` can be made"
            )
        for key, _ in node.entries:
            if isinstance(key, Constant) and not isinstance(key.value, str):
                raise ExpressionError(
                    f"has a map with the key {key.value!r}; the keys of a JSON object are strings"
                )
        return Entries(
            tuple(
                (self.rewrite(key, bound, is_exact=is_exact), self.rewrite(value, bound, is_exact=is_exact))
                for key, value in node.entries
            )
        )

    def _macro(
        self, name: str, target: Node, arguments: tuple[Node, ...], bound: frozenset[str], *, is_exact: bool
    ) -> Node:
        """`sum`, `count`, `min` or `max` over the items of the target."""
        if len(arguments) != 2 or not isinstance(variable := arguments[0], Name):
            what = "a condition" if name == "count" else "an expression"
            instead = "size(list)" if name == "count" else f"{name}(list)"
            raise ExpressionError(
                f"gives the macro `{name}` other arguments than a name for the item and {what}, as in "
                f"`input.lines.{name}(line, line.n{' > 1' if name == 'count' else ''})`; `{instead}` takes a list as it is"
            )
        accumulator, body = Name("@found"), arguments[1]
        if name == "count":
            one_more = Call("_+_", (accumulator, Constant(1.0)))
            counting = Comprehension(
                variable.name, target, "@found", Constant(0.0), Constant(True),
                Call("_?_:_", (body, one_more, accumulator)), accumulator,
            )  # fmt: skip
            return self._comprehension(counting, bound, is_exact=False)
        added = Call("_+_", (accumulator, Items((body,))))
        mapped = Comprehension(variable.name, target, "@found", Items(()), Constant(True), added, accumulator)
        return Call(
            f"@{name}", (self._comprehension(mapped, bound, is_exact=is_exact or name in _EXACT_INSIDE),)
        )

    def _comprehension(self, node: Comprehension, bound: frozenset[str], *, is_exact: bool) -> Node:
        if isinstance(node.initial, Entries):
            raise ExpressionError("uses a macro that makes an object, which is not available")
        if bound:
            raise ExpressionError("has a macro such as `exists` within another; they cannot be nested")
        inside = frozenset({node.variable, node.accumulator})
        ranged = self.rewrite(node.range, bound, is_exact=is_exact)
        if isinstance(node.initial, Items):
            return self._list(node, ranged, inside, is_exact=is_exact)
        return Comprehension(
            node.variable,
            ranged,
            node.accumulator,
            *(
                self.rewrite(each, inside, is_exact=is_exact)
                for each in (node.initial, *node.body, node.result)
            ),
        )

    def _list(self, node: Comprehension, ranged: Node, inside: frozenset[str], *, is_exact: bool) -> Node:
        """A macro that makes a list: `map` or `filter`."""
        accumulator = Name(node.accumulator)

        def added(step: Node) -> Node:
            match step:
                case Call("_+_", (Name(node.accumulator), Items() as item)):
                    return Call("@add", (accumulator, self.rewrite(item, inside, is_exact=is_exact)))
                case Call("_?_:_", (condition, some, other)):
                    return Call(
                        "_?_:_",
                        (self.rewrite(condition, inside, is_exact=is_exact), added(some), added(other)),
                    )
                case _:
                    return step

        # An object has no order of its own, and only an object's keys can be what is gone through without a list.
        ending: Node = Call("@end", (accumulator,))
        if not isinstance(ranged, Comprehension | Items):
            is_object = Call("_==_", (Call("type", (ranged,)), Name("map")))
            ending = Call("_?_:_", (is_object, Call("@end_in_order", (accumulator,)), ending))
        return Comprehension(
            node.variable,
            ranged,
            node.accumulator,
            Call("@begin", ()),
            node.condition,
            added(node.step),
            ending,
        )


def _reference(node: Node, bound: frozenset[str]) -> Reference | None:
    """The node as a path, if it is only a path that begins with a free variable; else None."""
    selectors: list[str | int] = []
    while not isinstance(node, Name):
        match node:
            case Select(operand, field, is_test=False):
                selectors.append(field)
                node = operand
            case Call("_[_]", (operand, Constant(str() | int() as selector)), None) if not (
                isinstance(selector, bool) or (isinstance(selector, int) and selector < 0)
            ):
                selectors.append(selector)
                node = operand
            case _:
                return None
    if node.name in bound or (node.name in TYPES and not selectors):
        return None
    return Reference(node.name.removeprefix("."), tuple(reversed(selectors)))


def _is_time(node: Node) -> bool:
    """Tells whether the node calculates with timestamps or durations, which are no decimals."""
    match node:
        case Call("timestamp" | "duration"):
            return True
        case Call("_?_:_" | "_+_" | "_-_" | "-_", arguments):
            return any(map(_is_time, arguments))
        case _:
            return False


def _number(node: Constant) -> Constant:
    is_exact = type(node.value) is int and abs(node.value) <= EXACT_MAX
    return Constant(float(node.value)) if is_exact else node  # type: ignore[arg-type]


def _check_call(node: Call) -> None:
    name, count = node.function, len(node.arguments)
    if node.target is None and name in _OPERATORS:
        return
    if node.target is not None and name in TIME_METHODS and count <= 1:
        return
    known = _FUNCTIONS if node.target is None else _METHODS
    if name not in known:
        raise ExpressionError(_unknown(name, is_method=node.target is not None))
    if count not in (taken := known[name]):
        most = f" to {taken[-1]}" if len(taken) > 1 else ""
        raise ExpressionError(f"gives `{name}` {count} argument(s); it takes {taken[0]}{most}")
    if name == "matches":
        _check_pattern(node.arguments[-1])


def _unknown(name: str, *, is_method: bool) -> str:
    known = [*_METHODS, *TIME_METHODS, *_CEL_MACROS, *_MACROS] if is_method else [*_FUNCTIONS, "has"]
    kind = "method" if is_method else "function"
    return f"has no {kind} `{name}`; there are: {', '.join(sorted(known))}{did_you_mean(name, known)}"


def _check_pattern(pattern: Node) -> None:
    if not isinstance(pattern, Constant) or not isinstance(pattern.value, str):
        raise ExpressionError("gives `matches` a computed pattern; write the pattern as a string")
    if pattern_weight(pattern.value) > PATTERN_WEIGHT_MAX:
        raise ExpressionError("has too large a pattern; repeat less in it, and without \\p")
