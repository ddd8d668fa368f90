"""The sagas that are tortured: straight, with a pivot, branched, waiting for reports, and sleeping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.json_format import ParseDict
from saga_client.v1.definition_pb2 import Definition

from proof.plan import Plan

PARTICIPANTS: Final = ("stock", "money", "parcels")

# How a participant behaves is the operation's method: see `participant`.
FICKLE, LATER, SECOND_TIME = "Fickle", "Later", "SecondTime"
STEADY, SLOW, HANGING, HALF = "Steady", "Slow", "Hanging", "Half"

_ACTION_RETRY = {"max_attempts": 6, "initial_backoff": "0.05s", "max_backoff": "0.5s"}
_STUBBORN_RETRY = {"max_attempts": 1000, "initial_backoff": "0.05s", "max_backoff": "1s"}


def _step(
    name: str,
    participant: str,
    method: str = FICKLE,
    *,
    action: Mapping[str, Any] | None = None,
    compensation: Mapping[str, Any] | None = None,
    has_compensation: bool = True,
    **more: Any,
) -> dict[str, Any]:
    operation = {"participant": participant, "method": method, "timeout": "1s"}
    step = {
        "name": name,
        "action": {**operation, "retry": _ACTION_RETRY, **(action or {})},
        "compensation": {**operation, "method": FICKLE, "retry": _STUBBORN_RETRY, **(compensation or {})},
        **more,
    }
    if not has_compensation:
        del step["compensation"]
    return step


STRAIGHT: Final = {
    "name": "straight",
    "steps": [_step("take", "stock"), _step("pay", "money"), _step("book", "parcels")],
}
PIVOT: Final = {
    "name": "pivot",
    "deadline": "20s",
    "steps": [
        _step("take", "stock"),
        _step("pay", "money"),
        _step("ship", "parcels", action={"retry": _STUBBORN_RETRY}, has_compensation=False, pivot=True),
        _step("tell", "stock", action={"retry": _STUBBORN_RETRY}, has_compensation=False, irreversible=True),
    ],
}
BRANCHED: Final = {
    "name": "branched",
    "deadline": "25s",
    "steps": [
        _step("take", "stock"),
        _step("pay", "money", after=["take"]),
        _step("book", "parcels", after=["take"]),
        # The default policies of a compensation: under enough violence its attempts are spent, and the saga needs a person.
        _step("close", "money", compensation={"retry": {}}, after=["pay", "book"]),
    ],
}
REPORTED: Final = {
    "name": "reported",
    "steps": [
        _step("take", "stock"),
        _step("pay", "money", LATER, action={"pending_timeout": "4s"}),
        _step("book", "parcels"),
    ],
}
SLEEPING: Final = {
    "name": "sleeping",
    "steps": [
        _step(
            "take",
            "stock",
            SECOND_TIME,
            action={"retry": {"max_attempts": 6, "initial_backoff": "14s", "max_backoff": "14s"}},
        ),
        _step("pay", "money"),
    ],
}
MIX: Final = ((STRAIGHT, 40), (PIVOT, 20), (BRANCHED, 20), (REPORTED, 14), (SLEEPING, 6))
"""Definitions, and how often each is started, in hundredths."""


def name_of(spec: Mapping[str, Any]) -> str:
    name: str = spec["name"]
    return name


def message(spec: Mapping[str, Any]) -> Definition:
    return ParseDict(dict(spec), Definition())


def before(spec: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The steps that each step comes after."""
    return {name: each.before for name, each in Plan(spec, {}).root.instances.items()}
