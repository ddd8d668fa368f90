"""What time it is in the database, as a coordinator reckons it between two renewals of its lease (P10)."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.lease_keeper import LeaseKeeper

DATABASE_AHEAD = 1000.0


class SlowDatabase:
    """Answers a renewal with its time, after which the answer travels for so long."""

    def __init__(self, *answers_take: float) -> None:
        self.clock = 0.0
        self._answers_take = list(answers_take)
        self.all_answered = asyncio.Event()

    async def renew(self, lease_seconds: float) -> float:
        now = self.clock + DATABASE_AHEAD
        self.clock += self._answers_take.pop(0)
        if not self._answers_take:
            self.all_answered.set()
            await asyncio.Event().wait()
        return now


async def test_a_slow_answer_does_not_set_the_time_back() -> None:
    database = SlowDatabase(0.01, 0.9, 0.0)
    lease = Lease(0.03, clock=lambda: database.clock)
    keeper = LeaseKeeper(lease, lambda: nullcontext(database), on_regained=_do_nothing, in_thread=False)
    await keeper.start()
    await database.all_answered.wait()
    reckoned = lease.now()
    await keeper.stop()

    assert database.clock + DATABASE_AHEAD - reckoned < 0.02


async def _do_nothing() -> None:
    pass
