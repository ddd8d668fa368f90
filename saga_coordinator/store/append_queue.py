"""The appends that wait to be committed, in the order in which they came, and those that were put aside for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from saga_coordinator.retrying import Pauses
from saga_coordinator.saga.machine.rows import size_bytes
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.store.appends import WRITTEN_AT_ONCE_BYTES, Append, WrittenAppend, written_in_turns

APPENDS_PER_FLUSH_MAX = 500
FLUSH_BYTES_MAX = 4 * 1024 * 1024
"""The most bytes of entries in one flush, unless one append alone has more: copying them takes the event loop's time."""
_PAUSES_ASIDE = Pauses(0.5, 5.0)
"""The pauses between attempts to write an append that was put aside."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Waiting:
    """An append on its way. It is in doubt if it was sent and no answer came, and over once it is known what became of it.

    It is suspect if a flush that had it was taken back. `times_aside` counts how often it was put aside. `size_bytes` is the size
    of its rows, once they are written.
    """

    append: Append
    committed: asyncio.Future[float | None]
    is_in_doubt: bool = False
    is_suspect: bool = False
    is_over: bool = False
    times_aside: int = 0
    written: WrittenAppend | None = None
    size_bytes: int = 0

    def end(self, error: Exception | None, committed_at: float | None = None) -> None:
        """Tells whoever waits that the append is committed, or why it is not."""
        self.is_over = True
        if self.committed.done():  # nobody waits for it any more
            return
        if error is None:
            self.committed.set_result(committed_at)
        else:
            self.committed.set_exception(error)


class AppendQueue:
    """The queue of one journal. An append is in it until it is over."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.is_closed = False
        """Tells whether the journal is stopping: then nothing is added or put aside any more."""
        self._aside: list[Waiting] = []
        self._wakeup = asyncio.Event()

    def add(self, append: Append) -> asyncio.Future[float | None]:
        """Adds an append. Returns the future of its `recorded_at`."""
        waiting = Waiting(append, asyncio.get_running_loop().create_future())
        self.waiting.append(waiting)
        self._wakeup.set()
        return waiting.committed

    def close(self) -> None:
        """Takes up again what was put aside, for a last attempt, and adds nothing from now on."""
        self.is_closed = True
        for each in list(self._aside):
            self._take_up_again(each)
        self._wakeup.set()

    async def wait(self) -> None:
        """Returns once there is an append, or the queue is closed."""
        self._wakeup.clear()
        if not self.waiting and not self.is_closed:
            await self._wakeup.wait()

    async def next_batch(self) -> list[Waiting]:
        """The appends of the next flush: the first that wait, up to `FLUSH_BYTES_MAX`, each in its stored form."""
        batch: list[Waiting] = []
        batch_bytes = written_at_once = 0
        for waiting in self.waiting[:APPENDS_PER_FLUSH_MAX]:
            if waiting.written is None:
                try:
                    waiting.written = await written_in_turns(waiting.append)
                except Exception as error:  # noqa: BLE001 - a defect of this append, which the others have nothing to do with
                    waiting.end(error)
                    self.drop_what_is_over()
                    continue
                waiting.size_bytes = size_bytes(waiting.written.rows)
                written_at_once += waiting.size_bytes
                if written_at_once > WRITTEN_AT_ONCE_BYTES:
                    await asyncio.sleep(0)
                    written_at_once = 0
            batch_bytes += waiting.size_bytes
            if batch and batch_bytes > FLUSH_BYTES_MAX:
                break
            batch.append(waiting)
        return batch

    def put_aside(self, waiting: Waiting, error: SagaError) -> None:
        """Takes an append that the database takes back out of the others' way, until a pause is over."""
        if not waiting.times_aside:
            _log.warning("append_put_aside", saga_id=waiting.append.saga_id, error=str(error))
        waiting.times_aside += 1
        self.waiting.remove(waiting)
        self._aside.append(waiting)
        seconds = _PAUSES_ASIDE.after(waiting.times_aside)
        asyncio.get_running_loop().call_later(seconds, self._take_up_again, waiting)

    def _take_up_again(self, waiting: Waiting) -> None:
        if waiting in self._aside:
            self._aside.remove(waiting)
            self.waiting.append(waiting)
            self._wakeup.set()

    def drop_what_is_over(self) -> None:
        """Removes the appends of which it is known what became of them."""
        self.waiting = [waiting for waiting in self.waiting if not waiting.is_over]

    def give_up(self, error: Callable[[], SagaError], *, is_given_up: Callable[[Waiting], bool]) -> None:
        """Ends the waiting appends that are given up, each with an error of its own. The others stay."""
        for each in self.waiting:
            if is_given_up(each):
                each.end(error())
        self.drop_what_is_over()
