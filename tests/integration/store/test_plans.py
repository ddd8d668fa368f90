"""The statements that run all the time, as Postgres would run them on a database in use: none reads a whole table."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, func, select

from saga_coordinator.filters.parsing import parse_filter
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.appends import written
from saga_coordinator.store.database import Database
from saga_coordinator.store.embedded import EmbeddedPostgres
from saga_coordinator.store.failures import group_failures
from saga_coordinator.store.filtering import saga_conditions
from saga_coordinator.store.lists import EventFilter, Lists
from saga_coordinator.store.log_writer import PostgresLog, plan_by_keys
from saga_coordinator.store.mail import MailRows
from saga_coordinator.store.ownership import OwnershipRows
from saga_coordinator.store.records import Letter
from saga_coordinator.store.sagas import SagaFilter, SagaRows
from saga_coordinator.store.tables import sagas
from tests.conftest import new_database
from tests.eventually import eventually
from tests.integration.store.appends import HERE, THERE, a_start, an_attempt, an_end, saga_id
from tests.integration.store.conftest import Query, items_of

SAGAS = 50_000
FILL = """
INSERT INTO saga.coordinators (coordinator_id, lease_until, address, version, schema_revision) VALUES
    (%(here)s, now() + interval '1 hour', '', '', ''), (%(there)s, now() - interval '1 hour', '', '', '');
INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, owner, wake_at, ended_at)
SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, 'key ' || n, 'definition ' || n %% 500, 1,
    CASE WHEN n %% 50 = 0 THEN 'RUNNING' WHEN n %% 50 = 1 THEN 'COMPENSATED' ELSE 'COMPLETED' END,
    CASE WHEN n %% 5 = 0 THEN jsonb_build_object('tenant', 'tenant ' || n %% 1000) ELSE '{}' END,
    CASE WHEN n %% 200 = 0 THEN %(here)s::uuid WHEN n %% 200 = 50 THEN %(there)s::uuid END,
    CASE WHEN n %% 200 = 100 THEN now() - interval '1 s' WHEN n %% 200 = 150 THEN now() + interval '1 day' END,
    CASE WHEN n %% 50 > 0 THEN now() - n * interval '1 s' END
