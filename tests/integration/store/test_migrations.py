"""The schema: what the migrations make is what `tables.py` says, and the program refuses any other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text

from saga_coordinator.store import schema
from saga_coordinator.store.database import driver_url
from saga_coordinator.store.schema import SchemaMismatch
from saga_coordinator.store.tables import SCHEMA, metadata

HEAD = schema._REVISIONS[-1]

CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE n.nspname = 'saga' AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
            AND c.relname <> 'schema_version'
    """,
    # What is demanded of new rows alone counts the same. Postgres 18 also names NOT NULL; the columns have said it.
    "constraints": """
        SELECT c.conrelid::regclass::text, c.conname, replace(pg_get_constraintdef(c.oid), ' NOT VALID', '')
        FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
        WHERE n.nspname = 'saga' AND c.contype <> 'n' AND c.conrelid::regclass::text <> 'saga.schema_version'
    """,
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'saga' AND tablename <> 'schema_version'
    """,
}


def rows(dsn: str, statement: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return set(connection.execute(statement).fetchall())


@pytest.mark.parametrize("what", CATALOG)
def test_the_migrations_make_what_the_tables_say(
    what: str, database_dsn: str, empty_database_dsn: str
) -> None:
    engine = create_engine(driver_url(empty_database_dsn))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        metadata.create_all(connection)
    engine.dispose()
    said = rows(empty_database_dsn, CATALOG[what])
    assert said
    assert rows(database_dsn, CATALOG[what]) == said


def test_migrating_reports_where_from_and_where_to(empty_database_dsn: str) -> None:
    assert schema.upgrade(empty_database_dsn) == ("", HEAD)
    assert schema.upgrade(empty_database_dsn) == (HEAD, HEAD)
    schema.check(empty_database_dsn)


def test_migrating_twice_keeps_what_is_there(database_dsn: str) -> None:
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "INSERT INTO saga.definitions (namespace, name, version, digest, spec) VALUES ('default', 'kept', 1, '', '{}')"
        )
    schema.upgrade(database_dsn)
    assert rows(database_dsn, "SELECT name FROM saga.definitions") == {("kept",)}


def test_two_migrations_at_once_run_one_after_the_other(empty_database_dsn: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: schema.upgrade(empty_database_dsn), range(4)))
    assert sorted(results) == [("", HEAD)] + 3 * [(HEAD, HEAD)]


def test_a_migration_that_fails_leaves_nothing_behind(empty_database_dsn: str) -> None:
    with psycopg.connect(empty_database_dsn) as connection:
        connection.execute("CREATE SCHEMA saga")
        connection.execute("CREATE TABLE saga.coordinators ()")  # the last but one table to be made
    with pytest.raises(Exception, match="already exists"):
        schema.upgrade(empty_database_dsn)
    assert rows(empty_database_dsn, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'saga'") == {
        ("coordinators",)
    }


def test_a_database_without_schema_is_refused_and_told_to_migrate(empty_database_dsn: str) -> None:
    with pytest.raises(SchemaMismatch) as refused:
        schema.check(empty_database_dsn)
    assert str(refused.value) == (
        f"the database has no saga schema yet; this program needs {HEAD}: run `saga-coordinator migrate`"
    )


def test_an_older_schema_is_refused_and_told_to_migrate(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = [*schema._REVISIONS, "9999"]  # of a later version of the program
    monkeypatch.setattr(schema, "_REVISIONS", later)
    with pytest.raises(SchemaMismatch) as refused:
        schema.check(database_dsn)
    assert str(refused.value) == (
        f"the database is at revision {HEAD}; this program needs 9999: run `saga-coordinator migrate`"
    )


VERBS = pytest.mark.parametrize("verb", [schema.check, schema.upgrade], ids=["serve", "migrate"])


@VERBS
@pytest.mark.parametrize(
    "comment", ["", f"oldest program: {HEAD}"], ids=["additive", "for programs since ours"]
)
def test_a_newer_schema_is_used_and_left_alone(verb: Any, comment: str, database_dsn: str) -> None:
    """So that in the midst of an upgrade, or after a step back, a program of the version before can be started."""
    with psycopg.connect(database_dsn) as connection:
        connection.execute("UPDATE saga.schema_version SET version_num = '9999'")
        connection.execute(f"COMMENT ON TABLE saga.schema_version IS '{comment}'")
    assert verb(database_dsn) in (None, ("9999", "9999"))
    assert rows(database_dsn, "SELECT version_num FROM saga.schema_version") == {("9999",)}


@VERBS
def test_a_schema_for_later_programs_only_is_refused(verb: Any, database_dsn: str) -> None:
    with psycopg.connect(database_dsn) as connection:
        connection.execute("UPDATE saga.schema_version SET version_num = '9999'")
        connection.execute("COMMENT ON TABLE saga.schema_version IS 'oldest program: 9998'")
    with pytest.raises(SchemaMismatch) as refused:
        verb(database_dsn)
    assert "is at revision 9999, which this program does not know" in str(refused.value)
    assert "upgrade the program to the version that migrated it" in str(refused.value)
    assert rows(database_dsn, "SELECT version_num FROM saga.schema_version") == {("9999",)}


def test_checking_changes_nothing(empty_database_dsn: str) -> None:
    with pytest.raises(SchemaMismatch):
        schema.check(empty_database_dsn)
    assert not rows(empty_database_dsn, "SELECT 1 FROM pg_namespace WHERE nspname = 'saga'")
