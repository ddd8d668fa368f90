"""The lease by the local clock: how long it may be acted on, when it has to be regained, and who is told what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from saga_coordinator import lifecycle
from saga_coordinator.engine import lease_keeper
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.lease_keeper import LeaseKeeper
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.reasons import Reason
from tests.eventually import eventually, wait_until

AHEAD = 1000.0


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def lease(clock: Clock) -> Lease:
    """One of three seconds, just taken."""
    lease = Lease(3.0, clock=clock)
    lease.renewed(clock(), clock() + AHEAD)
    lease.take()
    return lease


async def test_p10_it_counts_from_before_the_call_that_renewed_it(lease: Lease, clock: Clock) -> None:
    """The database may have counted from the moment that it was asked."""
    clock.now += 1.0
    asked_at = clock()
    clock.now += 0.9
    assert lease.renewed(asked_at, asked_at + AHEAD)
    clock.now = asked_at + 2.999
    assert lease.may_act
    clock.now = asked_at + 3.0
    assert not lease.may_act


async def test_one_that_was_renewed_in_time_is_held_without_a_review(lease: Lease, clock: Clock) -> None:
    clock.now += 2.9
    assert lease.renewed(clock(), clock() + AHEAD)
    clock.now += 2.9
    assert lease.may_act
    assert lease.lapses == 1


async def test_one_that_had_run_out_is_not_held_before_it_is_regained(lease: Lease, clock: Clock) -> None:
    clock.now += 3.0
    assert not lease.renewed(clock(), clock() + AHEAD)
    assert list(lease.problems)
    clock.now += 1.0
    assert not lease.renewed(clock(), clock() + AHEAD)
    assert lease.regain(lease.lapses)
    assert lease.may_act
    clock.now += 2.999
    assert lease.may_act


async def test_a_renewal_that_was_answered_too_late_holds_nothing(lease: Lease, clock: Clock) -> None:
    asked_at = clock()
    clock.now += 3.5
    assert not lease.renewed(asked_at, clock() + AHEAD)
    assert lease.regain(lease.lapses)
    assert not lease.may_act


async def test_what_was_found_out_before_it_ran_out_again_counts_for_nothing(
    lease: Lease, clock: Clock
) -> None:
    clock.now += 3.0
    lease.renewed(clock(), clock() + AHEAD)
    found_out_at = lease.lapses
    clock.now += 3.0
    lease.renewed(clock(), clock() + AHEAD)
    assert not lease.regain(found_out_at)
    assert not lease.may_act
    assert lease.regain(lease.lapses)
    assert lease.may_act


# Kept in a thread.


class Database:
    """Answers renewals, as it is told to."""

    def __init__(self) -> None:
        self.renewals = 0
        self.opened = 0
        self.errors: list[BaseException] = []
        self.hangs = False

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[Database]:
        self.opened += 1
        yield self

    async def renew(self, lease_seconds: float) -> float:
        if self.errors:
            raise self.errors.pop(0)
        if self.hangs:
            await asyncio.Event().wait()
        self.renewals += 1
        return time.monotonic()


Keep = Callable[..., Awaitable[LeaseKeeper]]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def keep(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keep]:
    """Keeps a lease in a thread."""
    monkeypatch.setattr(lifecycle, "RESTART_SECONDS", (0.01, 0.05))
    keepers: list[LeaseKeeper] = []

    async def nothing() -> None:
        pass

    async def start(lease: Lease, on_regained: Callable[[], Awaitable[None]] = nothing) -> LeaseKeeper:
        keepers.append(LeaseKeeper(lease, database.renewing, on_regained=on_regained, in_thread=True))
        await keepers[-1].start()
        return keepers[-1]

    yield start
    for keeper in keepers:
        await keeper.stop()


async def test_a_busy_event_loop_keeps_its_lease(keep: Keep, database: Database) -> None:
    lease = Lease(0.5)
    await keep(lease)
    before = database.renewals
    began = time.monotonic()
    # In the way of the loop, which does not turn for more than a lease's time.
    wait_until(lambda: database.renewals >= before + 4, "four renewals")
    assert time.monotonic() > began + 0.5
    assert lease.may_act
    assert lease.term == 1


async def test_an_event_loop_that_stands_still_gives_it_up_and_reviews_before_it_acts(
    keep: Keep, database: Database
) -> None:
    lease, seen = Lease(0.2), []

    async def review() -> None:
        seen.append((lease.may_act, lease.term))

    await keep(lease, review)
    with capture_logs() as logs:
        began = time.monotonic()
        wait_until(  # in the way of the loop
            lambda: any(line["event"] == "lease_let_go" for line in logs) and not lease.may_act,
            "the lease to be given up",
        )
        assert time.monotonic() > began + lease_keeper.STALL_LEASES * 0.2
        assert "has not run for 0.4 s" in str(lease.run_out())
        assert not seen
        await eventually(lambda: lease.may_act, "the lease to be regained")
    assert seen[0] == (False, 2)
    assert lease.term == 1 + len(seen)


async def test_a_thread_that_dies_is_begun_again_and_that_is_told(keep: Keep, database: Database) -> None:
    lease = Lease(0.5)
    keeper = await keep(lease)
    opened, renewals = database.opened, database.renewals
    with capture_logs() as logs:
        database.errors.append(SystemExit(3))
        await eventually(lambda: database.renewals > renewals, "a renewal by the next thread's loop")
    assert database.opened == opened + 1
    assert ("background_failed", "the lease") in {(line["event"], line.get("task")) for line in logs}
    await eventually(lambda: not list(keeper.problems), "all to be well")


async def test_a_thread_that_has_ended_is_a_problem(
    keep: Keep, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(60.0)
    keeper = await keep(lease)
    assert not list(keeper.problems)
    assert keeper._thread is not None
    await keeper._thread.stop()
    assert list(keeper.problems) == ["the lease's thread has ended"]


async def test_a_renewal_that_hangs_is_given_up_and_the_next_one_asks_anew(
    keep: Keep, database: Database
) -> None:
    lease = Lease(0.2)
    await keep(lease)
    database.hangs = True
    await eventually(lambda: not lease.may_act, "the lease to be over")
    await eventually(lambda: "was not renewed within 0.2 s" in str(lease.run_out()), "the reason")
    database.hangs = False
    await eventually(lambda: lease.may_act, "the lease to be regained")


async def test_a_lease_that_cannot_be_taken_is_told_as_it_is(keep: Keep, database: Database) -> None:
    database.errors.append(Unavailable(Reason.DATABASE_UNAVAILABLE, "the database is away"))
    with pytest.raises(Unavailable, match="the database is away"):
        await keep(Lease(0.5))


async def test_a_review_that_fails_is_begun_again(keep: Keep, database: Database) -> None:
    lease, tries = Lease(0.2), 0

    async def review() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the pool is used up")
        if tries == 2:
            raise RuntimeError("a defect")

    await keep(lease, review)
    database.hangs = True
    await eventually(lambda: not lease.may_act, "the lease to be over")
    with capture_logs() as logs:
        database.hangs = False
        await eventually(lambda: lease.may_act, "the lease to be regained")
    assert tries >= 3
    assert [line["event"] for line in logs].count("lease_not_regained") == 2
