"""Brings a database's schema up to date, and refuses to serve on a schema that is too old or made for later programs only.

Migrations only add (docs/postgres.md), so this program also runs on the schemas of later versions. A later migration that takes
something away says which program it takes at least, in the comment of the version's table: `oldest program: 0002`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, text

from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.store.database import short_lived_engine, translated
from saga_coordinator.store.privileges import check_privileges, permitted_to_migrate
from saga_coordinator.store.tables import SCHEMA

_MIGRATIONS = Path(__file__).parent / "migrations"
_REVISIONS = sorted(path.name[:4] for path in _MIGRATIONS.glob("versions/[0-9][0-9][0-9][0-9]_*.py"))
"""Each file is named by its revision, so that a coordinator can start without importing what migrates."""
REVISION = _REVISIONS[-1]
"""The newest revision, which this program needs."""
_OLDEST_PROGRAM = "oldest program: "
_LOCK_KEY = 0x5A6A_C00D  # so that two `migrate`s at once run one after the other


class SchemaMismatch(SagaError):
    """The database's schema is too old for this program, or this program is too old for the schema."""


class SchemaInUse(SagaError):
    """A migration has to wait, because living coordinators could not go on after it."""

    def __init__(self, revision: str, coordinators: Sequence[str]) -> None:
        super().__init__(
            f"migration {revision} changes what coordinators of older versions write, and {len(coordinators)} of them "
            f"{'is' if len(coordinators) == 1 else 'are'} alive: stop {', '.join(coordinators)}, and migrate again. Their sagas "
            "wait meanwhile and nothing is lost; one that was killed counts as alive until its lease has ended"
        )


def upgrade(dsn: str) -> tuple[str, str]:
    """Migrates to the newest revision; returns the revisions before (empty: none) and after. A newer schema is left alone.

    Raises:
        SchemaMismatch: this program is too old for the schema.
        SchemaInUse: coordinators have to be stopped first; nothing was changed.
        NotPermitted: the role may not make or change the schema.
        Unavailable: the database cannot be reached.
    """
    with _connection(dsn) as connection, permitted_to_migrate(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        before = _revision(connection)
        if _is_newer(connection, before):
            return before, before
        _migrate(connection)
        return before, _REVISIONS[-1]


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
    if revision != _REVISIONS[-1] and not is_newer:
        found = f"is at revision {revision}" if revision else "has no saga schema yet"
        raise SchemaMismatch(
            f"the database {found}; this program needs {_REVISIONS[-1]}: run `saga-coordinator migrate`"
        )


def _connection(dsn: str) -> AbstractContextManager[Connection]:
    return translated(short_lived_engine(dsn))


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  # with what it draws in, a tenth of a coordinator's start
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()


def _revision(connection: Connection) -> str:
    table = f"{SCHEMA}.schema_version"
    if connection.execute(text("SELECT to_regclass(:table)"), {"table": table}).scalar() is None:
        return ""
    return connection.execute(text(f"SELECT version_num FROM {table}")).scalar() or ""  # noqa: S608  # a constant


def _is_newer(connection: Connection, revision: str) -> bool:
    """Tells whether a later program made the schema. Raises SchemaMismatch when only later programs can use it."""
    if not revision or revision in _REVISIONS:
        return False
    comment = text("SELECT obj_description(CAST(:name AS regclass), 'pg_class')")
    said = str(connection.execute(comment, {"name": f"{SCHEMA}.schema_version"}).scalar() or "")
    if said.startswith(_OLDEST_PROGRAM) and said.removeprefix(_OLDEST_PROGRAM) > _REVISIONS[-1]:
        raise SchemaMismatch(
            f"the database is at revision {revision}, which this program does not know and which needs a later one: upgrade "
            "the program to the version that migrated it"
        )
    return True
