"""The timeouts and retries of a participant, for operations that do not give their own.

They are written into a definition when it is registered. So a later change in the directory changes no saga.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from saga_coordinator.saga.definition.declared import steps_within
from saga_coordinator.saga.definition.parsing_actions import BACKOFF_FIELDS, read_defaults
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.json_object import JsonObject

_RETRIES = {"action": "retry", "compensation": "compensation_retry"}


def check_defaults(source: Any, place: str, faults: list[Fault]) -> None:
    """Adds the faults of a participant's `defaults`, which are in JSON form."""
    if isinstance(source, Mapping) and "recovery" in source:
        faults.append(Fault(f"{place}.recovery", "is given by definitions; leave it out"))
    read_defaults(JsonObject(source, place, faults))


def with_defaults(spec: Mapping[str, Any], of: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The definition, in its canonical JSON form, with timeouts and retries that neither the definition nor its operations give
    taken from `of`, the defaults by participant.
    """
    filled = copy.deepcopy(dict(spec))
    own = filled.get("defaults") or {}
    for _, step in steps_within(filled, ""):
        for kind, retry in _RETRIES.items():
            operation = step.get(kind)
            if not isinstance(operation, dict) or operation.get("participant") not in of:
                continue
            given = of[operation["participant"]]
            if "timeout" in given and "timeout" not in own:
                operation.setdefault("timeout", given["timeout"])
            if retry in given:
                operation["retry"] = _merged(given[retry], own.get(retry, {}), operation.get("retry", {}))
    return filled


def _merged(*policies: Mapping[str, Any]) -> dict[str, Any]:
    """One retry policy of several; a later one has precedence. Listed pauses replace computed ones, and the other way round."""
    merged: dict[str, Any] = {}
    for policy in policies:
        replaced: tuple[str, ...] = BACKOFF_FIELDS if "pauses" in policy else ()
        if any(name in policy for name in BACKOFF_FIELDS):
            replaced = (*replaced, "pauses")
        merged = {**{name: value for name, value in merged.items() if name not in replaced}, **policy}
    return merged
