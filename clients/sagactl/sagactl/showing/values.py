"""Picks fields out of plain values, and words what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_COLOURS: Mapping[str, str] = {
    "COMPLETED": "green",
    "SUCCEEDED": "green",
    "SERVING": "green",
    "CLOSED": "green",
    "DONE": "green",
    "RUNNING": "blue",
    "WAITING": "blue",
    # Undone is not done, so it is never green.
    "COMPENSATING": "amber",
    "COMPENSATED": "amber",
    "HALF_OPEN": "amber",
    "REFUSED": "amber",
    "NEEDS_ATTENTION": "red",
    "ABANDONED": "red",
    "FAILED": "red",
    "OPEN": "red",
    "NOT_SERVING": "red",
    "PENDING": "faint",
    "SKIPPED": "faint",
}

_PREFIXES = (
    "SAGA_STATUS_",
    "STEP_STATUS_",
    "EFFECT_",
    "OPERATION_KIND_",
    "BREAKER_STATE_",
    "BREAKER_CONTROL_",
    "PARTICIPANT_SOURCE_",
    "ACT_VERB_",
    "ACT_RESULT_",
    "ACT_SUBJECT_KIND_",
    "LOAD_BALANCING_",
    "REPORT_RESULT_",
)
"""What stands before the values of the contract's enums, and tells people nothing."""


def short(value: Any) -> str:
    """A value of an enum without its prefix; the number of a value that nobody knows, as such; empty for the unspecified one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value} (unknown)"
    text = str(value or "")
    if text.endswith("_UNSPECIFIED"):
        return ""
    return next((text.removeprefix(prefix) for prefix in _PREFIXES if text.startswith(prefix)), text)


def colour_of(word: str) -> str:
    """The colour of a status; empty for none. Only what took effect is green."""
    return _COLOURS.get(word, "")


def picked(value: Any, path: str) -> Any:
    """What is at `path` (`failure.code`) in a plain value: of each item of a list on the way; None if nothing is there."""
    for name in path.split("."):
        if isinstance(value, list):
            value = [each.get(name) for each in value if isinstance(each, Mapping)]
        elif isinstance(value, Mapping):
            value = value.get(name)
        else:
            return None
    return value


def with_fields(value: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """The fields, by their paths."""
    return {path: picked(value, path) for path in fields}


def worded(value: Any) -> str:
    """A value in one line of a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return short(value)
    if isinstance(value, Mapping) and all(not isinstance(each, dict | list) for each in value.values()):
        return ",".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list) and all(not isinstance(each, dict | list) for each in value):
        return ",".join(short(each) if isinstance(each, str) else str(each) for each in value)
    return json.dumps(value, ensure_ascii=False)
