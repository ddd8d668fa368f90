"""A database that version 0.1.0 filled, after migration 0010: its rows stay as they are, and are read as what they mean."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from psycopg import errors
from sqlalchemy import create_engine

from saga_coordinator.saga.machine.entries import AttemptStarted, SagaParked
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode
from saga_coordinator.saga.words.errors import AlreadyExists
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.store import schema
from saga_coordinator.store.appends import Append
from saga_coordinator.store.database import Database, driver_url
from saga_coordinator.store.events import EventRows
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.lists import EventFilter, Lists
from saga_coordinator.store.log_writer import PostgresLog
from saga_coordinator.store.ownership import OwnershipRows
from saga_coordinator.store.records import Event
from saga_coordinator.store.sagas import SagaFilter, SagaRows
from saga_coordinator.store.schema import SchemaInUse
from tests.integration.store.appends import ACTION, HERE, THERE, saga_id
from tests.integration.store.conftest import items_of
from tools.record_histories import HISTORIES

PATHS = sorted(HISTORIES.glob("0.1.0/*.json"))
FAILURE = {"code": "REFUSED", "message": "no", "step": "pay", "requested_by": ""}
RENEW = """
    INSERT INTO saga.coordinators (coordinator_id, lease_until, address, version)
    VALUES (%s, clock_timestamp() + interval '3 s', '', '0.1.0')
    ON CONFLICT (coordinator_id) DO UPDATE SET lease_until = excluded.lease_until
"""


def log_of(path: Path) -> list[StoredEntry]:
    return [StoredEntry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["log"]]


@pytest.fixture
def old_dsn(empty_database_dsn: str) -> str:
    """A database as the migrations before 0010 leave it, with every history that 0.1.0 recorded; its coordinator has gone."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    engine = create_engine(driver_url(empty_database_dsn))
    with engine.connect() as migrating:
        config.attributes["connection"] = migrating
        command.upgrade(config, "0009")
        migrating.commit()
    engine.dispose()
    with psycopg.connect(empty_database_dsn) as connection:
        for number, path in enumerate(PATHS, 1):
            _insert(connection, saga_id(number), log_of(path))
        connection.execute(
            "INSERT INTO saga.events (event_id, name, correlation, payload) VALUES ('e1', 'paid', 'o', '{\"a\": 1.0}')"
        )
        connection.execute(RENEW, [HERE])
        connection.execute("UPDATE saga.coordinators SET lease_until = now() - interval '1 s'")
    return empty_database_dsn


def _insert(connection: psycopg.Connection, saga: str, log: list[StoredEntry]) -> None:
    body = log[0].body
    connection.execute(
        "INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, input, labels, failure, owner)"
        " VALUES (%s, %s, 'order', 1, 'RUNNING', %s, '{}', %s, %s)",
        [saga, f"key of {saga}", json.dumps(body.get("input")), json.dumps(FAILURE), HERE],
    )
    connection.execute("INSERT INTO saga.start_keys VALUES ('default', %s, %s, '')", [f"key of {saga}", saga])
    for sequence, entry in enumerate(log, 1):
        place: tuple[Any, ...] = (
            entry.type,
            entry.step,
            entry.operation,
            entry.attempt,
            json.dumps(entry.body),
        )
        connection.execute(
            "INSERT INTO saga.log (saga_id, sequence, type, step, operation, attempt, body, recorded_by)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [saga, sequence, *place, HERE],
        )


@pytest.fixture
async def moved(old_dsn: str) -> AsyncIterator[Database]:
    assert schema.upgrade(old_dsn) == ("0009", schema.REVISION)
    database = Database(old_dsn)
    yield database
    await database.stop()


async def test_p7_logs_of_0_1_0_are_read_as_they_were_written(moved: Database) -> None:
    sagas = SagaRows(moved)
    ids = [saga_id(number) for number in range(1, len(PATHS) + 1)]
    expected = [[decode(entry) for entry in log_of(path)] for path in PATHS]
    for saga, entries in zip(ids, expected, strict=True):
        assert [decode(each.entry) for each in await sagas.log(saga)] == entries
        assert [decode(each.logged().entry) for each in await sagas.shown_log(saga, 0, 1000)] == entries
    read: list[list[Any]] = [[] for _ in ids]
    first = last = after = 0
    while first < len(ids):
        page = await sagas.page(ids[first:], after)
        for each in page.entries:
            read[first + each.place].append(decode(each.entry))
            last, after = first + each.place, each.sequence
        first, after = (last, after) if page.has_more else (last + 1, 0)
    assert read == expected


