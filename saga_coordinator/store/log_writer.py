"""The statements that append: one round trip and one transaction, however many sagas share it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import orjson
import psycopg
from psycopg import errors
from psycopg.types.array import ListBinaryDumper

from saga_coordinator.saga.entries import StoredEntry, encode
from saga_coordinator.saga.state import ENDS
from saga_coordinator.store.database import Database, is_outage, is_useless_after, unavailable
from saga_coordinator.store.journal import Append, Conflict, Move
from saga_coordinator.store.tables import NAMESPACE


class PostgresLog:
    """Writes to the log, the sagas' rows and their start keys, in the name of one coordinator."""

    def __init__(self, database: Database, coordinator_id: str) -> None:
        self._database = database
        self._coordinator_id = coordinator_id

    @asynccontextmanager
    async def session(self) -> AsyncIterator[PostgresLogSession]:
        """Raises Unavailable when there is no connection to be had."""
        try:
            async with self._database.driver_connection() as connection:
                yield PostgresLogSession(
                    connection, self._coordinator_id, prepares=self._database.prepared_statements
                )
        except Exception as error:
            if is_outage(error):
                raise unavailable(error) from error
            raise


class PostgresLogSession:
    """`journal.LogSession` on one connection."""

    def __init__(self, connection: psycopg.AsyncConnection, coordinator_id: str, *, prepares: bool) -> None:
        self._prepares = prepares
        self._cursor: psycopg.AsyncRawCursor[tuple[Any, ...]] = psycopg.AsyncRawCursor(connection)
        # As text, an array has each quotation mark of its JSON escaped: 150 ms for a megabyte, in which nothing else runs.
        self._cursor.adapters.register_dumper(list, ListBinaryDumper)
        self._coordinator_id = coordinator_id

    async def write(self, appends: Sequence[Append]) -> float | None:
        try:
            await self._execute(_APPEND, _parameters(appends, self._coordinator_id))
        except errors.UniqueViolation as error:
            raise Conflict(str(error)) from error
        row = await self._cursor.fetchone()
        return None if row is None else float(row[0])

    async def start_key_holder(self, start_key: str) -> tuple[str, bytes] | None:
        await self._execute(_START_KEY, (NAMESPACE, start_key))
        row = await self._cursor.fetchone()
        return None if row is None else (row[0], bytes(row[1]))

    async def taken(self, appends: Sequence[Append]) -> list[int]:
        entries = [(i, each.saga_id, each.sequence) for i, each in enumerate(appends) if each.entries]
        starts = [(i, each.start.start_key) for i, each in enumerate(appends) if each.start is not None]
        await self._execute(_TAKEN, (NAMESPACE, *_columns(entries, 3), *_columns(starts, 2)))
        return [row[0] for row in await self._cursor.fetchall()]

    async def written(self, saga_id: str, sequence: int, count: int) -> list[tuple[str, StoredEntry]]:
        await self._execute(_WRITTEN, (saga_id, sequence, count))
        return [(row[0], StoredEntry(*row[1:])) for row in await self._cursor.fetchall()]

    async def ping(self) -> None:
        await self._execute("SELECT 1", ())

    async def _execute(self, statement: str, parameters: tuple[Any, ...]) -> None:
        try:
            await self._cursor.execute(statement, parameters, prepare=self._prepares)
        except Exception as error:
            if is_useless_after(error):
                await self._cursor.connection.close()
            if is_outage(error):
                raise unavailable(error) from error
            raise


