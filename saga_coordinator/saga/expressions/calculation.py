"""Expressions that calculate. They are CEL (https://cel.dev), and Google's C++ library evaluates them within bounds that hold
for any input.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cel_expr_python import cel

from saga_coordinator.saga.expressions.cost import CHARACTERS_PER_UNIT, WORK_MAX, Extent, work
from saga_coordinator.saga.expressions.functions import ENVIRONMENT, FAILURES, evaluate, text
from saga_coordinator.saga.expressions.reference import Reference, Scope, charge, describe, has
from saga_coordinator.saga.expressions.rewrite import EXACT_MAX, Binding, BindingKind, Rewriting
from saga_coordinator.saga.expressions.syntax import Node, read, walk, write
from saga_coordinator.saga.words.canonical import NotCanonical, canonical_number
from saga_coordinator.saga.words.errors import ExpressionError

NODES_READ_MAX = 10_000
NESTING_READ_MAX = 64
RESULT_BYTES_MAX = 1 << 20
NODES_WRITTEN_MAX = 600
"""The most parts of one expression, after its macros are expanded. Compiling so many takes about ten milliseconds."""
COMPILED_MAX = 256
SHOWN_CHARACTERS_MAX = 300

_WORK_PER_UNIT_READ = 35
_SMALL = Extent(64, 64)


@dataclass(frozen=True, slots=True)
class Calculation:
    """A compiled CEL expression."""

    source: str
    bindings: tuple[Binding, ...]
    tree: Node
    program: cel.Expression
    work_if_small: int
    """The most work that evaluating the expression may be on values of ordinary size."""

    @property
    def references(self) -> tuple[Reference, ...]:
        """The paths that the expression reads, each once."""
        return tuple(dict.fromkeys(binding.reference for binding in self.bindings))

    def evaluate(self, scope: Scope) -> Any:
        """The result as JSON: an integral number is an int, a timestamp or a duration its canonical text.

        What cannot be evaluated because it reads an `output` that is null is null (see `Selection.evaluate`).

        Raises:
            ExpressionError: it cannot be evaluated on these values, would take too long, or has no JSON value as its result;
                says why, and what the values are.
        """
        try:
            return self._evaluate(scope)
        except ExpressionError as error:
            if scope.get("output", error) is None and any(each.root == "output" for each in self.references):
                return None
            raise ExpressionError(f"${{{_shown(self.source)}}}: {error}") from error

    def _evaluate(self, scope: Scope) -> Any:
        variables, absent = self._bind(scope)
        try:
            result = evaluate(self.program, variables)
        except FAILURES as error:
            raise ExpressionError(self._failure(str(error), scope, absent)) from error
        return result if isinstance(result, bool) else _Result().json(result)

    def _bind(self, scope: Scope) -> tuple[dict[str, Any], list[str]]:
        """The variables by name, and for each variable without a value the reason. Whether it is needed turns out later."""
        variables: dict[str, Any] = {}
        absent: list[str] = []
        extents: dict[str, Extent] = {}
        reading = _Reading()
        is_small = True
        for binding in self.bindings:
            try:
                value = _bound(binding, scope)
            except ExpressionError as error:
                absent.append(str(error))
                continue
            before = reading.units
            variables[binding.name] = reading.cel(value)
            extent = Extent(reading.units - before, len(value) if isinstance(value, dict | list) else 1)
            is_small = is_small and extent.units <= _SMALL.units
            extents[binding.name] = extent
        amount = self.work_if_small if is_small else work(self.tree, extents)
        if amount > WORK_MAX:
            raise ExpressionError(
                "would take too long on values as large as these; refer to less, or repeat less"
            )
        charge(scope, amount + _WORK_PER_UNIT_READ * reading.units)
        return variables, absent

    def _failure(self, reason: str, scope: Scope, absent: list[str]) -> str:
        if absent and "in Activation" in reason:
            return absent[0]
        found = []
        for reference in self.references[:8]:
            try:
                found.append(f"`{reference}` is {describe(reference.find(scope))}")
            except ExpressionError as error:
                found.append(str(error))
        return "; ".join([_explained(reason), *found])


def _bound(binding: Binding, scope: Scope) -> Any:
    if binding.kind is BindingKind.PRESENCE:
        holder = binding.reference.parent.find(scope)
        return has(holder, binding.reference.selectors[-1])
    value = binding.reference.find(scope)
    if binding.kind is BindingKind.SIZE:
        if not isinstance(value, str | list | dict):
            raise ExpressionError(f"`{binding.reference}` is {describe(value)}, which has no size")
        return len(value)
    return value


class _Reading:
    """Turns JSON values into what the library reads, and counts how large they are."""

    def __init__(self) -> None:
        self.units = 0
        self._nodes = 0

    def cel(self, value: Any, nesting: int = 0) -> Any:
        self.units += 1
        self._nodes += 1
        if isinstance(value, str):
            self.units += len(value) // CHARACTERS_PER_UNIT
            return value
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return _number(value)
        if nesting >= NESTING_READ_MAX:
            raise ExpressionError(f"reads a value nested deeper than {NESTING_READ_MAX} levels")
        if self._nodes + len(value) > NODES_READ_MAX:
            raise ExpressionError(
                f"reads more than {NODES_READ_MAX} values; refer to less, as in `input.lines[0]` or `size(input.lines)`"
            )
        if isinstance(value, list):
            return [self.cel(item, nesting + 1) for item in value]
        self.units += sum(map(len, value)) // CHARACTERS_PER_UNIT
        return {name: self.cel(item, nesting + 1) for name, item in value.items()}


def _number(value: int) -> int | float:
    if abs(value) <= EXACT_MAX:
        return float(value)
    if not -(2**63) <= value < 2**63:
        raise ExpressionError(f"reads {value}, which is too large a number; put it in quotes")
    return value


class _Result:
    """Turns the library's plain values into JSON, as long as they are not too many."""

    def __init__(self) -> None:
        self._bytes = 0

    def json(self, value: Any) -> Any:
        self._bytes += 2 + (len(value) if isinstance(value, str) else 0)
        if self._bytes > RESULT_BYTES_MAX:
            raise ExpressionError(f"has a result larger than {RESULT_BYTES_MAX} bytes")
        match value:
            case str() if "\0" in value:
                raise ExpressionError("has a result with a NUL character, which cannot be kept")
            case None | bool() | int() | str():
                return value
            case float():
                return _canonical(value)
            case list():
                return [self.json(item) for item in value]
            case dict():
                # The library's maps have no order of their own; every attempt must send the same text.
                return {key: self.json(value[key]) for key in sorted(map(self._key, value))}
            case datetime() | timedelta():
                return text(value)
            case bytes() | bytearray():
                raise ExpressionError("has a result with bytes, which JSON does not know; use `string(...)`")
            case _:
                raise ExpressionError(
                    "has a result that JSON does not know, such as a type; use `string(...)`"
                )

    def _key(self, key: Any) -> str:
        if not isinstance(key, str):
            raise ExpressionError(f"has a map with the key {key!r} as its result; keys must be strings")
        self._bytes += len(key)
        return key


