"""Reads sagas: for answers, for lists, and for taking a saga over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
)

from saga_coordinator.filters.conditions import Condition
from saga_coordinator.saga.machine.entries import SagaParked
from saga_coordinator.saga.machine.rows import stored_entry
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode, entry_type
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotFound
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.database import Database
from saga_coordinator.store.pages import PAGE_BYTES_MAX
from saga_coordinator.store.records import LoggedEntry, LogPage
from saga_coordinator.store.stored_form import (
    FACTS,
    FACTS_ALONE,
    LARGE_BYTES,
    PAYLOAD_BYTES,
    SIZE_BYTES,
    WHOLE_PAYLOAD,
)
from saga_coordinator.store.tables import log, sagas, start_keys
from saga_coordinator.wire.conversion import convert


@dataclass(frozen=True, slots=True)
class SagaRecord:
    """A saga's summary. `sequence` is the number of its log's entries; `owner` the coordinator that drives it."""

    saga_id: str
    namespace: Namespace
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
    """Of the input as JSON."""
    blocked_by: Cause | None = None
    """Why the saga needs a person, while its status says that it does."""


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
    """An entry for an answer, with its content still as bytes: parsing many entries takes time, which their reader has.

    A large entry comes without its payload; then `payload_bytes` is the size of the payload. Otherwise it is 0.
    """

    sequence: int
    type: str
    step: str | None
    operation: str | None
    attempt: int
    facts: bytes
    payload: bytes | None
    payload_bytes: int
    recorded_at: datetime
    recorded_by: str

    @property
    def size_bytes(self) -> int:
        """The size of the content that this entry came with."""
        return len(self.facts) + len(self.payload or b"")

    def logged(self) -> LogEntry:
        """The decoded entry. Each item that was left out is a null."""
        stored = stored_entry(self.type, self.step, self.operation, self.attempt, self.facts, self.payload)
        return LogEntry(self.sequence, stored, self.recorded_at, self.recorded_by, self.payload_bytes > 0)

    def with_payload(self, payload: bytes) -> ShownEntry:
        return replace(self, payload=payload, payload_bytes=0)


@dataclass(frozen=True, slots=True)
class SagaFilter:
    """The filter of a list of sagas. Empty fields match everything; a saga must have every label, and fulfil the condition."""

    statuses: tuple[SagaStatus, ...] = ()
    definition: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    condition: Condition | None = None


_PARKED = entry_type(SagaParked)

LENGTH = (
    select(func.max(log.c.sequence))
    .where(log.c.saga_id == sagas.c.saga_id)
    .scalar_subquery()
    .label("sequence")
)


def _of_first_entry(expression: str) -> ColumnElement[Any]:
    """The value of an expression over the first entry of each saga's log, which has the saga's input."""
    return (
        select(literal_column(expression))
        .select_from(log)
        .where(log.c.saga_id == sagas.c.saga_id, log.c.sequence == 1)
        .scalar_subquery()
    )


INPUT_BYTES = _of_first_entry(PAYLOAD_BYTES)

# Hardly anything follows the entry that parked a saga, so Postgres finds it as soon as it reads the log from its end.
PARKING = case(
    (
        sagas.c.status == SagaStatus.NEEDS_ATTENTION,
        select(literal_column(FACTS_ALONE))
        .select_from(log)
        .where(log.c.saga_id == sagas.c.saga_id, log.c.type == _PARKED)
        .order_by(log.c.sequence.desc())
        .limit(1)
        .scalar_subquery(),
    )
)
"""What the entry says that parked a saga; null for a saga that needs no person."""

PAGE_ENTRIES = 500
PAGE_BYTES = 512 * 1024
"""What is read of logs at once, to go on with sagas: some ten milliseconds of the event loop. The last entry may go beyond it."""

# Sequences have no gaps, so each next row is found by the key: either the same saga's next, or the next saga's first.
_OF_ENTRY = f"""
    {SIZE_BYTES}::bigint AS size_bytes, saga_id, sequence, type, step, operation, attempt,
    {FACTS} AS facts, {WHOLE_PAYLOAD} AS payload
