"""Expressions inside payloads: `${input.order_id}`, `${input.total * 1.2}`, and those that are fields of their own.

The language is CEL (https://cel.dev); docs/expressions.md says which part of it. Most expressions only select a value: these are
followed here, in a microsecond. The rest are `Calculation`s. A string that is one `${...}` becomes the value itself; expressions
inside longer strings become text. `$${` stands for a literal `${`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from saga_coordinator.saga.expressions.calculation import Calculation, compile_calculation
from saga_coordinator.saga.expressions.reference import Reference, Scope, charge, charge_aside, dead_end, has
from saga_coordinator.saga.words.canonical import NotCanonical, canonical
from saga_coordinator.saga.words.errors import ExpressionError, Fault
from saga_coordinator.saga.words.limits import EXPRESSION_CHARACTERS_MAX
from saga_coordinator.saga.words.meter import CHARACTERS_PER_UNIT
from saga_coordinator.saga.words.work import spend

_ROOT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)")
_SELECTOR = re.compile(
    r"""\.(?P<field>[A-Za-z_][A-Za-z0-9_]*) | \[\s*(?:(?P<index>[0-9]{1,9}) | "(?P<key>[^"\\]*)")\s*\]""",
    re.VERBOSE,
)
_SELECTION_PRICE = 15
_CALCULATION_PRICE = 150
_PRICE_OF_CHARACTER = 8
"""Units of work for compiling an expression."""
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_WORDS_AT_ONCE = 256
_WORK_PER_WORD = 50
"""Units of `meter` for writing a word of JSON, such as a number: 1.5 us."""
_LITERALS = frozenset({"true", "false", "null"})


