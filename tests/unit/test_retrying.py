"""The policy for trying again: how long it waits, what it tells, and that only simulated time goes by where time is simulated."""

from __future__ import annotations

import random
import threading

import pytest

from proof.simulation.loop import Node, SimulatedLoop
from saga_coordinator.retrying import Pauses, kept_going, retried, retried_in_thread, retried_until


class Flaky:
    """Fails as often as it is told to, and then succeeds."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tries = 0

    def work(self) -> str:
        self.tries += 1
        if self.tries <= self.failures:
            raise OSError(f"failure {self.tries}")
        return "done"

    async def later(self) -> str:
        return self.work()


@pytest.mark.parametrize(("failures", "whole"), [(1, 0.1), (2, 0.2), (3, 0.4), (7, 5.0), (10_000, 5.0)])
def test_pauses_double_up_to_the_longest_and_are_drawn_from_the_upper_half(
    failures: int, whole: float
) -> None:
    drawn = [Pauses(0.1, 5.0).after(failures) for _ in range(200)]
    assert whole / 2 <= min(drawn) < max(drawn) <= whole


async def test_an_outage_is_told_once() -> None:
    told: list[str] = []
    flaky = Flaky(4)
    done = await retried(flaky.later, OSError, Pauses(0.0, 0.0), tell=lambda error: told.append(str(error)))
    assert (done, flaky.tries, told) == ("done", 5, ["failure 1"])
    flaky = Flaky(4)
    done = retried_in_thread(
        flaky.work, OSError, Pauses(0.0, 0.0), tell=lambda error: told.append(str(error))
    )
    assert (done, flaky.tries, told) == ("done", 5, ["failure 1", "failure 1"])


async def test_what_fails_still_after_the_time_that_it_was_given_is_raised() -> None:
    flaky = Flaky(9)
    with pytest.raises(OSError, match="failure 1"):
        await retried(flaky.later, OSError, Pauses(0.0, 0.0), tell=print, seconds_max=0.0)
    with pytest.raises(OSError, match="failure 2"):
        await retried(flaky.later, ValueError, Pauses(0.0, 0.0), tell=print)


def test_a_thread_is_not_kept_by_a_pause_when_it_is_over() -> None:
    over, flaky = threading.Event(), Flaky(9)

    def tell(_: BaseException) -> None:
        over.set()

    def work() -> None:
        flaky.work()

    retried_until(over, work, OSError, Pauses(1e6, 1e6), tell=tell)
    assert flaky.tries == 1


def test_pauses_are_of_the_simulated_clock() -> None:
    loop = SimulatedLoop(random.Random(1), is_fifo=True)
    node = Node(loop, "coordinator", offset=0.0, pace=1.0)
    ended: list[float] = []
    flaky = Flaky(3)

    async def run() -> None:
        async def work() -> None:
            await flaky.later()

        await kept_going(work, is_failure=lambda error: True, pause=lambda _: 1000.0)
        ended.append(loop.now)

    node.spawn(run())
    loop.run(lambda: bool(ended), 10_000.0)
    assert ended == [pytest.approx(3000.0, rel=0.01)]
    loop.close()
