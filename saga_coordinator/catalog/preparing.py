"""Turns the definition that a caller gave into the definition that is stored: checks its size, expands it once, and parses it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from saga_coordinator.saga.definition.bounds import check_size
from saga_coordinator.saga.definition.declared import Declarations, expanded, used_steps
from saga_coordinator.saga.definition.named_in import ChildNamed, children_named
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.definition.participant_defaults import with_defaults
from saga_coordinator.saga.words.canonical import digest_bytes
from saga_coordinator.saga.words.limits import Limits


@dataclass(frozen=True, slots=True)
class Prepared:
    """A valid definition that needs nothing else to be understood.

    Attributes:
        spec: its canonical JSON form.
        written: the same as JSON text.
        declarations: the declared steps that it uses, as participants had declared them, by the names that it uses.
        children: the definitions that its steps run.
    """

    name: str
    spec: dict[str, Any]
    digest: str
    written: str
    declarations: Declarations
    children: tuple[ChildNamed, ...]


def steps_to_read(spec: dict[str, Any], limits: Limits) -> frozenset[str]:
    """The declared steps that the definition uses. Raises InvalidDefinition if it is too large to be looked at."""
    check_size(spec, limits)
    return used_steps(spec)


def prepare(
    spec: dict[str, Any],
    declarations: Declarations,
    defaults: Mapping[str, Mapping[str, Any]],
    limits: Limits,
) -> Prepared:
    """Fills in the declared steps, and the participants' usual timeouts and retries from `defaults`; then parses.

    Raises:
        InvalidDefinition: with every fault.
    """
    whole = with_defaults(expanded(spec, declarations, limits), defaults)
    definition = parse_definition(whole, limits)
    digest = hashlib.sha256(digest_bytes(whole)).hexdigest()
    return Prepared(
        definition.name,
        whole,
        digest,
        orjson.dumps(whole).decode(),
        declarations,
        tuple(children_named(whole)),
    )
