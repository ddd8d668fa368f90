"""The price of each keyword of JSON Schema, in units of work. It depends on the keyword's value, on the checked value and on
the schema around the keyword.

The price of each keyword was measured by checking large values. Keywords inside a keyword pay for themselves. If a keyword
tries each of several things on each of several others, it costs the product of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from saga_coordinator.saga.schema.values import weight_of

Price = Callable[[Any, Any, Any], int]

BASE_PRICE = 3
"""The price of looking at a keyword, which is more than most comparisons cost."""
ERROR_PRICE = 15
"""The price of each fault that is found, whether it is shown or not."""
_DESCENT = 4
"""The price of handing a value to an inner schema. An empty inner schema would pay for nothing itself."""
_REFERENCE = 25
"""The price of looking up a `$ref` and handing the value on."""
_PER_CHARACTER = 8
_CHARACTERS_AND_INSTRUCTIONS = 1024
"""The price of matching a text with a pattern. If the pattern has too many states to be run as one machine, the work is the
product of both lengths.
"""

PARTS = "\0parts"
"""The field of a compiled schema with `unevaluated...` that tells how many schemas there are in the whole."""


def price_of(keyword: str) -> Price:
    return _PRICES.get(keyword, _flat)


def _flat(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE


def _alternatives(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE + _DESCENT * len(asked)


def _reference(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE + _REFERENCE


def _each_item(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE + (_DESCENT * len(value) if isinstance(value, list) else 0)


def _each_key(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE + (_DESCENT * len(value) if isinstance(value, dict) else 0)


def _named(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE + (
        len(asked) // 8 + _DESCENT * min(len(asked), len(value)) if isinstance(value, dict) else 0
    )


def _names(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE + (len(asked) // 8 if isinstance(value, dict) else 0)


def _dependent_names(asked: Any, value: Any, schema: Any) -> int:
    if not isinstance(value, dict):
        return BASE_PRICE
    return (
        BASE_PRICE + len(asked) // 8 + sum(len(names) for name, names in asked.items() if name in value) // 8
    )


def _patterns_on_keys(asked: Any, value: Any, schema: Any) -> int:
    """Counts each pattern for each key: two units for an ordinary pattern, more if keys or patterns are long."""
    if not isinstance(value, dict):
        return BASE_PRICE
    return BASE_PRICE + len(asked) + _searches(asked, value)


def _additional(asked: Any, value: Any, schema: Any) -> int:
    if not isinstance(value, dict):
        return BASE_PRICE
    patterns = schema.get("patternProperties", ())
    return BASE_PRICE + _DESCENT * len(value) + len(patterns) + _searches(patterns, value)


def _searches(patterns: Any, value: Mapping[str, Any]) -> int:
    if not patterns or not value:
        return 0
    characters = sum(map(len, value))
    weight = sum(map(weight_of, patterns))
    return 2 * len(patterns) * len(value) + characters * weight // _CHARACTERS_AND_INSTRUCTIONS


def _pattern(asked: Any, value: Any, schema: Any) -> int:
    if not isinstance(value, str):
        return BASE_PRICE
    per_character = _PER_CHARACTER + weight_of(asked)
    return BASE_PRICE + 2 + len(value) * per_character // _CHARACTERS_AND_INSTRUCTIONS


def _format(asked: Any, value: Any, schema: Any) -> int:
    return BASE_PRICE + (3 + min(len(value), 2048) // 64 if isinstance(value, str) else 0)


def _unevaluated(asked: Any, value: Any, schema: Any) -> int:
    """The price of `unevaluated...`: for each field or item, the library goes through the whole schema, and searches a list of
    the fields or items that are known.
    """
    if not isinstance(value, list | dict):
        return BASE_PRICE
    count = len(value)
    parts = int(schema.get(PARTS, 0))
    return BASE_PRICE + _DESCENT * count + count**2 // 100 + count * parts // 16


_PRICES: Mapping[str, Price] = {
    "$ref": _reference,
    "additionalProperties": _additional,
    "allOf": _alternatives,
    "anyOf": _alternatives,
    "contains": _each_item,
    "dependentRequired": _dependent_names,
    "dependentSchemas": _named,
    "format": _format,
    "items": _each_item,
    "oneOf": _alternatives,
    "pattern": _pattern,
    "patternProperties": _patterns_on_keys,
    "prefixItems": _alternatives,
    "properties": _named,
    "propertyNames": _each_key,
    "required": _names,
    "unevaluatedItems": _unevaluated,
    "unevaluatedProperties": _unevaluated,
}
"""`const`, `enum`, `multipleOf` and `uniqueItems` pay for their comparisons as they make them: see `values`."""
