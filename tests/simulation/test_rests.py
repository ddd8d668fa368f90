"""After a flush of many the journal rests, so that the next one is of many too, but not while nobody has anything to do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from proof.simulation.loop import SimulatedLoop
from saga_coordinator.saga.machine.entries import SagaCompleted
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.appends import Append, LogWriter, WrittenAppend
from saga_coordinator.store.journal import Journal

FLUSH_SECONDS = 0.1


class Log:
    """Takes a while to write, and remembers when it was asked to, in seconds of the event loop's clock."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Log]:
        yield self

    async def write(self, appends: Sequence[WrittenAppend]) -> Any:
        self.asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(FLUSH_SECONDS)


@pytest.mark.parametrize(
    ("appends", "busy_share", "rest_seconds"),
    [(3, 1.0, 0.0), (4, 1.0, 0.008), (40, 1.0, 0.008), (40, 0.6, 0.008), (40, 0.4, 0.001), (40, 0.0, 0.001)],
)
def test_a_rest_lasts_while_there_is_other_work(appends: int, busy_share: float, rest_seconds: float) -> None:
    loop = SimulatedLoop(random.Random(1), is_fifo=True)
    log = Log()
    journal = Journal(cast("LogWriter", log), "me", thread_time=lambda: busy_share * loop.time())

    async def append() -> None:
        await journal.start()
        await asyncio.gather(
            *(
                journal.append(Append(f"saga-{n}", DEFAULT_NAMESPACE, 2, [SagaCompleted()]))
                for n in range(appends)
            )
        )
        await journal.append(Append("the next", DEFAULT_NAMESPACE, 2, [SagaCompleted()]))
        await journal.stop()

    task = loop.create_task(append())
    assert loop.run(task.done, 60.0)
    task.result()
    loop.close()

    first, second = log.asked_at
    assert second - first == pytest.approx(FLUSH_SECONDS + rest_seconds)
