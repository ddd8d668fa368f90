"""A difference between two definitions, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

_SHOWN_CHARACTERS_MAX = 120


@dataclass(frozen=True, slots=True)
class Change:
    """`path` says where (`steps.charge.action.timeout`); A breaking change is one that callers or running businesses may have
    to react to.
    """

    path: str
    description: str
    is_breaking: bool = False


def shown(value: Any) -> str:
    """A value as JSON, cut if it is long. A text comes without its quotes."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}..."