async def test_rows_of_0_1_0_show_their_input_and_failure(moved: Database, old_dsn: str) -> None:
    record = await SagaRows(moved).get(DEFAULT_NAMESPACE, saga_id(1))
    assert record.input == log_of(PATHS[0])[0].body.get("input")
    assert record.failure == Cause(**FAILURE)
    lists = Lists(Database(old_dsn))
    listed = await lists.sagas(DEFAULT_NAMESPACE, SagaFilter(), None, 100, items_of)
    assert [each.saga_id for each in listed] == [saga_id(number) for number in range(len(PATHS), 0, -1)]
    (event,) = await lists.events(DEFAULT_NAMESPACE, EventFilter(), None, 10, items_of)
    assert (event.event_id, event.payload) == ("e1", {"a": 1})
    await lists.stop()


async def test_parked_sagas_of_0_1_0_say_what_blocks_them(moved: Database, old_dsn: str) -> None:
    parked = {
        saga_id(number): entries[-1].cause
        for number, path in enumerate(PATHS, 1)
        if isinstance((entries := [decode(entry) for entry in log_of(path)])[-1], SagaParked)
    }
    assert parked
    with psycopg.connect(old_dsn) as connection:
        connection.execute(
            "UPDATE saga.sagas SET status = 'NEEDS_ATTENTION', owner = NULL WHERE saga_id = ANY(%s)",
            [list(parked)],
        )
    sagas = SagaRows(moved)
    for saga, cause in parked.items():
        assert (await sagas.get(DEFAULT_NAMESPACE, saga)).blocked_by == cause


async def test_p9_an_event_of_0_1_0_is_known_again(moved: Database) -> None:
    events = EventRows(moved)
    assert not (await events.keep(DEFAULT_NAMESPACE, Event("e1", "paid", "o", {"a": 1}))).is_new
    with pytest.raises(AlreadyExists):
        await events.keep(DEFAULT_NAMESPACE, Event("e1", "paid", "o", {"a": True}))


async def test_a_wait_of_0_1_0_gets_its_event(moved: Database) -> None:
    waits = {
        (saga_id(number), entry.body["event"], entry.body["correlation"])
        for number, path in enumerate(PATHS, 1)
        for entry in log_of(path)
        if entry.type == "wait_started" and entry.body.get("correlation")
    }
    assert waits
    events = EventRows(moved)
    for saga, name, correlation in waits:
        event = Event(f"for {saga}", name, correlation)
        await events.keep(DEFAULT_NAMESPACE, event)
        assert saga in await events.waiting(DEFAULT_NAMESPACE, event.event_id)


async def test_a_saga_of_0_1_0_is_claimed_and_goes_on(moved: Database) -> None:
    ownership = OwnershipRows(moved, THERE, address="", version="")
    await ownership.renew(60.0)
    claimed = await ownership.claim(100)
    assert {(each.previous_owner, each.namespace) for each in claimed} == {(HERE, "default")}
    journal = Journal(PostgresLog(moved, THERE), THERE)
    await journal.start()
    length = len(log_of(PATHS[0]))
    await journal.append(
        Append(saga_id(1), DEFAULT_NAMESPACE, length + 1, (AttemptStarted("late", ACTION, 1),))
    )
    await journal.stop()
    assert len(await SagaRows(moved).log(saga_id(1))) == length + 1


def test_the_migration_waits_for_living_coordinators_and_changes_nothing(old_dsn: str) -> None:
    with psycopg.connect(old_dsn) as connection:
        connection.execute(
            "UPDATE saga.coordinators SET lease_until = now() + interval '1 hour', address = 'host:1'"
        )
    with pytest.raises(SchemaInUse, match=rf"stop {HERE} at host:1 \(0.1.0\), and migrate again"):
        schema.upgrade(old_dsn)
    with psycopg.connect(old_dsn) as connection:
        assert connection.execute("SELECT version_num FROM saga.schema_version").fetchone() == ("0009",)
        connection.execute(RENEW, [THERE])  # as 0.1.0 goes on meanwhile


async def test_p8_a_coordinator_of_0_1_0_that_was_frozen_gets_no_lease_again(
    moved: Database, old_dsn: str
) -> None:
    for coordinator in (HERE, saga_id(99)):
        with (
            psycopg.connect(old_dsn) as connection,
            pytest.raises(errors.NotNullViolation, match="schema_revision"),
        ):
            connection.execute(RENEW, [coordinator])


def test_0_1_0_is_told_that_the_schema_is_not_for_it(old_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    schema.upgrade(old_dsn)
    monkeypatch.setattr(schema, "_REVISIONS", [f"{number:04}" for number in range(1, 7)])  # those of 0.1.0
    with pytest.raises(schema.SchemaMismatch, match="needs a later one: upgrade the program"):
        schema.check(old_dsn)
