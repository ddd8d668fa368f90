"""References inside payloads: `${input.order_id}`, `${steps.reserve.output.lines[0]["sku"]}`.

The language is the part of CEL (https://github.com/google/cel-spec) that selects a value, so every definition written today
keeps its meaning when more of CEL is let in. A string that is one `${...}` becomes the value itself; references inside longer
strings become text. `$${` stands for a literal `${`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saga_coordinator.saga.errors import ExpressionError, Fault

EXPRESSION_CHARACTERS_MAX = 4096

_ROOT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)")
_SELECTOR = re.compile(
    r"""\.(?P<field>[A-Za-z_][A-Za-z0-9_]*) | \[\s*(?:(?P<index>[0-9]{1,9}) | "(?P<key>[^"\\]*)")\s*\]""",
    re.VERBOSE,
)
_OPENING = re.compile(r"\$\$\{|\$\{")

Scope = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled reference: the root's name, then field names and list indexes."""

    source: str
    root: str
    selectors: tuple[str | int, ...]

    def evaluate(self, scope: Scope) -> Any:
        """The value referred to.

        Whatever is selected from an `output` that is null is null too: what an action of unknown outcome returned is never known,
        and its compensation is needed all the same. The participant finds the action by its key.

        Raises:
            ExpressionError: a field or an item on the way does not exist; says which, and what was there instead.
        """
        value = scope[self.root]
        if value is None and self.root == "output":
            return None
        for position, selector in enumerate(self.selectors):
            if not _has(value, selector):
                raise ExpressionError(self._dead_end(position, value))
            value = value[selector]
        return value

    def _dead_end(self, position: int, value: Any) -> str:
        reached = self.root + "".join(
            f"[{selector}]" if isinstance(selector, int) else f".{selector}"
            for selector in self.selectors[:position]
        )
        selector = self.selectors[position]
        wanted = f"item {selector}" if isinstance(selector, int) else f"field {selector!r}"
        return f"${{{self.source}}}: no {wanted} in `{reached}`, which is {_describe(value)}"


def _has(value: Any, selector: str | int) -> bool:
    if isinstance(selector, str):
        return isinstance(value, Mapping) and selector in value
    return isinstance(value, list) and selector < len(value)


def _describe(value: Any) -> str:
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
            names = ", ".join(sorted(value)[:8])
            return f"an object with {len(value)} field(s){': ' + names if names else ''}"


def parse_expression(source: str) -> Expression:
    """Compiles the inside of a `${...}`.

    Raises:
        ExpressionError: it is not a reference; the message says where it stops being one.
    """
    if len(source) > EXPRESSION_CHARACTERS_MAX:
        raise ExpressionError(f"is longer than {EXPRESSION_CHARACTERS_MAX} characters")
    root = _ROOT.match(source)
    if root is None:
        raise ExpressionError(f"`{source}` must begin with a name such as `input`")
    selectors: list[str | int] = []
    end = root.end()
    while match := _SELECTOR.match(source, end):
        field, index, key = match.group("field", "index", "key")
        selectors.append(int(index) if index is not None else key if field is None else field)
        end = match.end()
    if source[end:].strip():
        raise ExpressionError(
            f'`{source}` is not a reference from character {end + 1} on: only `.field`, `[0]` and `["key"]` may follow a name'
        )
    return Expression(source.strip(), root.group(1), tuple(selectors))


@dataclass(frozen=True, slots=True)
class Template:
    """A payload with references, compiled once and rendered for every attempt."""

    source: Any
    expressions: tuple[Expression, ...]
    _render: Callable[[Scope], Any]

    def render(self, scope: Scope) -> Any:
        """The payload with every reference replaced. Raises ExpressionError as `Expression.evaluate` does."""
        return self._render(scope)


def compile_template(source: Any, path: str, faults: list[Fault]) -> Template:
    """Compiles a JSON value; adds a fault with its path for each expression that does not parse."""
    expressions: list[Expression] = []
    render = _compile(source, path, faults, expressions)
    return Template(source, tuple(expressions), render or (lambda scope: source))


_Render = Callable[[Scope], Any]


def _compile(source: Any, path: str, faults: list[Fault], found: list[Expression]) -> _Render | None:
    """How to render `source`; None when it stays as it is."""
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
        closing = _closing_brace(source, opening.end())
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
    found.extend(part for part in kept if isinstance(part, Expression))
    match kept:
        case [Expression() as only]:
            return only.evaluate
        case _ if any(isinstance(part, Expression) for part in kept):
            return lambda scope: "".join(
                part if isinstance(part, str) else _as_text(part.evaluate(scope)) for part in kept
            )
        case _:
            text = "".join(str(part) for part in kept)
            return None if text == source else lambda scope: text


def _closing_brace(source: str, start: int) -> int | None:
    """The `}` that ends the expression beginning at `start`; one inside a quoted key does not."""
    is_quoted = False
    for position in range(start, len(source)):
        character = source[position]
        if character == '"':
            is_quoted = not is_quoted
        elif character == "}" and not is_quoted:
            return position
    return None


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
