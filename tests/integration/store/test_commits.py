"""COMMIT itself fails: the statement has given its rows by then, and yet nothing of it may count as written."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import DiagnosticField, ExecStatus
from sqlalchemy import text

from saga_coordinator.saga.words.errors import OwnershipLost, Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store import schema
from saga_coordinator.store.database import Database, is_outage
from saga_coordinator.store.embedded import EmbeddedPostgres
from saga_coordinator.store.events import EventRows
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.log_writer import PostgresLog, the_only_result
from saga_coordinator.store.mail import MailRows
from saga_coordinator.store.records import Event, Letter
from tests.conftest import SETTINGS
from tests.eventually import eventually
from tests.integration.store.appends import HERE, a_start, an_attempt, an_end, saga_id
from tests.integration.store.conftest import Query, StartJournal

FAILING = """
CREATE FUNCTION saga.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'refused at the commit' USING ERRCODE = '{code}';
END $$;
CREATE CONSTRAINT TRIGGER failing AFTER INSERT OR UPDATE ON saga.{table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION saga.fail();
"""
MENDED = "DROP FUNCTION saga.fail CASCADE"


def failing(code: str, table: str = "log", when: str = "true") -> str:
    return FAILING.format(code=code, table=table, when=when)


async def log_of(query: Query, saga: str) -> list[int]:
    return [
        row[0] for row in await query("SELECT sequence FROM saga.log WHERE saga_id = %s ORDER BY 1", saga)
    ]


@pytest.fixture(params=[True, False], ids=["prepared", "not prepared"])
async def journal(
    request: pytest.FixtureRequest, database_dsn: str, start_journal: StartJournal
) -> AsyncIterator[Journal]:
    """With and without prepared statements, which are two ways to the driver."""
    database = Database(database_dsn, prepared_statements=request.param)
    journal = await start_journal(HERE, database)
    yield journal
    await journal.stop()
    await database.stop()


@pytest.mark.parametrize("code", ["53100", "40001", "58030"])
async def test_p1_a_start_whose_commit_meets_an_outage_is_refused(
    code: str, journal: Journal, query: Query
) -> None:
    saga = saga_id()
    await query(failing(code, "sagas"))
    with pytest.raises(Unavailable, match="refused at the commit"):
        await journal.append(a_start(saga))
    assert await query("SELECT count(*) FROM saga.sagas") == [(0,)]
    await query(MENDED)
    await eventually(lambda: journal.is_available, "the journal to recover")
    await journal.append(a_start(saga))
    assert await log_of(query, saga) == [1]


@pytest.mark.parametrize("code", ["53100", "40001"])
async def test_p7_a_commit_in_mid_saga_that_meets_an_outage_is_repeated_and_leaves_no_gap(
    code: str, journal: Journal, query: Query
) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    await query(failing(code))
    waiting = asyncio.create_task(journal.append(an_attempt(saga, 2)))
    await eventually(lambda: not journal.is_available, "the journal to notice")
    assert not waiting.done()
    assert await log_of(query, saga) == [1]
    await query(MENDED)
    await waiting
    await journal.append(an_end(saga, 3))
    assert await log_of(query, saga) == [1, 2, 3, 4]


async def test_a_commit_that_is_refused_for_one_is_made_without_it(journal: Journal, query: Query) -> None:
    """What is no outage is one append's own, and no reason to wait: the others of its flush are written at once."""
    sagas = [saga_id() for _ in range(9)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    await query(failing("P0001", when=f"NEW.saga_id = '{sagas[4]}'"))
    ends = await asyncio.gather(*(journal.append(an_end(saga, 2)) for saga in sagas), return_exceptions=True)
    assert isinstance(ends.pop(4), errors.RaiseException)
    assert not [each for each in ends if isinstance(each, BaseException)]
    assert [await log_of(query, saga) for saga in sagas] == [
        [1, 2, 3] if saga != sagas[4] else [1] for saga in sagas
    ]
    assert journal.is_available
    await query(MENDED)
    await journal.append(an_end(sagas[4], 2))
    assert await log_of(query, sagas[4]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "error"),
    [("53100", Unavailable), ("40001", Unavailable), ("23514", errors.CheckViolation)],
)
@pytest.mark.parametrize("guilty", [{4}, set(range(10))], ids=["one", "ten in a row"])
async def test_starts_that_are_refused_at_the_commit_are_refused_apart(
    guilty: set[int], code: str, error: type[Exception], journal: Journal, query: Query
) -> None:
    sagas = [saga_id() for _ in range(13)]
    condition = ", ".join(f"'{sagas[number]}'" for number in guilty)
    await query(failing(code, "sagas", when=f"NEW.saga_id IN ({condition})"))
    ends = await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas), return_exceptions=True)
    assert {number for number, end in enumerate(ends) if isinstance(end, error)} == guilty
    assert {number for number, end in enumerate(ends) if isinstance(end, BaseException)} == guilty
    assert [await log_of(query, saga) for saga in sagas] == [
        [] if number in guilty else [1] for number in range(13)
    ]
    assert journal.is_available