def _canonical(value: float) -> int | float:
    try:
        return canonical_number(value)
    except NotCanonical:
        raise ExpressionError("has a result that is no finite number") from None


# ---------------------------------------------------------------------------------------------------------------------
# Compiling


@functools.lru_cache(COMPILED_MAX)
def compile_calculation(source: str) -> Calculation:
    """Compiles a CEL expression. That takes about 0.2 ms for a short expression. Recently compiled expressions are remembered.

    Raises:
        ExpressionError: it is not CEL, or uses what is not available here; says what and, if known, at which character.
    """
    rewriting = Rewriting()
    try:
        written = read(ENVIRONMENT.compile(source, disable_check=True).serialize())
        if (nodes := sum(1 for _ in walk(written))) > NODES_WRITTEN_MAX:
            raise ExpressionError(f"has {nodes} parts; {NODES_WRITTEN_MAX} are the most, so divide it")
        tree = rewriting.rewrite(written)
        program = ENVIRONMENT.deserialize(write(tree))
    except ExpressionError as error:
        raise ExpressionError(f"`{_shown(source)}` {error}") from error
    except FAILURES as error:
        raise ExpressionError(f"`{_shown(source)}` {_refusal(str(error))}") from error
    amount = work(tree, {binding.name: _SMALL for binding in rewriting.bindings})
    if amount > WORK_MAX:
        raise ExpressionError(f"`{_shown(source)}` would take too long on any input; repeat less")
    return Calculation(source, rewriting.bindings, tree, program, amount)


