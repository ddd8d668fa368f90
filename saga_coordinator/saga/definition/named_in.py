"""Finds what a definition names outside of itself: the definitions that its steps run as children, and participants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from saga_coordinator.saga.definition.declared import steps_within


class ChildNamed(NamedTuple):
    """The step at `path` runs `version` of a definition as its child. 0 is the version that its sagas start with at that
    time.
    """

    path: str
    definition: str
    version: int


class ParticipantNamed(NamedTuple):
    """The operation at `path` calls the participant."""

    path: str
    participant: str


def children_named(spec: Mapping[str, Any]) -> Iterator[ChildNamed]:
    """Yields the children that a valid definition names, from its canonical JSON form, in the order of the steps."""
    for path, step in steps_within(spec, ""):
        child = step.get("saga")
        if child:
            yield ChildNamed(f"{path}.saga", child["definition"], int(child.get("version", 0)))


def participants_named(spec: Mapping[str, Any]) -> Iterator[ParticipantNamed]:
    """Yields the participants that a valid definition names, from its canonical JSON form, in the order of the steps."""
    for path, step in steps_within(spec, ""):
        for kind in ("action", "compensation"):
            if name := (step.get(kind) or {}).get("participant"):
                yield ParticipantNamed(f"{path}.{kind}.participant", name)
