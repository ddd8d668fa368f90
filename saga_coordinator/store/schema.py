"""Brings a database's schema up to date, and refuses to serve on one that is too old, or made for later programs only.

Migrations only add (docs/postgres.md), so this program also runs on the schemas of later versions. A later migration that takes
something away says which program it takes at least, in the comment of the version's table: `oldest program: 0002`.
"""

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
from saga_coordinator.store.privileges import check_privileges, permitted_to_migrate
from saga_coordinator.store.tables import SCHEMA

_MIGRATIONS = Path(__file__).parent / "migrations"
_OLDEST_PROGRAM = "oldest program: "
_LOCK_KEY = 0x5A6A_C00D  # so that two `migrate`s at once run one after the other


class SchemaMismatch(SagaError):
    """The database's schema is too old for this program, or this program too old for it."""


def upgrade(dsn: str) -> tuple[str, str]:
    """Migrates to the newest revision; returns the revisions before (empty: none) and after. A newer schema is left alone.

    Raises:
        SchemaMismatch: this program is too old for the schema.
        NotPermitted: the role may not make or change the schema.
        Unavailable: the database cannot be reached.
    """
    with _connection(dsn) as connection, permitted_to_migrate(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        before = _revision(connection)
        if _is_newer(connection, before):
            return before, before
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
        return before, _head()


def check(dsn: str) -> None:
    """Makes sure that this program can run on the schema.

    Raises:
        SchemaMismatch: the schema is older or absent, or takes a newer program; the message says what to do.
        NotPermitted: the role may not use the schema.
        Unavailable: the database cannot be reached.
    """
    with _connection(dsn) as connection:
        check_privileges(connection)
        revision = _revision(connection)
        is_newer = _is_newer(connection, revision)
    if revision != _head() and not is_newer:
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


def _is_newer(connection: Connection, revision: str) -> bool:
    """Whether a later program made the schema. Raises SchemaMismatch when only later programs can use it."""
    known = {script.revision for script in _script().walk_revisions()}
    if not revision or revision in known:
        return False
    comment = text("SELECT obj_description(CAST(:name AS regclass), 'pg_class')")
    said = str(connection.execute(comment, {"name": f"{SCHEMA}.schema_version"}).scalar() or "")
    if said.startswith(_OLDEST_PROGRAM) and said.removeprefix(_OLDEST_PROGRAM) > _head():
        raise SchemaMismatch(
            f"the database is at revision {revision}, which this program does not know and which needs a later one: upgrade "
            "the program to the version that migrated it"
        )
    return True