def parse(source: str) -> Node:
    """The tree of an expression as it is written, each part with its position. It takes about 10 us for each part.

    Raises:
        ExpressionError: it is not CEL; says from which character on.
    """
    try:
        return read(ENVIRONMENT.compile(source, disable_check=True).serialize(), with_positions=True)
    except FAILURES as error:
        raise ExpressionError(_refusal(str(error))) from error


def failure_of_constants(tree: Node) -> str | None:
    """The reason why a tree without variables cannot be evaluated; None if it can. Takes about 0.1 ms for a short tree."""
    try:
        evaluate(ENVIRONMENT.deserialize(write(tree)), {})
    except FAILURES as error:
        return _explained(str(error))
    return None


def _shown(source: str) -> str:
    """The source, cut so that a message about it is not cut off."""
    return source if len(source) <= SHOWN_CHARACTERS_MAX else f"{source[:SHOWN_CHARACTERS_MAX]}…"


_POSITION = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<what>[^\n]*)")


def _refusal(message: str) -> str:
    """The first of the library's complaints, without its ornaments."""
    if "recursion" in message:
        return "is nested too deeply; a chain of one operator counts too, at about 30 links"
    if found := _POSITION.search(message):
        line = f"line {found['line']}, " if found["line"] != "1" else ""
        what = found["what"].removeprefix("Syntax error: ").split(" expecting ")[0]
        return f"is not CEL from {line}character {found['column']} on: {what}"
    return f"is not CEL: {message.splitlines()[0][:200] if message else 'no reason given'}"


_NO_OVERLOAD = re.compile(r"No matching overloads found : (?P<function>[^(]+)(?:\((?P<types>.*)\))?")
_NO_KEY = re.compile(r'Key not found in map : "(?P<key>[A-Za-z_][A-Za-z0-9_]{0,99})"')
_CODE = re.compile(r"^[A-Z_]+: ")
_TYPE_NAMES: Mapping[str, str] = {"double": "number", "int64": "number too large to calculate with", "bool": "boolean",
                                  "null_type": "null", "map": "object"}  # fmt: skip


def _explained(reason: str) -> str:
    if "Iteration budget" in reason:
        return "would take too long: it goes through too many items"
    found = _NO_OVERLOAD.search(reason)
    if found is None:
        missing = _NO_KEY.search(reason)
        hint = f"; ask `has(...)` first, as in `has(line.{missing['key']})`" if missing else ""
        return _CODE.sub("", reason)[:300] + hint
    function = found["function"].strip()
    if function == "<jump_condition>":
        return "the condition before `?`, or a side of `&&` or `||`, is no boolean"
    if function == "<iter_range>":
        return "a macro such as `exists` goes through lists and objects only"
    if function == "@not_strictly_false":
        return "the condition of a macro is no boolean"
    taken = [_TYPE_NAMES.get(each, each) for each in (found["types"] or "").split(", ") if each]
    operator = {
        "@in": "in",
        "@text": "string",
        "@whole": "timestamp",
        "@exact": "int",
        "@remainder": "%",
        "@quotient": "/",
    }.get(function, function.strip("_@").replace("_", ""))
    return f"`{operator}` does not take {' and '.join(taken) or 'what it is given'}"
