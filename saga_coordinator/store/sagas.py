"""What is read of sagas: for answers, for lists, and to take one over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, Select, Text, bindparam, case, cast, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from saga_coordinator.saga.machine.entries import StoredEntry
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotFound
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.database import Database
from saga_coordinator.store.pages import shown
from saga_coordinator.store.records import LoggedEntry, LogPage
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
    """Of a saga whose input alone is larger than a page."""
    input_bytes: int = field(default=0, compare=False)
    """Of the input as JSON, where one saga was asked for."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry with where and when it stands in the log, and the coordinator that wrote it."""

    sequence: int
    entry: StoredEntry
    recorded_at: datetime
    recorded_by: str
    is_payload_omitted: bool = False


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry for an answer, its body still JSON: parsing many of them takes time, which whoever shows them has.

    A large one comes without its payload; then `payload_bytes` is what the whole body has, and `items` how many items its block
    began with, if any.
    """

    sequence: int
    type: str
    step: str | None
    operation: str | None
    attempt: int
    body: str
    payload_bytes: int
    items: int | None
    recorded_at: datetime
    recorded_by: str

    def logged(self) -> LogEntry:
        """The entry itself. Items that were left out are as many nulls."""
        body = orjson.loads(self.body)
        if self.items is not None:
            body["items"] = [None] * self.items
        stored = StoredEntry(self.type, self.step, self.operation, self.attempt, body)
        return LogEntry(self.sequence, stored, self.recorded_at, self.recorded_by, self.payload_bytes > 0)

    def with_body(self, body: str) -> ShownEntry:
        return replace(self, body=body, payload_bytes=0, items=None)


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

PAGE_ENTRIES = 500
PAGE_BYTES = 512 * 1024
"""What is read of logs at once, to go on with sagas: some ten milliseconds of the event loop. The last entry may go beyond it."""

# Sequences have no gaps, so each next row is found by the key: either the same saga's next, or the next saga's first.
_PAGE = text("""
    WITH RECURSIVE page AS (
        (
            SELECT 1 AS place, 1 AS number, octet_length(body::text)::bigint AS size_bytes,
                octet_length(body::text)::bigint AS read_bytes, saga_id, sequence, type, step, operation, attempt, body
            FROM saga.log WHERE saga_id = (CAST(:saga_ids AS uuid[]))[1] AND sequence = CAST(:after AS integer) + 1
            UNION ALL
            SELECT 2, 1, octet_length(body::text), octet_length(body::text),
                saga_id, sequence, type, step, operation, attempt, body
            FROM saga.log WHERE saga_id = (CAST(:saga_ids AS uuid[]))[2] AND sequence = 1
            ORDER BY place LIMIT 1
        )
        UNION ALL
        SELECT following.place, page.number + 1, following.size_bytes, page.read_bytes + following.size_bytes, following.saga_id,
            following.sequence, following.type, following.step, following.operation, following.attempt, following.body
        FROM page CROSS JOIN LATERAL (
            SELECT page.place AS place, octet_length(body::text)::bigint AS size_bytes,
                saga_id, sequence, type, step, operation, attempt, body
            FROM saga.log WHERE saga_id = page.saga_id AND sequence = page.sequence + 1
            UNION ALL
            SELECT page.place + 1, octet_length(body::text), saga_id, sequence, type, step, operation, attempt, body
            FROM saga.log WHERE saga_id = (CAST(:saga_ids AS uuid[]))[page.place + 1] AND sequence = 1
            ORDER BY place LIMIT 1
        ) AS following
        WHERE page.number < CAST(:entries AS integer) AND page.read_bytes < CAST(:bytes AS bigint)
    )
    SELECT place, sequence, type, step, operation, attempt, body, size_bytes FROM page ORDER BY number
