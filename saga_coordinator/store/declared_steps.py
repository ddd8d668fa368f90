"""The rows of steps that participants have declared."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
from sqlalchemy import text

from saga_coordinator.saga.definition.declared import Declarations, Declared, qualified
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.database import Database

_OF = text("""
SELECT participant, name, version, spec FROM saga.declared_steps
WHERE namespace = :namespace AND participant = ANY(CAST(:participants AS text[])) ORDER BY name
""")
# One statement, so that nobody sees half of a declaration.
_REPLACE = text("""
WITH given AS (
    SELECT step ->> 'name' AS name, step AS spec FROM jsonb_array_elements(CAST(:steps AS jsonb)) AS step
), gone AS (
    DELETE FROM saga.declared_steps
    WHERE namespace = :namespace AND participant = :participant AND name NOT IN (SELECT name FROM given)
)
INSERT INTO saga.declared_steps (namespace, participant, name, version, spec)
SELECT :namespace, :participant, name, :version, spec FROM given
ON CONFLICT (namespace, participant, name) DO UPDATE
SET version = excluded.version, spec = excluded.spec, declared_at = excluded.declared_at
""")


class DeclaredStepRows:
    """Reads and writes declared steps. Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, namespace: Namespace, participant: str) -> Declared:
        """The steps that a participant declared last; empty if it never declared any."""
        rows = await self._rows(namespace, [participant])
        return Declared(rows[0].version if rows else "", {row.name: row.spec for row in rows})

    async def of_all(self, namespace: Namespace, participants: Collection[str]) -> Declarations:
        """The steps that these participants have declared, by the names that definitions use."""
        rows = await self._rows(namespace, participants)
        return {qualified(row.participant, row.name): row.spec for row in rows}

    async def replace(self, namespace: Namespace, participant: str, declared: Declared) -> None:
        """Replaces all declared steps of the participant by these."""
        given = {
            "namespace": namespace,
            "participant": participant,
            "version": declared.version,
            "steps": orjson.dumps(list(declared.steps.values())).decode(),
        }
        async with self._database.connection() as connection:
            await connection.execute(_REPLACE, given)

    async def _rows(self, namespace: Namespace, participants: Collection[str]) -> list[Any]:
        async with self._database.connection() as connection:
            return list(
                await connection.execute(_OF, {"namespace": namespace, "participants": list(participants)})
            )
