"""Asks something of a saga, whichever coordinator drives it: the one way in for people, services, children and events.

A saga that this coordinator drives, or that sleeps and may be claimed, decides here. A settled saga has no owner and needs none.
Any other saga is its owner's, for whom a letter is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from saga_coordinator.engine.claiming import Claiming
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.heartbeats import Heartbeats
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.mail import Mailbox
from saga_coordinator.engine.ports import Stores
from saga_coordinator.engine.runs import Run, Runs
from saga_coordinator.engine.settled import SettledSagas
from saga_coordinator.engine.waiting import POLL_SECONDS
from saga_coordinator.saga.machine.answers import Accepted, Answer, NotApplied
from saga_coordinator.saga.machine.inputs import Asked, CancelAsked, HeartbeatReceived
from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.errors import OwnershipLost, Refusal, Unavailable
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import Letter

_REASON_SECONDS = 0.15
"""The seconds to spend on finding out why nobody answered. So CancelSaga is answered within a second."""


@immutable
class _Patience:
    """The seconds to wait for an answer, and whether a letter without an answer stays there for the owner after that."""

    seconds: float = 20.0
    is_letter_kept: bool = False


_USUAL = _Patience()
_PATIENCE: Mapping[type[Asked], _Patience] = {CancelAsked: _Patience(0.8, is_letter_kept=True)}


@immutable
class Answered:
    """A saga's answer. `run` is the saga after the decision, if that was made here; None if the saga's owner answered."""

    answer: Accepted
    run: Run | None = None

    @property
    def is_applied(self) -> bool:
        """Tells whether the request counts: it moved the saga, or the saga waits for it."""
        return not isinstance(self.answer, NotApplied)


@immutable
class _Decided:
    answer: Answer
    run: Run | None = None


class Asking:
    """Brings a request to the coordinator that may decide it, and brings the answer back."""

    def __init__(
        self,
        stores: Stores,
        drive: Drive,
        runs: Runs,
        settled: SettledSagas,
        claiming: Claiming,
        mailbox: Mailbox,
        lease: Lease,
    ) -> None:
        self._ownership = stores.ownership
        self._sagas = stores.sagas
        self._drive = drive
        self._claiming = claiming
        self._mailbox = mailbox
        self._lease = lease
        self._runs = runs
        self._settled = settled
        self._heartbeats = Heartbeats()

    async def ask(self, saga_id: str, asked: Asked) -> Answered:
        """Returns the saga's answer once its decision is durable. Asking the same again is safe (P9).

        Most heartbeats are answered from memory.

        Raises:
            NotFound: no such saga.
            NotPossibleNow: the saga's state forbids it; the message says why.
            Unavailable: the database is away, or whoever drives the saga did not answer in time; the message says what that waits
                for. A cancellation is answered within a second, and done all the same if its owner reads it within an hour.
        """
        now = self._lease.now()
        if isinstance(asked, HeartbeatReceived):
            remembered = self._heartbeats.remembered(saga_id, asked, now)
            if remembered is not None:
                return Answered(remembered)
        decided = await self._deliver(saga_id, asked, _PATIENCE.get(type(asked), _USUAL))
        if isinstance(decided.answer, Refusal):
            step = getattr(asked, "step", "")
            raise decided.answer.error(saga_id=saga_id, **({"step": step} if step else {}))
        if isinstance(asked, HeartbeatReceived):
            self._heartbeats.remember(saga_id, asked, decided.answer, now)
        return Answered(decided.answer, decided.run)

    async def _deliver(self, saga_id: str, asked: Asked, patience: _Patience) -> _Decided:
        letter: Letter | None = None
        pause, longest_pause = POLL_SECONDS
        try:
            async with asyncio.timeout(patience.seconds):
                while (decided := await self._decide_here(saga_id, asked)) is None:
                    if letter is None:
                        letter = await self._mailbox.leave(saga_id, asked)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, longest_pause)
                    if (answer := await self._mailbox.answer_to(letter)) is not None:
                        return _Decided(answer)
                if letter is not None and isinstance(decided.answer, NotApplied | Refusal):
                    # Its owner may just have done it, and thereby settled the saga, but not have answered yet.
                    await asyncio.sleep(longest_pause)
                    if (answer := await self._mailbox.answer_to(letter)) is not None:
                        return _Decided(answer)
                return decided
        except TimeoutError:
            if patience.is_letter_kept:
                letter = None
            raise await self._why_unanswered(saga_id) from None
        finally:
            if letter is not None:
                await self._mailbox.take_back(letter)

    async def _why_unanswered(self, saga_id: str) -> Unavailable:
        """Names what a request about a saga waits for. Repeating the request is safe in any case."""
        try:
            async with asyncio.timeout(_REASON_SECONDS):
                driver = await self._ownership.driver_of(saga_id)
        except (Unavailable, TimeoutError):
            driver = None
        if driver is None:
            return Unavailable(
                Reason.DATABASE_UNAVAILABLE, "the database did not answer in time; repeating is safe"
            )
        if not driver.is_group_alive:
            return Unavailable(
                Reason.NO_COORDINATOR,
                f"the saga belongs to claim group `{driver.claim_group}`, of which no coordinator lives: start one with "
                f"--group {driver.claim_group}; repeating is safe",
            )
        what = f"the saga waits for a coordinator of claim group `{driver.claim_group}` to take it over"
        if driver.owner is not None and driver.is_owner_alive:
            what = f"coordinator {driver.owner}, which drives the saga, did not answer in time"
        return Unavailable(Reason.OWNER_SILENT, f"{what}; repeating is safe")

    async def _decide_here(self, saga_id: str, asked: Asked) -> _Decided | None:
        """Returns the answer, or None if another coordinator drives the saga."""
        while True:
            try:
                if run := self._runs.get(saga_id):
                    return _Decided((await self._drive.ask(run, asked)).answer, run)
                if await self._claiming.claim_one(saga_id):
                    continue
                namespace, status = await self._sagas.place(saga_id)
                if status not in SETTLED:
                    return None
                return _Decided(*await self._settled.ask(saga_id, namespace, status, asked))
            except OwnershipLost:
                await asyncio.sleep(POLL_SECONDS[0])
