"""The canonical form of a payload. Decisions, storage, comparisons and calls all use it, whoever made the payload and however
often it was stored.

A payload gets this form once, where it comes in: from a request, an answer, an event, an expression, or a row. Postgres keeps
`jsonb`, which has its own order of keys and writes every number in full. So a payload that was read from Postgres is brought
into this form again: `canonical(read(jsonb(canonical(payload))))` and `canonical(payload)` are the same, byte for byte when
they are written down.

- The keys of an object are in the order of their code points, which is the order of their bytes in UTF-8.
- A number without a fraction is an int from -2**63 to 2**64 - 1. A double beyond 2**53 becomes the int that its shortest decimal
  form stands for, as JavaScript writes it: 1.2345678901234568e18 is 1234567890123456800. Both lead to the same double.
- Every other number is a float; -0.0 is 0. Whole numbers beyond 64 bits are the nearest double.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

import orjson

WHOLE_MIN = -(2**63)
WHOLE_MAX = 2**64 - 1
"""The range of whole numbers that are kept exactly: orjson writes them, and jsonb returns them unchanged."""

_SMALL = 2**53
"""Below this size, each whole number has a double of its own."""

_AS_THEY_ARE = frozenset({str, bool, type(None)})


class NotCanonical(ValueError):
    """A value has no canonical form: JSON does not know its type, or it is a number that no double can hold."""


def canonical(value: Any) -> Any:
    """The payload in its canonical form, which is `value` itself if it already has that form.

    Raises:
        NotCanonical: `value` is no payload. The message says what was found in it.
    """
    return value if has_form(value) else _rebuilt(value)


def has_form(value: Any) -> bool:
    """Tells whether the value is a payload in its canonical form. Takes 0.1 us for each value in it."""
    kind = type(value)
    if kind is dict:
        return _is_in_order(value)
    if kind is list:
        for item in value:
            kind = type(item)
            if (
                kind not in _AS_THEY_ARE
                and not (kind is int and -_SMALL < item < _SMALL)
                and not has_form(item)
            ):
                return False
        return True
    if kind is int:
        return bool(WHOLE_MIN <= value <= WHOLE_MAX)
    if kind is float:
        return type(canonical_number(value)) is float
    return kind in _AS_THEY_ARE


def _is_in_order(value: dict[Any, Any]) -> bool:
    last = ""
    for key, item in value.items():
        if type(key) is not str or key < last:
            return False
        last = key
        kind = type(item)
        if kind not in _AS_THEY_ARE and not (kind is int and -_SMALL < item < _SMALL) and not has_form(item):
            return False
    return True


def _rebuilt(value: Any) -> Any:
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is int:
        return value if WHOLE_MIN <= value <= WHOLE_MAX else _beyond(value)
    if kind is float:
        return canonical_number(value)
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise NotCanonical("must have keys that are strings")
        return {
            key: item if type(item := value[key]) in _AS_THEY_ARE else _rebuilt(item) for key in sorted(value)
        }
    if isinstance(value, list | tuple):
        return [item if type(item) in _AS_THEY_ARE else _rebuilt(item) for item in value]
    raise NotCanonical(f"must be a JSON value, not {kind.__name__}")


def canonical_number(value: float) -> int | float:
    """The canonical form of the double. Raises NotCanonical if the double is not finite."""
    if not value.is_integer():
        if not isfinite(value):
            raise NotCanonical("must be a finite number")
        return value
    if -_SMALL < value < _SMALL:
        return int(value)
    if WHOLE_MIN <= value <= WHOLE_MAX:
        shortest = int(Decimal(repr(value)))
        if WHOLE_MIN <= shortest <= WHOLE_MAX:
            return shortest
    return value


def canonical_bytes(value: Any) -> bytes:
    """The canonical form as compact JSON in UTF-8: two payloads are the same if these are. Raises NotCanonical."""
    try:
        return orjson.dumps(canonical(value))
    except orjson.JSONEncodeError as error:
        raise NotCanonical(f"cannot be written as JSON: {error}") from None


def digest_bytes(value: Any) -> bytes:
    """The bytes that a digest is taken of: keys in order, and large whole numbers as doubles, as the first version of the
    program wrote them.

    So a request and its repetition have the same digest, whichever version of the program each of them reached. Whole numbers
    that no double can represent stay as they are.
    """
    form = _with_doubles(value) if _has_large_whole(value) else value
    return orjson.dumps(form, option=orjson.OPT_SORT_KEYS)


def _has_large_whole(value: Any) -> bool:
    """Tells whether the value contains a whole number of 2**53 or more, or below -2**53.

    The values are looked at one by one. A search through their text would hold the interpreter for as long as it takes.
    """
    kind = type(value)
    if kind in _AS_THEY_ARE or kind is float:
        return False
    if kind is int:
        return not -_SMALL < value < _SMALL
    return any(map(_has_large_whole, value.values() if isinstance(value, Mapping) else value))


def _with_doubles(value: Any) -> Any:
    if type(value) is int and abs(value) >= _SMALL:
        double = float(value)
        return double if canonical_number(double) == value else value
    if isinstance(value, dict):
        return {key: _with_doubles(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_doubles(item) for item in value]
    return value


def _beyond(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise NotCanonical("must be within the range of a double") from None
