"""The lease: whether this coordinator may act, and what time it is in the database."""

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
    """Reads a clock that also counts while the machine is suspended, so that a lease does not outlive a laptop's sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """Knows one coordinator's lease. It only calculates, and makes no call.

    `may_act` turns false by the local clock alone, however long a database call hangs. The lease is counted from before the call
    that extended it, so it never lasts longer here than in the database. A lease that had run out when it was renewed is not held
    again before `regain`, since others may have claimed this coordinator's sagas.

    Any thread may renew it; the event loop reads it.
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
        """The number of renewals that may have come after the lease had run out in the database."""
        self.term = 1
        """Grows whenever the lease has to be regained: by then, others may own the sagas that this coordinator owned before."""

    def now(self) -> float:
        """The database's time in seconds since 1970, carried on from the last renewal by the local clock (P10)."""
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
        """The problems that keep this coordinator from acting."""
        if not self.may_act:
            yield str(self.run_out())

    def run_out(self) -> Unavailable:
        """The error for a request that needs a lease."""
        reason = f": {self._failure}" if self._failure is not None else ""
        return Unavailable(Reason.LEASE_LOST, f"the coordinator's lease has run out{reason}")

    # In the thread that renews it.

    def renewed(self, asked_at: float, database_now: float) -> bool:
        """Notes that the database extended the lease at some moment after `asked_at` by the local clock.

        Returns whether the lease is held now. If not, it has to be regained.
        """
        with self._lock:
            now = self.clock()
            # An answer that took long makes the database seem to be behind by as much, so the quickest of the last answers is the
            # best. If the time is behind by seconds, attempts in flight at a dead coordinator are given up too soon (P4).
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
        """Notes why the lease was not renewed."""
        self._failure = error

    # On the event loop.

    def begin_term(self) -> None:
        """Notes that others may own by now the sagas that this coordinator owned before."""
        self.term += 1

    def take(self) -> None:
        """Holds the lease that has been renewed for the first time."""
        self.regain(self.lapses)

    def regain(self, lapses: int) -> bool:
        """Holds the lease again, if it has not lapsed since `lapses` was read, before this coordinator looked over its sagas.

        Returns False if it has lapsed. Then the sagas have to be looked over again.
        """
        with self._lock:
            if lapses != self.lapses:
                return False
            self._until = self._renewed_until
        self.tell()
        return True

    def tell(self) -> None:
        """Wakes those who wait until the lease is valid."""
        if self.may_act:
            self._valid.set()
