"""The rows of definitions, one for each version. Each decision about a version is one conditional statement."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Row,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    cast,
    false,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError

from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.act import Act, ActRecord, ActResult
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.acts import record_act
from saga_coordinator.store.database import Database
from saga_coordinator.store.tables import definitions as table
from saga_coordinator.store.tables import sagas

_CLOCKS_APART = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LastVersion:
    """The end of a definition's versions: `newest` is the newest that is not deleted, if any; `number` the last ever given."""

    newest: RegisteredDefinition | None
    number: int


@dataclass(frozen=True, slots=True)
class Using:
    """A version that uses declared steps; `written` is its JSON text."""

    name: str
    version: int
    written: str


class DefinitionRows:
    """Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(self, namespace: Namespace, name: str) -> LastVersion:
        """The last version, which a registration continues; its number is 0 if the definition was never registered."""
        row = await self._row(_LAST, namespace, name)
        if row is None:
            return LastVersion(None, 0)
        return LastVersion(None if row.deleted_at is not None else _registered(row), row.last_version)

    async def add(
        self, namespace: Namespace, name: str, version: int, digest: str, written: str
    ) -> RegisteredDefinition | None:
        """Stores the JSON text of a version; None if somebody has just stored a version of that number."""
        values = {
            "namespace": namespace,
            "name": name,
            "version": version,
            "digest": digest,
            "spec": cast(literal(written, Text), JSONB),
        }
        statement = insert(table).values(values).returning(table, _IS_NO_DEFAULT)
        async with self._database.connection() as connection:
            try:
                return _registered((await connection.execute(statement)).one())
            except IntegrityError:
                return None

    async def version(self, namespace: Namespace, name: str, version: int) -> RegisteredDefinition | None:
        """The version of that number, deleted or not."""
        return await self._maybe(_SEEN.where(table.c.version == version), namespace, name)

    async def live(self, namespace: Namespace, name: str, version: int = 0) -> RegisteredDefinition | None:
        """The version of that number, unless it is deleted; for 0 the newest version that is not deleted."""
        wanted = _SEEN.where(table.c.version == version) if version else _NEWEST
        return await self._maybe(wanted.where(IS_LIVE), namespace, name)

    async def startable(self, namespace: Namespace, name: str) -> RegisteredDefinition | None:
        """The default version, or else the newest that is neither deprecated nor deleted."""
        return await self._maybe(_FOR_START, namespace, name)

    async def deprecate(self, act: Act, name: str, version: int, *, deprecated: bool) -> bool:
        """Deprecates a version that is not deleted, or takes that back, and records the act.

        Returns False if there is no such version, or if the default would be deprecated.
        """
        statement = _one(act.namespace, name, version).where(IS_LIVE).values(deprecated=deprecated)
        if deprecated:
            statement = statement.where(~_IS_DEFAULT_NOW).values(default_since=None)
        return await self._is_done(statement, act)

    async def set_default(self, act: Act, name: str, version: int) -> bool:
        """Makes a version the default, or for 0 takes the default away, and records the act.

        Returns False if sagas can start with no such version, or for 0 with no version at all.
        """
        statement = _SET_DEFAULT if version else _UNSET_DEFAULT
        parameters = {"namespace": act.namespace, "name": name, **({"version": version} if version else {})}
        async with self._database.connection() as connection:
            result = ActResult.DONE
            is_done = bool((await connection.execute(statement, parameters)).scalar())
            if not is_done and not version:
                result = ActResult.NOTHING
                is_done = (await connection.execute(_FOR_START, parameters)).first() is not None
            if is_done:
                await record_act(connection, ActRecord(act, result))
        return is_done

    async def delete(self, act: Act, name: str, version: int) -> bool:
        """Marks a version as deleted, if it is not yet, and records the act. False if it does not exist, or is the default."""
        deleted_at = func.coalesce(table.c.deleted_at, func.now())
        statement = _one(act.namespace, name, version).where(~_IS_DEFAULT_NOW)
        return await self._is_done(statement.values(deleted_at=deleted_at, default_since=None), act)

    async def restore(self, act: Act, name: str, version: int) -> None:
        """Undoes a deletion, and records that as an act."""
        await self._is_done(_one(act.namespace, name, version).values(deleted_at=None), act)

    async def saga_of(self, namespace: Namespace, registered: RegisteredDefinition) -> str | None:
        """A saga that refers to the version. Identities sort by the time of the start, so only sagas since then are searched."""
        oldest = (registered.registered_at - _CLOCKS_APART).timestamp()
        milliseconds = f"{max(0, int(oldest * 1000)):012x}"
        parameters = {
            "namespace": namespace,
            "definition": registered.name,
            "version": registered.version,
            "oldest": f"{milliseconds[:8]}-{milliseconds[8:]}-0000-0000-000000000000",
        }
        async with self._database.connection() as connection:
            saga_id = (await connection.execute(_REFERRING, parameters)).scalar()
        return None if saga_id is None else str(saga_id)

    async def versions_of(self, namespace: Namespace, names: Collection[str]) -> dict[str, dict[int, bool]]:
        """The numbers of each definition's versions that are not deleted, and whether sagas can start with each."""
        found: dict[str, dict[int, bool]] = {}
        async with self._database.connection() as connection:
            for row in await connection.execute(_VERSIONS, {"namespace": namespace, "names": sorted(names)}):
                found.setdefault(row.name, {})[row.version] = not row.deprecated
        return found

    async def names_near(self, namespace: Namespace, name: str) -> list[str]:
        """Names of about the same length; those that begin alike come first."""
        async with self._database.connection() as connection:
            near = await connection.execute(_NEAR, {"namespace": namespace, "name": name})
            return [row.name for row in near]

    async def using(self, namespace: Namespace, participant: str, uses: Collection[str]) -> list[Using]:
        """Versions that sagas can start with and that may use any of these steps. Each step is written PARTICIPANT.STEP."""
        given = {"namespace": namespace, "prefix": f"{participant}.", "uses": list(uses)}
        async with self._database.connection() as connection:
            rows = (await connection.execute(_USING, given)).all()
        return [Using(row.name, row.version, row.spec) for row in rows]

    async def _row(self, query: Select[Any], namespace: Namespace, name: str) -> Row[Any] | None:
        async with self._database.connection() as connection:
            asked = {"namespace": namespace, "name": name}
            row: Row[Any] | None = (await connection.execute(query, asked)).one_or_none()
        return row

    async def _maybe(
        self, query: Select[Any], namespace: Namespace, name: str
    ) -> RegisteredDefinition | None:
        row = await self._row(query, namespace, name)
        return None if row is None else _registered(row)

    async def _is_done(self, statement: Update, act: Act) -> bool:
        """Runs a statement; returns whether it changed a row. If so, the act is recorded in the same transaction."""
        async with self._database.connection() as connection:
            is_done = (await connection.execute(statement)).rowcount > 0
            if is_done:
                await record_act(connection, ActRecord(act, ActResult.DONE))
        return is_done


