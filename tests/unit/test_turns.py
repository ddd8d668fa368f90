"""Turns: how many work at once, how many wait, and who keeps a turn."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from saga_coordinator.saga.words.errors import Overloaded, Unavailable
from saga_coordinator.turns import Turns
from tests.eventually import eventually


@pytest.fixture
async def turns() -> Turns:
    return Turns("lists", at_once=2, waiting_max=3, seconds_max=30.0)


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


# Work that hangs.


class Hanging:
    """Reads a pipe to which nobody writes, as from a mount that hangs; `end` lets all readers go on."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self._pipe = pipe
        self._writer: int | None = None

    def __call__(self) -> bytes:
        return self._pipe.read_bytes()

    def end(self) -> None:
        if self._writer is None:
            self._writer = os.open(self._pipe, os.O_RDWR)  # lets those go on that wait for a writer
            os.close(os.open(self._pipe, os.O_WRONLY))
            os.close(self._writer)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Hanging]:
    work = Hanging(tmp_path / "pipe")
    yield work
    work.end()


async def test_nobody_waits_longer_for_work_that_hangs_than_its_kind_says(hanging: Hanging) -> None:
    turns = Turns("files", at_once=2, waiting_max=3, seconds_max=0.05)
    with capture_logs() as logs, pytest.raises(Unavailable, match=r"given up after 0\.05 s"):
        await turns.in_thread(hanging)
    assert [line["event"] for line in logs] == ["turn_overdue"]
    assert list(turns.problems) == []  # there is another turn
    assert await turns.in_thread(lambda: 7) == 7


async def test_when_all_turns_hang_callers_are_refused_at_once_and_other_kinds_go_on(
    hanging: Hanging,
) -> None:
    turns, others = (
        Turns("files", at_once=2, waiting_max=3, seconds_max=0.05),
        Turns("lists", at_once=1, waiting_max=1, seconds_max=30.0),
    )
    asked = await asyncio.gather(*(turns.in_thread(hanging) for _ in range(6)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in asked)
    await eventually(lambda: list(turns.problems), "the turns to be seen hanging")
    with pytest.raises(Overloaded, match="2 files have been at work for more than"):
        await turns.in_thread(lambda: 7)
    assert await others.in_thread(lambda: 7) == 7
    hanging.end()
    await eventually(lambda: not list(turns.problems), "the turns to come back")
    assert await turns.in_thread(lambda: 7) == 7


async def test_a_turn_that_does_not_come_in_time_is_not_waited_for(hanging: Hanging) -> None:
    turns = Turns("files", at_once=1, waiting_max=3, seconds_max=0.05)
    working = asyncio.ensure_future(turns.in_thread(hanging))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match=r"no turn came|have been at work"):
        await turns.in_thread(lambda: 7)
    with pytest.raises(Unavailable):
        await working


async def test_whatever_ends_the_work_is_the_callers(turns: Turns) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await turns.in_thread(leave)


LEAVES = """
import asyncio, os, sys, tempfile
from saga_coordinator import lifecycle
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.turns import Turns

async def main():
    pipe = tempfile.mkdtemp() + "/pipe"
    os.mkfifo(pipe)
    try:
        await Turns("files", at_once=1, waiting_max=1, seconds_max=0.05).in_thread(lambda: open(pipe).read())
    except Unavailable:
        print("given up")

asyncio.run(main())
if "orderly" in sys.argv:
    lifecycle.leave(lambda: None)
    print("not reached")
"""


@pytest.mark.parametrize("how", ["orderly", "as it comes"])
def test_a_program_ends_though_work_of_it_hangs(how: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES, how], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0
    assert "given up\n" in ended.stdout
    assert "not reached" not in ended.stdout


def test_leaving_while_nothing_is_at_work_is_nothing() -> None:
    """Other tests of this process may have threads that wait; those count for nothing."""
    code = "from saga_coordinator import lifecycle; lifecycle.leave(lambda: None); print('goes on')"
    ended = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert ended.stdout == "goes on\n"
