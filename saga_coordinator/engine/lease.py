"""Whether this coordinator may act, and what time it is in the database."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.reasons import Reason

_RENEWALS_COMPARED = 10


def boot_seconds() -> float:
    """A clock that also counts while the machine is suspended, so that a lease does not outlive a laptop's sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """What is known of one coordinator's lease: the arithmetic, without any call.

    `may_act` turns false by the local clock alone, however long a database call hangs: the lease is counted from before the
    call that extended it was made, hence never beyond what the database counts. A lease that had run out when it was renewed is
    not held again before `regain`: others may have claimed what was ours.

    It is renewed from whatever thread, and read on the event loop.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = boot_seconds) -> None:
        self.seconds = seconds
        self.clock = clock
        self._until = float("-inf")
        self._renewed_until = float("-inf")
        self._database_ahead = 0.0
        self._seen_ahead: deque[float] = deque(maxlen=_RENEWALS_COMPARED)
        self._lock = threading.Lock()
        self._valid = asyncio.Event()
        self._failure: Exception | None = None
        self.lapses = 0
        """Grows whenever it had run out in the database, for all that we know, before it was renewed there."""
        self.term = 1
        """Grows whenever it is regained: what was ours before may be another's by now."""

    def now(self) -> float:
        """The database's time in seconds since the epoch, carried on from the last renewal by the local clock's pace (P10)."""
        return self.clock() + self._database_ahead

    @property
    def may_act(self) -> bool:
        return self.clock() < self._until

    async def wait_until_valid(self) -> None:
        """Returns once this coordinator may act (again)."""
        while not self.may_act:
            self._valid.clear()
            await self._valid.wait()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps this coordinator from acting."""
        if not self.may_act:
            yield str(self.run_out())

    def run_out(self) -> Unavailable:
        """What to tell those who want something that takes a lease."""
        reason = f": {self._failure}" if self._failure is not None else ""
        return Unavailable(Reason.LEASE_LOST, f"the coordinator's lease has run out{reason}")

    # For who renews it.

    def renewed(self, asked_at: float, database_now: float) -> bool:
        """The database has made it last from some moment after `asked_at`, of the local clock; whether it is held by that."""
        with self._lock:
            now = self.clock()
            # An answer that took long makes the database seem to be behind by as much: the quickest of the last few says it best.
            # Behind by seconds, attempts in flight at a coordinator that is gone would be thought over too soon (P4).
            self._seen_ahead.append(database_now - now)
            self._database_ahead = max(self._seen_ahead)
            self._failure = None
            if now >= self._renewed_until:
                self.lapses += 1
            self._renewed_until = asked_at + self.seconds
            if now < self._until:
                self._until = self._renewed_until
            return now < self._until

    def not_renewed(self, error: Exception) -> None:
        """Why it was not."""
        self._failure = error

    # On the event loop.

    def begin_term(self) -> None:
        """Notes that what was this coordinator's own before may be another's by now."""
        self.term += 1

    def take(self) -> None:
        """It has been renewed for the first time."""
        self.regain(self.lapses)

    def regain(self, lapses: int) -> bool:
        """What was found out after so many lapses is all there is to know: whether that still holds, and with it the lease."""
        with self._lock:
            if lapses != self.lapses:
                return False
            self._until = self._renewed_until
        self.tell()
        return True

    def tell(self) -> None:
        """Lets those go on that wait until it is valid."""
        if self.may_act:
            self._valid.set()
