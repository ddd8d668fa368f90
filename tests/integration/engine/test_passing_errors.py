"""Errors of Postgres that pass: whole sagas go on through them, and nothing is done twice or lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from urllib.parse import quote

import psycopg
import pytest
from psycopg import errors

from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.store.database import Database, is_outage, unavailable
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, Query, StartEngine
from tests.integration.engine.participants import Participants, refusing

PASSING = {
    "40001": "serialization_failure",
    "40P01": "deadlock_detected",
    "55P03": "lock_not_available, as by lock_timeout",
    "57014": "query_canceled, as by statement_timeout",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
    "57P05": "idle_session_timeout",
    "25006": "read_only_sql_transaction, as after a failover",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "58030": "io_error",
    "08006": "connection_failure",
    "26000": "invalid_sql_statement_name, as behind a pooler",
}
FAILING = """
CREATE SEQUENCE saga.failures;
CREATE FUNCTION saga.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    -- What a sequence gives out is not taken back with the transaction: each failure passes, one alone and two in a row.
    IF mod(nextval('saga.failures'), 13) IN (4, 9, 10) THEN
        RAISE EXCEPTION 'injected' USING ERRCODE = '{code}';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER failing AFTER INSERT ON saga.log FOR EACH STATEMENT EXECUTE FUNCTION saga.fail();
CREATE TRIGGER failing AFTER UPDATE OF owner ON saga.sagas FOR EACH STATEMENT EXECUTE FUNCTION saga.fail();
CREATE TRIGGER failing AFTER INSERT OR UPDATE ON saga.coordinators FOR EACH STATEMENT EXECUTE FUNCTION saga.fail();
CREATE TRIGGER failing AFTER INSERT OR UPDATE ON saga.requests FOR EACH STATEMENT EXECUTE FUNCTION saga.fail();
"""


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57014", "57P01", "25006", "53100", "53300"])
async def test_p1_an_error_that_passes_is_waited_out(
    code: str, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    """Statements of the journal, the claims, the lease and the requests fail now and then."""
    engine = await start_engine()
    participants.on("ship", [refusing()] * 2)  # some sagas are undone
    await query(FAILING.format(code=code))
    sagas = await asyncio.gather(*(engine.start(key=f"saga {number}") for number in range(6)))
    for saga_id in sagas:
        await eventually(partial(_is_settled, engine, saga_id), "the saga to settle")
    statuses = Counter([(await engine.saga(saga_id)).status for saga_id in sagas])
    assert statuses == {SagaStatus.COMPLETED: 4, SagaStatus.COMPENSATED: 2}
    assert set(participants.books.applied.values()) == {1}
    ((failures,),) = await query("SELECT last_value FROM saga.failures")
    assert failures > 10
    await query("DROP FUNCTION saga.fail CASCADE")


async def _is_settled(engine: Engine, saga_id: str) -> bool:
    try:
        status = await engine.sagas.status(saga_id)
    except Unavailable:
        return False
    return status not in {SagaStatus.RUNNING, SagaStatus.COMPENSATING}


@pytest.mark.parametrize("code", PASSING)
def test_what_passes_is_an_outage(code: str) -> None:
    assert is_outage(errors.lookup(code)("injected"))


@pytest.mark.parametrize("code", ["23505", "23514", "22001", "42P01", "42501", "54000"])
def test_what_is_wrong_for_good_is_none(code: str) -> None:
    assert not is_outage(errors.lookup(code)("injected"))


@pytest.mark.parametrize("kind", [errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement])
def test_statements_that_a_pooler_has_lost_name_the_setting(kind: type[psycopg.Error]) -> None:
    assert "set prepared_statements to false" in str(unavailable(kind("gone")))


@pytest.mark.parametrize(
    "said", ["failed to resolve host 'db'", 'could not translate host name "db" to address']
)
def test_a_host_without_an_address_is_named_as_that(said: str) -> None:
    assert "the host's name in the database URL has no address" in str(
        unavailable(errors.OperationalError(said))
    )


def with_options(dsn: str, *settings: str) -> str:
    """The URL with settings of Postgres's own."""
    return f"{dsn}?options={quote(' '.join(f'-c {setting}' for setting in settings))}"


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
async def test_timeouts_given_in_the_url_hold_and_are_waited_out(
    setting: str, database_dsn: str, start_engine: StartEngine, participants: Participants
) -> None:
    engine = await start_engine(dsn=with_options(database_dsn, f"{setting}=100ms"))
    saga_id, gate = await engine.halted_at("charge")
    async with await psycopg.AsyncConnection.connect(database_dsn) as lock:
        await lock.execute("LOCK TABLE saga.log IN SHARE MODE")
        gate.open()
        await eventually(lambda: not engine.coordinator._journal.is_available, "the timeout")
        await lock.rollback()
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    assert set(participants.books.applied.values()) == {1}


async def test_sessions_ended_for_idleness_are_opened_again(
    database_dsn: str, start_engine: StartEngine, query: Query
) -> None:
    engine = await start_engine(dsn=with_options(database_dsn, "idle_session_timeout=300ms"))

    async def sessions() -> set[int]:
        others = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return {pid for (pid,) in await query(others)}

    for _ in range(3):
        assert (await engine.run()).status is SagaStatus.COMPLETED
        used = await sessions()

        async def is_one_gone() -> bool:
            return bool(used - await sessions())  # noqa: B023

        await eventually(is_one_gone, "a session to be ended")
    assert engine.coordinator.is_accepting


async def test_two_coordinators_at_the_strictest_isolation(
    database_dsn: str, start_engine: StartEngine, participants: Participants
) -> None:
    dsn = with_options(database_dsn, "default_transaction_isolation=serializable")
    here, there = await start_engine("here", dsn=dsn), await start_engine("there", dsn=dsn)
    participants.on("ship", [refusing()] * 20)
    started = [(here, there)[number % 2].start(key=f"saga {number}") for number in range(60)]
    sagas = await asyncio.gather(*started)
    for saga_id in sagas:
        await eventually(partial(_is_settled, here, saga_id), "the saga to settle")
    statuses = Counter([(await here.saga(saga_id)).status for saga_id in sagas])
    assert statuses == {SagaStatus.COMPLETED: 40, SagaStatus.COMPENSATED: 20}
    assert set(participants.books.applied.values()) == {1}


async def test_too_many_connections_are_waited_for(database_dsn: str, query: Query) -> None:
    """Refused by Postgres itself at the connection, rather than in a statement."""
    await query("CREATE ROLE guest LOGIN PASSWORD 'guest' CONNECTION LIMIT 0")
    try:
        await query("GRANT USAGE ON SCHEMA saga TO guest")
        _, _, where = database_dsn.rpartition("@")
        database = Database(f"postgresql://guest:guest@{where}")
        with pytest.raises(Unavailable, match="too many connections"):
            await database.ping()
        await query("ALTER ROLE guest CONNECTION LIMIT 5")
        await database.ping()
        await database.stop()
    finally:
        await query("DROP OWNED BY guest")
        await query("DROP ROLE guest")
