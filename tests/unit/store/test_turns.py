"""Turns: how many work at once, how many wait, and who keeps a turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from saga_coordinator.saga.errors import Overloaded
from saga_coordinator.store.turns import Turns


@pytest.fixture
def turns() -> Iterator[Turns]:
    made = Turns("lists", at_once=2, waiting_max=3)
    yield made
    made.close()


class Work:
    """Goes on until it is let go; counts how many are at it."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.at_once = 0
        self.most_at_once = 0

    def __call__(self) -> str:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.release()
        assert self.may_end.wait(30)
        self.at_once -= 1
        return "done"

    async def begins(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=30)


async def test_no_more_than_the_turns_work_at_once_and_the_others_wait(turns: Turns) -> None:
    work = Work()
    asked = [asyncio.ensure_future(turns.in_thread(work)) for _ in range(5)]
    await work.begins()
    await work.begins()
    with pytest.raises(Overloaded, match="3 lists wait for their turn"):
        await turns.in_thread(work)
    work.may_end.set()
    assert await asyncio.gather(*asked) == ["done"] * 5
    assert work.most_at_once == 2


async def test_work_whose_caller_has_gone_keeps_its_turn_until_it_ends(turns: Turns) -> None:
    work = Work()
    asked = [asyncio.ensure_future(turns.in_thread(work)) for _ in range(2)]
    await work.begins()
    await work.begins()
    for each in asked:
        each.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    others = [asyncio.ensure_future(turns.in_thread(work)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await turns.in_thread(work)
    work.may_end.set()
    assert await asyncio.gather(*others) == ["done"] * 3
    assert work.most_at_once == 2


async def test_a_caller_who_goes_while_it_waits_gives_its_place_up(turns: Turns) -> None:
    work = Work()
    asked = [asyncio.ensure_future(turns.in_thread(work)) for _ in range(5)]
    await work.begins()
    await work.begins()
    asked[4].cancel()
    await asyncio.gather(asked[4], return_exceptions=True)
    asked[4] = asyncio.ensure_future(turns.in_thread(work))
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*asked) == ["done"] * 5


async def test_what_cannot_be_fetched_gives_its_turn_back(turns: Turns) -> None:
    async def fail() -> None:
        raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            await turns.run(fail, lambda _: None)
    assert await turns.in_thread(lambda: 7) == 7
