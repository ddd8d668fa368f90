"""What Postgres makes of JSON: `jsonb` has an order of keys of its own, and writes every number in full."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


def jsonb(value: Any) -> bytes:
    """The JSON as it is read back."""
    return _text(value).encode()


def _text(value: Any) -> str:
    match value:
        case dict():
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return f"{{{','.join(f'{json.dumps(key)}:{_text(value[key])}' for key in keys)}}}"
        case list() | tuple():
            return f"[{','.join(map(_text, value))}]"
        case float():
            return format(Decimal(repr(value)) + 0, "f")  # 0 is added to -0, of which numeric knows nothing
        case _:
            return json.dumps(value)
