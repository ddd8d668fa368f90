"""What takes as long as a definition is large is done beside the event loop, and not at all for one that is too large."""

from __future__ import annotations

import threading
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from saga_coordinator.api import definition_service
from saga_coordinator.api.definition_service import DefinitionService
from saga_coordinator.api.rpc import Context
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.words.errors import InvalidDefinition
from saga_coordinator.store import definitions as definitions_module
from saga_coordinator.store.database import Database
from saga_coordinator.store.definitions import DefinitionRows
from saga_coordinator.store.lists import Lists

NO_CONTEXT = cast("Context", None)
WALKS: list[tuple[ModuleType, str]] = [
    (definition_service, "with_defaults"),
    (definitions_module, "used_steps"),
    (definitions_module, "_checked"),
]


@pytest.fixture
def walkers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which a whole definition was walked through, once each time."""
    seen: list[threading.Thread] = []

    def note(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def noting(*given: Any) -> Any:
            seen.append(threading.current_thread())
            return real(*given)

        monkeypatch.setattr(module, name, noting)

    for module, name in WALKS:
        note(module, name)
    return seen


@pytest.fixture
def service(database: Database) -> DefinitionService:
    participants = cast(
        "Attempts", SimpleNamespace(defaults={"payments": {"timeout": "7s"}}, names=["payments"])
    )
    return DefinitionService(DefinitionRows(database), Lists(database), participants)


def request(text: str) -> pb.RegisterDefinitionRequest:
    asked = pb.RegisterDefinitionRequest()
    asked.definition.name = "order"
    step = asked.definition.steps.add(name="charge", read_only=True)
    step.action.participant = "payments"
    step.action.input.string_value = text
    return asked


async def test_p11_no_walk_through_a_definition_is_on_the_loop(
    service: DefinitionService, walkers: list[threading.Thread]
) -> None:
    answer = await service.RegisterDefinition(request("pay"), NO_CONTEXT)
    assert answer.registered.definition.steps[0].action.timeout.seconds == 7
    assert len(walkers) >= len(WALKS)
    assert threading.current_thread() not in walkers


async def test_p11_nobody_walks_through_a_definition_that_is_too_large(
    service: DefinitionService, walkers: list[threading.Thread]
) -> None:
    with pytest.raises(InvalidDefinition, match="bytes as JSON; 1048576 is the limit"):
        await service.RegisterDefinition(request("x" * 1_100_000), NO_CONTEXT)
    assert walkers == []
