"""A definition is walked through as seldom as can be, beside the event loop, and not at all when it is too large."""

from __future__ import annotations

import threading
from collections import Counter
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from saga_coordinator.api.caller import Caller
from saga_coordinator.api.definition_service import DefinitionService
from saga_coordinator.catalog import preparing, runnable
from saga_coordinator.catalog.catalog import Catalog
from saga_coordinator.control.definitions import DefinitionActs
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.definition.declared import Declared
from saga_coordinator.saga.words.errors import InvalidDefinition
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.acts import ActRows
from saga_coordinator.store.database import Database
from saga_coordinator.store.lists import Lists

WALKS: list[tuple[ModuleType, str]] = [
    (preparing, "used_steps"),
    (preparing, "expanded"),
    (preparing, "with_defaults"),
    (preparing, "parse_definition"),
    (runnable, "parse_definition"),
]


class Walks:
    """How often a whole definition was walked through, by what, and in which threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.threads: set[threading.Thread] = set()

    def watch(self, module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(module, name)

        def watched(*given: Any) -> Any:
            self.counts[name] += 1
            self.threads.add(threading.current_thread())
            return real(*given)

        monkeypatch.setattr(module, name, watched)

    def take(self) -> dict[str, int]:
        """The counts since it was last asked."""
        taken, self.counts = self.counts, Counter()
        return dict(taken)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Walks:
    seen = Walks()
    for module, name in WALKS:
        seen.watch(module, name, monkeypatch)
    return seen


@pytest.fixture
def catalog(database: Database) -> Catalog:
    known = {"payments": SimpleNamespace()}
    directory = SimpleNamespace(defaults={"payments": {"timeout": "7s"}}, participants=known)
    participants = SimpleNamespace(directory=directory, names=["payments"])
    return Catalog.of(database, cast("Attempts", participants))


@pytest.fixture
def service(catalog: Catalog, database: Database) -> DefinitionService:
    return DefinitionService(catalog, DefinitionActs(catalog.versions, ActRows(database)), Lists(database))


def request(text: str) -> pb.RegisterDefinitionRequest:
    asked = pb.RegisterDefinitionRequest()
    asked.definition.name = "order"
    step = asked.definition.steps.add(name="charge", declared="payments.charge")
    step.action.input.string_value = text
    return asked


ONCE = {"used_steps": 1, "expanded": 1, "with_defaults": 1, "parse_definition": 1}


async def test_p11_a_definition_is_expanded_once_and_parsed_once_and_never_on_the_loop(
    catalog: Catalog, service: DefinitionService, walks: Walks
) -> None:
    declared = {"name": "charge", "action": {"method": "charge"}, "compensation": {"method": "refund"}}
    await catalog.declared_steps.replace(
        DEFAULT_NAMESPACE, "payments", Declared("1", {"charge": declared}), force=True
    )
    answer = await service.RegisterDefinition(request("pay"), Caller())
    assert answer.registered.definition.steps[0].action.timeout.seconds == 7
    assert answer.registered.definition.steps[0].compensation.method == "refund"
    assert walks.take() == ONCE
    await service.ValidateDefinition(
        pb.ValidateDefinitionRequest(definition=request("pay").definition), Caller()
    )
    assert walks.take() == ONCE
    for _ in range(2):
        await catalog.runnable.for_start(DEFAULT_NAMESPACE, "order")
    assert walks.take() == {"parse_definition": 1}
    assert threading.current_thread() not in walks.threads


async def test_p11_nobody_walks_through_a_definition_that_is_too_large(
    service: DefinitionService, walks: Walks
) -> None:
    with pytest.raises(InvalidDefinition, match="bytes as JSON; 1048576 is the limit"):
        await service.RegisterDefinition(request("x" * 1_100_000), Caller())
    assert not walks.take()