_APPEND = """
WITH claimed AS (
    INSERT INTO saga.start_keys (namespace, start_key, saga_id, request_digest)
    SELECT $1, * FROM unnest($3::text[], $4::text[]::uuid[], $5::bytea[])
), born AS (
    INSERT INTO saga.sagas (saga_id, start_key, definition, version, input, labels, deadline_at,
        status, failure, remaining, owner, wake_at, ended_at)
    SELECT s.saga_id, s.start_key, s.definition, s.version, s.input::jsonb, s.labels::jsonb, to_timestamp(s.deadline_at),
        s.status, s.failure::jsonb, ARRAY(SELECT jsonb_array_elements_text(s.remaining::jsonb)),
        CASE WHEN s.is_owned THEN $2::uuid END, to_timestamp(s.wake_at), CASE WHEN s.is_ended THEN now() END
    FROM unnest($4::text[]::uuid[], $3::text[], $6::text[], $7::int4[], $8::text[], $9::text[], $10::float8[],
            $11::text[], $12::text[], $13::text[], $14::bool[], $15::float8[], $16::bool[])
        AS s (saga_id, start_key, definition, version, input, labels, deadline_at,
            status, failure, remaining, is_owned, wake_at, is_ended)
), moved AS (
    UPDATE saga.sagas SET
        status = m.status,
        failure = m.failure::jsonb,
        remaining = ARRAY(SELECT jsonb_array_elements_text(m.remaining::jsonb)),
        owner = CASE WHEN m.is_owned THEN owner END,
        wake_at = to_timestamp(m.wake_at),
        ended_at = CASE WHEN m.is_ended THEN now() END
    FROM unnest($17::text[]::uuid[], $18::text[], $19::text[], $20::text[], $21::bool[], $22::float8[], $23::bool[])
        AS m (saga_id, status, failure, remaining, is_owned, wake_at, is_ended)
    -- A settled saga has no owner: whoever appends to a parked one may shorten its list of remaining effects, and whoever
    -- turns a completed one has recalled it, and perhaps found at once that nothing is to be undone, or nothing can be.
    WHERE sagas.saga_id = m.saga_id AND (
        sagas.owner = $2::uuid
        OR (sagas.status = 'NEEDS_ATTENTION' AND m.status = 'NEEDS_ATTENTION')
        OR (sagas.status = 'COMPLETED' AND m.status IN ('COMPENSATING', 'COMPENSATED', 'NEEDS_ATTENTION'))
    )
), rung AS (
    -- Who appends to a saga that it does not own had it before. If the saga sleeps by now, whoever let it go may not have known
    -- of this, and it has to be looked at.
    UPDATE saga.sagas SET wake_at = now()
    WHERE saga_id = ANY($24::text[]::uuid[]) AND owner IS NULL AND wake_at > now()
), logged AS (
    INSERT INTO saga.log (saga_id, sequence, type, step, operation, attempt, body, recorded_by)
    SELECT e.saga_id, e.sequence, e.type, e.step, e.operation, e.attempt, e.body::jsonb, $2::uuid
    FROM unnest($24::text[]::uuid[], $25::int4[], $26::text[], $27::text[], $28::text[], $29::int4[], $30::text[])
        AS e (saga_id, sequence, type, step, operation, attempt, body)
)
SELECT extract(epoch FROM now())
"""
_TAKEN = """
SELECT e.index FROM unnest($2::int4[], $3::text[]::uuid[], $4::int4[]) AS e (index, saga_id, sequence)
WHERE EXISTS (SELECT FROM saga.log WHERE log.saga_id = e.saga_id AND log.sequence = e.sequence)
UNION
SELECT s.index FROM unnest($5::int4[], $6::text[]) AS s (index, start_key)
WHERE EXISTS (SELECT FROM saga.start_keys WHERE start_keys.namespace = $1 AND start_keys.start_key = s.start_key)
"""
_START_KEY = """
SELECT saga_id::text, request_digest FROM saga.start_keys WHERE namespace = $1 AND start_key = $2
"""
_WRITTEN = """
SELECT recorded_by::text, type, step, operation, attempt, body FROM saga.log
WHERE saga_id = $1::uuid AND sequence >= $2 ORDER BY sequence LIMIT $3
"""


def _parameters(appends: Sequence[Append], coordinator_id: str) -> tuple[Any, ...]:
    """The statement's arrays, column by column: one item per start, per move and per entry."""
    starts: list[tuple[Any, ...]] = []
    moves: list[tuple[Any, ...]] = []
    entries: list[tuple[Any, ...]] = []
    for append in appends:
        if start := append.start:
            assert append.move is not None, "a new saga's row needs its status"
            known = (start.start_key, append.saga_id, start.request_digest, start.definition, start.version)
            given = (_json(start.input), _json(start.labels), start.deadline_at)
            starts.append((*known, *given, *_moved(append.move)))
        elif append.move is not None:
            moves.append((append.saga_id, *_moved(append.move)))
        for sequence, entry in enumerate(append.entries, append.sequence):
            stored = encode(entry)
            place = (append.saga_id, sequence, stored.type, stored.step, stored.operation, stored.attempt)
            entries.append((*place, _json(stored.body)))
    return (
        NAMESPACE,
        coordinator_id,
        *_columns(starts, 14),
        *_columns(moves, 7),
        *_columns(entries, 7),
    )


def _moved(move: Move) -> tuple[Any, ...]:
    failure = None if move.failure is None else _json(asdict(move.failure))
    remaining = _json(move.remaining)
    return (move.status.value, failure, remaining, move.is_owned, move.wake_at, move.status in ENDS)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
