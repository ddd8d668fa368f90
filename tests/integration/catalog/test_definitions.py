"""Definitions on real Postgres: same content, same version; changed content, the next."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from saga_coordinator.catalog import runnable, versions
from saga_coordinator.catalog.catalog import Catalog
from saga_coordinator.saga.definition.model import RunnableDefinition
from saga_coordinator.saga.words.errors import InvalidDefinition, NotFound, NotPossibleNow, Unavailable
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.database import Database
from saga_coordinator.store.lists import Lists
from tests.acts import an_act
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.catalogs import catalog_of
from tests.integration.proxy import Proxy
from tests.integration.store.conftest import Query, items_of


def spec(name: str = "order", timeout: str = "5s") -> dict[str, Any]:
    operation = {"participant": "payments", "timeout": timeout}
    return {"name": name, "steps": [{"name": "charge", "action": operation, "compensation": operation}]}


@pytest.fixture
def definitions(database: Database) -> Catalog:
    return catalog_of(database)


async def test_same_content_is_the_same_version(definitions: Catalog, query: Query) -> None:
    registered = await definitions.registration.register(DEFAULT_NAMESPACE, spec())
    first = registered.version
    assert (first.name, first.version, registered.is_new) == ("order", 1, True)
    assert (await definitions.runnable.get(DEFAULT_NAMESPACE, "order")).definition.step("charge").operation(
        OperationKind.ACTION
    ).timeout_seconds == 5
    shuffled = {"steps": spec()["steps"], "name": "order"}
    again = await definitions.registration.register(DEFAULT_NAMESPACE, shuffled)
    assert (again.version, again.is_new) == (first, False)
    assert await query("SELECT namespace, name, version, spec FROM saga.definitions") == [
        ("default", "order", 1, spec())
    ]


async def test_changed_content_is_the_next_version_and_changed_back_one_more(
    definitions: Catalog,
) -> None:
    numbers = [
        (await definitions.registration.register(DEFAULT_NAMESPACE, spec(timeout=timeout))).version.version
        for timeout in ("5s", "6s", "5s")
    ]
    assert numbers == [1, 2, 3]
    assert (await definitions.versions.look_up(DEFAULT_NAMESPACE, "order", 1)).spec == (
        await definitions.versions.look_up(DEFAULT_NAMESPACE, "order", 3)
    ).spec
    assert (await definitions.runnable.get(DEFAULT_NAMESPACE, "order")).version == 3


async def test_a_faulty_definition_is_refused_and_not_kept(definitions: Catalog, query: Query) -> None:
    with pytest.raises(InvalidDefinition):
        await definitions.registration.register(DEFAULT_NAMESPACE, {"name": "order", "steps": []})
    assert await query("SELECT count(*) FROM saga.definitions") == [(0,)]


async def test_many_who_register_the_same_make_one_version(database: Database, query: Query) -> None:
    coordinators = [catalog_of(database) for _ in range(8)]
    results = await asyncio.gather(
        *(each.registration.register(DEFAULT_NAMESPACE, spec()) for each in coordinators)
    )
    assert {each.version.version for each in results} == {1}
    assert sum(each.is_new for each in results) == 1
    assert await query("SELECT count(*) FROM saga.definitions") == [(1,)]


async def test_many_who_register_different_content_get_a_version_each(
    database: Database, query: Query
) -> None:
    coordinators = [catalog_of(database) for _ in range(6)]
    specs = [spec(timeout=f"{seconds}s") for seconds in range(1, 7)]
    results = await asyncio.gather(
        *(
            each.registration.register(DEFAULT_NAMESPACE, one)
            for each, one in zip(coordinators, specs, strict=True)
        )
    )
    assert sorted(each.version.version for each in results) == [1, 2, 3, 4, 5, 6]
    for registered, one in zip(results, specs, strict=True):
        assert await query(
            "SELECT spec FROM saga.definitions WHERE version = %s", registered.version.version
        ) == [(one,)]


async def test_what_does_not_exist_is_not_found_and_says_how_to_register(definitions: Catalog) -> None:
    with pytest.raises(NotFound, match=r"there is no definition `order`; register it first"):
        await definitions.runnable.get(DEFAULT_NAMESPACE, "order")
    await definitions.registration.register(DEFAULT_NAMESPACE, spec())
    with pytest.raises(NotFound, match=r"there is no version 2 of definition `order`"):
        await definitions.runnable.get(DEFAULT_NAMESPACE, "order", 2)


async def test_a_version_once_read_is_answered_from_memory(
    fragile: Database, proxy: Proxy, database: Database
) -> None:
    await catalog_of(database).registration.register(DEFAULT_NAMESPACE, spec())
    definitions = catalog_of(fragile)
    first = await definitions.runnable.get(DEFAULT_NAMESPACE, "order", 1)
    await proxy.shut()
    assert await definitions.runnable.get(DEFAULT_NAMESPACE, "order", 1) is first
    with pytest.raises(Unavailable):
        await definitions.runnable.get(DEFAULT_NAMESPACE, "order")


async def test_many_who_need_a_version_at_once_have_it_read_once(definitions: Catalog) -> None:
    await definitions.registration.register(DEFAULT_NAMESPACE, spec())
    first, *others = await asyncio.gather(
        *(definitions.runnable.get(DEFAULT_NAMESPACE, "order") for _ in range(8))
    )
    assert all(other is first for other in others)


async def test_a_version_that_this_program_cannot_read_is_listed_all_the_same(
    definitions: Catalog, query: Query, lists: Lists
) -> None:
    await definitions.registration.register(DEFAULT_NAMESPACE, spec())
    await query("UPDATE saga.definitions SET spec = jsonb_set(spec, '{of_the_future}', 'true')")
    (listed,) = await lists.definitions(DEFAULT_NAMESPACE, "", 9, items_of)
    assert (listed.version, listed.spec["of_the_future"]) == (1, True)
    for _ in range(2):
        with pytest.raises(InvalidDefinition, match="of_the_future"):
            await definitions.runnable.get(DEFAULT_NAMESPACE, "order", 1)


async def test_p1_a_reading_that_failed_is_tried_again_though_nobody_stayed_to_hear_of_it(
    definitions: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await definitions.registration.register(DEFAULT_NAMESPACE, spec())
    may_fail = threading.Event()

    def failing(*_: object) -> RunnableDefinition:
        assert may_fail.wait(PATIENCE_SECONDS)
        raise Unavailable(Reason.TOOK_TOO_LONG, "not this time")

    with monkeypatch.context() as patched:
        patched.setattr(runnable, "_runnable", failing)
        asking = asyncio.create_task(definitions.runnable.get(DEFAULT_NAMESPACE, "order", 1))
        await eventually(lambda: bool(definitions.runnable._parsed), "the reading to begin")
        (reading,) = definitions.runnable._parsed.values()
        asking.cancel()
        may_fail.set()
        await asyncio.wait([reading])
    assert (await definitions.runnable.get(DEFAULT_NAMESPACE, "order", 1)).version == 1


async def test_sagas_go_on_while_a_large_definition_is_read(definitions: Catalog, query: Query) -> None:
    large = spec()
    large["steps"] = [
        {
            **large["steps"][0],
            "name": f"step_{n}",
            "when": " || ".join(f"input.n == {n}.{m}" for m in range(100)),
        }
        for n in range(100)
    ]
    share = await longest_standstill(definitions.registration.register(DEFAULT_NAMESPACE, large))
    assert share < 0.5
    # Expressions are remembered by what they say.
    await query("UPDATE saga.definitions SET spec = replace(spec::text, 'input.n', 'input.m')::jsonb")
    share = await longest_standstill(definitions.runnable.get(DEFAULT_NAMESPACE, "order", 1))
    assert share < 0.5


async def longest_standstill(work: Awaitable[object]) -> float:
    """For how long the event loop did nothing else in one piece, as a share of the time that the work took."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            stood = time.perf_counter()
            await asyncio.sleep(0)  # one turn of the loop, which is what is measured
            gaps.append(time.perf_counter() - stood)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)  # the ticking begins
    began = time.perf_counter()
    await work
    took = time.perf_counter() - began
    ticking.cancel()
    return max(gaps) / took


