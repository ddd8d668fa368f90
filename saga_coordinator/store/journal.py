"""The one write path to the log: appends of all sagas in this process, merged into one transaction per flush.

Group commit without linger: while a flush is under way appends gather, and the next flush takes them all. Alone, an append
costs one round trip and one commit; under load many share both.

A flush is one statement, so it commits or fails as a whole. When it fails because somebody else wrote to a saga (P8) or took
a start key, it is repeated append by append, so that only the loser is told. When the database is away, appends wait until it
is back, except starts, which nobody has been promised anything about; since a commit may have succeeded without our hearing
of it, what is repeated then may meet its own entries, which `recorded_by` tells apart from another coordinator's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import psycopg
import structlog
from psycopg import errors

from saga_coordinator.saga.entries import Entry, encode
from saga_coordinator.saga.errors import AlreadyExists, OwnershipLost, Unavailable
from saga_coordinator.saga.outcome import Cause
from saga_coordinator.saga.state import ENDS, SagaStatus
from saga_coordinator.store.database import Database, is_outage, unavailable
from saga_coordinator.store.tables import NAMESPACE

APPENDS_PER_FLUSH_MAX = 500

_RETRY_SECONDS = (0.1, 0.5)
"""Between attempts to reach a database that is away, at random; constant, since the first to return should be us."""

Cursor = psycopg.AsyncRawCursor[tuple[Any, ...]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """A new saga's row and its start key. Instants are seconds since the epoch by the database's clock."""

    start_key: str
    request_digest: bytes
    definition: str
    version: int
    input: Any
    labels: dict[str, str]
    deadline_at: float | None


@dataclass(frozen=True, slots=True)
class Move:
    """What the saga's row becomes, where these entries change it. `wake_at` is set when the saga is let go to sleep."""

    status: SagaStatus
    failure: Cause | None
    remaining: tuple[str, ...]
    is_owned: bool
    wake_at: float | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """Entries of one saga, the first at `sequence`. `start` for a new saga; `move` where its row changes with them."""

    saga_id: str
    sequence: int
    entries: Sequence[Entry]
    start: Start | None = None
    move: Move | None = None


class StartKeyTaken(AlreadyExists):
    """The start key belongs to a saga already: `saga_id`, started by the request with `request_digest`."""

    def __init__(self, start_key: str, saga_id: str, request_digest: bytes) -> None:
        self.saga_id = saga_id
        self.request_digest = request_digest
        super().__init__(
            f"start key {start_key!r} belongs to saga {saga_id}, which a different request started"
        )


@dataclass(slots=True, eq=False)
class _Waiting:
    """An append on its way. `is_in_doubt`: it was sent once, and no answer came."""

    append: Append
    committed: asyncio.Future[None]
    is_in_doubt: bool = False

    def end(self, error: Exception | None) -> None:
        if self.committed.done():  # nobody waits for it any more
            return
        if error is None:
            self.committed.set_result(None)
        else:
            self.committed.set_exception(error)


