"""Whether this coordinator may act, and what time it is in the database."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import structlog

from saga_coordinator.lifecycle import Background, Kept
from saga_coordinator.saga.errors import Unavailable

_log = structlog.get_logger(__name__)

RENEWALS_PER_LEASE = 3
_RENEWALS_COMPARED = 10


def boot_seconds() -> float:
    """A clock that also counts while the machine is suspended, so that a lease does not outlive a laptop's sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Renewal(Protocol):
    async def renew(self, lease_seconds: float) -> float:
        """Extends the lease; returns the database's time. Raises Unavailable."""


class Lease:
    """One coordinator's lease, renewed well inside its life.

    `may_act` turns false by the local clock alone, however long a database call hangs: the lease is counted from before the
    call that extended it was made, hence never beyond what the database counts.
    """

    def __init__(
        self,
        renewal: Renewal,
        lease_seconds: float,
        *,
        on_regained: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self._renewal = renewal
        self._seconds = lease_seconds
        self._on_regained = on_regained
        self._clock = clock
        self._until = float("-inf")
        self._database_ahead = 0.0
        self._seen_ahead: deque[float] = deque(maxlen=_RENEWALS_COMPARED)
        self._valid = asyncio.Event()
        self.term = 1
        """Grows whenever the lease had run out before it was renewed: what was ours before may be another's by now."""
        self._failure: Exception | None = None
        self._background = Background()

    def now(self) -> float:
        """The database's time in seconds since the epoch, carried on from the last renewal by the local clock's pace (P10)."""
        return self._clock() + self._database_ahead

    @property
    def may_act(self) -> bool:
        return self._clock() < self._until

    async def wait_until_valid(self) -> None:
        """Returns once this coordinator may act (again)."""
        while not self.may_act:
            self._valid.clear()
            await self._valid.wait()

    async def start(self) -> None:
        """Takes the lease and keeps it. Raises Unavailable."""
        self._until = await self._renew()
        self._valid.set()
        self._background.keep("the lease", self._keep)

    async def stop(self) -> None:
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps this coordinator from acting."""
        if not self.may_act:
            yield str(self.run_out())
        yield from self._background.problems

    def run_out(self) -> Unavailable:
        """What to tell those who want something that takes a lease."""
        reason = f": {self._failure}" if self._failure is not None else ""
        return Unavailable(f"the coordinator's lease has run out{reason}")

    async def _renew(self) -> float:
        """Returns until when the lease lasts, by the local clock."""
        asked_at = self._clock()
        try:
            # Not `wait_for`: before Python 3.12 it may swallow the cancellation by which `stop` ends this.
            async with asyncio.timeout(self._seconds):
                database_now = await self._renewal.renew(self._seconds)
        except TimeoutError:
            raise Unavailable(f"the lease was not renewed within {self._seconds:g} s") from None
        # An answer that took long makes the database seem to be behind by as much: the quickest of the last few says it best.
        # Behind by seconds, attempts in flight at a coordinator that is gone would be thought over too soon (P4).
        self._seen_ahead.append(database_now - self._clock())
        self._database_ahead = max(self._seen_ahead)
        return asked_at + self._seconds

    async def _keep(self, kept: Kept) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS_PER_LEASE)
            try:
                until = await self._renew()
                if (
                    not self.may_act
                ):  # others may have claimed what was ours: nothing is done before that is known
                    self.term += 1
                    await self._on_regained()
                    _log.info("lease_regained")
            except Unavailable as error:
                self._failure = error
                _log.warning("lease_not_renewed", error=str(error), may_act=self.may_act)
                continue
            except Exception as error:  # noqa: BLE001 - whatever the database has against it may pass, as an outage does
                self._failure = error
                _log.error("lease_not_renewed", may_act=self.may_act, exc_info=error)
                continue
            self._failure = None
            self._until = until
            self._valid.set()
            kept.turned()