async def test_a_start_that_is_looking_does_not_hide_what_is_decided_meanwhile(
    definitions: Catalog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalog_of(database).registration.register(DEFAULT_NAMESPACE, spec())
    read, may_read = runnable._runnable, threading.Event()

    def read_slowly(*row: Any) -> RunnableDefinition:
        may_read.wait(10)
        return read(*row)

    monkeypatch.setattr(runnable, "_runnable", read_slowly)
    looking = asyncio.create_task(definitions.runnable.for_start(DEFAULT_NAMESPACE, "order"))
    await eventually(lambda: definitions.runnable._parsed, "the first version to be read")
    await definitions.registration.register(DEFAULT_NAMESPACE, spec(timeout="6s"))
    may_read.set()
    assert (await looking).version == 1
    assert (await definitions.runnable.for_start(DEFAULT_NAMESPACE, "order")).version == 2


async def test_the_newest_version_registered_elsewhere_is_seen_in_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = catalog_of(database), catalog_of(database)
    monkeypatch.setattr(runnable, "NEWEST_KEPT_SECONDS", 60.0)
    await here.registration.register(DEFAULT_NAMESPACE, spec())
    assert (await here.runnable.get(DEFAULT_NAMESPACE, "order")).version == 1
    await there.registration.register(DEFAULT_NAMESPACE, spec(timeout="6s"))
    assert (await here.runnable.get(DEFAULT_NAMESPACE, "order")).version == 1
    monkeypatch.setattr(runnable, "NEWEST_KEPT_SECONDS", -1.0)  # the time is over
    assert (await here.runnable.get(DEFAULT_NAMESPACE, "order")).version == 2


async def test_pages_list_the_newest_versions_by_name(definitions: Catalog, lists: Lists) -> None:
    for name in ("b", "d", "a", "c"):
        await definitions.registration.register(DEFAULT_NAMESPACE, spec(name))
    await definitions.registration.register(DEFAULT_NAMESPACE, spec("b", timeout="9s"))
    page = await lists.definitions(DEFAULT_NAMESPACE, "", 3, items_of)
    assert [(each.name, each.version) for each in page] == [("a", 1), ("b", 2), ("c", 1)]
    assert [each.name for each in await lists.definitions(DEFAULT_NAMESPACE, "c", 3, items_of)] == ["d"]
    assert await lists.definitions(DEFAULT_NAMESPACE, "d", 3, items_of) == []


# What people decide about versions.


@pytest.fixture
async def three(definitions: Catalog) -> Catalog:
    """Definition `order` in three versions."""
    for timeout in ("1s", "2s", "3s"):
        await definitions.registration.register(DEFAULT_NAMESPACE, spec(timeout=timeout))
    return definitions


SAGA = """
INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, ended_at)
VALUES (%s, 'key', 'order', %s, 'COMPLETED', '{}', now())
"""
LATER = "ffffffff-0000-7000-8000-000000000000"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions wait for nobody, and nothing is kept that would have to be waited for."""
    monkeypatch.setattr(runnable, "NEWEST_KEPT_SECONDS", 0.0)
    monkeypatch.setattr(versions, "NOTICED_SECONDS", 0.0)


async def test_no_saga_starts_with_a_deprecated_version(three: Catalog) -> None:
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 2)).version == 2
    assert (await three.versions.deprecate(an_act(), "order", 2, deprecated=True)).deprecated
    with pytest.raises(
        NotPossibleNow, match=r"version 2 of definition `order` is deprecated.*; use version 3$"
    ):
        await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 2)
    assert (await three.runnable.get(DEFAULT_NAMESPACE, "order", 2)).version == 2, "sagas that run go on"
    assert not (await three.versions.deprecate(an_act(), "order", 2, deprecated=False)).deprecated
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 2)).version == 2


async def test_a_start_without_version_passes_deprecated_ones_over(three: Catalog) -> None:
    await three.versions.deprecate(an_act(), "order", 3, deprecated=True)
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order")).version == 2
    for version in (1, 2):
        await three.versions.deprecate(an_act(), "order", version, deprecated=True)
    with pytest.raises(NotPossibleNow, match="every version of definition `order` is deprecated"):
        await three.runnable.for_start(DEFAULT_NAMESPACE, "order")
    assert (await three.runnable.get(DEFAULT_NAMESPACE, "order")).version == 3
    with pytest.raises(NotPossibleNow, match=r"version 1 .* is deprecated.*; register a new one"):
        await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 1)


async def test_the_default_version_is_used_until_it_is_the_newest_again(three: Catalog, lists: Lists) -> None:
    for default in (2, 1):
        assert (await three.versions.set_default(an_act(), "order", default)).version == default
        assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order")).version == default
    assert [
        (each.version, each.is_default)
        for each in await lists.versions(DEFAULT_NAMESPACE, "order", None, 9, items_of)
    ] == [
        (3, False),
        (2, False),
        (1, True),
    ]
    assert (await three.versions.set_default(an_act(), "order", 0)).version == 3
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order")).version == 3
    assert not (await three.versions.look_up(DEFAULT_NAMESPACE, "order", 1)).is_default


async def test_a_new_version_does_not_take_over_from_the_default(three: Catalog) -> None:
    await three.versions.set_default(an_act(), "order", 2)
    await three.registration.register(DEFAULT_NAMESPACE, spec(timeout="4s"))
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order")).version == 2
    assert (await three.versions.look_up(DEFAULT_NAMESPACE, "order")).version == 4


async def test_the_default_is_neither_deprecated_nor_deleted(three: Catalog) -> None:
    await three.versions.set_default(an_act(), "order", 2)
    with pytest.raises(NotPossibleNow, match="is the default, and cannot be deprecated"):
        await three.versions.deprecate(an_act(), "order", 2, deprecated=True)
    with pytest.raises(NotPossibleNow, match="is the default, and cannot be deleted"):
        await three.versions.delete(an_act(), "order", 2)
    await three.versions.deprecate(an_act(), "order", 1, deprecated=True)
    with pytest.raises(NotPossibleNow, match="version 1 of definition `order` is deprecated"):
        await three.versions.set_default(an_act(), "order", 1)
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order")).version == 2


async def test_the_database_refuses_a_default_that_cannot_be_started(three: Catalog, query: Query) -> None:
    await three.versions.set_default(an_act(), "order", 2)
    for column in ("deprecated = true", "deleted_at = now()"):
        with pytest.raises(psycopg.errors.CheckViolation, match="definitions_default_can_be_started"):
            await query(f"UPDATE saga.definitions SET {column} WHERE version = 2")


async def test_many_who_choose_a_default_leave_one(database: Database, three: Catalog, lists: Lists) -> None:
    coordinators = [catalog_of(database) for _ in range(6)]
    await asyncio.gather(
        *(
            each.versions.set_default(an_act(), "order", 1 + index % 3)
            for index, each in enumerate(coordinators)
        )
    )
    listed = await lists.versions(DEFAULT_NAMESPACE, "order", None, 9, items_of)
    assert [each.is_default for each in listed].count(True) == 1
    used = await three.runnable.for_start(DEFAULT_NAMESPACE, "order")
    assert used.version == next(each.version for each in listed if each.is_default)


async def test_what_was_decided_elsewhere_is_noticed_in_time(
    database: Database, three: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runnable, "NEWEST_KEPT_SECONDS", 60.0)
    elsewhere = catalog_of(database)
    assert [
        (await three.runnable.for_start(DEFAULT_NAMESPACE, "order", version)).version for version in (0, 3)
    ] == [3, 3]
    await elsewhere.versions.deprecate(an_act(), "order", 3, deprecated=True)
    assert [
        (await three.runnable.for_start(DEFAULT_NAMESPACE, "order", version)).version for version in (0, 3)
    ] == [3, 3]
    monkeypatch.setattr(runnable, "NEWEST_KEPT_SECONDS", -1.0)  # the time is over
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order")).version == 2
    with pytest.raises(NotPossibleNow):
        await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 3)


@pytest.mark.usefixtures("at_once")
async def test_a_deleted_version_is_gone_and_its_number_is_not_used_again(
    three: Catalog, lists: Lists
) -> None:
    await three.versions.delete(an_act(), "order", 3)
    for ask in (three.runnable.for_start, three.versions.look_up):
        with pytest.raises(NotFound, match="there is no version 3"):
            await ask(DEFAULT_NAMESPACE, "order", 3)
        assert (await ask(DEFAULT_NAMESPACE, "order")).version == 2
    assert [each.version for each in await lists.versions(DEFAULT_NAMESPACE, "order", None, 9, items_of)] == [
        2,
        1,
    ]
    assert [each.version for each in await lists.definitions(DEFAULT_NAMESPACE, "", 9, items_of)] == [2]
    again = await three.registration.register(DEFAULT_NAMESPACE, spec(timeout="3s"))
    assert (again.version.version, again.is_new) == (4, True)


@pytest.mark.usefixtures("at_once")
async def test_a_definition_whose_versions_are_all_deleted_is_gone(three: Catalog, lists: Lists) -> None:
    for version in (1, 2, 3):
        await three.versions.delete(an_act(), "order", version)
    for ask in (three.runnable.for_start, three.versions.look_up, three.runnable.get):
        with pytest.raises(NotFound, match="there is no definition `order`"):
            await ask(DEFAULT_NAMESPACE, "order")
    assert await lists.definitions(DEFAULT_NAMESPACE, "", 9, items_of) == []
    assert (await three.registration.register(DEFAULT_NAMESPACE, spec(timeout="3s"))).version.version == 4


@pytest.mark.usefixtures("at_once")
async def test_deleting_again_is_no_error(three: Catalog) -> None:
    await three.versions.delete(an_act(), "order", 2)
    await three.versions.delete(an_act(), "order", 2)
    with pytest.raises(NotFound):
        await three.versions.delete(an_act(), "order", 9)


@pytest.mark.usefixtures("at_once")
async def test_a_version_that_a_saga_refers_to_is_not_deleted(three: Catalog, query: Query) -> None:
    await query(SAGA, LATER, 2)
    with pytest.raises(NotPossibleNow, match=f"cannot be deleted: saga {LATER} refers to it"):
        await three.versions.delete(an_act(), "order", 2)
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 2)).version == 2
    await three.versions.delete(an_act(), "order", 3)


async def test_a_start_that_was_under_way_takes_the_deletion_back(
    three: Catalog, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another coordinator has just looked, and commits its start after the first look for sagas."""

    async def meanwhile(seconds: float) -> None:
        assert seconds >= runnable.NEWEST_KEPT_SECONDS + versions.START_SECONDS
        with pytest.raises(NotFound):
            await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 2)
        await query(SAGA, LATER, 2)

    monkeypatch.setattr(versions, "sleep", meanwhile)
    with pytest.raises(NotPossibleNow, match=f"saga {LATER} refers to it"):
        await three.versions.delete(an_act(), "order", 2)
    assert (await three.runnable.for_start(DEFAULT_NAMESPACE, "order", 2)).version == 2


