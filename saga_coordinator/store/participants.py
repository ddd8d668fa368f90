"""The directory's part in the database: participants that were put by the API, and what operators decided about breakers.

Each coordinator reads them every half second: the revisions of all, and the content only of those that it has not yet. A change
is one row's matter, and nothing here is on the way of a saga.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text

from saga_coordinator.store.database import Database

_READ = text("""
SELECT name, revision::text AS revision, updated_at,
    CASE WHEN revision::text <> ALL(CAST(:known AS text[])) THEN spec END AS spec,
    CASE WHEN revision::text <> ALL(CAST(:known AS text[])) THEN descriptor_set END AS descriptor_set
FROM saga.participants ORDER BY name
""")
_PUT = text("""
INSERT INTO saga.participants (name, spec, descriptor_set)
VALUES (:name, CAST(:spec AS jsonb), CAST(:descriptor_set AS bytea))
ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, descriptor_set = excluded.descriptor_set,
    revision = excluded.revision, updated_at = excluded.updated_at
RETURNING xmax::text = '0' AS created
""")
_DELETE = text("DELETE FROM saga.participants WHERE name = :name RETURNING name")
_READ_BREAKERS = text("SELECT participant, control, requested_by, reason, set_at FROM saga.breakers")
_SET_BREAKER = text("""
INSERT INTO saga.breakers (participant, control, requested_by, reason)
VALUES (:participant, :control, :requested_by, :reason)
ON CONFLICT (participant) DO UPDATE SET control = excluded.control, requested_by = excluded.requested_by,
    reason = excluded.reason, set_at = excluded.set_at
RETURNING set_at
""")


@dataclass(frozen=True, slots=True)
class StoredParticipant:
    """`spec` is what a directory file would say of it; None, like `descriptor_set`, where that revision was known."""

    name: str
    revision: str
    updated_at: datetime
    spec: dict[str, Any] | None
    descriptor_set: bytes | None


@dataclass(frozen=True, slots=True)
class BreakerSetting:
    """What an operator has decided; `control` is AUTOMATIC, OPEN or CLOSED."""

    participant: str
    control: str
    requested_by: str
    reason: str
    set_at: datetime


class Participants:
    """Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, known: Collection[str] = ()) -> list[StoredParticipant]:
        """All, by name; without the content of those whose revision is `known`."""
        async with self._database.connection() as connection:
            rows = await connection.execute(_READ, {"known": list(known)})
            return [
                StoredParticipant(row.name, row.revision, row.updated_at, row.spec, row.descriptor_set)
                for row in rows
            ]

    async def put(self, name: str, spec: dict[str, Any], descriptor_set: bytes | None) -> bool:
        """Adds a participant or replaces it; whether there was none of that name."""
        given = {"name": name, "spec": orjson.dumps(spec).decode(), "descriptor_set": descriptor_set}
        async with self._database.connection() as connection:
            return bool((await connection.execute(_PUT, given)).scalar_one())

    async def delete(self, name: str) -> bool:
        """Whether there was one."""
        async with self._database.connection() as connection:
            return (await connection.execute(_DELETE, {"name": name})).scalar_one_or_none() is not None

    async def breakers(self) -> list[BreakerSetting]:
        """What was decided about each participant last."""
        async with self._database.connection() as connection:
            rows = await connection.execute(_READ_BREAKERS)
            return [
                BreakerSetting(row.participant, row.control, row.requested_by, row.reason, row.set_at)
                for row in rows
            ]

    async def set_breaker(
        self, participant: str, control: str, requested_by: str, reason: str
    ) -> BreakerSetting:
        """Keeps a decision instead of the one before."""
        given = {
            "participant": participant,
            "control": control,
            "requested_by": requested_by,
            "reason": reason,
        }
        async with self._database.connection() as connection:
            set_at = (await connection.execute(_SET_BREAKER, given)).scalar_one()
        return BreakerSetting(participant, control, requested_by, reason, set_at)
