"""A version of a definition as people see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class RegisteredDefinition:
    """`spec` is the canonical JSON form; `deprecated` and `is_default` are as they were when this was read."""

    name: str
    version: int
    digest: str
    spec: dict[str, Any]
    registered_at: datetime
    deprecated: bool = False
    is_default: bool = False
