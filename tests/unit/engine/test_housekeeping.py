"""Chores are done at once, when they are due and when they are prompted; one that fails or hangs delays no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from saga_coordinator.engine.housekeeping import chores
from saga_coordinator.engine.housekeeping.chores import Chore, Housekeeping
from saga_coordinator.engine.housekeeping.stranded_groups import StrandedGroups
from saga_coordinator.engine.housekeeping.waking import Waking
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import ClaimGroup

SOON, NEVER = 0.001, 3600.0


class Done:
    """Counts how often a chore is done. `error`: what it raises, once for each that is given."""

    def __init__(self, *errors: Exception) -> None:
        self.times = 0
        self._errors = list(errors)
        self._changed = asyncio.Event()

    async def __call__(self) -> None:
        self.times += 1
        self._changed.set()
        if self._errors:
            raise self._errors.pop(0)

    async def reaches(self, times: int) -> None:
        async with asyncio.timeout(30):
            while self.times < times:
                self._changed.clear()
                await self._changed.wait()


async def hang() -> None:
    await asyncio.Event().wait()


def held_lease() -> Lease:
    lease = Lease(3600.0)
    lease.renewed(lease.clock(), 0.0)
    lease.take()
    return lease


@asynccontextmanager
async def kept(*each: Chore, lease: Lease | None = None) -> AsyncIterator[Housekeeping]:
    housekeeping = Housekeeping(each, lease or held_lease())
    await housekeeping.start()
    yield housekeeping
    await housekeeping.stop()


async def test_a_chore_is_done_at_once_and_again_when_it_is_due() -> None:
    often, rarely = Done(), Done()
    async with kept(Chore("often", SOON, often), Chore("rarely", NEVER, rarely)):
        await often.reaches(5)
        await rarely.reaches(1)
    assert rarely.times == 1


async def test_a_chore_without_an_interval_is_done_when_it_is_prompted() -> None:
    prompt, prompted, other = asyncio.Event(), Done(), Done()
    async with kept(Chore("prompted", None, prompted, prompt), Chore("other", SOON, other)):
        await other.reaches(3)
        assert prompted.times == 0
        for times in (1, 2):
            prompt.set()
            await prompted.reaches(times)


async def test_no_chore_is_done_without_the_lease() -> None:
    lease, done = Lease(3600.0), Done()
    async with kept(Chore("leased", SOON, done), lease=lease):
        for _ in range(10):
            await asyncio.sleep(0)
        assert done.times == 0
        lease.renewed(lease.clock(), 0.0)
        lease.take()
        await done.reaches(1)


async def test_a_chore_that_hangs_delays_no_other_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "CHORE_SECONDS_MAX", 0.0)
    done = Done()
    async with kept(Chore("stuck", NEVER, hang), Chore("other", SOON, done)) as housekeeping:
        await done.reaches(5)
        assert any(problem.startswith("stuck has not turned") for problem in housekeeping.problems)


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (Unavailable(Reason.DATABASE_UNAVAILABLE, "the database is away"), "chore_put_off"),
        (RuntimeError("a defect"), "background_failed"),
    ],
)
async def test_a_chore_that_failed_is_done_again_and_named(error: Exception, event: str) -> None:
    done = Done(error)
    with capture_logs() as logs:
        async with kept(Chore("failing", SOON, done)):
            await done.reaches(2)
    (line,) = [line for line in logs if line["event"] == event]
    assert "failing" in {line.get("chore"), line.get("task")}


class Groups:
    """Answers one look after the other with other claim groups."""

    def __init__(self, *looks: Sequence[ClaimGroup]) -> None:
        self._looks = list(looks)
        self.woken: list[tuple[float, int]] = []

    async def groups(self) -> Sequence[ClaimGroup]:
        return self._looks.pop(0)

    async def wake_within(self, seconds: float, limit: int) -> None:
        self.woken.append((seconds, limit))


async def test_a_stranded_claim_group_is_told_of_once_and_so_is_its_return() -> None:
    lost, served, idle = ClaimGroup("a", 0, 7), ClaimGroup("a", 1, 7), ClaimGroup("b", 0, 0)
    groups = StrandedGroups(Groups([lost, idle], [lost], [served], [served]))  # type: ignore[arg-type]  # what it uses
    with capture_logs() as logs:
        for _ in range(4):
            await groups.look()
    told = [(line["event"], line["claim_group"], line.get("sagas")) for line in logs]
    assert told == [("claim_group_without_coordinator", "a", 7), ("claim_group_served_again", "a", None)]


async def test_what_is_woken_is_looked_for_at_once() -> None:
    groups, wakeup = Groups(), Wakeup()
    waking = Waking(groups, wakeup)  # type: ignore[arg-type]  # what it uses of the store
    async with kept(waking.chore):
        waking.wake_soon()
        async with asyncio.timeout(30):
            await wakeup.wait(NEVER)
    assert len(groups.woken) == 1
