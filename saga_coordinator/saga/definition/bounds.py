"""The bounds of a definition as a whole, which are checked before it is parsed."""

from __future__ import annotations

from typing import Any

import orjson

from saga_coordinator.saga.words.errors import Fault, InvalidDefinition
from saga_coordinator.saga.words.limits import Limits


def check_size(source: Any, limits: Limits) -> None:
    """Raises InvalidDefinition if the definition is too large to be parsed."""
    if (size := _size(source)) > limits.definition_bytes:
        raise InvalidDefinition(
            [Fault("", f"is {size} bytes as JSON; {limits.definition_bytes} is the limit")]
        )
    if _has_more_values(source, limits.definition_values):
        raise InvalidDefinition(
            [Fault("", f"has more than {limits.definition_values} items and fields, which is the limit")]
        )


def _has_more_values(source: Any, most: int) -> bool:
    """Tells whether the definition has more items and fields, in all lists and objects, than `most`."""
    found, rest = 0, [source]
    while rest and found <= most:
        value = rest.pop()
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        found += len(members)
        rest += [each for each in members if isinstance(each, dict | list)]
    return found > most


def _size(source: Any) -> int:
    """The size of the definition as JSON, in bytes. It is 0 if there is no JSON form; another check finds that fault."""
    try:
        return len(orjson.dumps(source))
    except orjson.JSONEncodeError:
        return 0
