"""Whatever comes in by whichever door, the event loop goes on turning: the doors of `bench/doors.py`, with the worst contents.

What is measured is the processor time that the loop's thread works in one piece, in units of a fixed piece of Python on the same
machine. So neither a slow machine nor a busy one decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.contents import CONTENTS
from bench.doors import Doors, Participants, Server, measure, register
from bench.machine import yardstick_us

YARDSTICKS_MAX = 1000
"""Twenty milliseconds are 350 of these. What a payload cost when it was written and searched on the loop is 2,000 to 4,000."""

DOORS = ["start_and_wait", "publish", "worker", "adoption"]


@pytest.fixture
def doors(database_dsn: str, tmp_path: Path) -> Iterator[Doors]:
    with ExitStack() as stack:
        participants = Participants()
        stack.callback(participants.server.stop, None)
        target = {"target": participants.address}
        file = tmp_path / "participants.yaml"
        file.write_text(
            json.dumps({"participants": {"contract": target, "plain": target, "worker": {"worker": True}}})
        )
        servers = [Server.start(tmp_path, database_dsn, file, stack, None) for _ in range(2)]
        register(servers[0])
        yield Doors(servers[0], servers[1], participants)


def test_no_door_stands_still_whatever_comes_in(doors: Doors) -> None:
    before = yardstick_us()
    for _ in measure(doors, ["start"], ["plain text"]):  # to be warm
        pass
    measured = list(measure(doors, DOORS, list(CONTENTS)))
    yardstick_ms = max(before, yardstick_us()) / 1000
    refused = {each.content for each in measured if each.note}
    assert refused <= {"control characters, too many"}
    longest = max(measured, key=lambda each: each.loop_ms)
    assert longest.loop_ms < YARDSTICKS_MAX * yardstick_ms, longest
