"""The statements that append: one round trip and one transaction, however many sagas share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from struct import pack
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg import errors
from psycopg.abc import PQGen
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.waiting import Ready, Wait

from saga_coordinator.saga.machine.rows import EntryRow, stored_entry
from saga_coordinator.saga.machine.stored_entry import StoredEntry
from saga_coordinator.saga.machine.transitions import ENDS, SagaStatus
from saga_coordinator.saga.words.act import ActRecord
from saga_coordinator.saga.words.canonical import canonical_bytes
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.acts import RECORD_ACTS, act_rows
from saga_coordinator.store.appends import Append, Conflict, Move, Start, TakenBack, WrittenAppend
from saga_coordinator.store.database import (
    Database,
    is_outage,
    is_taken_back,
    is_useless_after,
    unavailable,
)
from saga_coordinator.store.stored_form import FACTS, WHOLE_PAYLOAD
from saga_coordinator.store.tables import DEFAULT_GROUP

_T = TypeVar("_T")


class PostgresLog:
    """Writes to the log, the sagas' rows and their start keys, in the name of one coordinator and its claim group."""

    def __init__(self, database: Database, coordinator_id: str, claim_group: str = DEFAULT_GROUP) -> None:
        self._database = database
        self._coordinator_id = coordinator_id
        self._claim_group = claim_group

    @asynccontextmanager
    async def session(self) -> AsyncIterator[PostgresLogSession]:
        """Opens a session. Raises Unavailable if no connection can be made."""
        try:
            async with self._database.driver_connection() as connection:
                prepares = self._database.prepared_statements
                if prepares:
                    await plan_by_keys(connection, connection.info.backend_pid)
                yield PostgresLogSession(
                    connection, self._coordinator_id, self._claim_group, prepares=prepares
                )
        except Exception as error:
            if is_outage(error):
                raise unavailable(error) from error
            raise


async def plan_by_keys(connection: psycopg.AsyncConnection, backend_pid: int) -> None:
    """Makes Postgres plan the connection's statements once, by their keys, if the connection's backend is `backend_pid`.

    Otherwise Postgres may keep a plan that it made while the tables were small. Such a plan reads the tables from end to end
    until they are next analyzed. Behind a pooler the number differs, and nothing is set: the setting would stay with whoever is
    given that backend next.
    """
    await psycopg.AsyncRawCursor(connection).execute(_SETTINGS, (backend_pid,))


def the_only_result(results: Sequence[PGresult], expected: ExecStatus) -> PGresult:
    """The result of one statement, once every result that Postgres sent for it is known to be good.

    Postgres sends a statement's result before it commits. So a COMMIT that fails is a second result behind a good one: because of
    a deferred constraint, a serialization failure, or a disk that is full when the database flushes its log.

    Raises:
        psycopg.Error: of the first result that is an error; InterfaceError, an outage, for an answer that makes no sense, since
            nobody knows then what was committed.
    """
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result)
    if [result.status for result in results] != [expected]:
        said = ", ".join(ExecStatus(result.status).name for result in results) or "nothing"
        raise psycopg.InterfaceError(f"the database answered {said} instead of {expected.name}")
    return results[0]


async def _readable(descriptor: int) -> None:
    """Waits until there is something to read."""
    loop = asyncio.get_running_loop()
    found = loop.create_future()
    loop.add_reader(descriptor, _found, found)
    try:
        await found
    finally:
        loop.remove_reader(descriptor)


def _found(found: asyncio.Future[None]) -> None:
    if not found.done():
        found.set_result(None)