"""
_PAGE = text(f"""
    WITH RECURSIVE page AS (
        SELECT 1 AS number, first.size_bytes AS read_bytes, first.* FROM (
            SELECT 1 AS place, {_OF_ENTRY}
            FROM saga.log WHERE saga_id = (CAST(:saga_ids AS uuid[]))[1] AND sequence = CAST(:after AS integer) + 1
            UNION ALL
            SELECT 2, {_OF_ENTRY}
            FROM saga.log WHERE saga_id = (CAST(:saga_ids AS uuid[]))[2] AND sequence = 1
            ORDER BY place LIMIT 1
        ) AS first
        UNION ALL
        SELECT page.number + 1, page.read_bytes + following.size_bytes, following.*
        FROM page CROSS JOIN LATERAL (
            SELECT page.place AS place, {_OF_ENTRY}
            FROM saga.log WHERE saga_id = page.saga_id AND sequence = page.sequence + 1
            UNION ALL
            SELECT page.place + 1, {_OF_ENTRY}
            FROM saga.log WHERE saga_id = (CAST(:saga_ids AS uuid[]))[page.place + 1] AND sequence = 1
            ORDER BY place LIMIT 1
        ) AS following
        WHERE page.number < CAST(:entries AS integer) AND page.read_bytes < CAST(:bytes AS bigint)
    )
    SELECT place, sequence, type, step, operation, attempt, facts, payload, size_bytes FROM page ORDER BY number
""")  # noqa: S608  # nothing in it comes from outside

# Built once: building a statement costs as much as executing it.
_KEPT_ELSEWHERE = ("input", "failure", "cause", "key_id")
OF_SAGA: tuple[ColumnElement[Any], ...] = (
    *(column for column in sagas.c if column.name not in _KEPT_ELSEWHERE),
    func.coalesce(sagas.c.cause, func.convert_to(cast(sagas.c.failure, Text), "UTF8")).label("cause"),
    _of_first_entry(f"CASE WHEN {PAYLOAD_BYTES} <= {PAGE_BYTES_MAX} THEN {WHOLE_PAYLOAD} END").label(
        "first_payload"
    ),
    func.coalesce(INPUT_BYTES, 0).label("input_bytes"),
    PARKING.label("parking"),
    LENGTH,
)
"""The columns that `record_of` makes a saga's summary of."""

_SAGA: Select[Any] = select(*OF_SAGA)
_GET = _SAGA.where(sagas.c.saga_id == bindparam("saga_id"), sagas.c.namespace == bindparam("namespace"))
_BY_START_KEY = _SAGA.join(start_keys, start_keys.c.saga_id == sagas.c.saga_id).where(
    start_keys.c.namespace == bindparam("namespace"), start_keys.c.start_key == bindparam("start_key")
)
_ENTRY = "sequence, type, step, operation, attempt"
_LOG = text(f"""
    SELECT {_ENTRY}, {FACTS} AS facts, {WHOLE_PAYLOAD} AS payload, recorded_at, recorded_by::text AS recorded_by
    FROM saga.log WHERE saga_id = CAST(:saga_id AS uuid) AND sequence > :after ORDER BY sequence LIMIT :limit
""")  # noqa: S608  # nor here
_STARTED_BY = select(start_keys.c.saga_id, start_keys.c.request_digest).where(
    start_keys.c.namespace == bindparam("namespace"), start_keys.c.start_key == bindparam("start_key")
)
_IS_LARGE = f"{PAYLOAD_BYTES} > {LARGE_BYTES}"
_SHOWN_LOG = text(f"""
    SELECT {_ENTRY},
        CASE WHEN {_IS_LARGE} THEN {FACTS_ALONE} ELSE {FACTS} END,
        CASE WHEN {_IS_LARGE} THEN NULL ELSE {WHOLE_PAYLOAD} END,
        CASE WHEN {_IS_LARGE} THEN {PAYLOAD_BYTES} ELSE 0 END,
        recorded_at, recorded_by::text
    FROM saga.log WHERE saga_id = CAST(:saga_id AS uuid) AND sequence > :after ORDER BY sequence LIMIT :limit
""")  # noqa: S608  # nor here
"""The columns of `ShownEntry`."""

_SHOWN_PAYLOADS = text(f"""
    SELECT sequence, {WHOLE_PAYLOAD} AS payload FROM saga.log
    WHERE saga_id = CAST(:saga_id AS uuid) AND sequence = ANY(CAST(:sequences AS integer[]))
""")  # noqa: S608  # nor here
_STATUS = select(sagas.c.status, sagas.c.namespace).where(sagas.c.saga_id == bindparam("saga_id"))


