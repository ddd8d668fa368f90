"""Steps that participants have declared. They are read when a definition that uses some is registered, and not by any saga."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import text

from saga_coordinator.saga.definition.declared import Declarations, breaking_changes, qualified, used_steps
from saga_coordinator.saga.words.errors import NotPossibleNow
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.database import Database
from saga_coordinator.store.tables import NAMESPACE
from saga_coordinator.turns import Turns

USERS_SHOWN_MAX = 10

_OF = text("""
SELECT participant, name, version, spec FROM saga.declared_steps
WHERE participant = ANY(CAST(:participants AS text[])) ORDER BY name
""")
# One statement, so that nobody sees half of a declaration.
_REPLACE = text("""
WITH given AS (
    SELECT step ->> 'name' AS name, step AS spec FROM jsonb_array_elements(CAST(:steps AS jsonb)) AS step
), gone AS (
    DELETE FROM saga.declared_steps WHERE participant = :participant AND name NOT IN (SELECT name FROM given)
)
INSERT INTO saga.declared_steps (participant, name, version, spec)
SELECT :participant, name, :version, spec FROM given
ON CONFLICT (participant, name) DO UPDATE
SET version = excluded.version, spec = excluded.spec, declared_at = excluded.declared_at
""")
# The path finds payloads with such a field, too; whoever asks looks again. More than are shown need not be read.
_USERS = text("""
SELECT name, version, spec::text AS spec FROM saga.definitions
WHERE namespace = :namespace AND deleted_at IS NULL AND NOT deprecated
    AND jsonb_path_query_array(
        spec, '$.**.use ? (@ starts with $prefix)', jsonb_build_object('prefix', CAST(:prefix AS text))
    ) ?| CAST(:broken AS text[])
ORDER BY name, version LIMIT 100
""")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a participant offers: the canonical JSON forms by the steps' names, and its program's version."""

    version: str = ""
    steps: Mapping[str, dict[str, Any]] = field(default_factory=dict)


class DeclaredSteps:
    """Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database, turns: Turns) -> None:
        self._database = database
        self._turns = turns

    async def of(self, participant: str) -> Declared:
        """What a participant has declared last; nothing if it never did."""
        rows = await self._rows([participant])
        return Declared(rows[0].version if rows else "", {row.name: row.spec for row in rows})

    async def used_by(self, used: Iterable[str]) -> Declarations:
        """What the participants have declared whose steps are `used`: PARTICIPANT.STEP each."""
        participants = {use.rpartition(".")[0] for use in used}
        if not participants:
            return {}
        return {qualified(row.participant, row.name): row.spec for row in await self._rows(participants)}

    async def replace(self, participant: str, declared: Declared, *, force: bool) -> bool:
        """Has the participant offer these steps and no others; False when it did so before.

        A definition registered at the same moment may use what goes just then, as with `force`.

        Raises:
            NotPossibleNow: definitions that may still be started use what would be gone; the message lists them.
        """
        before = await self.of(participant)
        if before == declared:
            return False
        if not force:
            await self._check(participant, before, declared)
        given = {
            "participant": participant,
            "version": declared.version,
            "steps": orjson.dumps(list(declared.steps.values())).decode(),
        }
        async with self._database.connection() as connection:
            await connection.execute(_REPLACE, given)
        return True

    async def _check(self, participant: str, before: Declared, after: Declared) -> None:
        old, new = (
            {qualified(participant, name): spec for name, spec in declared.steps.items()}
            for declared in (before, after)
        )
        broken = await self._turns.in_thread(breaking_changes, old, new)
        if not broken:
            return
        async with self._database.connection() as connection:
            given = {"namespace": NAMESPACE, "prefix": f"{participant}.", "broken": list(broken)}
            rows = (await connection.execute(_USERS, given)).all()

        def breaks() -> list[str]:
            return [
                f"{row.name} version {row.version} uses {use}, which {broken[use]}"
                for row in rows
                for use in sorted(used_steps(orjson.loads(row.spec)) & broken.keys())
            ]

        users = await self._turns.in_thread(breaks)
        if users:
            more = (
                f"; and {len(users) - USERS_SHOWN_MAX} more at least" if len(users) > USERS_SHOWN_MAX else ""
            )
            raise NotPossibleNow(
                Reason.STEPS_IN_USE,
                f"definitions would break: {'; '.join(users[:USERS_SHOWN_MAX])}{more}. Register them anew without it and "
                "deprecate these versions, or give force: sagas of these versions go on as they are",
                participant=participant,
            )

    async def _rows(self, participants: Collection[str]) -> list[Any]:
        async with self._database.connection() as connection:
            return list(await connection.execute(_OF, {"participants": list(participants)}))
