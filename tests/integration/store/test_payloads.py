"""What is kept comes back as it was, byte for byte, whatever Postgres makes of it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saga_coordinator.saga.machine.entries import AttemptSucceeded
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode
from saga_coordinator.saga.words.canonical import canonical
from saga_coordinator.saga.words.errors import AlreadyExists, OwnershipLost
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.appends import Append
from saga_coordinator.store.database import Database
from saga_coordinator.store.events import EventRows
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.records import Event
from saga_coordinator.store.sagas import SagaRows
from tests.eventually import eventually
from tests.integration.proxy import Proxy, answers_append
from tests.integration.store.appends import ACTION, HERE, a_start, saga_id
from tests.integration.store.conftest import StartJournal
from tests.payloads import payloads

NASTY = {
    "zeta": 1.0,
    "b": {"longer": -0.0, "é": 1e-9, "a": [True, None, 1e23, 2.5]},
    "id": 1234567890123456789.0,
    "huge": 1.7976931348623157e308,
    "exact": 9007199254740993,
}
NUMBERS = [1e16, 1234567890123456789, 1e23, 9007199254740993.0, 0.1, 1e-9, 2.0**63, -0.0]


@pytest.fixture
def keeping(database_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        yield connection


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(payloads(), min_size=1, max_size=20))
def test_p7_what_postgres_gives_back_has_the_form_that_it_was_given(
    keeping: psycopg.Connection, batch: list[Any]
) -> None:
    kept = [orjson.dumps(canonical(payload)) for payload in batch]
    read = keeping.execute(
        "SELECT each.value::jsonb FROM unnest(%s::text[]) WITH ORDINALITY AS each (value, place) ORDER BY place",
        ([text.decode() for text in kept],),
    ).fetchall()
    assert [orjson.dumps(canonical(row[0])) for row in read] == kept


async def test_p7_an_output_is_read_from_the_log_as_it_was_decided_on(
    journal: Journal, database: Database
) -> None:
    saga = saga_id()
    await journal.append(a_start(saga, given=canonical(NASTY)))
    entry = AttemptSucceeded("charge", ACTION, 1, canonical(NASTY))
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 2, (entry,)))
    started, succeeded = (decode(each.entry) for each in await SagaRows(database).log(saga))
    assert orjson.dumps(succeeded.output) == orjson.dumps(entry.output)  # type: ignore[union-attr]
    assert orjson.dumps(started.input) == orjson.dumps(entry.output)  # type: ignore[union-attr]


@pytest.mark.parametrize("number", NUMBERS)
async def test_p9_an_event_with_any_number_in_it_may_be_repeated(number: float, database: Database) -> None:
    events = EventRows(database)

    async def is_new(payload: dict[str, Any]) -> bool:
        return (await events.keep(DEFAULT_NAMESPACE, Event("e1", "paid", "o-1", payload))).is_new

    assert await is_new({"zeta": 1, "id": number, "b": [number]})
    assert not await is_new({"zeta": 1, "id": number, "b": [number]})
    assert not await is_new({"b": [number], "id": number, "zeta": 1.0})
    with pytest.raises(AlreadyExists):
        await is_new({"b": [number], "id": number, "zeta": True})


@pytest.mark.parametrize("number", NUMBERS)
async def test_p8_an_append_in_doubt_is_recognised_whatever_numbers_it_has(
    number: float, proxy: Proxy, fragile: Database, start_journal: StartJournal, database: Database
) -> None:
    journal = await start_journal(HERE, fragile)
    saga = saga_id()
    await journal.append(a_start(saga))
    entry = AttemptSucceeded("charge", ACTION, 1, {"zeta": number, "b": [number, {"y": 1, "a": number}]})
    proxy.cut_instead_of_answer(answers_append)
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 2, (entry,)))
    assert proxy.cuts == 1
    assert len(await SagaRows(database).log(saga)) == 2


async def test_p8_an_append_in_doubt_is_not_taken_for_another_that_python_holds_to_be_equal(
    proxy: Proxy, fragile: Database, start_journal: StartJournal, database: Database
) -> None:
    journal, beside = await start_journal(HERE, fragile), await start_journal(HERE, database)
    saga = saga_id()
    await journal.append(a_start(saga))
    await proxy.shut()
    yes, one = (
        Append(saga, DEFAULT_NAMESPACE, 2, (AttemptSucceeded("charge", ACTION, 1, {"paid": paid}),))
        for paid in (True, 1)
    )
    in_doubt = asyncio.create_task(journal.append(yes))
    await eventually(lambda: not journal.is_available, "the outage to be noticed")
    await beside.append(one)
    proxy.open()
    with pytest.raises(OwnershipLost):
        await in_doubt


def test_a_log_of_the_first_version_leads_to_the_form() -> None:
    """It wrote what had come as it had come; this is what Postgres has made of it since."""
    body = {"output": {"b": 2, "id": 1234567890123456800, "zeta": 1.0, "big": 100000000000000000000000}}
    entry = decode(StoredEntry("attempt_succeeded", "charge", "action", 1, body))
    fresh = canonical({"zeta": 1.0, "id": 1234567890123456789.0, "b": 2.0, "big": 1e23})
    assert orjson.dumps(entry.output) == orjson.dumps(fresh)  # type: ignore[union-attr]
