"""Expressions that fill a whole field, such as a step's `when`. Their results must have the field's type."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from saga_coordinator.saga.expressions.expression import Expression, closing_brace, parse_expression
from saga_coordinator.saga.expressions.reference import Scope, describe
from saga_coordinator.saga.words.errors import ExpressionError, Fault

Evaluate = Callable[[Expression, Scope], Any]
"""A function that evaluates an expression to a result of one type. Raises ExpressionError."""

_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_YEAR_1_SECONDS, _YEAR_10000_SECONDS = -62_135_596_800, 253_402_300_800


def compile_condition(text: str, path: str, faults: list[Fault]) -> Expression | None:
    """Compiles CEL written bare (`input.total > 100`) or as one `${...}`; None, and a fault at `path`, if it is neither."""
    try:
        return parse_expression(_unwrapped(text))
    except ExpressionError as error:
        faults.append(Fault(path, str(error)))
        return None


def _unwrapped(text: str) -> str:
    stripped = text.strip()
    if not stripped.startswith("${"):
        return stripped
    if closing_brace(stripped, 2) != len(stripped) - 1:
        raise ExpressionError("must be one expression: either bare, or all of it within one `${...}`")
    return stripped[2:-1]


def evaluate_any(expression: Expression, scope: Scope) -> Any:
    """The expression's result, of any type. Raises ExpressionError as `evaluate` does."""
    return expression.evaluate(scope)


def evaluate_condition(expression: Expression, scope: Scope) -> bool:
    """The expression's result, a boolean. Raises ExpressionError as `evaluate` does, or if the result is no boolean."""
    result = expression.evaluate(scope)
    if not isinstance(result, bool):
        raise _wrong(expression, "true or false", result)
    return result


def evaluate_list(expression: Expression, scope: Scope) -> list[Any]:
    """The expression's result, a list. Raises ExpressionError as `evaluate` does, or if the result is no list."""
    result = expression.evaluate(scope)
    if not isinstance(result, list):
        raise _wrong(expression, "a list", result)
    return result


def evaluate_instant(expression: Expression, scope: Scope) -> float:
    """Seconds since the epoch, from a CEL timestamp, an RFC 3339 text with its offset, or a number of seconds.

    Raises:
        ExpressionError: as `evaluate` does, or when the result is none of these or outside of the years 1 to 9999.
    """
    result = expression.evaluate(scope)
    if isinstance(result, int | float) and not isinstance(result, bool):
        if not _YEAR_1_SECONDS <= result < _YEAR_10000_SECONDS:
            raise ExpressionError(
                f"${{{expression.source}}} is {result}, which no year has as seconds since 1970; divide milliseconds by 1000"
            )
        return float(result)
    if isinstance(result, str) and (seconds := _seconds(result)) is not None:
        return seconds
    raise _wrong(expression, "a time, as in `2026-01-31T09:00:00Z`, or seconds since 1970", result)


def _seconds(text: str) -> float | None:
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    day, clock, fraction, offset = found.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{offset.upper()}").timestamp()
    except ValueError:
        return None
    return whole + float(fraction or 0)


def _wrong(expression: Expression, wanted: str, result: Any) -> ExpressionError:
    shown = f"the string {result!r}" if isinstance(result, str) and len(result) <= 80 else describe(result)
    return ExpressionError(f"${{{expression.source}}} must be {wanted}; it is {shown}")