@pytest.mark.usefixtures("at_once")
async def test_a_saga_that_was_slower_than_a_deletion_finds_its_definition(
    database: Database, three: Catalog
) -> None:
    await three.versions.delete(an_act(), "order", 2)
    found = (await catalog_of(database).runnable.get(DEFAULT_NAMESPACE, "order", 2)).definition
    assert found.step("charge").operation(OperationKind.ACTION).timeout_seconds == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda definitions, name, version: definitions.versions.deprecate(
            an_act(), name, version, deprecated=True
        ),
        lambda definitions, name, version: definitions.versions.set_default(an_act(), name, version),
        lambda definitions, name, version: definitions.versions.delete(an_act(), name, version),
    ],
    ids=["deprecate", "set_default", "delete"],
)
async def test_deciding_about_what_does_not_exist(
    ask: Callable[[Catalog, str, int], Any], three: Catalog
) -> None:
    for name, version in (("order", 9), ("other", 1)):
        with pytest.raises(NotFound, match=f"there is no version {version} of definition `{name}`"):
            await ask(three, name, version)
    with pytest.raises(NotFound, match="there is no definition `other`"):
        await three.versions.set_default(an_act(), "other", 0)


# Definitions that run others.


def running(child: str, **version: int) -> dict[str, Any]:
    return {"name": "parent", "steps": [{"name": "run", "saga": {"definition": child, **version}}]}