async def test_p1_an_append_that_is_taken_back_alone_waits_alone(journal: Journal, query: Query) -> None:
    sagas = [saga_id() for _ in range(9)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    await query(failing("53100", when=f"NEW.saga_id = '{sagas[4]}'"))
    waiting = [asyncio.create_task(journal.append(an_attempt(saga, 2))) for saga in sagas]
    guilty = waiting.pop(4)
    await asyncio.gather(*waiting)
    await eventually(lambda: journal._queue._aside, "the append to be put aside")
    (aside,) = journal._queue._aside
    for times in range(1, 4):  # starts are taken, though that append is tried again between them
        await journal.append(a_start(saga_id()))
        await eventually(partial(_is_aside_again, aside, times), "its next attempt to be taken back")
    assert journal.is_available
    assert not guilty.done()
    await query(MENDED)
    await guilty
    assert await log_of(query, sagas[4]) == [1, 2]


def _is_aside_again(aside: Any, times: int) -> bool:
    return bool(aside.times_aside > times)


async def test_an_append_that_was_put_aside_is_given_up_when_the_journal_stops(
    journal: Journal, query: Query
) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    await query(failing("53100"))
    waiting = asyncio.create_task(journal.append(an_attempt(saga, 2)))
    await eventually(lambda: journal._queue._aside, "the append to be put aside")
    await journal.stop()
    with pytest.raises(Unavailable, match="refused at the commit"):
        await waiting


async def test_p8_a_primary_key_that_is_checked_at_the_commit_still_names_the_loser(
    journal: Journal, query: Query
) -> None:
    sagas = [saga_id() for _ in range(3)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    await query("""
        ALTER TABLE saga.log DROP CONSTRAINT log_pkey;
        ALTER TABLE saga.log ADD CONSTRAINT log_pkey PRIMARY KEY (saga_id, sequence) DEFERRABLE INITIALLY DEFERRED;
    """)
    await query(
        "INSERT INTO saga.log (saga_id, sequence, type, attempt, body, recorded_by)"
        " VALUES (%s, 2, 'saga_adopted', 0, '{}', %s)",
        sagas[1],
        saga_id(),
    )
    ends = await asyncio.gather(*(journal.append(an_end(saga, 2)) for saga in sagas), return_exceptions=True)
    assert isinstance(ends.pop(1), OwnershipLost)
    assert not [each for each in ends if isinstance(each, BaseException)]
    assert [await log_of(query, saga) for saga in sagas] == [[1, 2, 3], [1, 2], [1, 2, 3]]


BLOCKING = """
CREATE SEQUENCE saga.looks;
CREATE TABLE saga.probe (value int);
INSERT INTO saga.probe VALUES (0);
CREATE FUNCTION saga.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('saga.looks');  -- is not taken back with the transaction
    PERFORM value FROM saga.probe;
    PERFORM pg_advisory_xact_lock_shared(7);
    RETURN NULL;
END $$;
CREATE TRIGGER looking AFTER INSERT ON saga.log FOR EACH STATEMENT EXECUTE FUNCTION saga.look();
"""
BLOCKED = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"


async def test_a_serialization_failure_at_the_commit_is_repeated(
    database_dsn: str, start_journal: StartJournal, query: Query
) -> None:
    """A real one: the append is found to be the pivot of three transactions when its statement has ended already."""
    database = Database(f"{database_dsn}?options=-c%20default_transaction_isolation%3Dserializable")
    journal = await start_journal(HERE, database)
    saga = saga_id()
    await journal.append(a_start(saga))
    await query(BLOCKING)
    await query("SELECT pg_advisory_lock(7)")
    waiting = asyncio.create_task(journal.append(an_attempt(saga, 2)))
    await eventually(lambda: query(BLOCKED), "the append to have looked")
    strict = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"
    async with await psycopg.AsyncConnection.connect(database_dsn) as after:
        await after.execute(strict)
        await after.commit()
        await after.execute("UPDATE saga.probe SET value = 1")
    async with await psycopg.AsyncConnection.connect(database_dsn) as before:
        await before.execute(strict)
        await before.commit()
        await before.execute("SELECT count(*) FROM saga.log")
        await query("SELECT pg_advisory_unlock(7)")
        await waiting
        await before.rollback()
    assert await query("SELECT last_value FROM saga.looks") == [(2,)], "nothing failed"
    await journal.append(an_end(saga, 3))
    assert await log_of(query, saga) == [1, 2, 3, 4]
    await journal.stop()
    await database.stop()


@pytest.fixture
def own_server(postgres_folder: Path, postgres_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """A server that may fall, with buffers that are not written before a commit asks for it."""
    settings = (*SETTINGS, "wal_buffers=16MB", "wal_writer_delay=10s", "checkpoint_timeout=1h")
    server = EmbeddedPostgres(
        postgres_folder / "commits", postgres_bin=postgres_bin, fsync=False, settings=settings
    )
    with server:
        schema.upgrade(server.dsn)
        yield server


_MIB = 2**20
_LIMIT_BYTES = 4 * _MIB


async def test_p1_a_log_that_cannot_be_flushed_at_the_commit_is_nobodys_success(
    own_server: EmbeddedPostgres,
) -> None:
    """As on a full disk: the backend may write no file beyond a size, so flushing the write-ahead log takes the server down."""
    database = Database(own_server.dsn)
    journal = Journal(PostgresLog(database, HERE), HERE)
    await journal.start()
    saga = saga_id()
    await journal.append(a_start(saga))
    async with await psycopg.AsyncConnection.connect(own_server.dsn, autocommit=True) as connection:
        await _fill_segment(connection)
        (backend,) = await _one_row(
            connection,
            "SELECT pid FROM pg_stat_activity WHERE query LIKE '%INSERT INTO saga.start_keys%'"
            " AND pid <> pg_backend_pid()",
        )
        resource.prlimit(backend, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(backend, resource.RLIMIT_FSIZE, (_LIMIT_BYTES, _LIMIT_BYTES))
        await journal.append(an_attempt(saga, 2))
        with pytest.raises(psycopg.OperationalError):  # all sessions have ended with the server
            await connection.execute("SELECT 1")
    await eventually(lambda: journal.is_available, "the journal to recover")
    await journal.append(an_end(saga, 3))
    async with database.connection() as reading:
        rows = await reading.execute(text("SELECT sequence FROM saga.log ORDER BY 1"))
        assert [row[0] for row in rows] == [1, 2, 3, 4]
    await journal.stop()
    await database.stop()
    assert "PANIC:  could not write to log file" in own_server.log_path.read_text()


async def _fill_segment(connection: psycopg.AsyncConnection) -> None:
    """Moves the write-ahead log on until it writes beyond the limit, and far from the end of its file."""
    while not (_LIMIT_BYTES < (at := await _place(connection)) < 12 * _MIB):
        assert at is not None
        await connection.execute("SELECT pg_logical_emit_message(false, 'filling', repeat('x', 1048576))")


async def _place(connection: psycopg.AsyncConnection) -> int:
    (place,) = await _one_row(
        connection, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint % (16 * 1048576)"
    )
    return int(place)


async def _one_row(connection: psycopg.AsyncConnection, statement: str) -> tuple[Any, ...]:
    row = await (await connection.execute(statement)).fetchone()
    assert row is not None
    return row


async def test_the_statements_beside_the_journal_hear_of_it_too(database_dsn: str, query: Query) -> None:
    database = Database(database_dsn)
    await query(failing("53100", "events"))
    with pytest.raises(Unavailable, match="refused at the commit"):
        await EventRows(database).keep(DEFAULT_NAMESPACE, Event("e1", "paid", "o-1", {}))
    await query(MENDED)
    await query(failing("P0001", "requests"))
    with pytest.raises(Exception, match="refused at the commit"):
        await MailRows(database).put(Letter(saga_id(), saga_id(), {}))
    await query(MENDED)
    assert await query("SELECT count(*) FROM saga.events") == [(0,)]
    await database.stop()


class Result:
    """As libpq has it."""

    def __init__(self, status: ExecStatus) -> None:
        self.status = status


@pytest.mark.parametrize(
    "statuses",
    [
        [],
        [ExecStatus.COMMAND_OK],
        [ExecStatus.EMPTY_QUERY],
        [ExecStatus.TUPLES_OK, ExecStatus.TUPLES_OK],
        [ExecStatus.TUPLES_OK, ExecStatus.PIPELINE_ABORTED],
        [ExecStatus.PIPELINE_SYNC],
    ],
)
def test_an_answer_that_makes_no_sense_leaves_the_commit_in_doubt(statuses: list[ExecStatus]) -> None:
    results: Any = [Result(status) for status in statuses]
    with pytest.raises(psycopg.InterfaceError) as raised:
        the_only_result(results, ExecStatus.TUPLES_OK)
    assert is_outage(raised.value)


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
@pytest.mark.parametrize("code", ["XX000", "XX001", "42501", "54000", "57P01"])
def test_a_session_that_postgres_ends_leaves_the_commit_in_doubt_whatever_the_code(
    severity: str, code: str
) -> None:
    said: dict[int, bytes | None] = {
        DiagnosticField.SEVERITY_NONLOCALIZED: severity.encode(),
        DiagnosticField.SQLSTATE: code.encode(),
    }
    assert is_outage(errors.lookup(code)("injected", info=said))
