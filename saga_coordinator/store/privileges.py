"""Checks the role's privileges at the start, and says in one line what to grant, before a statement fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.store.tables import SCHEMA

_CHANGED = ("coordinators", "requests", "workers", "events", "participants", "breakers", "declared_steps")
_INSERTED = ("definitions", "start_keys", "sagas", "log", "operator_acts", *_CHANGED)
NEEDED = (
    ("SELECT", (*_INSERTED, "schema_version")),
    ("INSERT", _INSERTED),
    ("UPDATE", ("definitions", "sagas", *_CHANGED)),
    ("DELETE", _CHANGED),
)
"""What serving takes, beside USAGE of the schema; docs/postgres.md says the same."""

# By number and not by name, which to look up would take USAGE of the schema.
_MISSING = text("""
SELECT privilege, relname
FROM unnest(CAST(:privileges AS text[]), CAST(:names AS text[])) WITH ORDINALITY AS needed (privilege, name, position)
JOIN pg_class ON relname = name AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
WHERE NOT has_table_privilege(pg_class.oid, privilege)
ORDER BY position
""")
_MAY_USE = text("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = :schema")
_WHO = text("""
SELECT quote_ident(current_user), quote_ident(current_database()), (
    SELECT quote_ident(pg_get_userbyid(nspowner)) FROM pg_namespace WHERE nspname = :schema
)
""")


class NotPermitted(SagaError):
    """The database's role lacks a privilege that it needs; the message says what to grant to it."""


def check_privileges(connection: Connection) -> None:
    """Makes sure that the role may use the parts of the schema that exist. Raises NotPermitted."""
    pairs = [(privilege, name) for privilege, names in NEEDED for name in names]
    given = {"privileges": [pair[0] for pair in pairs], "names": [pair[1] for pair in pairs]}
    missing = connection.execute(_MISSING, {**given, "schema": SCHEMA}).all()
    role, _, owner = connection.execute(_WHO, {"schema": SCHEMA}).one()
    grants = []
    if connection.execute(_MAY_USE, {"schema": SCHEMA}).scalar() is False:
        grants.append(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}")
    for privilege, rows in groupby(missing, key=lambda row: row[0]):
        names = ", ".join(f"{SCHEMA}.{name}" for _, name in rows)
        grants.append(f"GRANT {privilege} ON {names} TO {role}")
    if grants:
        raise NotPermitted(
            f"the role {role} may not use all of schema {SCHEMA}: have {owner}, its owner, run {'; '.join(grants)}"
        )


@contextmanager
def permitted_to_migrate(connection: Connection) -> Iterator[None]:
    """Raises NotPermitted if Postgres refuses a statement inside the block for lack of a privilege."""
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        connection.rollback()
        role, database, owner = connection.execute(_WHO, {"schema": SCHEMA}).one()
        if owner in (None, role):
            mend = f"have an administrator run GRANT CREATE ON DATABASE {database} TO {role}"
        else:
            mend = f"migrate as {owner}, which owns schema {SCHEMA}"
        said = error.orig.diag.message_primary
        raise NotPermitted(f"the role {role} may not migrate: {said}; {mend}") from error