class Journal:
    """Appends entries; see the module's text. One per process, whose identity `coordinator_id` marks what it writes.

    `on_recovered` is called when the database answers again after an outage.
    """

    def __init__(self, database: Database, coordinator_id: str) -> None:
        self._database = database
        self._coordinator_id = coordinator_id
        self.on_recovered: Callable[[], None] = lambda: None
        self._waiting: list[_Waiting] = []
        self._wakeup = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._is_closing = False
        self._failures = 0

    @property
    def is_available(self) -> bool:
        """False while the database has failed more than once in a row."""
        return self._failures < 2

    async def start(self) -> None:
        self._flusher = asyncio.create_task(self._run(), name="journal")

    async def stop(self) -> None:
        """Flushes what waits, if the database is there to take it, and ends."""
        self._is_closing = True
        self._wakeup.set()
        if self._flusher is not None:
            await self._flusher

    async def append(self, append: Append) -> None:
        """Returns once the entries are committed.

        Raises:
            OwnershipLost: another coordinator has written to the saga (P8).
            StartKeyTaken: another saga has the start key.
            Unavailable: for a start, the database is away; it may have been committed all the same. For everything else only
                when the journal is stopped while the database is away.
        """
        if self._is_closing:
            raise Unavailable("the coordinator is stopping")
        if append.start is not None and not self.is_available:
            raise Unavailable("the database is away")
        waiting = _Waiting(append, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wakeup.set()
        await waiting.committed

    async def _run(self) -> None:
        while self._waiting or not self._is_closing:
            try:
                async with self._database.driver_connection() as connection:
                    await self._serve(connection)
            except Exception as error:  # noqa: BLE001 - whatever happens here, what waits is tried again
                if not is_outage(error):
                    _log.exception("journal_failed")
                self._failures += 1
                if not self.is_available:
                    self._begin_outage(error)
                    await asyncio.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311

    async def _serve(self, connection: psycopg.AsyncConnection) -> None:
        """Flushes on one connection until the journal is stopped or the connection fails."""
        cursor: Cursor = psycopg.AsyncRawCursor(connection)
        while True:
            while self._waiting:
                await self._flush(cursor, self._waiting[:APPENDS_PER_FLUSH_MAX])
                if not self.is_available:
                    _log.info("journal_recovered")
                    self.on_recovered()
                self._failures = 0
            if self._is_closing:
                return
            self._wakeup.clear()
            await self._wakeup.wait()

    def _begin_outage(self, error: Exception) -> None:
        """Refuses what nobody has been promised anything about; the rest stays and is tried again."""
        _log.warning("journal_unavailable", error=str(unavailable(error)), appends_waiting=len(self._waiting))
        refused = [each for each in self._waiting if each.append.start is not None or self._is_closing]
        self._waiting = [each for each in self._waiting if each not in refused]
        for waiting in refused:
            waiting.end(unavailable(error))

    async def _flush(self, cursor: Cursor, batch: Sequence[_Waiting]) -> None:
        """Commits the batch in one transaction; append by append when that meets somebody else's entries."""
        if not any(waiting.is_in_doubt for waiting in batch):
            try:
                await self._send(cursor, batch)
            except (errors.UniqueViolation, errors.DataError, errors.IntegrityError):
                pass
            else:
                del self._waiting[: len(batch)]
                for waiting in batch:
                    waiting.end(None)
                return
        for waiting in batch:
            error: Exception | None = None
            try:
                await self._send(cursor, [waiting])
            except errors.UniqueViolation as conflict:
                error = await self._loss(cursor, waiting, conflict)
            except (errors.DataError, errors.IntegrityError) as refused:
                error = refused
            del self._waiting[0]
            waiting.end(error)

    async def _send(self, cursor: Cursor, batch: Sequence[_Waiting]) -> None:
        try:
            await cursor.execute(_APPEND, _parameters(batch, self._coordinator_id), prepare=True)
        except Exception as error:
            if is_outage(error):
                for waiting in batch:
                    waiting.is_in_doubt = True
            raise

    async def _loss(
        self, cursor: Cursor, waiting: _Waiting, conflict: errors.UniqueViolation
    ) -> Exception | None:
        """Why an append met existing rows; None when they are its own, committed before the answer got lost."""
        append = waiting.append
        if append.start is not None:
            await cursor.execute(_START_KEY, (NAMESPACE, append.start.start_key))
            if row := await cursor.fetchone():
                saga_id, digest = row
                is_own = saga_id == append.saga_id
                return None if is_own else StartKeyTaken(append.start.start_key, saga_id, bytes(digest))
            return conflict
        await cursor.execute(_WRITER, (append.saga_id, append.sequence))
        row = await cursor.fetchone()
        if waiting.is_in_doubt and row is not None and row[0] == self._coordinator_id:
            return None
        return OwnershipLost(
            f"another coordinator has written entry {append.sequence} of saga {append.saga_id}"
        )


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
    WHERE sagas.saga_id = m.saga_id AND sagas.owner = $2::uuid
)
INSERT INTO saga.log (saga_id, sequence, type, step, operation, attempt, body, recorded_by)
SELECT e.saga_id, e.sequence, e.type, e.step, e.operation, e.attempt, e.body::jsonb, $2::uuid
FROM unnest($24::text[]::uuid[], $25::int4[], $26::text[], $27::text[], $28::text[], $29::int4[], $30::text[])
    AS e (saga_id, sequence, type, step, operation, attempt, body)
"""
_START_KEY = """
SELECT saga_id::text, request_digest FROM saga.start_keys WHERE namespace = $1 AND start_key = $2
"""
_WRITER = "SELECT recorded_by::text FROM saga.log WHERE saga_id = $1::uuid AND sequence = $2"


def _parameters(batch: Sequence[_Waiting], coordinator_id: str) -> tuple[Any, ...]:
    """The statement's arrays, column by column: one item per start, per move and per entry."""
    starts: list[tuple[Any, ...]] = []
    moves: list[tuple[Any, ...]] = []
    entries: list[tuple[Any, ...]] = []
    for waiting in batch:
        append = waiting.append
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
