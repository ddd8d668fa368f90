"""The one write path to the log: appends of all sagas in this process, merged into one transaction per flush.

Group commit: while a flush is under way appends gather, and the next flush takes them all. Alone, an append costs one round trip
and one commit, at once; under load many share both, and the journal rests after a flush of many, so that more do.

A flush is one statement, so it commits or fails as a whole. When it fails because somebody else wrote to a saga (P8) or took
a start key, it is repeated without what is there already, so that only the loser is told. When the database is away, appends
wait until it is back, except starts, which nobody has been promised anything about; since a commit may have succeeded without
our hearing of it, what is repeated then may meet its own entries, told apart from others' by `recorded_by` and by what they
say.

A database that answers may still take a flush back, for a reason that often passes: a full disk, a serialization failure. Then
halves of halves are tried, so that what is wrong with one append keeps no other. A start that is taken back alone is refused; any
other append that is taken back alone is put aside, and tried again after a pause. See decision 0043.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.retrying import Pauses, kept_going
from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.rows import EntryRow, entry_row, size_bytes
from saga_coordinator.saga.machine.stored_entry import StoredEntry, encode
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.act import ActRecord
from saga_coordinator.saga.words.canonical import canonical_bytes
from saga_coordinator.saga.words.errors import OwnershipLost, Unavailable
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import StartKeyTaken

APPENDS_PER_FLUSH_MAX = 500
FLUSH_BYTES_MAX = 4 * 1024 * 1024
"""What the entries of one flush may say together, unless one append alone says more: copying it takes the event loop's time."""
_WRITTEN_AT_ONCE_BYTES = 128 * 1024
"""After so much has been written as JSON, others get their turn on the event loop."""
_MANY = 4
_REST_SECONDS_MAX = 0.008
"""After a flush of `_MANY` appends the next one begins only after as long as it took, after one of twice as many after twice as
long, but never longer than this: fewer commits leave the processors to the sagas."""
_LOOK_SECONDS = 0.001
_BUSY_SHARE = 0.5
"""A rest ends when the event loop's thread has worked for less than this share of the time since the last look: then the
processors would rest too. See decision 0003."""
FLUSH_SECONDS_MAX = 30.0
"""A flush that takes longer hangs, and health says so."""
_STOP_SECONDS = 5.0
"""How long a stop waits for a database that hangs; one that refuses is given up at once."""
_FAILURES_OF_OUTAGE = 2
"""In a row: a single failure may be of one connection."""
_TAKEN_BACK_MAX = 8
"""After so many appends in a row that were taken back alone, with none written in between, the database itself is the reason."""
_PAUSES_ASIDE = Pauses(0.5, 5.0)
"""Between attempts to write an append that was put aside."""
_PAUSES = Pauses(0.5, 0.5)
"""Between attempts to reach a database that is away; they do not grow, since the first to return should be us."""

_log = structlog.get_logger(__name__)


@immutable
class Start:
    """The row and the start key of a new saga. Instants are seconds since the epoch by the database's clock.

    The row does not have the saga's input, which is in the log's first entry.
    """

    start_key: str
    request_digest: bytes
    definition: str
    version: int
    labels: dict[str, str]
    deadline_at: float | None


@immutable
class Move:
    """The change of a saga's row that comes with its entries. `wake_at` is set when the saga is let go to sleep.

    Only its owner moves a saga. A settled saga has no owner: then `settled_as` is the status that the row has to have.
    """

    status: SagaStatus
    failure: Cause | None
    remaining: tuple[str, ...]
    is_owned: bool
    wake_at: float | None = None
    settled_as: SagaStatus | None = None


@immutable
class Append:
    """Entries of one saga, the first at `sequence`. `start` is set for a new saga, `move` if its row changes with them.

    `acts` are the records of the acts that were decided with the entries, also of those that were refused and left no entry.
    """

    saga_id: str
    namespace: Namespace
    sequence: int
    entries: Sequence[Entry]
    start: Start | None = None
    move: Move | None = None
    acts: Sequence[ActRecord] = ()


@immutable
class WrittenAppend:
    """An append whose entries are in their stored form."""

    append: Append
    rows: Sequence[EntryRow]


def written(append: Append) -> WrittenAppend:
    """The append with its entries in their stored form, which is made once for each."""
    return WrittenAppend(append, list(map(entry_row, append.entries)))


