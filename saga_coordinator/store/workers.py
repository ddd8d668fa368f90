"""The rows that say which participants have workers at which coordinator, so that every coordinator's sagas reach them.

A row says that there is at least one worker, not how many: ten thousand workers that connect at once are one write. Rows of a
coordinator that is gone count for nothing once its lease is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text

from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.database import Database
from saga_coordinator.store.tables import DEFAULT_GROUP

_PUBLISH = text("""
    WITH served AS (
        SELECT participant, string_to_array(nullif(methods, ''), E'\\n') AS methods
        FROM unnest(CAST(:participants AS text[]), CAST(:methods AS text[])) AS given (participant, methods)
    ), gone AS (
        DELETE FROM saga.workers
        WHERE coordinator_id = :coordinator_id AND namespace = :namespace
            AND participant NOT IN (SELECT participant FROM served)
    )
    INSERT INTO saga.workers (coordinator_id, namespace, participant, methods)
    SELECT :coordinator_id, :namespace, participant, coalesce(methods, '{}') FROM served
    ON CONFLICT (coordinator_id, namespace, participant) DO UPDATE SET methods = excluded.methods, published_at = now()
""")
_ELSEWHERE = text("""
    SELECT workers.participant, workers.methods, workers.coordinator_id, coordinators.address
    FROM saga.workers JOIN saga.coordinators USING (coordinator_id)
    WHERE coordinator_id <> :coordinator_id AND lease_until >= clock_timestamp() AND claim_group = :claim_group
        AND namespace = :namespace
""")
_FORGET_DEAD = text("""
    DELETE FROM saga.workers WHERE coordinator_id IN (
        SELECT coordinator_id FROM saga.workers LEFT JOIN saga.coordinators USING (coordinator_id)
        WHERE coalesce(lease_until, '-infinity') < clock_timestamp() - interval '1 hour'
            AND published_at < clock_timestamp() - interval '1 hour'
    )
""")


@dataclass(frozen=True, slots=True)
class WorkersElsewhere:
    """The workers of `participant` at another coordinator. Empty `methods` mean that they perform all methods."""

    participant: str
    methods: frozenset[str]
    coordinator_id: str
    address: str


class WorkerRows:
    """The statements of one coordinator; each raises Unavailable when the database is away."""

    def __init__(self, database: Database, coordinator_id: str, claim_group: str = DEFAULT_GROUP) -> None:
        self._database = database
        self._coordinator_id = coordinator_id
        self._claim_group = claim_group

    async def publish(self, namespace: Namespace, served: Mapping[str, frozenset[str]]) -> None:
        """Publishes what is performed here for a namespace, in place of what was published before.

        `served` has the methods of each participant; no methods mean all.
        """
        given = {
            "participants": list(served),
            "methods": ["\n".join(sorted(methods)) for methods in served.values()],
        }
        async with self._database.connection() as connection:
            here = {"coordinator_id": self._coordinator_id, "namespace": namespace}
            await connection.execute(_PUBLISH, {**here, **given})
            await connection.execute(_FORGET_DEAD)

    async def elsewhere(self, namespace: Namespace) -> list[WorkersElsewhere]:
        """The workers for a namespace at the other living coordinators of the claim group."""
        wanted = {
            "coordinator_id": self._coordinator_id,
            "claim_group": self._claim_group,
            "namespace": namespace,
        }
        async with self._database.connection() as connection:
            rows = await connection.execute(_ELSEWHERE, wanted)
            return [
                WorkersElsewhere(
                    row.participant, frozenset(row.methods), str(row.coordinator_id), row.address
                )
                for row in rows
            ]
