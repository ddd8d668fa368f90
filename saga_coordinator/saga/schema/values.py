"""Comparisons of JSON values and matching of patterns, as JSON Schema defines them. Each comparison pays for what it looks
at.
"""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Any

import orjson
import re2

from saga_coordinator.saga.expressions.cost import pattern_weight
from saga_coordinator.saga.words.work import spend

_CHARACTERS_PER_UNIT = 256
_FRACTION_PRICE = 12
_EXPONENT_PER_UNIT = 8
_DECIMAL = Context(prec=60, traps=[InvalidOperation])


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def canonical(value: Any) -> bytes:
    """A form of the value that is the same for values that JSON Schema takes as equal: 1 and 1.0 are equal, 1 and true are not.
    Raises TooMuchWork.
    """
    spend(1)
    if isinstance(value, float) and value.is_integer():
        value = int(value) if abs(value) < 2**63 else value
    elif isinstance(value, str):
        spend(len(value) // _CHARACTERS_PER_UNIT)
    elif isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    elif isinstance(value, dict):
        spend(len(value))
        return (
            b"{" + b",".join(orjson.dumps(key) + b":" + canonical(value[key]) for key in sorted(value)) + b"}"
        )
    return orjson.dumps(value)


def are_equal(value: Any, other: Any) -> bool:
    """Tells whether two values have the same canonical form. It makes no such form, because most values differ at once. Raises
    TooMuchWork.
    """
    spend(1)
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list):
        return (
            isinstance(other, list)
            and len(value) == len(other)
            and all(are_equal(one, two) for one, two in zip(value, other, strict=True))
        )
    if isinstance(value, dict):
        return (
            isinstance(other, dict)
            and value.keys() == other.keys()
            and all(are_equal(one, other[name]) for name, one in value.items())
        )
    if isinstance(value, str):
        spend(len(value) // _CHARACTERS_PER_UNIT)
        return isinstance(other, str) and value == other
    if is_number(value):
        return is_number(other) and bool(value == other)
    return value is None and other is None


def is_multiple(value: float, step: float) -> bool:
    """Tells whether `value` is a multiple of `step`, in the decimal digits that people write: 19.99 is a multiple of 0.01."""
    if isinstance(value, int) and isinstance(step, int):
        return bool(step) and value % step == 0
    spend(2)
    written, by = repr(value), repr(step)
    try:
        return _DECIMAL.remainder(Decimal(written), Decimal(by)) == 0
    except InvalidOperation:  # the quotient has too many digits, or the step is none
        exponents = sum(abs(int(each.partition("e")[2] or 0)) for each in (written, by))
        spend(_FRACTION_PRICE + exponents // _EXPONENT_PER_UNIT)
        return bool(step) and (Fraction(written) / Fraction(by)).denominator == 1


@lru_cache(maxsize=1024)
def pattern_of(source: str) -> Any:
    """The compiled pattern. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(source, options)


@lru_cache(maxsize=4096)
def weight_of(source: str) -> int:
    """About how many instructions the pattern is, at least 1."""
    return max(1, pattern_weight(source))


def pattern_problem(source: str) -> str | None:
    """Why the pattern cannot be used, or None."""
    try:
        pattern_of(source)
    except re2.error as error:
        said = error.args[0] if error.args else error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return f"is not a regular expression of RE2, which has no look-around and no back-references: {text}"
    return None
