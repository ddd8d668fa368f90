"""Brings a database's schema up to date, and refuses to serve on one that is not."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from saga_coordinator.saga.errors import SagaError
from saga_coordinator.store.database import short_lived_engine, translated
from saga_coordinator.store.tables import SCHEMA

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x5A6A_C00D  # so that two `migrate`s at once run one after the other


class SchemaMismatch(SagaError):
    """The database's schema is older or newer than this program knows."""


def upgrade(dsn: str) -> tuple[str, str]:
    """Migrates to the newest revision; returns the revisions before (empty: none) and after.

    Raises:
        SchemaMismatch: the schema is newer than this program.
        Unavailable: the database cannot be reached.
    """
    with _connection(dsn) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        before = _revision(connection)
        _refuse_newer(before)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
        return before, _head()


def check(dsn: str) -> None:
    """Makes sure that the schema is the one this program knows.

    Raises:
        SchemaMismatch: it is older, newer or absent; the message says what to do.
        Unavailable: the database cannot be reached.
    """
    with _connection(dsn) as connection:
        revision = _revision(connection)
    _refuse_newer(revision)
    if revision != _head():
        found = f"is at revision {revision}" if revision else "has no saga schema yet"
        raise SchemaMismatch(
            f"the database {found}; this program needs {_head()}: run `saga-coordinator migrate`"
        )


def _connection(dsn: str) -> AbstractContextManager[Connection]:
    return translated(short_lived_engine(dsn))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _head() -> str:
    head = _script().get_current_head()
    assert head is not None
    return head


def _revision(connection: Connection) -> str:
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": SCHEMA}
    )
    return context.get_current_revision() or ""


def _refuse_newer(revision: str) -> None:
    known = {script.revision for script in _script().walk_revisions()}
    if revision and revision not in known:
        raise SchemaMismatch(
            f"the database is at revision {revision}, which this program does not know: upgrade the program to the version "
            "that migrated it"
        )