FROM generate_series(1, %(sagas)s) n;
INSERT INTO saga.log (saga_id, sequence, type, attempt, facts, recorded_by)
SELECT saga_id, sequence, CASE sequence WHEN 1 THEN 'saga_started' ELSE 'saga_adopted' END, 0, '{}', %(here)s
FROM saga.sagas, generate_series(1, 2) sequence;
INSERT INTO saga.events (event_id, name, correlation, published_at, taken_at)
SELECT 'event ' || n, 'name ' || n %% 100, 'order ' || n, now() - n * interval '10 s', CASE WHEN n %% 500 > 0 THEN now() END
FROM generate_series(1, 20000) n;
INSERT INTO saga.start_keys SELECT 'default', start_key, saga_id, '' FROM saga.sagas;
INSERT INTO saga.requests (saga_id, request_id, input, answer)
SELECT saga_id, gen_random_uuid(), '{}', CASE WHEN owner IS NULL THEN '{}'::bytea END FROM saga.sagas WHERE start_key LIKE '%%00';
"""

Plan = Callable[[Callable[[], Awaitable[Any]]], Awaitable[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def full_dsn(postgres_server: EmbeddedPostgres, template_database: str) -> Iterator[str]:
    """The connection URL of a database with many sagas, most of them ended; tests only read it."""
    for dsn in new_database(postgres_server, template_database):
        with psycopg.connect(dsn, cursor_factory=psycopg.ClientCursor, autocommit=True) as filling:
            filling.execute(FILL, {"here": HERE, "there": THERE, "sagas": SAGAS})
            filling.execute("VACUUM ANALYZE")
        yield dsn


@pytest.fixture
async def full(full_dsn: str) -> AsyncIterator[Database]:
    database = Database(full_dsn)
    yield database
    await database.stop()


@pytest.fixture
def plan(full: Database, full_dsn: str) -> Plan:
    """Has the store do something, without its taking effect, and returns the plans of the statements that it sends."""

    async def explain(work: Callable[[], Awaitable[Any]]) -> list[dict[str, Any]]:
        sent: list[tuple[str, Any]] = []

        def instead(
            connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any
        ) -> tuple[str, Any]:
            sent.append((statement, parameters))
            return "SELECT 1 WHERE false", {}

        event.listen(full._engine.sync_engine, "before_cursor_execute", instead, retval=True)
        try:
            await work()
        except (LookupError, AttributeError):  # no rows came back
            raise
        except Exception:  # noqa: BLE001, S110  # nor did the row that it counted on
            pass
        event.remove(full._engine.sync_engine, "before_cursor_execute", instead)
        plans: list[dict[str, Any]] = []
        with psycopg.connect(full_dsn) as connection:
            for statement, parameters in sent:
                row = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchone()
                assert row is not None
                plans.append(row[0][0]["Plan"])
        return plans

    return explain


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def whole_tables(plans: list[dict[str, Any]]) -> set[str]:
    """The tables that are read from end to end, except those that are always small."""
    scans = [node for plan in plans for node in nodes(plan) if node["Node Type"].endswith("Seq Scan")]
    return {node["Relation Name"] for node in scans} - {"coordinators"}


async def test_claims_read_no_whole_table(plan: Plan, full: Database) -> None:
    ownership = OwnershipRows(full, HERE, address="", version="")
    orphaned, due = await plan(lambda: ownership.claim(200, ["definition 7"]))
    for statement, index in ((orphaned, "sagas_owned"), (due, "sagas_of_group_due")):
        assert not whole_tables([statement]), json.dumps(statement, indent=1)
        assert index in {node.get("Index Name") for node in nodes(statement)}, json.dumps(statement, indent=1)


async def test_a_claim_locks_each_row_once(plan: Plan, full: Database) -> None:
    """A subquery that the planner repeats for each row would claim more than its limit."""
    ownership = OwnershipRows(full, HERE, address="", version="")
    for statement in await plan(lambda: ownership.claim(200)):
        joins = [node for node in nodes(statement) if node["Node Type"] == "Nested Loop"]
        inner = [
            below for join in joins for below in join["Plans"] if below["Parent Relationship"] == "Inner"
        ]
        assert not any(node["Node Type"] == "LockRows" for below in inner for node in nodes(below))


@pytest.mark.parametrize("method", ["owned", "retire", "claim_one", "release", "backlog"])
async def test_what_an_owner_does_reads_no_whole_table(method: str, plan: Plan, full: Database) -> None:
    ownership = OwnershipRows(full, HERE, address="", version="")
    arguments: dict[str, tuple[Any, ...]] = {
        "claim_one": (saga_id(7),),
        "release": ([saga_id(7), saga_id(8)], 1.0),
        "backlog": (1000,),
    }
    plans = await plan(lambda: getattr(ownership, method)(*arguments.get(method, ())))
    assert plans
    assert not whole_tables(plans), json.dumps(plans, indent=1)


@pytest.mark.parametrize(
    "wanted",
    [
        SagaFilter(),
        SagaFilter(statuses=(SagaStatus.RUNNING,)),
        SagaFilter(statuses=(SagaStatus.NEEDS_ATTENTION, SagaStatus.COMPENSATING)),
        SagaFilter(statuses=(SagaStatus.COMPLETED,)),
        SagaFilter(definition="definition 7"),
        SagaFilter(labels={"tenant": "tenant 5"}),
        SagaFilter((SagaStatus.RUNNING,), "definition 0", {"tenant": "tenant 0"}),
    ],
    ids=["all", "running", "troubled", "completed", "definition", "label", "everything"],
)
@pytest.mark.parametrize("after", [None, saga_id(SAGAS // 2)], ids=["first page", "next page"])
async def test_lists_read_no_whole_table(
    wanted: SagaFilter, after: str | None, plan: Plan, full: Database
) -> None:
    plans = await plan(lambda: Lists(full).sagas(DEFAULT_NAMESPACE, wanted, after, 50, items_of))
    assert len(plans) == 1
    assert not whole_tables(plans), json.dumps(plans, indent=1)


RARE_FILTERS = {
    'status == "NEEDS_ATTENTION" && blocked_by.step == "reserve"': "sagas_by_status",
    'status in ["RUNNING", "COMPENSATING"] && idle > duration("10m")': "sagas_by_status",
    'definition == "definition 7" && age > duration("1h")': "sagas_by_definition",
    'labels["tenant"] == "tenant 5"': "sagas_by_label",
    'parent == "00000000-0000-7000-9000-000000000001"': "sagas_by_label",
    'start_key in ["key 7", "key 9"]': "sagas_pkey",
    'saga_id in ["00000000-0000-7000-9000-000000000001"]': "sagas_in_namespace",
    'status == "COMPENSATED" && ended_at > now - duration("1m")': "sagas_turned_back",
    'owner == "00000000-0000-7000-8000-000000000001"': "sagas_owned",
}


@pytest.mark.parametrize("text", RARE_FILTERS)
async def test_filters_are_counted_and_listed_by_an_index(text: str, plan: Plan, full: Database) -> None:
    wanted = SagaFilter(condition=parse_filter(text, "filter", []))
    plans = await plan(lambda: Lists(full).sagas(DEFAULT_NAMESPACE, wanted, None, 50, items_of))
    conditions = saga_conditions(DEFAULT_NAMESPACE, wanted)

    async def count() -> None:
        async with full.connection() as connection:
            await connection.execute(select(func.count()).select_from(sagas).where(*conditions))

    counting = await plan(count)
    assert len(plans) == len(counting) == 1
    for found in (plans, counting):
        assert not whole_tables(found), json.dumps(found, indent=1)
    used = {node.get("Index Name") for node in nodes(counting[0])}
    assert RARE_FILTERS[text] in used, json.dumps(counting, indent=1)


async def test_failures_are_grouped_without_reading_all(plan: Plan, full: Database) -> None:
    (found,) = await plan(
        lambda: group_failures(Lists(full), DEFAULT_NAMESPACE, SagaFilter(), timedelta(hours=1), 50)
    )
    assert not whole_tables([found]), json.dumps(found, indent=1)


@pytest.mark.parametrize("before", [None, (datetime(2100, 1, 1, tzinfo=UTC), "event 7")])
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (EventFilter(), "events_in_namespace"),
        (EventFilter(is_untaken=True), "events_untaken"),
        (EventFilter(name="name 7", correlation="order 7"), "events_by_correlation"),
    ],
)
async def test_events_are_listed_without_reading_all(
    wanted: EventFilter, index: str, before: tuple[datetime, str] | None, plan: Plan, full: Database
) -> None:
    (found,) = await plan(lambda: Lists(full).events(DEFAULT_NAMESPACE, wanted, before, 50, items_of))
    assert not whole_tables([found]), json.dumps(found, indent=1)
    assert index in {node.get("Index Name") for node in nodes(found)}, json.dumps(found, indent=1)


async def test_one_saga_is_read_by_its_key(plan: Plan, full: Database) -> None:
    sagas = SagaRows(full)
    for work in (
        lambda: sagas.get(DEFAULT_NAMESPACE, saga_id(7)),
        lambda: sagas.by_start_key(DEFAULT_NAMESPACE, "key 7"),
        lambda: sagas.status(saga_id(7)),
        lambda: sagas.log(saga_id(7), 1, 100),
        lambda: sagas.page([saga_id(7), saga_id(8)]),
    ):
        plans = await plan(work)
        assert len(plans) == 1
        assert not whole_tables(plans), json.dumps(plans, indent=1)


async def test_letters_are_found_without_reading_every_saga(plan: Plan, full: Database) -> None:
    mail, letter = MailRows(full), Letter(saga_id(7), saga_id(8), {})
    for work in (
        lambda: mail.unanswered(HERE, 100),
        lambda: mail.answer_to(letter),
        lambda: mail.delete(letter),
    ):
        plans = await plan(work)
        assert len(plans) == 1
        assert "sagas" not in whole_tables(plans), json.dumps(plans, indent=1)


async def test_appends_are_planned_by_keys_while_the_tables_are_still_small(
    database: Database, query: Query
) -> None:
    """Such a plan is kept while they grow: one that reads what is there costs more with each saga, until the next ANALYZE."""
    sagas = 20
    counts = (
        "SELECT n_tup_ins, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'saga' AND relname = 'sagas'"
    )
    ((inserted, scanned),) = await query(counts)
    async with PostgresLog(database, HERE).session() as session:
        for _ in range(sagas):
            saga = saga_id()
            for append in (a_start(saga), an_attempt(saga, 2), an_end(saga, 3)):
                await session.write([written(append)])
    found = await eventually(
        lambda: query(f"{counts} AND n_tup_ins = %s", inserted + sagas),
        "the server to count what the session has done, which it does when that ends",
    )
    assert found == [(inserted + sagas, scanned)]


async def test_a_pooled_connection_is_left_as_it_was(database: Database) -> None:
    """Its settings would go to whoever is given it next. That it is pooled shows in the number of its backend."""
    async with database.driver_connection() as connection:
        await plan_by_keys(connection, connection.info.backend_pid + 1)
        cursor = await connection.execute("SHOW enable_seqscan")
        assert await cursor.fetchone() == ("on",)
        await plan_by_keys(connection, connection.info.backend_pid)
        cursor = await connection.execute("SHOW enable_seqscan")
        assert await cursor.fetchone() == ("off",)
    async with database.driver_connection() as connection:
        cursor = await connection.execute("SHOW enable_seqscan")
        assert await cursor.fetchone() == ("on",)
