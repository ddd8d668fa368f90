"""What a coordinator keeps its sagas in."""

from __future__ import annotations

from dataclasses import dataclass

from saga_coordinator.engine.ports import Definitions, Events, Listener, Ownership, Requests, Sagas
from saga_coordinator.store import definitions, events, ownership, requests, sagas
from saga_coordinator.store.database import Database
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.log_writer import PostgresLog


@dataclass(frozen=True, slots=True)
class Stores:
    """What a coordinator keeps its sagas in, and the identity in whose name it writes: new for every process."""

    coordinator_id: str
    journal: Journal
    ownership: Ownership
    sagas: Sagas
    definitions: Definitions
    requests: Requests
    listener: Listener
    events: Events

    @classmethod
    def of(cls, database: Database, coordinator_id: str, *, address: str, version: str) -> Stores:
        """Those in a database. `address` and `version` tell operators which coordinator this is."""
        return cls(
            coordinator_id=coordinator_id,
            journal=Journal(PostgresLog(database, coordinator_id), coordinator_id),
            ownership=ownership.Ownership(database, coordinator_id, address=address, version=version),
            sagas=sagas.Sagas(database),
            definitions=definitions.Definitions(database),
            requests=requests.Requests(database),
            listener=requests.Listener(database),
            events=events.Events(database),
        )
