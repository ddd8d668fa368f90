"""Arithmetic in decimals: exact as on paper, with 34 digits, so that `19.99 * 100` is 1999.

A JSON number is read as the digits with which it is written: 19.99 is nineteen and ninety-nine hundredths, and not the double
next to it. The result is the double that is nearest to the exact result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import (
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
)
from typing import Any

DIGITS_MAX = 15
"""The most places to which `round` rounds, on either side of the point: a double keeps no more."""

_WITHOUT_FRACTION = 2.0**53
_PAPER = Context(prec=34, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero])
_ROUNDING = Context(prec=400, rounding=ROUND_HALF_UP, traps=[InvalidOperation])
_SIGNS: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": _PAPER.add,
    "-": _PAPER.subtract,
    "*": _PAPER.multiply,
    "/": _PAPER.divide,
    "%": _PAPER.remainder,
}


def calculated(program: str, operands: Sequence[Any]) -> Any:
    """The result of a formula. `program` is the formula in postfix notation; a whole number in it is the index of an operand, and
    `~` changes the sign: `0 1 * ~` is `-(a * b)`.

    `+` joins texts and lists, too, as it does elsewhere.

    Raises:
        ValueError: an operand cannot be calculated with, the divisor is zero, or the result is no finite number.
    """
    stack: list[Any] = []
    try:
        for word in _words(program):
            if isinstance(word, int):
                stack.append(_read(operands[word]))
            elif word == "~":
                stack.append(_negative(stack.pop()))
            else:
                right = stack.pop()
                stack.append(_applied(word, stack.pop(), right))
    except DivisionByZero:
        raise ValueError("division by zero") from None
    except (DecimalException, OverflowError):
        raise ValueError("the numbers are too large or too small to calculate with exactly") from None
    return _written(stack.pop())


def total(items: Sequence[Any]) -> float:
    """The sum of a list of numbers; 0 for an empty list. Raises ValueError if an item is no number, or the sum is not finite."""
    for index, item in enumerate(items):
        if not _is_number(item):
            raise ValueError(f"`sum` adds numbers; item {index} is {_kind(item)}")
    if sum(map(abs, items)) < _WITHOUT_FRACTION and all(float(item).is_integer() for item in items):
        return float(sum(items))
    add, found = _PAPER.add, Decimal(0)
    for item in items:
        found = add(found, _read(item))
    return _double(found)


def extreme(choose: Callable[..., Any], name: str, items: Sequence[Any]) -> Any:
    """The item that `choose` (`min` or `max`) chooses. Raises ValueError if there is no item, or if the items have no order."""
    if not items:
        raise ValueError(f"`{name}` of no items; ask for the list's size first")
    if not all(map(_is_number, items)) and not all(isinstance(item, str) for item in items):
        kinds = " and ".join(sorted({_kind(item) for item in items}))
        raise ValueError(f"`{name}` compares numbers with numbers, or texts with texts; it is given {kinds}")
    return choose(items)


def rounded(number: float, digits: float) -> float:
    """The number with that many digits behind the point; negative digits are in front of it. A half is rounded away from zero.

    Raises:
        ValueError: the number is not finite, or `digits` is no whole number from -15 to 15.
    """
    if not digits.is_integer() or abs(digits) > DIGITS_MAX:
        raise ValueError(f"`round` takes a whole number of digits, from -{DIGITS_MAX} to {DIGITS_MAX}")
    _check_finite(number)
    if digits >= 0 and number.is_integer():
        return number
    unit = Decimal(1).scaleb(-int(digits))
    return float(Decimal(repr(number)).quantize(unit, context=_ROUNDING))


def below(number: float) -> float:
    """The largest whole number that is not larger. Raises ValueError if the number is not finite."""
    _check_finite(number)
    return float(math.floor(number))


def above(number: float) -> float:
    """The smallest whole number that is not smaller. Raises ValueError if the number is not finite."""
    _check_finite(number)
    return float(math.ceil(number))


@functools.lru_cache(256)
def _words(program: str) -> tuple[int | str, ...]:
    return tuple(int(word) if word.isdigit() else word for word in program.split())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(value: Any) -> Any:
    """A number as a decimal, and every other value as it is."""
    if not _is_number(value):
        return value
    if isinstance(value, int):
        raise ValueError(f"{value} is too large a whole number to calculate with; keep it as a string")
    _check_finite(value)
    return Decimal(repr(value))


def _written(value: Any) -> Any:
    return _double(value) if isinstance(value, Decimal) else value


def _double(value: Decimal) -> float:
    number = float(value)
    _check_finite(number)
    return number


def _check_finite(number: float) -> None:
    if not math.isfinite(number):
        raise ValueError("there is no finite number to calculate with")


def _negative(value: Any) -> Any:
    if not isinstance(value, Decimal):
        raise ValueError(f"`-` does not take {_kind(value)}")
    return -value


def _applied(sign: str, left: Any, right: Any) -> Any:
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return _SIGNS[sign](left, right)
    if sign == "+" and type(left) is type(right) and isinstance(left, str | list):
        return left + right
    raise ValueError(f"`{sign}` does not take {_kind(left)} and {_kind(right)}")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case Decimal() | int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case datetime():
            return "a timestamp"
        case timedelta():
            return "a duration"
        case _:
            return f"a value of the type {type(value).__name__}"