async def faults_of(definitions: Catalog, child: str, **version: int) -> list[str]:
    with pytest.raises(InvalidDefinition) as refused:
        await definitions.registration.register(DEFAULT_NAMESPACE, running(child, **version))
    return [str(fault) for fault in refused.value.faults]


async def test_children_must_be_there(definitions: Catalog, query: Query) -> None:
    await definitions.registration.register(DEFAULT_NAMESPACE, spec("payment"))
    assert await faults_of(definitions, "paymnet") == [
        "steps[0].saga.definition: there is no definition `paymnet`; did you mean `payment`?"
    ]
    assert await faults_of(definitions, "refund") == [
        "steps[0].saga.definition: there is no definition `refund`; register it first, or apply both files together"
    ]
    assert await faults_of(definitions, "payment", version=2) == [
        "steps[0].saga.version: `payment` has no version 2; it has: 1"
    ]
    assert await query("SELECT name FROM saga.definitions") == [("payment",)]
    await definitions.registration.register(DEFAULT_NAMESPACE, running("payment"))
    await definitions.registration.register(DEFAULT_NAMESPACE, running("payment", version=1))
    await definitions.registration.register(DEFAULT_NAMESPACE, running("parent"))  # itself


async def test_children_that_no_saga_can_start_are_not_there(definitions: Catalog) -> None:
    await definitions.registration.register(DEFAULT_NAMESPACE, spec("payment"))
    await definitions.versions.deprecate(an_act(), "payment", 1, deprecated=True)
    (fault,) = await faults_of(definitions, "payment")
    assert fault.startswith(
        "steps[0].saga.definition: every version of `payment` is deprecated, so no saga starts"
    )
    assert (await faults_of(definitions, "payment", version=1))[0].startswith(
        "steps[0].saga.version: version 1 of"
    )
    await definitions.registration.register(DEFAULT_NAMESPACE, spec("payment", "6s"))
    await definitions.registration.register(DEFAULT_NAMESPACE, running("payment"))
    await definitions.versions.deprecate(an_act(), "payment", 1, deprecated=False)
    await definitions.versions.delete(an_act(), "payment", 1)
    assert await faults_of(definitions, "payment", version=1) == [
        "steps[0].saga.version: `payment` has no version 1; it has: 2"
    ]


async def test_content_that_is_registered_stays_so_without_its_children(definitions: Catalog) -> None:
    await definitions.registration.register(DEFAULT_NAMESPACE, spec("payment"))
    registered = await definitions.registration.register(DEFAULT_NAMESPACE, running("payment"))
    await definitions.versions.delete(an_act(), "payment", 1)
    assert (
        await definitions.registration.register(DEFAULT_NAMESPACE, running("payment"))
    ).version == registered.version
