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
from functools import partial

import structlog

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.retrying import Pauses, kept_going
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.append_queue import AppendQueue, Waiting
from saga_coordinator.store.appends import Append, LogSession, LogWriter
from saga_coordinator.store.commits import Commits, DatabaseHealth

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
"""The seconds for which a stop waits for a database that hangs. A database that refuses is given up at once."""
_PAUSES = Pauses(0.5, 0.5)
"""The pauses between attempts to reach a database that is away. They do not grow, since the first to return should be us."""

_log = structlog.get_logger(__name__)


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
        self._health = DatabaseHealth(on_recovered)
        self._queue = AppendQueue()
        self._background = Background()
        self._flusher: Kept | None = None

    @property
    def is_available(self) -> bool:
        """False while the database has failed more than once in a row, or has written nothing since it took an append back."""
        return not any(self._health.problems)

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep appends from being committed."""
        yield from self._health.problems
        yield from self._background.problems

    async def start(self) -> None:
        self._flusher = self._background.keep("the journal", self._run, turn_seconds_max=FLUSH_SECONDS_MAX)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Flushes the waiting appends if the database is there, and ends in any case."""
        self._queue.close()
        if self._flusher is not None and self._flusher.task is not None:
            await asyncio.wait({self._flusher.task}, timeout=_STOP_SECONDS)
        await self._background.stop(0.0)
        message = "the coordinator has stopped, and the database does not answer"
        self._queue.give_up(
            lambda: Unavailable(Reason.COORDINATOR_STOPPING, message), is_given_up=lambda _: True
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
        if self._queue.is_closed:
            raise Unavailable(Reason.COORDINATOR_STOPPING, "the coordinator is stopping")
        if append.start is not None and self._health.is_away:
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the database is away")
        return self._queue.add(append)

    async def _run(self, kept: Kept) -> None:
        async def session() -> None:
            if self._queue.waiting or not self._queue.is_closed:
                async with self._writer.session() as session:
                    await self._serve(session, kept)

        await kept_going(
            session,
            is_failure=lambda error: isinstance(error, Exception),
            pause=partial(self._session_failed, kept),
        )

    def _session_failed(self, kept: Kept, error: BaseException) -> float:
        """Notes that the session failed. Returns the seconds until the waiting appends are tried again."""
        if not isinstance(error, Unavailable):
            _log.error("journal_failed", exc_info=error)
        kept.turned()
        if self._health.failed():
            _log.warning("journal_unavailable", error=str(error), appends_waiting=len(self._queue.waiting))
        if not self._health.is_away:
            return 0.0
        self._give_up_starts(error)
        return _PAUSES.after(self._health.failures)

    def _give_up_starts(self, error: BaseException) -> None:
        """Refuses starts, which nobody has been promised; the other appends stay and are tried again."""
        self._queue.give_up(
            lambda: Unavailable(Reason.DATABASE_UNAVAILABLE, f"the database is away: {error}"),
            is_given_up=lambda each: each.append.start is not None or self._queue.is_closed,
        )

    async def _serve(self, session: LogSession, kept: Kept) -> None:
        """Flushes on one session until the journal is stopped or the session fails."""
        if self._health.is_away and not self._queue.waiting:
            await session.ping()
            self._health.answered()
        commits = Commits(session, self._coordinator_id, self._queue, self._health)
        while True:
            while self._queue.waiting:
                if batch := await self._queue.next_batch():
                    await self._flush_and_rest(commits, batch)
                kept.turned()
            if self._queue.is_closed:
                return
            kept.rests()
            await self._queue.wait()
            kept.begins()

    async def _flush_and_rest(self, commits: Commits, batch: Sequence[Waiting]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await commits.commit(batch)
        finally:
            self._queue.drop_what_is_over()
        if len(batch) >= _MANY and not self._queue.is_closed:
            await self._rest(min((clock() - began) * len(batch) / _MANY, _REST_SECONDS_MAX))

    async def _rest(self, seconds: float) -> None:
        """Waits so many seconds, or until the event loop has less to do."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > 0:
            looked_at, worked = clock(), self._thread_time()
            await asyncio.sleep(min(left, _LOOK_SECONDS))
            if self._thread_time() - worked < _BUSY_SHARE * (clock() - looked_at):
                return
