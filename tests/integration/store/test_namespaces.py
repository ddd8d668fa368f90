"""Two namespaces in one database: whatever one does, the other sees nothing of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from saga_coordinator.saga.definition.declared import Declared
from saga_coordinator.saga.machine.entries import SagaStarted, WaitStarted
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import InvalidRequest, NotFound
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace, parse_namespace
from saga_coordinator.store.appends import Append, Start
from saga_coordinator.store.database import Database
from saga_coordinator.store.declared_steps import DeclaredStepRows
from saga_coordinator.store.definitions import DefinitionRows
from saga_coordinator.store.events import EventRows
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.lists import EventFilter, Lists
from saga_coordinator.store.mail import MailRows
from saga_coordinator.store.ownership import OwnershipRows
from saga_coordinator.store.participants import ParticipantRows
from saga_coordinator.store.records import Event, Letter, StartKeyTaken
from saga_coordinator.store.sagas import SagaFilter, SagaRows
from saga_coordinator.store.workers import WorkerRows
from tests.acts import an_act
from tests.integration.store.appends import HERE, THERE, a_move, saga_id
from tests.integration.store.conftest import Query, items_of

RED, BLUE = Namespace("red"), Namespace("blue")
BOTH = (RED, BLUE)
WAIT = WaitStarted("paid", None, "paid", "order 7")


def a_start_in(namespace: Namespace, saga: str, *, key: str = "key", wake_at: float | None = None) -> Append:
    start = Start(key, b"digest", "order", 1, {"team": "one"}, None)
    entries = (SagaStarted("order", 1, {"of": namespace}, {"team": "one"}), WAIT)
    return Append(saga, namespace, 1, entries, start, a_move(SagaStatus.RUNNING, wake_at))


@pytest.fixture
async def sagas(journal: Journal, database: Database) -> SagaRows:
    """One saga in each namespace, with the same start key, definition and label, that wait for the same event."""
    for number, namespace in enumerate(BOTH, 1):
        await journal.append(a_start_in(namespace, saga_id(number)))
    return SagaRows(database)


@pytest.mark.usefixtures("sagas")
async def test_a_start_key_is_taken_in_its_own_namespace_alone(
    sagas: SagaRows, journal: Journal, query: Query
) -> None:
    for number, namespace in enumerate(BOTH, 1):
        assert (await sagas.by_start_key(namespace, "key")).saga_id == saga_id(number)
        assert await sagas.started_by(namespace, "key") == (saga_id(number), b"digest")
        with pytest.raises(StartKeyTaken) as taken:
            await journal.append(a_start_in(namespace, saga_id(number + 10)))
        assert taken.value.saga_id == saga_id(number)
    assert await sagas.started_by(DEFAULT_NAMESPACE, "key") is None
    rows = "SELECT DISTINCT namespace FROM saga.log UNION ALL SELECT namespace FROM saga.sagas ORDER BY 1"
    assert await query(rows) == [("blue",), ("blue",), ("red",), ("red",)]


async def test_a_saga_is_read_and_listed_in_its_own_namespace_alone(sagas: SagaRows, lists: Lists) -> None:
    for own, other in ((1, 2), (2, 1)):
        namespace = BOTH[own - 1]
        record = await sagas.get(namespace, saga_id(own))
        assert (record.namespace, record.input) == (namespace, {"of": namespace})
        assert await sagas.place(saga_id(own)) == (namespace, SagaStatus.RUNNING)
        with pytest.raises(NotFound):
            await sagas.get(namespace, saga_id(other))
        for wanted in (
            SagaFilter(),
            SagaFilter(statuses=(SagaStatus.RUNNING,)),
            SagaFilter(definition="order"),
            SagaFilter(labels={"team": "one"}),
        ):
            listed = await lists.sagas(namespace, wanted, None, 10, items_of)
            assert [each.saga_id for each in listed] == [saga_id(own)]
    assert await lists.sagas(DEFAULT_NAMESPACE, SagaFilter(), None, 10, items_of) == []


async def test_definitions_of_one_name_have_nothing_to_do_with_each_other(
    sagas: SagaRows, database: Database, lists: Lists
) -> None:
    rows = DefinitionRows(database)
    for namespace in BOTH:
        for version in (1, 2):
            spec = f'{{"name": "order", "description": "{namespace}", "use": "shop.pay"}}'
            assert await rows.add(namespace, "order", version, f"{namespace} {version}", spec) is not None
    assert await rows.deprecate(an_act(namespace=RED), "order", 2, deprecated=True)
    assert await rows.set_default(an_act(namespace=BLUE), "order", 1)
    assert await rows.delete(an_act(namespace=RED), "order", 1)
    for namespace, last, startable, live in ((RED, 2, None, {2: False}), (BLUE, 2, 1, {1: True, 2: True})):
        found = await rows.last(namespace, "order")
        assert found.number == last
        seen = await rows.version(namespace, "order", 2)
        assert seen is not None
        assert (seen.spec["description"], seen.digest) == (namespace, f"{namespace} 2")
        at_start = await rows.startable(namespace, "order")
        assert (at_start.version if at_start else None) == startable
        assert await rows.versions_of(namespace, ["order"]) == {"order": live}
        assert await rows.names_near(namespace, "ordre") == ["order"]
        assert len(await lists.definitions(namespace, "", 10, items_of)) == 1
        assert [
            each.version for each in await lists.versions(namespace, "order", None, 10, items_of)
        ] == sorted(live, reverse=True)
    assert [each.version for each in await rows.using(RED, "shop", ["shop.pay"])] == []
    assert [each.version for each in await rows.using(BLUE, "shop", ["shop.pay"])] == [1, 2]
    first = await rows.version(RED, "order", 1)
    assert first is not None
    first = replace(
        first, registered_at=datetime(1970, 1, 1, tzinfo=UTC)
    )  # before the sagas, by their identities
    assert await rows.saga_of(RED, first) == saga_id(1)
    assert await rows.saga_of(DEFAULT_NAMESPACE, first) is None
    assert await rows.live(DEFAULT_NAMESPACE, "order") is None


async def test_an_event_is_for_the_sagas_of_its_namespace(
    sagas: SagaRows, database: Database, lists: Lists
) -> None:
    events = EventRows(database)
    for namespace in BOTH:
        kept = await events.keep(namespace, Event("e1", "paid", "order 7", {"of": namespace}))
        assert kept.is_new
        assert not (await events.keep(namespace, Event("e1", "paid", "order 7", {"of": namespace}))).is_new
    for number, namespace in enumerate(BOTH, 1):
        assert await events.waiting(namespace, "e1") == [saga_id(number)]
        (listed,) = await lists.events(namespace, EventFilter(is_untaken=True), None, 10, items_of)
        assert listed.payload == {"of": namespace}
    await events.matched(RED, "e1")
    assert await events.take(saga_id(1), "paid", "order 7", 60.0) is None
    taken = await events.take(saga_id(2), "paid", "order 7", 60.0)
    assert taken is not None
    assert taken.payload == {"of": BLUE}
    assert (await lists.events(RED, EventFilter(), None, 10, items_of))[0].taken_by is None
    assert await events.waiting(DEFAULT_NAMESPACE, "e1") == []


async def test_what_participants_say_is_said_in_a_namespace(database: Database, lists: Lists) -> None:
    participants, declared = ParticipantRows(database), DeclaredStepRows(database)
    here, there = WorkerRows(database, HERE), WorkerRows(database, THERE)
    for coordinator in (HERE, THERE):
        await OwnershipRows(database, coordinator, address=coordinator, version="").renew(60.0)
    for namespace in BOTH:
        assert (
            await participants.put(an_act(namespace=namespace), "shop", {"target": namespace}, None)
        ).created
        await participants.set_breaker(an_act(namespace=namespace, reason=namespace), "shop", "OPEN")
        await declared.replace(
            namespace, "shop", Declared(namespace, {"pay": {"name": "pay", "of": namespace}})
        )
        await there.publish(namespace, {f"{namespace} shop": frozenset()})
    for namespace in BOTH:
        (put,) = await participants.read(namespace)
        assert put.spec == {"target": namespace}
        assert [each.reason for each in await participants.breakers(namespace)] == [namespace]
        assert (await declared.of(namespace, "shop")).version == namespace
        assert list((await declared.of_all(namespace, ["shop"])).values()) == [
            {"name": "pay", "of": namespace}
        ]
        (step,) = await lists.declared_steps(namespace, "shop", "", 10, items_of)
        assert step.version == namespace
        assert [each.participant for each in await here.elsewhere(namespace)] == [f"{namespace} shop"]
    await there.publish(RED, {})
    await declared.replace(RED, "shop", Declared())
    assert await participants.delete(an_act(namespace=RED), "shop")
    assert not await participants.delete(an_act(namespace=RED), "shop")
    assert [await participants.read(RED), await here.elsewhere(RED)] == [[], []]
    assert (await declared.of(BLUE, "shop")).version == BLUE
    assert len(await participants.read(BLUE)) == len(await here.elsewhere(BLUE)) == 1


async def test_a_coordinator_claims_for_all_namespaces_and_knows_for_which(
    journal: Journal, database: Database, query: Query
) -> None:
    for number, namespace in enumerate(BOTH, 1):
        await journal.append(a_start_in(namespace, saga_id(number), wake_at=1.0))
    ownership, mail = OwnershipRows(database, HERE, address="", version=""), MailRows(database)
    await ownership.renew(60.0)
    expected: dict[str, Any] = {saga_id(1): RED, saga_id(2): BLUE}
    assert {each.saga_id: each.namespace for each in await ownership.claim(10)} == expected
    assert await ownership.owned() == expected
    for saga in expected:
        await mail.put(Letter(saga, saga_id(9), {"kind": "cancel"}))
    assert {each.saga_id for each in await mail.unanswered(HERE, 10)} == set(expected)
    assert dict(await query("SELECT saga_id::text, namespace FROM saga.requests")) == expected


async def test_every_table_but_those_of_coordinators_and_the_schema_has_a_namespace(query: Query) -> None:
    without = """
        SELECT relname::text FROM pg_class WHERE relnamespace = 'saga'::regnamespace AND relkind = 'r' AND NOT EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'namespace' AND attnotnull
        ) ORDER BY 1
    """
    assert await query(without) == [("coordinators",), ("schema_version",)]


@pytest.mark.parametrize("name", ["a", "team-7", "a" * 63])
def test_a_name_of_a_namespace_is_taken(name: str) -> None:
    assert parse_namespace(name) == name
    assert parse_namespace("") == DEFAULT_NAMESPACE


@pytest.mark.parametrize("name", ["Team", "7team", "team-", "a" * 64, "a_b", "a b", "é"])
def test_another_text_is_refused_with_what_a_name_is(name: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"namespace: is .* up to 63 lower-case letters, digits and hyphens"
    ):
        parse_namespace(name)