class PostgresLogSession:
    """`journal.LogSession` on one connection."""

    def __init__(
        self, connection: psycopg.AsyncConnection, coordinator_id: str, claim_group: str, *, prepares: bool
    ) -> None:
        self._prepares = prepares
        self._is_prepared = False
        self._connection = connection
        self._cursor: psycopg.AsyncRawCursor[tuple[Any, ...]] = psycopg.AsyncRawCursor(connection)
        self._coordinator_id = coordinator_id
        self._claim_group = claim_group

    async def write(self, appends: Sequence[WrittenAppend]) -> float | None:
        try:
            recorded_at = await self._translated(
                self._append(_parameters(appends, self._coordinator_id, self._claim_group))
            )
        except errors.UniqueViolation as error:
            raise Conflict(str(error)) from error
        except Unavailable as error:
            if is_taken_back(error.__cause__):
                raise TakenBack(error.reason, str(error)) from error
            raise
        return None if recorded_at is None else float(recorded_at)

    async def start_key_holder(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        await self._execute(_START_KEY, (namespace, start_key))
        row = await self._cursor.fetchone()
        return None if row is None else (row[0], bytes(row[1]))

    async def taken(self, appends: Sequence[Append]) -> list[int]:
        entries = [(i, each.saga_id, each.sequence) for i, each in enumerate(appends) if each.entries]
        starts = [
            (i, each.namespace, each.start.start_key)
            for i, each in enumerate(appends)
            if each.start is not None
        ]
        await self._execute(_TAKEN, (*_columns(entries, 3), *_columns(starts, 3)))
        return [row[0] for row in await self._cursor.fetchall()]

    async def written(self, saga_id: str, sequence: int, count: int) -> list[tuple[str, StoredEntry]]:
        await self._execute(_WRITTEN, (saga_id, sequence, count))
        return [(row[0], stored_entry(*row[1:])) for row in await self._cursor.fetchall()]

    async def ping(self) -> None:
        await self._execute("SELECT 1", ())

    async def _append(self, parameters: Sequence[bytes]) -> bytes | None:
        """Sends the statement without a cursor, which would cost 8 % of an unloaded saga's latency in flushes of one append."""
        libpq = self._connection.pgconn
        if self._prepares and not self._is_prepared:
            libpq.send_prepare(_APPEND_NAME, _APPEND)
            await self._answer(ExecStatus.COMMAND_OK)
            self._is_prepared = True
        if self._prepares:
            libpq.send_query_prepared(_APPEND_NAME, parameters, param_formats=_FORMATS)
        else:
            libpq.send_query_params(_APPEND, parameters, param_formats=_FORMATS)
        return (await self._answer(ExecStatus.TUPLES_OK)).get_value(0, 0)

    async def _answer(self, expected: ExecStatus) -> PGresult:
        """Reads the answer to the last statement. Raises psycopg.Error."""
        return the_only_result(await self._results(), expected)

    async def _results(self) -> list[PGresult]:
        """Reads every result of the last statement.

        The driver's own wait wakes every 0.1 s, and needs a fifth more processor time to send a flush and read its answer. So it
        is used only while the statement is being sent, where Postgres does not take all of the statement at once.
        """
        steps = execute(self._connection.pgconn)
        try:
            awaited = next(steps)
            while awaited == Wait.R:
                await _readable(self._connection.pgconn.socket)
                awaited = steps.send(Ready.R)
        except StopIteration as done:
            results: list[PGresult] = done.value
            return results
        return await self._connection.wait(_continued(steps, awaited))

    async def _execute(self, statement: str, parameters: tuple[Any, ...]) -> None:
        await self._translated(self._cursor.execute(statement, parameters, prepare=self._prepares))

    async def _translated(self, work: Awaitable[_T]) -> _T:
        try:
            return await work
        except Exception as error:
            if is_useless_after(error):
                await self._connection.close()
            if is_outage(error):
                raise unavailable(error) from error
            raise


_SETTINGS = """
SELECT set_config(name, value, false)
FROM (VALUES
    ('plan_cache_mode', 'force_generic_plan'),
    ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'), ('enable_material', 'off')
) AS setting (name, value)
WHERE pg_backend_pid() = $1
"""
_APPEND_NAME = b"saga_append"
# A condition on a column that is no key stands within CASE, because an index on it might be read from end to end as well.
_APPEND = f"""
WITH claimed AS (
    INSERT INTO saga.start_keys (namespace, start_key, saga_id, request_digest)
    SELECT s.namespace, s.start_key, s.saga_id, decode(s.request_digest, 'hex')
    FROM jsonb_to_recordset($2::jsonb) AS s (namespace text, start_key text, saga_id uuid, request_digest text)
), born AS (
    INSERT INTO saga.sagas (saga_id, namespace, start_key, definition, version, labels, deadline_at,
        status, cause, remaining, owner, wake_at, ended_at, claim_group)
    SELECT s.saga_id, s.namespace, s.start_key, s.definition, s.version, s.labels, to_timestamp(s.deadline_at),
        s.status, convert_to(s.cause, 'UTF8'), s.remaining,
        CASE WHEN s.is_owned THEN $1::uuid END, to_timestamp(s.wake_at), CASE WHEN s.is_ended THEN now() END,
        $5::text
    FROM jsonb_to_recordset($2::jsonb) AS s (
        saga_id uuid, namespace text, start_key text, definition text, version int4, labels jsonb, deadline_at float8,
        status text, cause text, remaining text[], is_owned bool, wake_at float8, is_ended bool)
), moved AS (
    UPDATE saga.sagas SET
        status = m.status,
        failure = NULL,
        cause = convert_to(m.cause, 'UTF8'),
        remaining = m.remaining,
        owner = CASE WHEN m.is_owned THEN owner END,
        wake_at = to_timestamp(m.wake_at),
        ended_at = CASE WHEN m.is_ended THEN now() END
    FROM jsonb_to_recordset($3::jsonb) AS m (
        saga_id uuid, status text, cause text, remaining text[], is_owned bool, wake_at float8, is_ended bool,
        settled_as text)
    -- A settled saga has no owner: whoever appends to it moves it from the status that it was decided in. What became of it
    -- meanwhile is in the log, where this append would meet it.
    WHERE sagas.saga_id = m.saga_id AND CASE
        WHEN sagas.owner = $1::uuid THEN true
        ELSE sagas.status = m.settled_as
    END
), rung AS (
    -- Who appends to a saga that it does not own had it before. If the saga sleeps by now, whoever let it go may not have known
    -- of this, and it has to be looked at.
    UPDATE saga.sagas SET wake_at = now()
    WHERE saga_id = ANY($4::uuid[]) AND CASE WHEN owner IS NULL THEN wake_at > now() END
), logged AS (
    INSERT INTO saga.log (saga_id, sequence, attempt, namespace, type, operation, step, facts, payload,
        event, correlation, event_id, recorded_by)
    SELECT e.*, $1::uuid
    FROM unnest($6::uuid[], $7::int4[], $8::int4[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::bytea[], $14::bytea[], $15::text[], $16::text[], $17::text[]) AS e
), recorded AS ({RECORD_ACTS.format(records="$18")})
SELECT extract(epoch FROM now())
""".encode()  # noqa: S608  # nothing in it comes from outside
_FORMATS = [*12 * [Format.TEXT], *5 * [Format.BINARY], Format.TEXT]
"""What an entry says is sent as it is kept, and is not escaped on the way."""
_TAKEN = """
SELECT e.index FROM unnest($1::int4[], $2::text[]::uuid[], $3::int4[]) AS e (index, saga_id, sequence)
WHERE EXISTS (SELECT FROM saga.log WHERE log.saga_id = e.saga_id AND log.sequence = e.sequence)
UNION
SELECT s.index FROM unnest($4::int4[], $5::text[], $6::text[]) AS s (index, namespace, start_key)
WHERE EXISTS (
    SELECT FROM saga.start_keys WHERE start_keys.namespace = s.namespace AND start_keys.start_key = s.start_key
)
"""
_START_KEY = """
SELECT saga_id::text, request_digest FROM saga.start_keys WHERE namespace = $1 AND start_key = $2
"""
_WRITTEN = f"""
SELECT recorded_by::text, type, step, operation, attempt, {FACTS}, {WHOLE_PAYLOAD} FROM saga.log
WHERE saga_id = $1::uuid AND sequence >= $2 ORDER BY sequence LIMIT $3
"""  # noqa: S608  # nothing in it comes from outside


def _parameters(appends: Sequence[WrittenAppend], coordinator_id: str, claim_group: str) -> Sequence[bytes]:
    """The statement's starts, moves and entries, and the older sagas that have entries among these."""
    starts: list[dict[str, Any]] = []
    moves: list[dict[str, Any]] = []
    known: list[str] = []
    saga_ids: list[str] = []
    namespaces: list[str] = []
    sequences: list[int] = []
    rows: list[EntryRow] = []
    acts: list[ActRecord] = []
    for each in appends:
        append = each.append
        saga_id, namespace = append.saga_id, append.namespace
        if append.acts:
            acts += append.acts
        if append.start is not None:
            starts.append(_started(append, append.start))
        else:
            if append.move is not None:
                moves.append(_moved(saga_id, append.move))
            if each.rows:  # who only lets it go to sleep has told it nothing
                known.append(saga_id)
        for sequence, row in enumerate(each.rows, append.sequence):
            saga_ids.append(saga_id)
            namespaces.append(namespace)
            sequences.append(sequence)
            rows.append(row)
    types, steps, operations, attempts, facts, payloads, *about_events = (
        zip(*rows, strict=True) if rows else 9 * [()]
    )
    return (
        coordinator_id.encode(),
        orjson.dumps(starts),
        orjson.dumps(moves),
        _names(known),
        claim_group.encode(),
        _names(saga_ids),
        _names(sequences),
        _names(attempts),
        _names(namespaces),
        _names(types),
        _names(operations),
        _names(steps),
        _array(_BYTEA, facts),
        _array(_BYTEA, payloads),
        *(_array(_TEXT, [_bytes(text) for text in texts] if any(texts) else ()) for texts in about_events),
        orjson.dumps(act_rows(acts)),
    )


def _started(append: Append, start: Start) -> dict[str, Any]:
    """The row and the key of a new saga. What is null is left out, as in `_moved`."""
    assert append.move is not None, "a new saga's row needs its status"
    row = _moved(append.saga_id, append.move)
    row["namespace"] = append.namespace
    row["start_key"] = start.start_key
    row["request_digest"] = start.request_digest.hex()
    row["definition"] = start.definition
    row["version"] = start.version
    row["labels"] = start.labels
    if start.deadline_at is not None:
        row["deadline_at"] = start.deadline_at
    return row


def _moved(saga_id: str, move: Move) -> dict[str, Any]:
    """The changed columns of a saga's row. What is null is left out: neither we nor Postgres need handle it."""
    row: dict[str, Any] = {
        "saga_id": saga_id,
        "status": _STATUSES[move.status],
        "remaining": move.remaining,
        "is_owned": move.is_owned,
    }
    if move.failure is not None:
        row["cause"] = canonical_bytes(asdict(move.failure)).decode()
    if move.wake_at is not None:
        row["wake_at"] = move.wake_at
    if move.status in ENDS:
        row["is_ended"] = True
    if move.settled_as is not None:
        row["settled_as"] = _STATUSES[move.settled_as]
    return row


_STATUSES = {status: status.value for status in SagaStatus}
_TEXT = 25
_BYTEA = 17
"""The types of elements, by Postgres's own numbers."""
_NULL = pack("!i", -1)
_SIZES_KNOWN = 512
_SIZES = [pack("!i", size) for size in range(_SIZES_KNOWN)]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _names(elements: Sequence[Any]) -> bytes:
    """An array as text, of numbers, nulls, and names without control characters: JSON escapes nothing else otherwise."""
    return b"{%b}" % orjson.dumps(elements)[1:-1]


def _array(element_type: int, elements: Sequence[bytes | None]) -> bytes:
    """An array of one dimension in Postgres's binary format; an empty one stands for nulls, beside longer ones."""
    if not elements:
        return pack("!iiI", 0, 0, element_type)
    parts = [pack("!iiIii", 1, 1, element_type, len(elements), 1)]
    for element in elements:
        if element is None:
            parts.append(_NULL)
        else:
            size = len(element)
            parts.append(_SIZES[size] if size < _SIZES_KNOWN else pack("!i", size))
            parts.append(element)
    return b"".join(parts)


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _continued(steps: PQGen[list[PGresult]], awaited: Wait) -> PQGen[list[PGresult]]:
    """The steps from where they stand: the driver's wait begins with a `next`, which steps that have begun do not take."""
    try:
        while True:
            awaited = steps.send((yield awaited))
    except StopIteration as done:
        results: list[PGresult] = done.value
        return results
