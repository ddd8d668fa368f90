"""Claims sagas that nobody drives, and notices those that have been taken."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from saga_coordinator.engine.advance import Origin, Run
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.mail import Mailbox
from saga_coordinator.engine.ports import DefinitionStore, OwnershipStore, SagaStore
from saga_coordinator.engine.reading import Folded, fold_logs
from saga_coordinator.lifecycle import Background, Kept
from saga_coordinator.saga.machine.decide import Decision
from saga_coordinator.saga.words.errors import NotFound, Overloaded, Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import ENTRIES_AT_ONCE, Claim, ClaimGroup

CLAIMS_AT_ONCE = 200
ADOPTED_BYTES_AT_ONCE = 16 * 1024 * 1024
"""After so much of logs was read, the sagas concerned go on before more are read. In memory it is some ten times as much."""
_GOES_ON_SECONDS = 5.0
STUCK_SECONDS = 30.0
TIDY_SECONDS = 60.0
GROUPS_SECONDS = 5.0
"""How often it is looked whether sagas of some claim group wait for a coordinator that is not there."""
ROUND_SECONDS_MAX = 60.0
"""A look for work that takes longer hangs, and health says so."""
RECONCILE_SECONDS = 10.0
"""A statement whose answer got lost may still take effect long after it was given up: what is ours is looked over this often."""

HELD_SECONDS, HELD_AT_ONCE = 30.0, 1000
"""Sagas that wake up within this time are woken when there may be room for what they hold, so many of them: which of them hold
something is in their logs."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits of one coordinator.

    `sagas_in_memory_max` are driven at once, more are durably queued; `backlog_max` may be queued in all before starts are
    refused. Work is looked for every `poll_seconds`. `log_sagas`: whether each saga's start, turn and end is logged at info.
    """

    lease_seconds: float = 3.0
    sagas_in_memory_max: int = 10_000
    backlog_max: int = 100_000
    poll_seconds: float = 0.5
    log_sagas: bool = False


class Claiming:
    """Looks for work every `poll_seconds`, and at once when told that there may be some.

    Room is shared by dynamic thresholds (Choudhury and Hahne, 1998): a definition may hold as many sagas in memory as are
    free, so one whose participant hangs never takes all of it, and what it leaves is there for the others (P11).
    """

    def __init__(
        self,
        ownership: OwnershipStore,
        sagas: SagaStore,
        definitions: DefinitionStore,
        drive: Drive,
        inbox: Mailbox,
        lease: Lease,
        settings: EngineSettings,
        coordinator_id: str,
    ) -> None:
        self._ownership = ownership
        self._sagas = sagas
        self._definitions = definitions
        self._drive = drive
        self._inbox = inbox
        self._lease = lease
        self._settings = settings
        self._coordinator_id = coordinator_id
        self.on_tidy: Callable[[], Awaitable[None]] | None = None
        """Is called once in a while, for what has grown old elsewhere."""
        self._wakeup = asyncio.Event()
        self._background = Background()
        self._reconcile_at = 0.0
        self._tidy_at = 0.0
        self._backlog = 0
        self._groups_at = 0.0
        self._stranded: frozenset[str] = frozenset()
        self._adopting: set[str] = set()
        self._starting: dict[str, str] = {}
        self._starting_of: Counter[str] = Counter()
        self._claims_awaited = 0
        self._has_room_for_held = False

    @property
    def _free(self) -> int:
        taken = len(self._drive.runs) + len(self._starting) + self._claims_awaited
        return self._settings.sagas_in_memory_max - taken

    def has_room_for(self, definition: str) -> bool:
        """Whether a saga of this definition may be driven here now."""
        return self._held(definition) < self._free

    def _held(self, definition: str) -> int:
        return self._drive.sagas_of[definition] + self._starting_of[definition]

    def keep_room(self, saga_id: str, definition: str) -> None:
        """For a saga whose start is on its way; also keeps it from being taken for a forgotten one."""
        self._starting[saga_id] = definition
        self._starting_of[definition] += 1

    def give_room_back(self, saga_id: str) -> None:
        """The start has ended."""
        self._starting_of[self._starting.pop(saga_id)] -= 1

    def count_queued(self) -> None:
        """Counts a start that there is no room for. Raises Overloaded when too many wait already."""
        if self._backlog >= self._settings.backlog_max:
            raise Overloaded(
                f"{self._backlog} sagas wait for a coordinator with room; repeat later, or add coordinators"
            )
        self._backlog += 1

    def start(self) -> None:
        self._background.keep("claiming", self._keep, turn_seconds_max=ROUND_SECONDS_MAX)

    async def stop(self) -> None:
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps it from looking for work."""
        return self._background.problems

    def wake_held(self) -> None:
        """Somebody may have room for what was held: sagas that sleep until they would look for it look now."""
        self._has_room_for_held = True
        self._wakeup.set()

    def look_now(self) -> None:
        self._wakeup.set()

    def reconcile_soon(self) -> None:
        """After an outage or a lost write: what is ours in the database and what is in memory may differ."""
        self._reconcile_at = 0.0
        self._wakeup.set()

    async def claim_one(self, saga_id: str) -> bool:
        """Takes over a saga that nobody drives; False when it has an owner or is settled. Raises Unavailable."""
        if not self._lease.may_act:
            raise self._lease.run_out()
        try:
            claim = await self._ownership.claim_one(saga_id)
        except Exception:
            self.reconcile_soon()  # it may be ours without our having heard of it
            raise
        if claim is not None:
            await self._adopt([claim])
        return claim is not None

    async def reconcile(self) -> None:
        """Drops what has been taken from us, and takes up what is ours but was lost from memory. Raises Unavailable.

        Both come of statements whose answers got lost, and which may take effect at any time. So what is dropped must not be
        asleep, and what is taken up is fenced against what we ourselves may have sent before (P8).
        """
        known = dict(self._drive.runs)
        owned = await self._ownership.owned()
        lost = [run for saga_id, run in known.items() if saga_id not in owned and not run.is_dropped]
        if lost:  # first of all: should this fail, they are still known, and found again
            await self._ownership.wake([run.saga_id for run in lost])
        for run in lost:
            if not run.is_dropped:
                _log.info(
                    "ownership_lost", saga_id=run.saga_id, reason="it is not this coordinator's any more"
                )
                self._drive.drop(run)
        forgotten = sorted(
            owned - known.keys() - self._drive.runs.keys() - self._starting.keys() - self._adopting
        )
        for first in range(0, len(forgotten), CLAIMS_AT_ONCE):
            batch = forgotten[first : first + CLAIMS_AT_ONCE]
            await self._adopt([Claim(saga_id, self._coordinator_id) for saga_id in batch])

    async def _keep(self, kept: Kept) -> None:
        while True:
            kept.rests()
            await self._lease.wait_until_valid()  # what is claimed without a lease is at once anybody's
            kept.begins()
            has_more = False
            try:
                has_more = await self._look()
            except Unavailable as error:
                _log.warning("claiming_paused", reason=str(error))
                self._reconcile_at = 0.0  # a claim may have succeeded without our hearing of it
            except Exception:
                self._reconcile_at = 0.0
                raise  # logged, and begun again
            kept.turned()
            if not has_more:
                # Not `wait_for`: before Python 3.12 it may swallow the cancellation by which `stop` ends this.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_seconds):
                        await self._wakeup.wait()
                self._wakeup.clear()

    async def _look(self) -> bool:
        """One round; True when there may be more to take at once."""
        now = asyncio.get_running_loop().time()
        if now >= self._reconcile_at:
            self._reconcile_at = now + RECONCILE_SECONDS
            await self.reconcile()
        if now >= self._groups_at:
            self._groups_at = now + GROUPS_SECONDS
            self._tell_stranded(await self._ownership.groups())
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            await self._ownership.tidy()
            await self._inbox.tidy()
            if self.on_tidy is not None:
                await self.on_tidy()
        if self._drive.stuck:
            stuck, self._drive.stuck = self._drive.stuck, []
            await self._ownership.release(stuck, STUCK_SECONDS)
        if self._has_room_for_held:
            self._has_room_for_held = False
            await self._ownership.wake_within(HELD_SECONDS, HELD_AT_ONCE)
        await self._inbox.serve()
        if self._backlog or self._free <= CLAIMS_AT_ONCE:
            self._backlog = await self._ownership.backlog(self._settings.backlog_max)
        free = self._free
        if free <= 0:
            return False
        # All of a batch may be of one definition, which then has as many as are left free.
        limit = min((free + 1) // 2, CLAIMS_AT_ONCE)
        definitions = self._drive.sagas_of.keys() | self._starting_of.keys()
        crowded = [definition for definition in definitions if self._held(definition) >= free]
        self._claims_awaited = limit
        try:
            claims = await self._ownership.claim(limit, crowded)
            await self._adopt(claims)
        finally:
            self._claims_awaited = 0
        return len(claims) == limit or sum(claim.entries for claim in claims) >= ENTRIES_AT_ONCE

    def _tell_stranded(self, groups: Sequence[ClaimGroup]) -> None:
        """Says once of a claim group that its sagas wait for a coordinator and none lives, and once that there is one again."""
        stranded = {each.name: each.waiting for each in groups if each.waiting and not each.coordinators}
        for name in sorted(stranded.keys() - self._stranded):
            _log.warning("claim_group_without_coordinator", claim_group=name, sagas=stranded[name])
        for name in sorted(self._stranded - stranded.keys()):
            _log.info("claim_group_served_again", claim_group=name)
        self._stranded = frozenset(stranded)

    async def _adopt(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        _log.info(
            "sagas_claimed",
            sagas=len(claims),
            orphaned=sum(claim.previous_owner is not None for claim in claims),
        )
        busy = self._adopting | self._starting.keys()
        adopting = [claim for claim in claims if claim.saga_id not in busy]
        self._adopting.update(claim.saga_id for claim in adopting)
        try:
            await self._adopt_all(adopting)
        except Unavailable:
            self.reconcile_soon()  # they are ours, and must not be forgotten
            raise
        finally:
            self._adopting.difference_update(claim.saga_id for claim in adopting)

    async def _adopt_all(self, claims: Sequence[Claim]) -> None:
        """Sagas with short logs first, so that those with long ones keep nothing from them.

        Large ones are let go on, most of them back to sleep, before more are read: many at once were gigabytes.
        """
        by_id = {claim.saga_id: claim for claim in sorted(claims, key=lambda claim: claim.entries)}
        begun: list[asyncio.Future[Decision]] = []
        read_bytes = 0
        async for folded in fold_logs(self._sagas, list(by_id)):
            if read_bytes >= ADOPTED_BYTES_AT_ONCE and begun:
                await asyncio.wait(begun, timeout=_GOES_ON_SECONDS)
                begun, read_bytes = [], 0
            if (decided := await self._adopt_one(by_id[folded.saga_id], folded)) is not None:
                begun.append(decided)
            read_bytes += folded.size_bytes
            self._adopting.discard(folded.saga_id)

    async def _adopt_one(self, claim: Claim, folded: Folded) -> asyncio.Future[Decision] | None:
        """Raises Unavailable."""
        try:
            if folded.error is not None:
                raise folded.error
            if (state := folded.state) is None:
                raise NotFound(Reason.NO_SUCH_SAGA, f"saga {claim.saga_id} has no log", saga_id=claim.saga_id)
            registered = await self._definitions.get(state.definition, state.version)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - such as entries that only a newer version can read; the others are not to suffer
            _log.exception("saga_stuck", saga_id=claim.saga_id)
            self._drive.stuck.append(claim.saga_id)
            return None
        run = Run(claim.saga_id, registered.definition, state)
        run.origin = Origin(claim.start_key, claim.started_at)
        return self._drive.adopt(run, claim.previous_owner)
