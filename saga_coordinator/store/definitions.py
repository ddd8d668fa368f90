"""Definitions: registered once, never changed."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from saga_coordinator.saga.definition import Definition
from saga_coordinator.saga.errors import NotFound, Unavailable
from saga_coordinator.saga.parsing import parse_definition
from saga_coordinator.store.database import Database
from saga_coordinator.store.tables import NAMESPACE
from saga_coordinator.store.tables import definitions as table

_REGISTER_TRIES_MAX = 10
NEWEST_KEPT_SECONDS = 1.0
"""How long another coordinator's registration may go unnoticed by starts that ask for the newest version."""


@dataclass(frozen=True)
class RegisteredDefinition:
    """A version of a definition. `spec` is its canonical JSON form, `definition` what that means."""

    name: str
    version: int
    digest: str
    spec: dict[str, Any]
    registered_at: datetime
    definition: Definition


class Definitions:
    """Registers and finds definitions; versions once read are kept in memory, since they never change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pinned: dict[tuple[str, int], RegisteredDefinition] = {}
        self._newest: dict[str, tuple[float, RegisteredDefinition]] = {}

    async def register(self, spec: dict[str, Any]) -> tuple[RegisteredDefinition, bool]:
        """Stores the definition; gives the newest version again, and False, when its content is the same.

        Raises:
            InvalidDefinition: with every fault.
            Unavailable: the database is away.
        """
        definition = parse_definition(spec)
        digest = hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()
        async with self._database.connection() as connection:
            for _ in range(_REGISTER_TRIES_MAX):
                newest = (await connection.execute(_newest(definition.name))).one_or_none()
                if newest is not None and newest.digest == digest:
                    return self._keep_newest(newest), False
                values = {
                    "namespace": NAMESPACE,
                    "name": definition.name,
                    "version": newest.version + 1 if newest else 1,
                    "digest": digest,
                    "spec": spec,
                }
                try:
                    row = (await connection.execute(insert(table).values(values).returning(table))).one()
                except IntegrityError:
                    continue  # somebody registered that version at the same moment: look again
                return self._keep_newest(row), True
        raise Unavailable(f"definition {definition.name} is being registered by many at once; try again")

    async def get(self, name: str, version: int = 0) -> RegisteredDefinition:
        """A version, or the newest for 0. Raises NotFound, and Unavailable when the database is away."""
        if version:
            return self._pinned.get((name, version)) or self._keep(await self._find(name, version))
        looked_up_at, newest = self._newest.get(name, (0.0, None))
        if newest is None or looked_up_at + NEWEST_KEPT_SECONDS < time.monotonic():
            return self._keep_newest(await self._find(name, version))
        return newest

    async def _find(self, name: str, version: int) -> Row[Any]:
        query = _newest(name)
        if version:
            query = select(table).where(
                table.c.namespace == NAMESPACE, table.c.name == name, table.c.version == version
            )
        async with self._database.connection() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            asked = f"version {version} of definition" if version else "definition"
            raise NotFound(
                f"there is no {asked} `{name}`; register it first (saga-coordinator definition apply FILE)"
            )
        return row

    async def page(self, after_name: str, limit: int) -> list[RegisteredDefinition]:
        """The newest version of each definition whose name sorts behind `after_name`, by name."""
        newest = (
            select(table.c.name, func.max(table.c.version).label("version"))
            .where(table.c.namespace == NAMESPACE, table.c.name > after_name)
            .group_by(table.c.name)
            .order_by(table.c.name)
            .limit(limit)
            .subquery()
        )
        query = (
            select(table)
            .join(newest, (table.c.name == newest.c.name) & (table.c.version == newest.c.version))
            .where(table.c.namespace == NAMESPACE)
            .order_by(table.c.name)
        )
        async with self._database.connection() as connection:
            return [self._keep(row) for row in await connection.execute(query)]

    def _keep_newest(self, row: Row[Any]) -> RegisteredDefinition:
        newest = self._keep(row)
        self._newest[row.name] = (time.monotonic(), newest)
        return newest

    def _keep(self, row: Row[Any]) -> RegisteredDefinition:
        pinned = self._pinned.get((row.name, row.version))
        if pinned is None:
            definition = parse_definition(row.spec)
            pinned = RegisteredDefinition(
                row.name, row.version, row.digest, row.spec, row.registered_at, definition
            )
            self._pinned[row.name, row.version] = pinned
        return pinned


def _newest(name: str) -> Any:
    return (
        select(table)
        .where(table.c.namespace == NAMESPACE, table.c.name == name)
        .order_by(table.c.version.desc())
        .limit(1)
    )
