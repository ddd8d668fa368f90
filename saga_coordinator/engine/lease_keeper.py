"""Renews the lease well inside its life, from a thread and over a connection of its own.

A busy event loop does not lose the lease: its sagas would only go to another coordinator, which would be as busy with them. If
the loop stands still for `STALL_LEASES` times the length of the lease, the lease is given up on purpose, so that other
coordinators get the sagas. When the loop turns again, it acts on no saga before it knows which sagas are still its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import structlog

from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.ports import Renewal
from saga_coordinator.lifecycle import Background, Kept, LoopThread, Service
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.reasons import Reason

RENEWALS_PER_LEASE = 3

STALL_LEASES = 2.0
"""If the event loop stands still for longer than this, in lengths of the lease, the lease is not renewed any more."""

_STALL_LOOK_SECONDS = 0.05

_log = structlog.get_logger(__name__)


Renewing = Callable[[], AbstractAsyncContextManager[Renewal]]
"""Opens a way to renew, for the event loop on which it is entered."""


class LeaseKeeper(Service):
    """Keeps one lease. A thread renews it if `in_thread` is true; otherwise the event loop does, as in a simulation."""

    def __init__(
        self,
        lease: Lease,
        renewing: Renewing,
        *,
        on_regained: Callable[[], Awaitable[None]],
        in_thread: bool,
    ) -> None:
        self._lease = lease
        self._renewing = renewing
        self._on_regained = on_regained
        self._in_thread = in_thread
        self._background = Background()
        self._attempts = Background()
        self._thread: LoopThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._first: asyncio.Future[None] | None = None
        self._asked_at: float | None = None
        self._is_regaining = False
        self._is_let_go = False
        self.renewal: Renewal | None = None

    async def start(self) -> None:
        """Takes the lease and keeps it. Raises Unavailable or the driver's error if the lease cannot be taken."""
        self._loop = asyncio.get_running_loop()
        self._first = self._loop.create_future()
        if self._in_thread:
            self._thread = LoopThread("the lease", self._keep)
            await self._thread.start()
        else:
            self._background.keep("the lease", self._keep)
        await self._first
        self._lease.take()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops renewing the lease."""
        if self._thread is not None:
            await self._thread.stop()
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep the lease from being renewed or regained."""
        yield from self._lease.problems
        yield from self._background.problems
        if self._thread is not None:
            yield from self._thread.problems

    # In the thread that renews it.

    async def _keep(self, kept: Kept) -> None:
        async with self._renewing() as self.renewal:
            try:
                while True:
                    await self._turn(self.renewal)
                    kept.turned()
            finally:  # before their connections are closed
                await self._attempts.stop()

    async def _turn(self, renewal: Renewal) -> None:
        if self._stands_still():
            await asyncio.sleep(_STALL_LOOK_SECONDS)
            return
        await self._renew(renewal)
        self._ask_the_loop()
        await asyncio.sleep(self._lease.seconds / RENEWALS_PER_LEASE)

    async def _renew(self, renewal: Renewal) -> None:
        lease = self._lease
        asked_at = lease.clock()
        try:
            database_now = await self._within(lease.seconds, renewal)
        except Unavailable as error:
            lease.not_renewed(error)
            _log.warning("lease_not_renewed", error=str(error), may_act=lease.may_act)
            self._post(self._not_taken, error)
        except Exception as error:  # noqa: BLE001 - whatever the database has against it may pass, as an outage does
            lease.not_renewed(error)
            _log.error("lease_not_renewed", may_act=lease.may_act, exc_info=error)
            self._post(self._not_taken, error)
        else:
            self._post(self._renewed, lease.renewed(asked_at, database_now))

    async def _within(self, seconds: float, renewal: Renewal) -> float:
        """Gives up a call that hangs, and does not wait for its end: the driver may take long to end a cancelled call."""
        renewing = self._attempts.begin("renewal", renewal.renew(seconds))
        await asyncio.wait([renewing], timeout=seconds)
        if not renewing.done():
            renewing.add_done_callback(_unheard)
            renewing.cancel()
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, f"the lease was not renewed within {seconds:g} s")
        return renewing.result()

    def _stands_still(self) -> bool:
        """Tells whether the event loop was asked to turn too long ago, and has not turned since."""
        asked_at = self._asked_at
        stall_seconds = STALL_LEASES * self._lease.seconds
        stands = asked_at is not None and self._lease.clock() - asked_at > stall_seconds
        if stands and not self._is_let_go:
            reason = f"the event loop has not run for {stall_seconds:g} s"
            self._lease.not_renewed(Unavailable(Reason.DATABASE_UNAVAILABLE, reason))
            _log.error("lease_let_go", reason=reason)
        self._is_let_go = stands
        return stands

    def _ask_the_loop(self) -> None:
        if self._in_thread and self._asked_at is None:
            self._asked_at = self._lease.clock()
            self._post(self._turned)

    def _post(self, tell: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        if not self._in_thread:
            tell(*arguments)
            return
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(tell, *arguments)

    # On the event loop.

    def _turned(self) -> None:
        self._asked_at = None

    def _renewed(self, is_held: bool) -> None:
        assert self._first is not None
        if not self._first.done():
            self._first.set_result(None)
        elif is_held:
            self._lease.tell()
        elif not self._is_regaining and not self._lease.may_act:
            self._is_regaining = True
            self._background.spawn("the lease's regaining", self._regain())

    def _not_taken(self, error: Exception) -> None:
        assert self._first is not None
        if not self._first.done():
            self._first.set_exception(error)

    async def _regain(self) -> None:
        """Finds out which sagas are still this coordinator's own, and then holds the lease again.

        It begins anew if the lease runs out meanwhile. If it fails, the next renewal begins it anew.
        """
        lease = self._lease
        lease.begin_term()
        try:
            while True:
                lapses = lease.lapses
                await self._on_regained()
                if lease.regain(lapses):
                    break
            _log.info("lease_regained")
        except Unavailable as error:
            lease.not_renewed(error)
            _log.warning("lease_not_regained", error=str(error))
        except Exception as error:  # noqa: BLE001 - as above
            lease.not_renewed(error)
            _log.error("lease_not_regained", exc_info=error)
        finally:
            self._is_regaining = False


def _unheard(task: asyncio.Task[float]) -> None:
    if not task.cancelled():
        task.exception()
