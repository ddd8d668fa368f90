"""Waits for a saga to settle, or to change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from saga_coordinator.engine.ports import SagaStore
from saga_coordinator.engine.runs import Run, Runs
from saga_coordinator.saga.machine.transitions import SETTLED

POLL_SECONDS = (0.02, 0.5)
"""The first and the longest pause, in seconds, between two looks at a saga that another coordinator drives."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A saga that has ended or needs attention. `run` is the saga as this coordinator knew it, if this coordinator drove it."""

    run: Run | None = None


class Waiting:
    """Waits on behalf of callers."""

    def __init__(self, runs: Runs, sagas: SagaStore) -> None:
        self._runs = runs
        self._sagas = sagas

    async def settled(self, saga_id: str, timeout_seconds: float) -> Settled | None:
        """Returns as soon as the saga has ended or needs attention. Returns None if it has not after `timeout_seconds`.

        Raises:
            NotFound: no such saga.
            Unavailable: the database is away.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout_seconds
        pause, longest_pause = POLL_SECONDS
        while True:
            run = self._runs.get(saga_id)
            remaining = give_up_at - loop.time()
            if run is not None:
                settling = run.settling()
                done, _ = await asyncio.wait([settling], timeout=max(0.0, remaining))
                if not done:
                    return None
                if settling.result():
                    return Settled(run)
            elif await self._sagas.status(saga_id) in SETTLED:
                return Settled()
            elif remaining <= 0:
                return None
            else:
                await asyncio.sleep(min(pause, remaining))
                pause = min(2 * pause, longest_pause)

    async def changed(self, saga_id: str, timeout_seconds: float) -> None:
        """Returns when something has been appended to the saga's log, and after `timeout_seconds` in any case.

        Nothing is heard of a saga that another coordinator drives, so that takes the whole time.
        """
        run = self._runs.get(saga_id)
        if run is None:
            await asyncio.sleep(timeout_seconds)
        else:
            await asyncio.wait([run.changing()], timeout=timeout_seconds)
