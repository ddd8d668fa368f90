"""Rewrites the tree of a CEL expression into the tree that is evaluated, and lists what the expression reads.

Three things are changed on the way. What the expression reads (`input.lines[0].sku`, `size(input.lines)`, `has(input.note)`)
becomes one variable each, so that the library gets only these values and not the whole input. Numbers become doubles, so that
`input.total * 2` is as good as `input.total * 2.0`: JSON has one kind of number. And the few functions that would give
surprising results for doubles are replaced.
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
_FUNCTIONS = {"bool": 1, "bytes": 1, "double": 1, "duration": 1, "dyn": 1, "int": 1, "matches": 2, "size": 1, "string": 1,
              "timestamp": 1, "type": 1}  # fmt: skip
_METHODS = {"contains": 1, "endsWith": 1, "matches": 1, "size": 0, "startsWith": 1}
_DATE_PARTS = ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear")
_CLOCK_PARTS = ("Hours", "Minutes", "Seconds", "Milliseconds")
TIME_METHODS = frozenset(f"get{part}" for part in (*_DATE_PARTS, *_CLOCK_PARTS))
_INTEGRAL = {**dict.fromkeys((*TIME_METHODS, "size"), "double"), "int": "@exact"}
"""The functions that return an integer of the library, and the function that makes a double of it. The integers of `int` may be
too large for a double.
"""
_REPLACED = {"_%_": "@remainder", "_/_": "@quotient", "string": "@text"}


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

    def rewrite(self, node: Node, bound: frozenset[str] = frozenset()) -> Node:
        """The tree with variables for what it reads; `bound` are the names that macros around it have introduced.

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
                return self._select(node, bound)
            case Call():
                return self._call(node, bound)
            case Items():
                return Items(tuple(self.rewrite(each, bound) for each in node.items))
            case Entries():
                return self._entries(node, bound)
            case Comprehension():
                return self._comprehension(node, bound)

    def _bind(self, kind: BindingKind, reference: Reference) -> Name:
        name = f"@{len(self._bindings)}"
        return Name(self._bindings.setdefault((kind, reference), Binding(name, kind, reference)).name)

    def _select(self, node: Select, bound: frozenset[str]) -> Node:
        reference = _reference(Select(node.operand, node.field), bound) if node.is_test else None
        if reference is not None:
            return self._bind(BindingKind.PRESENCE, reference)
        return Select(self.rewrite(node.operand, bound), node.field, node.is_test)

    def _call(self, node: Call, bound: frozenset[str]) -> Node:
        _check_call(node)
        written = (node.target, *node.arguments) if node.target is not None else node.arguments
        if node.function == "size" and (reference := _reference(written[0], bound)) is not None:
            return self._bind(BindingKind.SIZE, reference)
        arguments = tuple(self.rewrite(each, bound) for each in node.arguments)
        target = self.rewrite(node.target, bound) if node.target is not None else None
        if node.function == "timestamp":
            arguments = (Call("@whole", arguments),)
        call = Call(_REPLACED.get(node.function, node.function), arguments, target)
        made_double_by = _INTEGRAL.get(node.function)
        return call if made_double_by is None else Call(made_double_by, (call,))

    def _entries(self, node: Entries, bound: frozenset[str]) -> Node:
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
            tuple((self.rewrite(key, bound), self.rewrite(value, bound)) for key, value in node.entries)
        )

    def _comprehension(self, node: Comprehension, bound: frozenset[str]) -> Node:
        if isinstance(node.initial, Items | Entries):
            raise ExpressionError(
                "uses `map` or `filter`, which make lists without bound; they are not available"
            )
        if bound:
            raise ExpressionError("has a macro such as `exists` within another; they cannot be nested")
        inside = frozenset({node.variable, node.accumulator})
        return Comprehension(
            node.variable,
            self.rewrite(node.range, bound),
            node.accumulator,
            *(self.rewrite(each, inside) for each in (node.initial, *node.body, node.result)),
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
    if known[name] != count:
        raise ExpressionError(f"gives `{name}` {count} argument(s); it takes {known[name]}")
    if name == "matches":
        _check_pattern(node.arguments[-1])


def _unknown(name: str, *, is_method: bool) -> str:
    known = [*_METHODS, *TIME_METHODS, "all", "exists", "exists_one"] if is_method else [*_FUNCTIONS, "has"]
    kind = "method" if is_method else "function"
    return f"has no {kind} `{name}`; there are: {', '.join(sorted(known))}{did_you_mean(name, known)}"


def _check_pattern(pattern: Node) -> None:
    if not isinstance(pattern, Constant) or not isinstance(pattern.value, str):
        raise ExpressionError("gives `matches` a computed pattern; write the pattern as a string")
    if pattern_weight(pattern.value) > PATTERN_WEIGHT_MAX:
        raise ExpressionError("has too large a pattern; repeat less in it, and without \\p")