def _registered(row: Row[Any]) -> RegisteredDefinition:
    return RegisteredDefinition(
        row.name, row.version, row.digest, row.spec, row.registered_at, row.deprecated, row.is_default
    )


def _one(namespace: Namespace, name: str, version: int) -> Update:
    return update(table).where(
        table.c.namespace == namespace, table.c.name == name, table.c.version == version
    )


IS_LIVE = table.c.deleted_at.is_(None)
_others = table.alias("others")
_LATEST_DEFAULT = (
    select(func.max(_others.c.default_since))
    .where(_others.c.namespace == table.c.namespace, _others.c.name == table.c.name)
    .correlate(table)
    .scalar_subquery()
)
_IS_DEFAULT_NOW = and_(table.c.default_since.is_not(None), table.c.default_since == _LATEST_DEFAULT)
IS_DEFAULT = _IS_DEFAULT_NOW.label("is_default")
_IS_NO_DEFAULT = false().label("is_default")

# Built once: building a statement costs as much as executing it.
_SEEN = select(table, IS_DEFAULT).where(
    table.c.namespace == bindparam("namespace"), table.c.name == bindparam("name")
)
_NEWEST = _SEEN.order_by(table.c.version.desc()).limit(1)
_FOR_START = (
    _SEEN.where(table.c.deprecated.is_(False), IS_LIVE)
    .order_by(table.c.default_since.desc().nulls_last(), table.c.version.desc())
    .limit(1)
)
# The newest version that is not deleted, and the last number that was ever given.
_LAST = (
    select(
        table,
        IS_DEFAULT,
        select(func.max(_others.c.version))
        .where(_others.c.namespace == bindparam("namespace"), _others.c.name == bindparam("name"))
        .scalar_subquery()
        .label("last_version"),
    )
    .where(table.c.namespace == bindparam("namespace"), table.c.name == bindparam("name"))
    .order_by(IS_LIVE.desc(), table.c.version.desc())
    .limit(1)
)
_REFERRING = (
    select(sagas.c.saga_id)
    .where(
        sagas.c.namespace == bindparam("namespace"),
        sagas.c.definition == bindparam("definition"),
        sagas.c.version == bindparam("version"),
        sagas.c.saga_id >= bindparam("oldest"),
    )
    .limit(1)
)
_SET_DEFAULT = text("""
WITH chosen AS (
    UPDATE saga.definitions SET default_since = clock_timestamp()
    WHERE namespace = :namespace AND name = :name AND version = :version AND NOT deprecated AND deleted_at IS NULL
    RETURNING version
), others AS (
    UPDATE saga.definitions SET default_since = NULL
    WHERE namespace = :namespace AND name = :name AND version <> :version AND default_since IS NOT NULL
        AND EXISTS (SELECT FROM chosen)
)
SELECT version FROM chosen
""")
_UNSET_DEFAULT = text("""
UPDATE saga.definitions SET default_since = NULL
WHERE namespace = :namespace AND name = :name AND default_since IS NOT NULL RETURNING version
""")
_VERSIONS = text("""
SELECT name, version, deprecated FROM saga.definitions
WHERE namespace = :namespace AND deleted_at IS NULL AND name = ANY(CAST(:names AS text[]))
""")
# Those that may be a near miss first: no more than these few are compared.
_NEAR = text("""
SELECT name FROM saga.definitions WHERE namespace = :namespace AND deleted_at IS NULL
    AND abs(length(name) - length(:name)) <= 5
GROUP BY name ORDER BY left(name, 2) = left(:name, 2) DESC, name LIMIT 200
""")
# The path finds payloads with such a field, too; whoever asks looks again. More than are shown need not be read.
_USING = text("""
SELECT name, version, spec::text AS spec FROM saga.definitions
WHERE namespace = :namespace AND deleted_at IS NULL AND NOT deprecated
    AND jsonb_path_query_array(
        spec, '$.**.use ? (@ starts with $prefix)', jsonb_build_object('prefix', CAST(:prefix AS text))
    ) ?| CAST(:uses AS text[])
ORDER BY name, version LIMIT 100
""")
