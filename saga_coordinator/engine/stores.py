"""What a coordinator keeps its sagas in."""

from __future__ import annotations

from dataclasses import dataclass

from saga_coordinator.engine.ports import (
    DefinitionStore,
    EventStore,
    Listener,
    MailStore,
    OwnershipStore,
    SagaStore,
)
from saga_coordinator.store import definitions, events, mail, ownership, sagas
from saga_coordinator.store.database import Database
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.log_writer import PostgresLog
from saga_coordinator.store.tables import DEFAULT_GROUP


@dataclass(frozen=True, slots=True)
class Stores:
    """What a coordinator keeps its sagas in, and the identity in whose name it writes: new for every process."""

    coordinator_id: str
    journal: Journal
    ownership: OwnershipStore
    sagas: SagaStore
    definitions: DefinitionStore
    requests: MailStore
    listener: Listener
    events: EventStore

    @classmethod
    def of(
        cls,
        database: Database,
        coordinator_id: str,
        *,
        address: str,
        version: str,
        claim_group: str = DEFAULT_GROUP,
    ) -> Stores:
        """Those in a database. `address` and `version` tell operators which coordinator this is.

        `claim_group`: it starts sagas for that group, and claims no others.
        """
        return cls(
            coordinator_id=coordinator_id,
            journal=Journal(PostgresLog(database, coordinator_id, claim_group), coordinator_id),
            ownership=ownership.OwnershipRows(
                database, coordinator_id, address=address, version=version, claim_group=claim_group
            ),
            sagas=sagas.SagaRows(database),
            definitions=definitions.DefinitionRows(database),
            requests=mail.MailRows(database, claim_group),
            listener=mail.Listener(database, claim_group),
            events=events.EventRows(database),
        )
