"""Runs a saga in a test of its author, in milliseconds, against plain functions and without a database.

    from saga_coordinator.testing import Participants, Refused, rehearse

    participants = Participants()

    @participants.action("inventory.Reserve")
    def reserve(call):
        return {"reservation_id": "r-1"}

    ...

    def test_a_declined_card_frees_the_goods():
        run = rehearse("definition.yaml", {"order_id": "o-1"}, participants, faults={"charge": Refused("declined")})
        assert run.status == "COMPENSATED"
        assert run.names == ["reserve", "charge", "undo reserve"]

The coordinator's own core decides; only time is simulated. docs/testing.md has a complete example. With pytest, the fixture
`saga` is available without an import.
"""

# The names are loaded when they are first asked for, because pytest imports this room in every project that has the coordinator
# installed.

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saga_coordinator.testing.faults import Failing, NoAnswer, Pending, Refused, Unavailable
    from saga_coordinator.testing.participants import Call, NoFake, Participants
    from saga_coordinator.testing.runs import Decided, Faults, PromiseBroken, Run, begin, rehearse

__all__ = [
    "Call",
    "Decided",
    "Failing",
    "Faults",
    "NoAnswer",
    "NoFake",
    "Participants",
    "Pending",
    "PromiseBroken",
    "Refused",
    "Run",
    "Unavailable",
    "begin",
    "rehearse",
]

_MODULES = {
    "Failing": "faults",
    "NoAnswer": "faults",
    "Pending": "faults",
    "Refused": "faults",
    "Unavailable": "faults",
    "Call": "participants",
    "NoFake": "participants",
    "Participants": "participants",
    "Decided": "runs",
    "Faults": "runs",
    "PromiseBroken": "runs",
    "Run": "runs",
    "begin": "runs",
    "rehearse": "runs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
