"""A flush that meets somebody else's entries is repeated without those: any number of losers cost a few round trips (P8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from saga_coordinator.saga.machine.entries import SagaCompleted
from saga_coordinator.saga.words.errors import OwnershipLost
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.appends import Append, Conflict, LogWriter, WrittenAppend
from saga_coordinator.store.journal import Journal

SAGAS = 256
LOST = {f"saga-{n}" for n in range(0, SAGAS, 3)}


class Log:
    """Has entries of the lost sagas already. Counts what it is asked to write."""

    def __init__(self) -> None:
        self.writes = 0
        self.written: list[str] = []

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Log]:
        yield self

    async def write(self, appends: Sequence[WrittenAppend]) -> Any:
        self.writes += 1
        await asyncio.sleep(0)
        saga_ids = [each.append.saga_id for each in appends]
        if not LOST.isdisjoint(saga_ids):
            raise Conflict
        self.written += saga_ids

    async def taken(self, appends: Sequence[Append]) -> list[int]:
        return [index for index, append in enumerate(appends) if append.saga_id in LOST]


async def test_p8_many_losers_of_one_flush_cost_a_few_round_trips() -> None:
    log = Log()
    journal = Journal(cast("LogWriter", log), "me")
    appends = [
        journal.append(Append(f"saga-{n}", DEFAULT_NAMESPACE, 2, [SagaCompleted()])) for n in range(SAGAS)
    ]
    everything = asyncio.gather(*appends, return_exceptions=True)
    await asyncio.sleep(0)
    await journal.start()

    outcomes = await everything
    await journal.stop()

    lost = {f"saga-{n}" for n, outcome in enumerate(outcomes) if isinstance(outcome, OwnershipLost)}
    assert lost == LOST
    assert log.written == [f"saga-{n}" for n in range(SAGAS) if f"saga-{n}" not in LOST]
    assert log.writes == 2