""")

# Built once: building a statement costs as much as executing it.
_SAGA: Select[Any] = select(
    *(column for column in sagas.c if column.name != "input"),
    shown(sagas.c.input).label("input"),
    func.octet_length(cast(sagas.c.input, Text)).label("input_bytes"),
    LENGTH,
)
_GET = _SAGA.where(sagas.c.saga_id == bindparam("saga_id"))
_BY_START_KEY = _SAGA.join(start_keys, start_keys.c.saga_id == sagas.c.saga_id).where(
    start_keys.c.namespace == NAMESPACE, start_keys.c.start_key == bindparam("start_key")
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
LARGE_BYTES = 16 * 1024
"""Bodies that are larger as JSON are read only where they are shown."""

PAYLOADS = ("input", "output", "items", "previous", "shown", "payload")
"""Fields of bodies that hold what callers, participants and definitions said."""

_BODY = cast(log.c.body, Text)
_IS_LARGE = func.octet_length(_BODY) > LARGE_BYTES
_BARE = cast(log.c.body.op("-")(cast(list(PAYLOADS), ARRAY(Text))), Text)
_SHOWN_LOG: Select[Any] = (
    select(
        log.c.sequence,
        log.c.type,
        log.c.step,
        log.c.operation,
        log.c.attempt,
        case((_IS_LARGE, _BARE), else_=_BODY),
        case((_IS_LARGE, func.octet_length(_BODY)), else_=0),
        case((_IS_LARGE, func.jsonb_array_length(log.c.body["items"]))),
        log.c.recorded_at,
        log.c.recorded_by,
    )
    .where(log.c.saga_id == bindparam("saga_id"), log.c.sequence > bindparam("after"))
    .order_by(log.c.sequence)
    .limit(bindparam("limit"))
)
"""The columns of `ShownEntry`."""

_BODIES = select(log.c.sequence, _BODY).where(
    log.c.saga_id == bindparam("saga_id"), log.c.sequence.in_(bindparam("sequences", expanding=True))
)
_STATUS = select(sagas.c.status).where(sagas.c.saga_id == bindparam("saga_id"))


class SagaRows:
    """Reads; every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, saga_id: str) -> SagaRecord:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            row = (await connection.execute(_GET, {"saga_id": saga_id})).one_or_none()
        if row is None:
            raise NotFound(Reason.NO_SUCH_SAGA, f"there is no saga {saga_id}", saga_id=saga_id)
        return _record(row)

    async def by_start_key(self, start_key: str) -> SagaRecord:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            row = (await connection.execute(_BY_START_KEY, {"start_key": start_key})).one_or_none()
        if row is None:
            raise NotFound(
                Reason.NO_SUCH_SAGA, f"there is no saga with start key {start_key!r}", start_key=start_key
            )
        return _record(row)

    async def log(self, saga_id: str, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        """The entries behind sequence `after`, in order."""
        wanted = {"saga_id": saga_id, "after": after, "limit": limit}
        async with self._database.connection() as connection:
            rows = (await connection.execute(_LOG, wanted)).all()
        return [LogEntry(row.sequence, _stored(row), row.recorded_at, row.recorded_by) for row in rows]

    async def shown_log(self, saga_id: str, after: int, limit: int) -> list[ShownEntry]:
        """The entries behind sequence `after`, in order; those of more than `LARGE_BYTES` without their payloads."""
        wanted = {"saga_id": saga_id, "after": after, "limit": limit}
        async with self._database.connection() as connection:
            return [ShownEntry(*row) for row in await connection.execute(_SHOWN_LOG, wanted)]

    async def with_payloads(
        self, saga_id: str, entries: Sequence[ShownEntry], bytes_max: int
    ) -> list[ShownEntry]:
        """The same entries, the large ones that come first with their payloads: no more than `bytes_max` bytes of them."""
        wanted: list[int] = []
        for entry in entries:
            if entry.payload_bytes and entry.payload_bytes <= bytes_max:
                bytes_max -= entry.payload_bytes
                wanted.append(entry.sequence)
        if not wanted:
            return list(entries)
        async with self._database.connection() as connection:
            rows = (await connection.execute(_BODIES, {"saga_id": saga_id, "sequences": wanted})).all()
        bodies = {row[0]: row[1] for row in rows}
        return [
            entry.with_body(bodies[entry.sequence]) if entry.sequence in bodies else entry
            for entry in entries
        ]

    async def page(self, saga_ids: Sequence[str], after: int = 0) -> LogPage:
        """The first saga's entries behind sequence `after`, then those of the next ones, up to `PAGE_ENTRIES` and `PAGE_BYTES`.

        Postgres stops there: nothing is read that is not returned, however long the logs and large their entries are. At least
        one entry is returned where there is one. One that cannot be decoded is nobody else's trouble.
        """
        wanted = {"saga_ids": list(saga_ids), "after": after, "entries": PAGE_ENTRIES, "bytes": PAGE_BYTES}
        async with self._database.connection() as connection:
            rows = (await connection.execute(_PAGE, wanted)).all()
        entries = tuple(
            LoggedEntry(row.place - 1, row.sequence, _stored(row), row.size_bytes) for row in rows
        )
        is_full = len(entries) >= PAGE_ENTRIES or sum(each.size_bytes for each in entries) >= PAGE_BYTES
        return LogPage(entries, has_more=is_full)

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
            raise NotFound(Reason.NO_SUCH_SAGA, f"there is no saga {saga_id}", saga_id=saga_id)
        return SagaStatus(status)


def _stored(row: Row[Any]) -> StoredEntry:
    return StoredEntry(row.type, row.step, row.operation, row.attempt, row.body)


def _record(row: Row[Any]) -> SagaRecord:
    """A saga asked for by itself."""
    is_omitted = row.input is None and row.input_bytes is not None
    given = None if row.input is None else orjson.loads(row.input)
    return replace(record_of(row, given, is_input_omitted=is_omitted), input_bytes=row.input_bytes or 0)


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
