"""Definitions on real Postgres: same content, same version; changed content, the next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from saga_coordinator.saga.errors import InvalidDefinition, NotFound, Unavailable
from saga_coordinator.store import definitions as module
from saga_coordinator.store.database import Database
from saga_coordinator.store.definitions import Definitions
from tests.integration.proxy import Proxy
from tests.integration.store.conftest import Query


def spec(name: str = "order", timeout: str = "5s") -> dict[str, Any]:
    operation = {"participant": "payments", "timeout": timeout}
    return {"name": name, "steps": [{"name": "charge", "action": operation, "compensation": operation}]}


@pytest.fixture
def definitions(database: Database) -> Definitions:
    return Definitions(database)


async def test_same_content_is_the_same_version(definitions: Definitions, query: Query) -> None:
    first, is_new = await definitions.register(spec())
    assert (first.name, first.version, is_new) == ("order", 1, True)
    assert first.definition.step("charge").action.timeout_seconds == 5
    shuffled = {"steps": spec()["steps"], "name": "order"}
    again, is_new = await definitions.register(shuffled)
    assert (again.version, again.digest, is_new) == (1, first.digest, False)
    assert await query("SELECT namespace, name, version, spec FROM saga.definitions") == [
        ("default", "order", 1, spec())
    ]


async def test_changed_content_is_the_next_version_and_changed_back_one_more(
    definitions: Definitions,
) -> None:
    versions = [
        (await definitions.register(spec(timeout=timeout)))[0].version for timeout in ("5s", "6s", "5s")
    ]
    assert versions == [1, 2, 3]
    assert (await definitions.get("order", 1)).spec == (await definitions.get("order", 3)).spec
    assert (await definitions.get("order")).version == 3


async def test_a_faulty_definition_is_refused_and_not_kept(definitions: Definitions, query: Query) -> None:
    with pytest.raises(InvalidDefinition):
        await definitions.register({"name": "order", "steps": []})
    assert await query("SELECT count(*) FROM saga.definitions") == [(0,)]


async def test_many_who_register_the_same_make_one_version(database: Database, query: Query) -> None:
    coordinators = [Definitions(database) for _ in range(8)]
    results = await asyncio.gather(*(each.register(spec()) for each in coordinators))
    assert {registered.version for registered, _ in results} == {1}
    assert sum(is_new for _, is_new in results) == 1
    assert await query("SELECT count(*) FROM saga.definitions") == [(1,)]


async def test_many_who_register_different_content_get_a_version_each(
    database: Database, query: Query
) -> None:
    coordinators = [Definitions(database) for _ in range(6)]
    specs = [spec(timeout=f"{seconds}s") for seconds in range(1, 7)]
    results = await asyncio.gather(
        *(each.register(one) for each, one in zip(coordinators, specs, strict=True))
    )
    assert sorted(registered.version for registered, _ in results) == [1, 2, 3, 4, 5, 6]
    for (registered, _), one in zip(results, specs, strict=True):
        assert await query("SELECT spec FROM saga.definitions WHERE version = %s", registered.version) == [
            (one,)
        ]


async def test_what_does_not_exist_is_not_found_and_says_how_to_register(definitions: Definitions) -> None:
    with pytest.raises(NotFound, match=r"there is no definition `order`; register it first"):
        await definitions.get("order")
    await definitions.register(spec())
    with pytest.raises(NotFound, match=r"there is no version 2 of definition `order`"):
        await definitions.get("order", 2)


async def test_a_version_once_read_is_answered_from_memory(
    fragile: Database, proxy: Proxy, database: Database
) -> None:
    await Definitions(database).register(spec())
    definitions = Definitions(fragile)
    first = await definitions.get("order", 1)
    await proxy.shut()
    assert await definitions.get("order", 1) is first
    with pytest.raises(Unavailable):
        await definitions.get("order")


async def test_the_newest_version_registered_elsewhere_is_seen_in_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Definitions(database), Definitions(database)
    monkeypatch.setattr(module, "NEWEST_KEPT_SECONDS", 60.0)
    await here.register(spec())
    await there.register(spec(timeout="6s"))
    assert (await here.get("order")).version == 1
    monkeypatch.setattr(module, "NEWEST_KEPT_SECONDS", -1.0)  # the time is over
    assert (await here.get("order")).version == 2


async def test_pages_list_the_newest_versions_by_name(definitions: Definitions) -> None:
    for name in ("b", "d", "a", "c"):
        await definitions.register(spec(name))
    await definitions.register(spec("b", timeout="9s"))
    page = await definitions.page("", 3)
    assert [(each.name, each.version) for each in page] == [("a", 1), ("b", 2), ("c", 1)]
    assert [each.name for each in await definitions.page("c", 3)] == ["d"]
    assert await definitions.page("d", 3) == []