async def _written_in_turns(append: Append) -> WrittenAppend:
    """Does what `written` does, and lets other tasks have their turn after each large entry."""
    rows: list[EntryRow] = []
    for entry in append.entries:
        rows.append(entry_row(entry))
        if size_bytes(rows[-1:]) > _WRITTEN_AT_ONCE_BYTES:
            await asyncio.sleep(0)
    return WrittenAppend(append, rows)


class Conflict(Exception):
    """A write met rows that exist already, so nothing of it was written."""


class TakenBack(Unavailable):
    """The database took a write back for a reason that may pass. The session goes on, and nothing of the write is there."""


class LogSession(Protocol):
    """Writes over one connection. Every method raises Unavailable when the database is away or the session broken."""

    async def write(self, appends: Sequence[WrittenAppend]) -> float | None:
        """Commits all of the appends or none; returns their `recorded_at`, if it is known.

        Raises Conflict, TakenBack, or the driver's error for data that cannot be stored.
        """

    async def start_key_holder(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        """The saga that has the start key, and the digest of the request that started it."""

    async def taken(self, appends: Sequence[Append]) -> list[int]:
        """The indices of the appends that meet a start key or a first entry that exists already."""

    async def written(self, saga_id: str, sequence: int, count: int) -> list[tuple[str, StoredEntry]]:
        """Up to `count` entries from `sequence` on, each with the coordinator that wrote it."""

    async def ping(self) -> None:
        """Returns when the database answers."""


class LogWriter(Protocol):
    def session(self) -> AbstractAsyncContextManager[LogSession]:
        """A session on a connection of its own."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """An append on its way. `is_in_doubt`: it was sent once, and no answer came.

    `is_suspect`: a flush that had it was taken back. `times_aside`: how often it was put aside. `size_bytes` is of
    its rows, once they are written.
    """

    append: Append
    committed: asyncio.Future[float | None]
    is_in_doubt: bool = False
    is_suspect: bool = False
    times_aside: int = 0
    written: WrittenAppend | None = None
    size_bytes: int = 0

    def end(self, error: Exception | None, committed_at: float | None = None) -> None:
        if self.committed.done():  # nobody waits for it any more
            return
        if error is None:
            self.committed.set_result(committed_at)
        else:
            self.committed.set_exception(error)


def _said(stored: StoredEntry) -> tuple[str, str | None, str | None, int, bytes]:
    """The content of an entry, the same before and after it is stored."""
    return stored.type, stored.step, stored.operation, stored.attempt, canonical_bytes(stored.body)


class Journal(Service):
    """Appends entries; see the module's text. One per process, whose identity `coordinator_id` marks what it writes.

    It calls `on_recovered` when the database answers again after an outage. `thread_time` counts the seconds that the event
    loop's thread has worked.
    """

    def __init__(
        self,
        writer: LogWriter,
        coordinator_id: str,
        *,
        on_recovered: Callable[[], None] = lambda: None,
        thread_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self._thread_time = thread_time
        self._writer = writer
        self._coordinator_id = coordinator_id
        self._on_recovered = on_recovered
        self._waiting: list[_Waiting] = []
        self._aside: list[_Waiting] = []
        self._taken_back = 0
        """How many appends in a row were taken back alone, for the first time."""
        self._is_stuck = False
        """An append was put aside, and none was written since."""
        self._wakeup = asyncio.Event()
        self._background = Background()
        self._flusher: Kept | None = None
        self._is_closing = False
        self._failures = 0

    @property
    def is_available(self) -> bool:
        """False while the database has failed more than once in a row, or has written nothing since it took an append back."""
        return not (self._is_away or self._is_stuck)

    @property
    def _is_away(self) -> bool:
        return self._failures >= _FAILURES_OF_OUTAGE

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep appends from being committed."""
        if self._is_away:
            yield "the database has failed more than once in a row"
        elif self._is_stuck:
            yield "the database took the last append back"
        yield from self._background.problems

    async def start(self) -> None:
        self._flusher = self._background.keep("the journal", self._run, turn_seconds_max=FLUSH_SECONDS_MAX)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Flushes the waiting appends if the database is there, and ends in any case."""
        self._is_closing = True
        for each in list(self._aside):
            self._take_up_again(each)
        self._wakeup.set()
        if self._flusher is not None and self._flusher.task is not None:
            await asyncio.wait({self._flusher.task}, timeout=_STOP_SECONDS)
        await self._background.stop(0.0)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.end(
                Unavailable(
                    Reason.COORDINATOR_STOPPING,
                    "the coordinator has stopped, and the database does not answer",
                )
            )

    async def append(self, append: Append) -> float | None:
        """Waits until the entries are committed; returns their `recorded_at`, if it is known. Raises as `submit`."""
        return await self.submit(append)

    def submit(self, append: Append) -> asyncio.Future[float | None]:
        """Begins to commit the entries, which goes on also if nobody waits for it.

        Raises, here or from the future:
            OwnershipLost: another coordinator has written to the saga (P8).
            StartKeyTaken: another saga has the start key.
            Unavailable: for a start, the database is away, and the start may have been committed all the same; or the database
                took the start back. For everything else only when the journal is stopped meanwhile.
        """
        if self._is_closing:
            raise Unavailable(Reason.COORDINATOR_STOPPING, "the coordinator is stopping")
        if append.start is not None and self._is_away:
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the database is away")
        waiting = _Waiting(append, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wakeup.set()
        return waiting.committed

    async def _run(self, kept: Kept) -> None:
        async def session() -> None:
            if self._waiting or not self._is_closing:
                async with self._writer.session() as session:
                    await self._serve(session, kept)

        await kept_going(
            session,
            is_failure=lambda error: isinstance(error, Exception),
            pause=partial(self._session_failed, kept),
        )

    def _session_failed(self, kept: Kept, error: BaseException) -> float:
        """Notes that the session failed; returns after how many seconds to try the waiting appends again."""
        if not isinstance(error, Unavailable):
            _log.error("journal_failed", exc_info=error)
        kept.turned()
        self._failures += 1
        self._taken_back = 0
        if not self._is_away:
            return 0.0
        self._begin_outage(error)
        return _PAUSES.after(self._failures)

    async def _serve(self, session: LogSession, kept: Kept) -> None:
        """Flushes on one session until the journal is stopped or the session fails."""
        if self._is_away and not self._waiting:
            await session.ping()
            self._end_outage()
        while True:
            while self._waiting:
                if batch := await self._next_batch():
                    await self._flush_and_rest(session, batch)
                kept.turned()
            if self._is_closing:
                return
            self._wakeup.clear()
            kept.rests()
            await self._wakeup.wait()
            kept.begins()

    async def _next_batch(self) -> list[_Waiting]:
        """The appends of the next flush: the first that wait, up to `FLUSH_BYTES_MAX`, each in its stored form."""
        batch: list[_Waiting] = []
        batch_bytes = written_at_once = 0
        for waiting in self._waiting[:APPENDS_PER_FLUSH_MAX]:
            if waiting.written is None:
                try:
                    waiting.written = await _written_in_turns(waiting.append)
                except Exception as error:  # noqa: BLE001 - a defect of this append, which the others have nothing to do with
                    self._end([waiting], error)
                    continue
                waiting.size_bytes = size_bytes(waiting.written.rows)
                written_at_once += waiting.size_bytes
                if written_at_once > _WRITTEN_AT_ONCE_BYTES:
                    await asyncio.sleep(0)
                    written_at_once = 0
            batch_bytes += waiting.size_bytes
            if batch and batch_bytes > FLUSH_BYTES_MAX:
                break
            batch.append(waiting)
        return batch

    async def _flush_and_rest(self, session: LogSession, batch: Sequence[_Waiting]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._flush(session, batch)
        if len(batch) >= _MANY and not self._is_closing:
            await self._rest(min((clock() - began) * len(batch) / _MANY, _REST_SECONDS_MAX))

    async def _rest(self, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > 0:
            looked_at, worked = clock(), self._thread_time()
            await asyncio.sleep(min(left, _LOOK_SECONDS))
            if self._thread_time() - worked < _BUSY_SHARE * (clock() - looked_at):
                return

    def _begin_outage(self, error: BaseException) -> None:
        """Refuses starts, which nobody has been promised; the other appends stay and are tried again."""
        if self._failures == _FAILURES_OF_OUTAGE:
            _log.warning("journal_unavailable", error=str(error), appends_waiting=len(self._waiting))
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.append.start is not None or self._is_closing:
                each.end(Unavailable(Reason.DATABASE_UNAVAILABLE, f"the database is away: {error}"))
            else:
                self._waiting.append(each)

    def _end_outage(self) -> None:
        was_away = self._is_away
        self._failures = 0
        if was_away:
            _log.info("journal_recovered")
            self._on_recovered()

    async def _flush(self, session: LogSession, batch: Sequence[_Waiting]) -> None:
        """Commits the batch in one transaction; if some of its entries exist already, commits it again without those.

        Single appends would cost a commit each, and hold up every saga of this process just when there is most to take over.
        """
        outcome = await self._write(session, batch)
        if not isinstance(outcome, Exception):
            self._end(batch, None, outcome)
        elif isinstance(outcome, TakenBack) and len(batch) == 1:
            await self._try_alone(session, batch[0], outcome)
        elif len(batch) == 1:
            error = await self._loss(session, batch[0]) if isinstance(outcome, Conflict) else outcome
            self._end(batch, error)
        elif isinstance(outcome, Conflict) and (taken := await self._taken(session, batch)):
            for waiting in taken:
                self._end([waiting], await self._loss(session, waiting))
            losers = set(taken)
            if rest := [waiting for waiting in batch if waiting not in losers]:
                await self._flush(session, rest)
        else:  # one of them is at odds with another, or cannot be written: halves of halves find it
            half = len(batch) // 2
            for waiting in batch:
                waiting.is_suspect = True
            await self._flush(session, batch[:half])
            await self._flush(session, batch[half:])

    async def _try_alone(self, session: LogSession, waiting: _Waiting, error: TakenBack) -> None:
        """Writes an append once more that was taken back in a flush of its own, unless it was taken back before.

        Raises TakenBack after too many appends in a row that were.
        """
        if not waiting.is_suspect:
            waiting.is_suspect = True
            await self._flush(session, [waiting])
            return
        is_news = not waiting.times_aside
        if waiting.append.start is not None or self._is_closing:
            self._end([waiting], error)
        else:
            self._put_aside(waiting, error)
        self._taken_back += is_news
        if self._taken_back >= _TAKEN_BACK_MAX:
            raise error

    def _put_aside(self, waiting: _Waiting, error: TakenBack) -> None:
        if not waiting.times_aside:
            self._is_stuck = True
            _log.warning("append_put_aside", saga_id=waiting.append.saga_id, error=str(error))
        waiting.times_aside += 1
        self._waiting.remove(waiting)
        self._aside.append(waiting)
        seconds = _PAUSES_ASIDE.after(waiting.times_aside)
        asyncio.get_running_loop().call_later(seconds, self._take_up_again, waiting)

    def _take_up_again(self, waiting: _Waiting) -> None:
        if waiting in self._aside:
            self._aside.remove(waiting)
            self._waiting.append(waiting)
            self._wakeup.set()

    async def _taken(self, session: LogSession, batch: Sequence[_Waiting]) -> list[_Waiting]:
        return [batch[index] for index in await session.taken([waiting.append for waiting in batch])]

    def _end(
        self, done: Sequence[_Waiting], error: Exception | None, recorded_at: float | None = None
    ) -> None:
        ended = set(done)
        self._waiting = [waiting for waiting in self._waiting if waiting not in ended]
        for waiting in done:
            waiting.end(error, recorded_at)

    async def _write(self, session: LogSession, batch: Sequence[_Waiting]) -> Exception | float | None:
        """Writes the batch; returns when it was written, or why it cannot be. If it raises Unavailable, nobody knows."""
        try:
            outcome = await session.write([waiting.written or written(waiting.append) for waiting in batch])
        except TakenBack as error:
            return error
        except Unavailable:
            for waiting in batch:
                waiting.is_in_doubt = True
            raise
        except Exception as error:  # noqa: BLE001 - what one append cannot have written must not hold up the others
            self._end_outage()
            return error
        self._taken_back, self._is_stuck = 0, False
        self._end_outage()
        return outcome

    async def _loss(self, session: LogSession, waiting: _Waiting) -> Exception | None:
        """The reason why an append met existing rows; None if the rows are its own, committed before the answer got lost."""
        append = waiting.append
        if append.start is not None:
            holder = await session.start_key_holder(append.namespace, append.start.start_key)
            if holder is not None:
                is_own = holder[0] == append.saga_id
                return None if is_own else StartKeyTaken(append.start.start_key, *holder)
        elif waiting.is_in_doubt:
            # The entries' content is compared, too: this coordinator may have let the saga go and taken it up again meanwhile.
            # Then its earlier and its later view of the saga both append here, and only one of them can have won.
            there = await session.written(append.saga_id, append.sequence, len(append.entries))
            said = [(self._coordinator_id, _said(encode(entry))) for entry in append.entries]
            if said == [(writer, _said(stored)) for writer, stored in there]:
                return None
        return OwnershipLost(
            f"another coordinator has written entry {append.sequence} of saga {append.saga_id}"
        )
