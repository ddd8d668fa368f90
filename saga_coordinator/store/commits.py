"""The commits of a flush: all of it in one transaction, or without what cannot be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog

from saga_coordinator.saga.machine.stored_entry import StoredEntry, encode
from saga_coordinator.saga.words.canonical import canonical_bytes
from saga_coordinator.saga.words.errors import OwnershipLost, Unavailable
from saga_coordinator.store.append_queue import AppendQueue, Waiting
from saga_coordinator.store.appends import Conflict, LogSession, TakenBack, written
from saga_coordinator.store.records import StartKeyTaken

_FAILURES_OF_OUTAGE = 2
"""The number of failures in a row that make an outage. A single failure may be of one connection."""
_TAKEN_BACK_MAX = 8
"""After so many appends in a row that were taken back alone, with none written in between, the database itself is the reason."""

_log = structlog.get_logger(__name__)


class DatabaseHealth:
    """What the journal knows of its database: whether it is away, and whether it takes appends back.

    It calls `on_recovered` when the database answers again after an outage.
    """

    def __init__(self, on_recovered: Callable[[], None]) -> None:
        self._on_recovered = on_recovered
        self.failures = 0
        """The number of sessions that failed in a row."""
        self._taken_back = 0
        """The number of appends in a row that were taken back alone, for the first time."""
        self._is_stuck = False
        """Tells whether an append was put aside, and none was written since."""

    @property
    def is_away(self) -> bool:
        """Tells whether the database has failed more than once in a row."""
        return self.failures >= _FAILURES_OF_OUTAGE

    @property
    def problems(self) -> Iterator[str]:
        """The problem of the database, if it has one."""
        if self.is_away:
            yield "the database has failed more than once in a row"
        elif self._is_stuck:
            yield "the database took the last append back"

    def failed(self) -> bool:
        """Notes that a session failed. Returns True if an outage begins with it."""
        self.failures += 1
        self._taken_back = 0
        return self.failures == _FAILURES_OF_OUTAGE

    def answered(self) -> None:
        """Notes that the database answered."""
        was_away = self.is_away
        self.failures = 0
        if was_away:
            _log.info("journal_recovered")
            self._on_recovered()

    def wrote(self) -> None:
        """Notes that the database has written appends."""
        self._taken_back, self._is_stuck = 0, False
        self.answered()

    def took_back(self, error: TakenBack, *, is_news: bool, is_put_aside: bool) -> None:
        """Notes that an append was taken back alone. Raises the error after too many in a row for which that is news."""
        self._is_stuck = self._is_stuck or (is_news and is_put_aside)
        self._taken_back += is_news
        if self._taken_back >= _TAKEN_BACK_MAX:
            raise error


class Commits:
    """Commits appends over one session, and tells each of them what became of it.

    `coordinator_id` is the identity that marks what this process writes.
    """

    def __init__(
        self, session: LogSession, coordinator_id: str, queue: AppendQueue, health: DatabaseHealth
    ) -> None:
        self._session = session
        self._coordinator_id = coordinator_id
        self._queue = queue
        self._health = health

    async def commit(self, batch: Sequence[Waiting]) -> None:
        """Commits the batch in one transaction; if some of its entries exist already, commits it again without those.

        Single appends would cost a commit each, and hold up every saga of this process just when there is most to take over.
        Raises Unavailable, and then the rest may be in doubt.
        """
        outcome = await self._write(batch)
        if not isinstance(outcome, Exception):
            for waiting in batch:
                waiting.end(None, outcome)
        elif isinstance(outcome, TakenBack) and len(batch) == 1:
            await self._try_alone(batch[0], outcome)
        elif len(batch) == 1:
            batch[0].end(await self._loss(batch[0]) if isinstance(outcome, Conflict) else outcome)
        elif isinstance(outcome, Conflict) and (taken := await self._taken(batch)):
            for waiting in taken:
                waiting.end(await self._loss(waiting))
            if rest := [waiting for waiting in batch if not waiting.is_over]:
                await self.commit(rest)
        else:  # one of them is at odds with another, or cannot be written: halves of halves find it
            half = len(batch) // 2
            for waiting in batch:
                waiting.is_suspect = True
            await self.commit(batch[:half])
            await self.commit(batch[half:])

    async def _write(self, batch: Sequence[Waiting]) -> Exception | float | None:
        """Writes the batch; returns when it was written, or why it cannot be. If it raises Unavailable, nobody knows."""
        try:
            outcome = await self._session.write(
                [waiting.written or written(waiting.append) for waiting in batch]
            )
        except TakenBack as error:
            return error
        except Unavailable:
            for waiting in batch:
                waiting.is_in_doubt = True
            raise
        except Exception as error:  # noqa: BLE001 - what one append cannot have written must not hold up the others
            self._health.answered()
            return error
        self._health.wrote()
        return outcome

    async def _try_alone(self, waiting: Waiting, error: TakenBack) -> None:
        """Writes an append once more that was taken back in a flush of its own, unless it was taken back before.

        Raises TakenBack after too many appends in a row that were.
        """
        if not waiting.is_suspect:
            waiting.is_suspect = True
            await self.commit([waiting])
            return
        is_news = not waiting.times_aside
        is_put_aside = waiting.append.start is None and not self._queue.is_closed
        if is_put_aside:
            self._queue.put_aside(waiting, error)
        else:
            waiting.end(error)
        self._health.took_back(error, is_news=is_news, is_put_aside=is_put_aside)

    async def _taken(self, batch: Sequence[Waiting]) -> list[Waiting]:
        return [batch[index] for index in await self._session.taken([waiting.append for waiting in batch])]

    async def _loss(self, waiting: Waiting) -> Exception | None:
        """The reason why an append met existing rows; None if the rows are its own, committed before the answer got lost."""
        append = waiting.append
        if append.start is not None:
            holder = await self._session.start_key_holder(append.namespace, append.start.start_key)
            if holder is not None:
                is_own = holder[0] == append.saga_id
                return None if is_own else StartKeyTaken(append.start.start_key, *holder)
        elif waiting.is_in_doubt:
            # The entries' content is compared, too: this coordinator may have let the saga go and taken it up again meanwhile.
            # Then its earlier and its later view of the saga both append here, and only one of them can have won.
            there = await self._session.written(append.saga_id, append.sequence, len(append.entries))
            said = [(self._coordinator_id, _said(encode(entry))) for entry in append.entries]
            if said == [(writer, _said(stored)) for writer, stored in there]:
                return None
        return OwnershipLost(
            f"another coordinator has written entry {append.sequence} of saga {append.saga_id}"
        )


def _said(stored: StoredEntry) -> tuple[str, str | None, str | None, int, bytes]:
    """The content of an entry, the same before and after it is stored."""
    return stored.type, stored.step, stored.operation, stored.attempt, canonical_bytes(stored.body)