class SagaRows:
    """Reads sagas and their logs. Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, namespace: Namespace, saga_id: str) -> SagaRecord:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            wanted = {"namespace": namespace, "saga_id": saga_id}
            row = (await connection.execute(_GET, wanted)).one_or_none()
        if row is None:
            raise NotFound(Reason.NO_SUCH_SAGA, f"there is no saga {saga_id}", saga_id=saga_id)
        return await convert(row.input_bytes, record_of, row)

    async def by_start_key(self, namespace: Namespace, start_key: str) -> SagaRecord:
        """Raises NotFound."""
        async with self._database.connection() as connection:
            wanted = {"namespace": namespace, "start_key": start_key}
            row = (await connection.execute(_BY_START_KEY, wanted)).one_or_none()
        if row is None:
            raise NotFound(
                Reason.NO_SUCH_SAGA, f"there is no saga with start key {start_key!r}", start_key=start_key
            )
        return await convert(row.input_bytes, record_of, row)

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
        """The same entries, with the payloads of the first large ones: no more than `bytes_max` bytes of payloads."""
        wanted: list[int] = []
        for entry in entries:
            if entry.payload_bytes and entry.payload_bytes <= bytes_max:
                bytes_max -= entry.payload_bytes
                wanted.append(entry.sequence)
        if not wanted:
            return list(entries)
        async with self._database.connection() as connection:
            asked = {"saga_id": saga_id, "sequences": wanted}
            rows = (await connection.execute(_SHOWN_PAYLOADS, asked)).all()
        payloads = {row.sequence: row.payload for row in rows}
        return [
            entry.with_payload(payloads[entry.sequence]) if entry.sequence in payloads else entry
            for entry in entries
        ]

    async def page(self, saga_ids: Sequence[str], after: int = 0) -> LogPage:
        """The first saga's entries behind sequence `after`, then those of the next ones, up to `PAGE_ENTRIES` and `PAGE_BYTES`.

        Postgres stops at the limit, so everything that is read is returned, however long the logs and large their entries are. At
        least one entry is returned if there is one. An entry that cannot be decoded does not disturb the other sagas.
        """
        wanted = {"saga_ids": list(saga_ids), "after": after, "entries": PAGE_ENTRIES, "bytes": PAGE_BYTES}
        async with self._database.connection() as connection:
            rows = (await connection.execute(_PAGE, wanted)).all()
        size_bytes = sum(row.size_bytes for row in rows)
        entries = await convert(size_bytes, _logged, rows)
        return LogPage(entries, has_more=len(entries) >= PAGE_ENTRIES or size_bytes >= PAGE_BYTES)

    async def started_by(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        """The saga that has the start key, and the digest of the request that started it."""
        async with self._database.connection() as connection:
            wanted = {"namespace": namespace, "start_key": start_key}
            row = (await connection.execute(_STARTED_BY, wanted)).one_or_none()
        return None if row is None else (row.saga_id, bytes(row.request_digest))

    async def status(self, saga_id: str) -> SagaStatus:
        """The saga's status alone, which is cheap to read. Raises NotFound."""
        return (await self.place(saga_id))[1]

    async def place(self, saga_id: str) -> tuple[Namespace, SagaStatus]:
        """The saga's namespace and status alone, which are cheap to read. Raises NotFound."""
        async with self._database.connection() as connection:
            row = (await connection.execute(_STATUS, {"saga_id": saga_id})).one_or_none()
        if row is None:
            raise NotFound(Reason.NO_SUCH_SAGA, f"there is no saga {saga_id}", saga_id=saga_id)
        return Namespace(row.namespace), SagaStatus(row.status)


def _logged(rows: Sequence[Row[Any]]) -> tuple[LoggedEntry, ...]:
    return tuple(LoggedEntry(row.place - 1, row.sequence, _stored(row), row.size_bytes) for row in rows)


def _stored(row: Row[Any]) -> StoredEntry:
    return stored_entry(row.type, row.step, row.operation, row.attempt, row.facts, row.payload)


def record_of(row: Row[Any]) -> SagaRecord:
    """The summary in a row of `OF_SAGA`."""
    first = None if row.first_payload is None else orjson.loads(row.first_payload)
    return SagaRecord(
        saga_id=row.saga_id,
        namespace=Namespace(row.namespace),
        definition=row.definition,
        version=row.version,
        status=SagaStatus(row.status),
        start_key=row.start_key,
        input=first.get("input") if first else None,
        labels=row.labels,
        failure=None if row.cause is None else Cause(**orjson.loads(row.cause)),
        remaining=tuple(row.remaining),
        started_at=row.started_at,
        ended_at=row.ended_at,
        deadline_at=row.deadline_at,
        sequence=row.sequence,
        owner=row.owner,
        is_input_omitted=first is None and row.input_bytes > 0,
        input_bytes=row.input_bytes,
        blocked_by=None if row.parking is None else _parking_cause(row.parking),
    )


def _parking_cause(facts: bytes) -> Cause:
    entry = decode(StoredEntry(_PARKED, None, None, 0, orjson.loads(facts)))
    assert isinstance(entry, SagaParked)
    return entry.cause
