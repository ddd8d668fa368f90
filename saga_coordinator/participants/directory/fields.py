"""Reads objects of a directory file field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.nearest import did_you_mean


def read_fields(
    source: Any, place: str, known: tuple[str, ...], faults: list[Fault]
) -> Mapping[str, Any] | None:
    """Reads `source` as an object of `known` fields; every other field is a fault. None if `source` is no object."""
    if not isinstance(source, Mapping):
        faults.append(Fault(place, f"must be an object with {', '.join(known)}"))
        return None
    for name in source:
        if name not in known:
            where = f"{place}.{name}" if place else name
            said = f"is not a known field; there are: {', '.join(known)}{did_you_mean(str(name), known)}"
            faults.append(Fault(where, said))
    return source
