"""The contract of a chore, and what keeps a list of chores going."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from saga_coordinator.engine.lease import Lease
from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.saga.words.errors import Unavailable

CHORE_SECONDS_MAX = 60.0
"""A chore that takes longer hangs, and health says so."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that is done every `every_seconds`, the first time at once, and whenever `prompt` is set.

    `work` may raise Unavailable: then the chore is done again when it is due. Whatever else it raises is logged with the chore's
    name, and the chore is begun again after a pause that grows. No chore may rely on being done by one coordinator only.
    """

    name: str
    every_seconds: float | None
    """None for a chore that is done only when it is prompted."""
    work: Callable[[], Awaitable[None]]
    prompt: asyncio.Event | None = None


class Housekeeping(Service):
    """Does the chores of one coordinator while it holds its lease, each chore in a loop of its own."""

    def __init__(self, chores: Sequence[Chore], lease: Lease) -> None:
        self._chores = chores
        self._lease = lease
        self._background = Background()

    async def start(self) -> None:
        """Begins to do the chores."""
        for chore in self._chores:
            self._background.keep(
                chore.name, partial(self._keep_doing, chore), turn_seconds_max=CHORE_SECONDS_MAX
            )

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Does no more; what is under way is cancelled."""
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """Which chores are not done, and why."""
        return self._background.problems

    async def _keep_doing(self, chore: Chore, kept: Kept) -> None:
        if chore.every_seconds is None:
            await _next(chore, kept)
        while True:
            kept.rests()
            await self._lease.wait_until_valid()
            kept.begins()
            try:
                await chore.work()
            except Unavailable as error:
                _log.warning("chore_put_off", chore=chore.name, reason=str(error))
            kept.turned()
            await _next(chore, kept)


async def _next(chore: Chore, kept: Kept) -> None:
    """Returns when the chore is to be done again."""
    kept.rests()
    if chore.prompt is None:
        assert chore.every_seconds is not None, f"{chore.name} would never be done"
        await asyncio.sleep(chore.every_seconds)
        return
    # Not `wait_for`: before Python 3.12 it may swallow the cancellation by which `stop` ends this.
    with suppress(TimeoutError):
        async with asyncio.timeout(chore.every_seconds):
            await chore.prompt.wait()
    chore.prompt.clear()