@dataclass(frozen=True, slots=True)
class Selection:
    """An expression that only selects: the root's name, then field names and list indexes."""

    source: str
    root: str
    selectors: tuple[str | int, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The path that the expression reads."""
        return (Reference(self.root, self.selectors),)

    def evaluate(self, scope: Scope) -> Any:
        """The value that the path leads to.

        A selection from an `output` that is null is null, too. If the outcome of an action is unknown, its output is never
        known, but its compensation is needed nevertheless. The participant finds the action by its key.

        Raises:
            ExpressionError: a field or an item on the way does not exist; says which, and what was there instead.
        """
        try:
            value = scope[self.root]
        except KeyError:
            raise ExpressionError(f"${{{self.source}}}: there is no `{self.root}` here") from None
        if value is None and self.root == "output":
            return None
        for position, selector in enumerate(self.selectors):
            if not has(value, selector):
                reached = Reference(self.root, self.selectors[:position])
                raise ExpressionError(f"${{{self.source}}}: {dead_end(reached, value, selector)}")
            value = value[selector]
        return value


Expression = Selection | Calculation
"""Has its `source`, the `references` that it reads, and evaluates a scope to a JSON value."""


def parse_expression(source: str) -> Expression:
    """Compiles the inside of a `${...}`. Whether the names it reads exist is another question: see `scope.py`.

    Raises:
        ExpressionError: it is not CEL, or more than may be evaluated here; the message says where and why.
    """
    if len(source) > EXPRESSION_CHARACTERS_MAX:
        raise ExpressionError(f"is longer than {EXPRESSION_CHARACTERS_MAX} characters")
    stripped = source.strip()
    if not stripped:
        raise ExpressionError("is empty; write an expression such as `input.order_id`")
    spend(_SELECTION_PRICE)
    if (selection := _selection(stripped)) is not None:
        return selection
    spend(_CALCULATION_PRICE + _PRICE_OF_CHARACTER * len(stripped))
    return compile_calculation(stripped)


def _selection(source: str) -> Selection | None:
    root = _ROOT.match(source)
    if root is None or source in _LITERALS:
        return None
    selectors: list[str | int] = []
    end = root.end()
    while match := _SELECTOR.match(source, end):
        field, index, key = match.group("field", "index", "key")
        selectors.append(int(index) if index is not None else key if field is None else field)
        end = match.end()
    return None if source[end:] else Selection(source, root.group(1), tuple(selectors))


@dataclass(frozen=True, slots=True)
class Template:
    """A payload with references, compiled once and rendered for every attempt."""

    source: Any
    expressions: tuple[Expression, ...]
    _render: Callable[[Scope], Any]

    def render(self, scope: Scope) -> Any:
        """The payload with every reference replaced. Raises ExpressionError as `Expression.evaluate` does."""
        return self._render(scope)


_OPENING = re.compile(r"\$\$\{|\$\{")
_TOKEN = re.compile(
    r"""
    (?<![A-Za-z0-9_]) [bB]?[rR][bB]? (?: \"{3}.*?\"{3} | \'{3}.*?\'{3} | \"[^"]*\" | \'[^']*\' )  # raw strings
    | \"{3}(?:[^\\]|\\.)*?\"{3} | \'{3}(?:[^\\]|\\.)*?\'{3} | \"(?:[^"\\]|\\.)*\" | \'(?:[^'\\]|\\.)*\'
    | //[^\n]* | [{}]
    """,
    re.VERBOSE | re.DOTALL,
)


def compile_template(source: Any, path: str, faults: list[Fault]) -> Template:
    """Compiles a JSON value; adds a fault with its path for each expression that does not parse.

    The rendered payload is canonical if the values that it refers to are.
    """
    try:
        source = canonical(source)
    except NotCanonical as error:
        faults.append(Fault(path, str(error)))
    expressions: list[Expression] = []
    render = _compile(source, path, faults, expressions)
    return Template(source, tuple(expressions), render or (lambda scope: source))


_Render = Callable[[Scope], Any]


def _compile(source: Any, path: str, faults: list[Fault], found: list[Expression]) -> _Render | None:
    """The function that renders `source`; None if `source` has no expression."""
    spend(1)
    if isinstance(source, str):
        return _compile_text(source, path, faults, found)
    if isinstance(source, list):
        items = [_compile(item, f"{path}[{index}]", faults, found) for index, item in enumerate(source)]
        if any(items):
            return lambda scope: [
                render(scope) if render else item for render, item in zip(items, source, strict=True)
            ]
    elif isinstance(source, dict):
        fields = {name: _compile(item, f"{path}.{name}", faults, found) for name, item in source.items()}
        if any(fields.values()):
            return lambda scope: {
                name: render(scope) if render else source[name] for name, render in fields.items()
            }
    return None


def _compile_text(source: str, path: str, faults: list[Fault], found: list[Expression]) -> _Render | None:
    parts: list[str | Expression] = []
    end = 0
    while opening := _OPENING.search(source, end):
        parts.append(source[end : opening.start()])
        if opening.group() == "$${":
            parts.append("${")
            end = opening.end()
            continue
        closing = closing_brace(source, opening.end())
        if closing is None:
            faults.append(Fault(path, "`${` without a closing `}`; write `$${` for a literal `${`"))
            return None
        try:
            parts.append(parse_expression(source[opening.end() : closing]))
        except ExpressionError as error:
            faults.append(Fault(path, str(error)))
        end = closing + 1
    parts.append(source[end:])
    kept = [part for part in parts if part != ""]
    found.extend(part for part in kept if isinstance(part, Selection | Calculation))
    match kept:
        case [(Selection() | Calculation()) as only]:
            return only.evaluate
        case _ if any(isinstance(part, Selection | Calculation) for part in kept):
            return lambda scope: "".join(
                part if isinstance(part, str) else _inserted(part.evaluate(scope), scope) for part in kept
            )
        case _:
            text = "".join(str(part) for part in kept)
            return None if text == source else lambda scope: text


def closing_brace(source: str, start: int) -> int | None:
    """The position of the `}` that ends the expression at `start`. Braces in strings, comments and maps do not end it."""
    depth = 0
    for token in _TOKEN.finditer(source, start):
        if token.group() == "}":
            if not depth:
                return token.start()
            depth -= 1
        elif token.group() == "{":
            depth += 1
    return None


def _inserted(value: Any, scope: Scope) -> str:
    text = as_text(value, scope)
    charge(scope, len(text) // CHARACTERS_PER_UNIT)
    return text


def as_text(value: Any, scope: Scope) -> str:
    """A text as it is; every other value as compact JSON.

    It is written value by value, so that the interpreter may change hands in between: writing 95,000 fractions at one go takes
    160 ms. Raises TooMuchHere if `scope` counts the work and it is too much for this thread.
    """
    if isinstance(value, str):
        return value
    written: list[str] = []
    words = _JSON.iterencode(value)
    while some := list(islice(words, _WORDS_AT_ONCE)):
        charge_aside(scope, len(some) * _WORK_PER_WORD)
        written += some
    return "".join(written)
