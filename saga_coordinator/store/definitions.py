"""Definitions: registered once, their content never changed. What changes is which versions sagas may start with.

A coordinator keeps what it has read: the content of versions for good, since it never changes, and which version a start gets for
`NEWEST_KEPT_SECONDS`. So starts may go by what somebody registered, deprecated, deleted or made the default for that long.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from asyncio import sleep
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
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
from sqlalchemy.ext.asyncio import AsyncConnection

from saga_coordinator.lifecycle import Background
from saga_coordinator.saga.definition.declared import expanded, used_steps
from saga_coordinator.saga.definition.model import Definition, RunnableDefinition
from saga_coordinator.saga.definition.named_in import children_named
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.canonical import digest_bytes
from saga_coordinator.saga.words.errors import InvalidDefinition, NotFound, NotPossibleNow, Unavailable
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.children import child_faults
from saga_coordinator.store.database import Database
from saga_coordinator.store.declared_steps import DeclaredSteps
from saga_coordinator.store.tables import NAMESPACE, sagas
from saga_coordinator.store.tables import definitions as table
from saga_coordinator.turns import Turns

_REGISTER_TRIES_MAX = 10
NEWEST_KEPT_SECONDS = 1.0
"""How long another coordinator's registration, and whatever else is decided about versions, may go unnoticed by starts."""
GIVEN_SECONDS_MAX = 60.0
LOADING_SECONDS_MAX = 60.0
"""Nobody waits longer for a definition to be taken apart."""
START_SECONDS = 1.0
"""How long a start may take from its look at the definition to its commit, for a deletion to notice it."""
_CLOCKS_APART = timedelta(days=1)


@dataclass(frozen=True)
class RegisteredDefinition:
    """A version of a definition as people see it. `spec` is its canonical JSON form, `deprecated` and `is_default` as they were
    when this was read.
    """

    name: str
    version: int
    digest: str
    spec: dict[str, Any]
    registered_at: datetime
    deprecated: bool = False
    is_default: bool = False


