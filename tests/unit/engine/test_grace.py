"""What is under way when a coordinator stops gets its time, but not from a database that is gone."""

from __future__ import annotations

import asyncio
from typing import cast

from saga_coordinator.engine.grace import give_time
from saga_coordinator.engine.lease import Lease
from tests.eventually import PATIENCE_SECONDS

FOREVER_SECONDS = 3600.0


class LeaseOfTheTests:
    def __init__(self, *, may_act: bool) -> None:
        self.may_act = may_act


class Ending:
    """Ends after so many looks."""

    def __init__(self, looks: float, lease: LeaseOfTheTests) -> None:
        self.looks = looks
        self.lease = lease
        self.looked = 0

    async def __call__(self, seconds: float) -> bool:
        self.looked += 1
        await asyncio.sleep(min(seconds, 0.01))
        return self.looked >= self.looks


async def finished(ending: Ending, grace_seconds: float = FOREVER_SECONDS) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await give_time(ending, grace_seconds, cast("Lease", ending.lease))


async def test_what_never_ends_is_not_waited_for_once_the_lease_is_out() -> None:
    await finished(Ending(float("inf"), LeaseOfTheTests(may_act=False)))


async def test_what_ends_is_waited_for_while_the_lease_lasts() -> None:
    ending = Ending(100, LeaseOfTheTests(may_act=True))
    await finished(ending)
    assert ending.looked == 100


async def test_a_lease_that_comes_back_at_once_cuts_nothing_off() -> None:
    class Blinking(Ending):
        async def __call__(self, seconds: float) -> bool:
            self.lease.may_act = bool(self.looked % 2)
            return await super().__call__(seconds)

    ending = Blinking(20, LeaseOfTheTests(may_act=True))
    await finished(ending)
    assert ending.looked == 20


async def test_the_grace_ends() -> None:
    await finished(Ending(float("inf"), LeaseOfTheTests(may_act=True)), 0.05)
    never = Ending(float("inf"), LeaseOfTheTests(may_act=True))
    await finished(never, 0.0)
    assert not never.looked
