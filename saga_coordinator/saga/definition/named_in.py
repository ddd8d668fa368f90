"""What a definition names outside of itself: the definitions that its steps run as children, and participants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from saga_coordinator.saga.definition.declared import steps_within


class ChildNamed(NamedTuple):
    """A step at `path` runs `version` of a definition; 0: whichever its sagas start with then."""

    path: str
    definition: str
    version: int


class ParticipantNamed(NamedTuple):
    """An operation at `path` calls it."""

    path: str
    participant: str


def children_named(spec: Mapping[str, Any]) -> Iterator[ChildNamed]:
    """In the canonical JSON form of a valid definition, in the order of the steps."""
    for path, step in steps_within(spec, ""):
        child = step.get("saga")
        if child:
            yield ChildNamed(f"{path}.saga", child["definition"], int(child.get("version", 0)))


def participants_named(spec: Mapping[str, Any]) -> Iterator[ParticipantNamed]:
    """As `children_named`."""
    for path, step in steps_within(spec, ""):
        for kind in ("action", "compensation"):
            if name := (step.get(kind) or {}).get("participant"):
                yield ParticipantNamed(f"{path}.{kind}.participant", name)
