"""Catalogs of definitions whose directory knows nobody."""

from __future__ import annotations

from saga_coordinator.catalog.catalog import Catalog
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.store.database import Database


def catalog_of(database: Database) -> Catalog:
    """The catalog that the database holds."""
    return Catalog.of(database, Attempts(Directory.empty(), payload_bytes_max=1024 * 1024))
