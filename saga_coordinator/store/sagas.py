"""What is read of sagas: for answers, for lists, and to take one over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, func, select

from saga_coordinator.saga.entries import StoredEntry
from saga_coordinator.saga.errors import NotFound
from saga_coordinator.saga.outcome import Cause
from saga_coordinator.saga.transitions import SagaStatus
from saga_coordinator.store.database import Database
from saga_coordinator.store.tables import NAMESPACE, log, sagas, start_keys


@dataclass(frozen=True, slots=True)
class SagaRecord:
    """A saga's summary. `sequence` is the number of its log's entries; `owner` the coordinator that drives it."""

    saga_id: str
    definition: str
    version: int
    status: SagaStatus
    start_key: str
    input: Any
    labels: dict[str, str]
    failure: Cause | None
    remaining: tuple[str, ...]
    started_at: datetime
    ended_at: datetime | None
    deadline_at: datetime | None
    sequence: int
    owner: str | None
    is_input_omitted: bool = False
    """In a list, of a saga whose input alone is larger than a page."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry with where and when it stands in the log, and the coordinator that wrote it."""

    sequence: int
    entry: StoredEntry
    recorded_at: datetime
    recorded_by: str


@dataclass(frozen=True, slots=True)
class SagaFilter:
    """Empty fields match everything; a saga must have every label."""

    statuses: tuple[SagaStatus, ...] = ()
    definition: str = ""
    labels: dict[str, str] = field(default_factory=dict)


LENGTH = (
    select(func.max(log.c.sequence))
    .where(log.c.saga_id == sagas.c.saga_id)
    .scalar_subquery()
    .label("sequence")
)

# Built once: building a statement costs as much as executing it.
_GET = select(sagas, LENGTH).where(sagas.c.saga_id == bindparam("saga_id"))
_BY_START_KEY = (
    select(sagas, LENGTH)
    .join(start_keys, start_keys.c.saga_id == sagas.c.saga_id)
    .where(start_keys.c.namespace == NAMESPACE, start_keys.c.start_key == bindparam("start_key"))
)
_LOG = (
    select(log)
    .where(log.c.saga_id == bindparam("saga_id"), log.c.sequence > bindparam("after"))
    .order_by(log.c.sequence)
    .limit(bindparam("limit"))
)
_STARTED_BY = select(start_keys.c.saga_id, start_keys.c.request_digest).where(
    start_keys.c.namespace == NAMESPACE, start_keys.c.start_key == bindparam("start_key")
)
_STATUS = select(sagas.c.status).where(sagas.c.saga_id == bindparam("saga_id"))


class Sagas:
    """Reads; every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, saga_id: str) -> SagaRecord:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            row = (await connection.execute(_GET, {"saga_id": saga_id})).one_or_none()
        if row is None:
            raise NotFound(f"there is no saga {saga_id}")
        return record_of(row, row.input)

    async def by_start_key(self, start_key: str) -> SagaRecord:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            row = (await connection.execute(_BY_START_KEY, {"start_key": start_key})).one_or_none()
        if row is None:
            raise NotFound(f"there is no saga with start key {start_key!r}")
        return record_of(row, row.input)

    async def log(self, saga_id: str, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        """The entries behind sequence `after`, in order."""
        wanted = {"saga_id": saga_id, "after": after, "limit": limit}
        async with self._database.connection() as connection:
            rows = (await connection.execute(_LOG, wanted)).all()
        return [LogEntry(row.sequence, _stored(row), row.recorded_at, row.recorded_by) for row in rows]

    async def entries(self, saga_ids: Sequence[str]) -> dict[str, list[StoredEntry]]:
        """The whole logs of some sagas, to decode and fold; one that cannot be decoded is nobody else's trouble."""
        query = select(log).where(log.c.saga_id.in_(saga_ids)).order_by(log.c.saga_id, log.c.sequence)
        logs: dict[str, list[StoredEntry]] = {saga_id: [] for saga_id in saga_ids}
        async with self._database.connection() as connection:
            for row in await connection.execute(query):
                logs[row.saga_id].append(_stored(row))
        return logs

    async def started_by(self, start_key: str) -> tuple[str, bytes] | None:
        """The saga that has the start key, and the digest of the request that started it."""
        async with self._database.connection() as connection:
            row = (await connection.execute(_STARTED_BY, {"start_key": start_key})).one_or_none()
        return None if row is None else (row.saga_id, bytes(row.request_digest))

    async def status(self, saga_id: str) -> SagaStatus:
        """Only the status, cheaply. Raises NotFound."""
        async with self._database.connection() as connection:
            status = (await connection.execute(_STATUS, {"saga_id": saga_id})).scalar_one_or_none()
        if status is None:
            raise NotFound(f"there is no saga {saga_id}")
        return SagaStatus(status)


def _stored(row: Row[Any]) -> StoredEntry:
    return StoredEntry(row.type, row.step, row.operation, row.attempt, row.body)


def record_of(row: Row[Any], given: Any, *, is_input_omitted: bool = False) -> SagaRecord:
    """The summary in a row, with `given` as its input."""
    return SagaRecord(
        saga_id=row.saga_id,
        definition=row.definition,
        version=row.version,
        status=SagaStatus(row.status),
        start_key=row.start_key,
        input=given,
        labels=row.labels,
        failure=Cause(**row.failure) if row.failure else None,
        remaining=tuple(row.remaining),
        started_at=row.started_at,
        ended_at=row.ended_at,
        deadline_at=row.deadline_at,
        sequence=row.sequence,
        owner=row.owner,
        is_input_omitted=is_input_omitted,
    )
