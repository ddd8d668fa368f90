"""Claims sagas that nobody drives, notices those that were taken from this coordinator, and hands on those that are stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import structlog

from saga_coordinator.engine.adopting import Adopting
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.ports import Stores
from saga_coordinator.engine.room import Room
from saga_coordinator.engine.runs import Runs
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.store.records import ENTRIES_AT_ONCE, Claim

CLAIMS_AT_ONCE = 200
STUCK_SECONDS = 30.0
"""The seconds for which a saga that could not go on here rests before any coordinator tries it again."""
ROUND_SECONDS_MAX = 60.0
"""A look for work that takes longer hangs, and health says so."""
RECONCILE_SECONDS = 10.0
"""The seconds between two comparisons of the sagas that this coordinator owns with those in memory. A statement whose answer got
lost may still take effect long after it was given up."""

_log = structlog.get_logger(__name__)


class Claiming(Service):
    """Looks for sagas to claim every `poll_seconds`, and at once when it is woken."""

    def __init__(
        self,
        stores: Stores,
        adopting: Adopting,
        runs: Runs,
        room: Room,
        wakeup: Wakeup,
        lease: Lease,
        *,
        poll_seconds: float,
    ) -> None:
        self._ownership = stores.ownership
        self._adopting = adopting
        self._runs = runs
        self._room = room
        self._wakeup = wakeup
        self._lease = lease
        self._poll_seconds = poll_seconds
        self._coordinator_id = stores.coordinator_id
        self._background = Background()
        self._reconcile_at = 0.0

    async def start(self) -> None:
        """Begins to look for sagas to claim."""
        self._background.keep("claiming", self._keep_claiming, turn_seconds_max=ROUND_SECONDS_MAX)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops claiming sagas."""
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep it from looking for work."""
        return self._background.problems

    async def claim_one(self, saga_id: str) -> bool:
        """Takes over a saga that nobody drives. Returns False if the saga has an owner or is settled. Raises Unavailable."""
        if not self._lease.may_act:
            raise self._lease.run_out()
        try:
            claim = await self._ownership.claim_one(saga_id)
        except Exception:
            self._wakeup.reconcile_soon()  # the saga may be this coordinator's without its having heard of that
            raise
        if claim is not None:
            await self._adopting.adopt([claim])
        return claim is not None

    async def reconcile(self) -> None:
        """Drops sagas that were taken from this coordinator, and adopts its own that are not in memory. Raises Unavailable.

        Both happen after statements whose answers got lost: such a statement may take effect at any time. So a saga that is
        dropped must not be asleep. A saga that is adopted is fenced against what this coordinator may have sent before (P8).
        """
        known = {run.saga_id: run for run in self._runs}
        owned = await self._ownership.owned()
        lost = [run for saga_id, run in known.items() if saga_id not in owned and not run.is_dropped]
        if lost:  # first of all: should this fail, they are still known, and found again
            await self._ownership.wake([run.saga_id for run in lost])
        for run in lost:
            if not run.is_dropped:
                _log.info(
                    "ownership_lost", saga_id=run.saga_id, reason="it is not this coordinator's any more"
                )
                self._runs.drop(run)
        in_hand = {*known, *(run.saga_id for run in self._runs)}
        forgotten = sorted(owned.keys() - in_hand - set(self._room.starting) - set(self._adopting.under_way))
        for first in range(0, len(forgotten), CLAIMS_AT_ONCE):
            batch = forgotten[first : first + CLAIMS_AT_ONCE]
            await self._adopting.adopt(
                [Claim(saga_id, owned[saga_id], self._coordinator_id) for saga_id in batch]
            )

    async def _keep_claiming(self, kept: Kept) -> None:
        while True:
            kept.rests()
            await self._lease.wait_until_valid()  # what is claimed without a lease is at once anybody's
            kept.begins()
            has_more = False
            try:
                has_more = await self._take_turn()
            except Unavailable as error:
                _log.warning("claiming_paused", reason=str(error))
                self._reconcile_at = 0.0  # a claim may have succeeded without our hearing of it
            except Exception:
                self._reconcile_at = 0.0
                raise  # logged, and begun again
            kept.turned()
            if not has_more:
                await self._wakeup.wait(self._poll_seconds)

    async def _take_turn(self) -> bool:
        """Looks for work once. Returns True if there may be more to claim at once."""
        now = asyncio.get_running_loop().time()
        if self._wakeup.take_doubt() or now >= self._reconcile_at:
            self._reconcile_at = now + RECONCILE_SECONDS
            await self.reconcile()
        if stuck := self._runs.take_stuck():
            await self._ownership.release(stuck, STUCK_SECONDS)
        room = self._room
        if room.has_backlog or room.free <= CLAIMS_AT_ONCE:
            room.note_backlog(await self._ownership.backlog(room.backlog_max))
        return await self._claim()

    async def _claim(self) -> bool:
        """Claims as many sagas as there is room for. Returns True if there may be more."""
        free = self._room.free
        if free <= 0:
            return False
        # All of a batch may be of one definition, which then has as many sagas in memory as are left free.
        limit = min((free + 1) // 2, CLAIMS_AT_ONCE)
        now = asyncio.get_running_loop().time()
        left_to_others = self._room.left_to_others
        passed_over = {*self._room.crowded(), *left_to_others.names(now)}
        self._room.keep_for_claims(limit)
        try:
            claims = await self._ownership.claim(limit, passed_over)
            await self._adopting.adopt(claims)
        finally:
            self._room.keep_for_claims(0)
        has_more = len(claims) == limit or sum(claim.entries for claim in claims) >= ENTRIES_AT_ONCE
        if not has_more:
            left_to_others.claimed_all(now)
        return has_more