class DefinitionRows:
    """Registers and finds definitions, and keeps what people decide about their versions."""

    def __init__(self, database: Database, limits: Limits = DEFAULT_LIMITS) -> None:
        self._database = database
        self._limits = limits
        self._runnable: dict[tuple[str, int], asyncio.Future[RunnableDefinition]] = {}
        self._started: dict[tuple[str, int], tuple[float, RunnableDefinition]] = {}
        self._decisions = 0
        self._background = Background()
        self.turns = Turns(
            "definitions that were given", at_once=2, waiting_max=64, seconds_max=GIVEN_SECONDS_MAX
        )
        self.declared = DeclaredSteps(database, self.turns)
        """At those that callers give, of which a flood must not delay those that sagas follow."""
        self._loading = Turns(
            "definitions of sagas", at_once=2, waiting_max=1000, seconds_max=LOADING_SECONDS_MAX
        )

    @property
    def problems(self) -> Iterator[str]:
        """What keeps definitions from being taken apart."""
        yield from self.turns.problems
        yield from self._loading.problems

    async def register(self, spec: dict[str, Any]) -> tuple[RegisteredDefinition, bool]:
        """Stores the definition, with what it uses of declared steps; gives the newest version again, and False, when its
        content is the same.

        Raises:
            InvalidDefinition: with every fault, or with those of the definitions that it runs and that no saga can start with.
            Unavailable: the database is away.
            Overloaded: too many are being checked.
        """
        spec = await self.expanded(spec)
        definition, digest, written = await self.turns.in_thread(_checked, spec, self._limits)
        async with self._database.connection() as connection:
            for _ in range(_REGISTER_TRIES_MAX):
                newest = (await connection.execute(_LAST, {"name": definition.name})).one_or_none()
                if newest is not None and newest.digest == digest and newest.deleted_at is None:
                    return _seen(newest), False
                await self._check_children(connection, spec, {definition.name})
                values = {
                    "namespace": NAMESPACE,
                    "name": definition.name,
                    "version": newest.last_version + 1 if newest else 1,
                    "digest": digest,
                    "spec": cast(literal(written, Text), JSONB),
                }
                statement = insert(table).values(values).returning(table, _IS_NO_DEFAULT)
                try:
                    row = (await connection.execute(statement)).one()
                except IntegrityError:
                    continue  # somebody registered that version at the same moment: look again
                self._forget(definition.name)
                return _seen(row), True
        raise Unavailable(
            Reason.CONTENDED, f"definition {definition.name} is being registered by many at once; try again"
        )

    async def check_children(self, spec: dict[str, Any], along: Collection[str]) -> None:
        """Whether the definitions that a valid one runs can be started; `along` are those that are registered with it.

        Raises InvalidDefinition and Unavailable.
        """
        async with self._database.connection() as connection:
            await self._check_children(connection, spec, {spec["name"], *along})

    async def _check_children(
        self, connection: AsyncConnection, spec: dict[str, Any], along: Collection[str]
    ) -> None:
        if faults := await child_faults(connection, list(children_named(spec)), along):
            raise InvalidDefinition(faults)

    async def expanded(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The definition as it would be stored. Raises InvalidDefinition for what nobody has declared, and Unavailable."""
        used = await self.turns.in_thread(used_steps, spec)
        if not used:
            return spec
        declared = await self.declared.used_by(used)
        return await self.turns.in_thread(expanded, spec, declared, self._limits)

    async def get(self, name: str, version: int = 0) -> RunnableDefinition:
        """The content of a version, deleted or not; for 0, of what a start would get, or the newest if all are deprecated.

        Raises:
            NotFound: there is none, or for 0 none that is not deleted.
            Unavailable: the database is away.
        """
        if not version:
            try:
                return await self.for_start(name)
            except NotPossibleNow:
                version = (await self.look_up(name)).version
        reading = self._runnable.get((name, version))
        if reading is not None:
            return await asyncio.shield(reading)
        row = await self._row(_SEEN.where(table.c.version == version), name)
        if row is None:
            raise _not_found(name, version)
        return await self._read(row)

    async def for_start(self, name: str, version: int = 0) -> RunnableDefinition:
        """The version that a saga may start with now: for 0 the default, else the newest that is not deprecated.

        Raises:
            NotFound: there is no such version, or it was deleted.
            NotPossibleNow: the version is deprecated; the message names the one to use.
            Unavailable: the database is away.
        """
        known_since, known = self._started.get((name, version), (0.0, None))
        now, decisions = (
            time.monotonic(),
            self._decisions,
        )  # before the question: the answer is as old as that at least
        if known is not None and now < known_since + NEWEST_KEPT_SECONDS:
            return known
        wanted = _SEEN.where(table.c.version == version) if version else _FOR_START
        row = await self._row(wanted.where(IS_LIVE), name)
        if row is None:
            raise await self._no_start(name, version)
        if row.deprecated:
            raise NotPossibleNow(
                Reason.DEFINITION_DEPRECATED,
                f"version {version} of definition `{name}` is deprecated, so no saga starts with it; {await self._instead(name)}",
                definition=name,
                version=str(version),
            )
        found = await self._read(row)
        if decisions == self._decisions:
            self._started[name, version] = (now, found)
        return found

    async def look_up(self, name: str, version: int = 0) -> RegisteredDefinition:
        """A version, or the newest for 0, with what is decided about it at this moment. Raises NotFound and Unavailable."""
        wanted = _SEEN.where(table.c.version == version) if version else _NEWEST
        row = await self._row(wanted.where(IS_LIVE), name)
        if row is None:
            raise _not_found(name, version)
        return _seen(row)

    async def deprecate(self, name: str, version: int, *, deprecated: bool) -> RegisteredDefinition:
        """Lets no more sagas start with the version, or lets them again.

        Raises:
            NotFound: there is no such version.
            NotPossibleNow: it is the default.
            Unavailable: the database is away.
        """
        values: dict[str, Any] = {"deprecated": deprecated}
        if deprecated:
            values["default_since"] = None
        await self._decide(
            name, version, values, "deprecated", unless=_IS_DEFAULT_NOW if deprecated else None
        )
        return await self.look_up(name, version)

    async def set_default(self, name: str, version: int) -> RegisteredDefinition:
        """Has starts without version use this one, or the newest again for 0; returns what they use now.

        Raises:
            NotFound: there is no such definition or version.
            NotPossibleNow: the version is deprecated, or, for 0, all are.
            Unavailable: the database is away.
        """
        statement = _SET_DEFAULT if version else _UNSET_DEFAULT
        parameters = {"namespace": NAMESPACE, "name": name, **({"version": version} if version else {})}
        async with self._database.connection() as connection:
            chosen = (await connection.execute(statement, parameters)).scalar()
        self._forget(name)
        if version and not chosen:
            await self.look_up(name, version)  # which says so if there is none
            raise NotPossibleNow(
                Reason.DEFINITION_DEPRECATED,
                f"version {version} of definition `{name}` is deprecated; take that back before making it the default",
                definition=name,
                version=str(version),
            )
        row = await self._row(_FOR_START.where(IS_LIVE), name)
        if row is None:
            raise await self._no_start(name, version)
        return _seen(row)

    async def delete(self, name: str, version: int) -> None:
        """Removes a version that no saga refers to.

        The row stays, marked: its number must not come to mean something else, and a coordinator that stood still while this
        was decided may yet commit a start, which then goes on as any other. All coordinators that move have noticed before the
        last look for sagas.

        Raises:
            NotFound: there is no such version.
            NotPossibleNow: a saga refers to it, or it is the default.
            Unavailable: the database is away; it may be deleted all the same. Repeating finishes it.
        """
        row = await self._row(_SEEN.where(table.c.version == version), name)
        if row is None:
            raise _not_found(name, version)
        async with self._database.connection() as connection:
            await _refuse_if_used(connection, row)
        await self._decide(
            name,
            version,
            {"deleted_at": func.coalesce(table.c.deleted_at, func.now()), "default_since": None},
            "deleted",
            unless=_IS_DEFAULT_NOW,
            is_live=False,
        )
        await sleep(NEWEST_KEPT_SECONDS + START_SECONDS)
        async with self._database.connection() as connection:
            try:
                await _refuse_if_used(connection, row)
            except NotPossibleNow:
                await connection.execute(_version(name, version).values(deleted_at=None))
                raise

    async def _decide(
        self,
        name: str,
        version: int,
        values: dict[str, Any],
        what: str,
        *,
        unless: ColumnElement[bool] | None = None,
        is_live: bool = True,
    ) -> None:
        """Updates the version, in one conditional statement."""
        statement = _version(name, version).values(values)
        if is_live:
            statement = statement.where(IS_LIVE)
        if unless is not None:
            statement = statement.where(~unless)
        async with self._database.connection() as connection:
            is_done = (await connection.execute(statement)).rowcount > 0
        self._forget(name)
        if not is_done:
            await self.look_up(name, version)  # which says so if there is none
            raise NotPossibleNow(
                Reason.DEFINITION_IS_DEFAULT,
                f"version {version} of definition `{name}` is the default, and cannot be {what}: make another one the default "
                "first, or 0 to have the newest that is not deprecated",
                definition=name,
                version=str(version),
            )

    async def _row(self, query: Select[Any], name: str) -> Row[Any] | None:
        async with self._database.connection() as connection:
            row: Row[Any] | None = (await connection.execute(query, {"name": name})).one_or_none()
        return row

    async def _no_start(self, name: str, version: int) -> NotFound | NotPossibleNow:
        """Why there is nothing to start with."""
        if not version and await self._row(_NEWEST.where(IS_LIVE), name) is not None:
            return NotPossibleNow(
                Reason.DEFINITION_DEPRECATED,
                f"every version of definition `{name}` is deprecated, so no saga starts with it; register a new one, or take one "
                "back",
                definition=name,
            )
        return _not_found(name, version)

    async def _instead(self, name: str) -> str:
        row = await self._row(_FOR_START.where(IS_LIVE), name)
        return f"use version {row.version}" if row is not None else "register a new one"

    def _forget(self, name: str) -> None:
        """What starts have been told of the definition, so that at least this coordinator goes by what was decided."""
        self._decisions += 1
        for key in [key for key in self._started if key[0] == name]:
            del self._started[key]

    async def _read(self, row: Row[Any]) -> RunnableDefinition:
        """Compiles its expressions, once for all who ask, in another thread: those of a large one may take seconds."""
        key = (row.name, row.version)
        if key not in self._runnable:
            work = self._loading.in_thread(_runnable, row, self._limits.for_registered())
            self._runnable[key] = self._background.begin("definition", work)
        try:
            return await asyncio.shield(self._runnable[key])
        except Exception:
            self._runnable.pop(key, None)
            raise


def _checked(spec: dict[str, Any], limits: Limits) -> tuple[Definition, str, str]:
    """The definition, its digest, and how it is stored. Raises InvalidDefinition."""
    definition = parse_definition(spec, limits)
    digest = hashlib.sha256(digest_bytes(spec)).hexdigest()
    return definition, digest, orjson.dumps(spec).decode()


def _runnable(row: Row[Any], limits: Limits) -> RunnableDefinition:
    return RunnableDefinition(row.version, parse_definition(row.spec, limits))


def _seen(row: Row[Any]) -> RegisteredDefinition:
    return RegisteredDefinition(
        row.name, row.version, row.digest, row.spec, row.registered_at, row.deprecated, row.is_default
    )


def _not_found(name: str, version: int) -> NotFound:
    asked = f"version {version} of definition" if version else "definition"
    return NotFound(
        Reason.NO_SUCH_DEFINITION,
        f"there is no {asked} `{name}`; register it first (saga-coordinator definition apply FILE)",
        definition=name,
    )


async def _refuse_if_used(connection: AsyncConnection, row: Row[Any]) -> None:
    """Raises NotPossibleNow. Identities sort by the time of the start, so none is older than the version."""
    oldest = (row.registered_at - _CLOCKS_APART).timestamp()
    milliseconds = f"{max(0, int(oldest * 1000)):012x}"
    parameters = {
        "definition": row.name,
        "version": row.version,
        "oldest": f"{milliseconds[:8]}-{milliseconds[8:]}-0000-0000-000000000000",
    }
    saga_id = (await connection.execute(_USED, parameters)).scalar()
    if saga_id is not None:
        raise NotPossibleNow(
            Reason.DEFINITION_IN_USE,
            f"version {row.version} of definition `{row.name}` cannot be deleted: saga {saga_id} refers to it, and maybe "
            "others; deprecate it instead",
            definition=row.name,
            version=str(row.version),
            saga_id=str(saga_id),
        )


def _version(name: str, version: int) -> Any:
    return update(table).where(
        table.c.namespace == NAMESPACE, table.c.name == name, table.c.version == version
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
_SEEN = select(table, IS_DEFAULT).where(table.c.namespace == NAMESPACE, table.c.name == bindparam("name"))
_NEWEST = _SEEN.order_by(table.c.version.desc()).limit(1)
_FOR_START = (
    _SEEN.where(table.c.deprecated.is_(False))
    .order_by(table.c.default_since.desc().nulls_last(), table.c.version.desc())
    .limit(1)
)
# The newest that is not deleted, or of none the last number that was ever given.
_LAST = (
    select(
        table,
        IS_DEFAULT,
        select(func.max(_others.c.version))
        .where(_others.c.namespace == NAMESPACE, _others.c.name == bindparam("name"))
        .scalar_subquery()
        .label("last_version"),
    )
    .where(table.c.namespace == NAMESPACE, table.c.name == bindparam("name"))
    .order_by(IS_LIVE.desc(), table.c.version.desc())
    .limit(1)
)
_USED = (
    select(sagas.c.saga_id)
    .where(
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
