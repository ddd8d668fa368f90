"""Looks at the database for participants that were put or deleted through other coordinators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import structlog

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.retrying import Pauses, retried
from saga_coordinator.saga.words.errors import Unavailable

LOOK_SECONDS = 0.5
"""The seconds from one look to the next."""

LOOK_SECONDS_MAX = 60.0
"""A look that takes longer hangs, and health says so."""

_log = structlog.get_logger(__name__)


class RegisterWatch(Service):
    """Looks at the database again and again, and at once for whoever asks. Used from one event loop."""

    def __init__(self, look: Callable[[], Awaitable[None]], look_lock: asyncio.Lock) -> None:
        """`look` reads the database while it holds `look_lock`, and raises Unavailable when the database is away."""
        self._look = look
        self._look_lock = look_lock
        self._background = Background()
        self._looks = Background()
        self._next_look: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Looks at the database, if that can be reached, and goes on looking."""
        try:
            await self._look_once()
        except Exception as error:  # noqa: BLE001  # a defect, which is no reason not to serve those of the file
            _log.exception("directory_not_used", exc_info=error)
        self._background.keep("the directory", self._keep_looking, turn_seconds_max=LOOK_SECONDS_MAX)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops looking."""
        await self._background.stop()
        await self._looks.stop()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep the directory from hearing of changes."""
        return self._background.problems

    async def look_now(self) -> None:
        """Returns once the directory knows all that the database held at the call, or that the database cannot be reached.

        All who ask before a look at the database begins share that look.
        """
        if self._next_look is None:
            self._next_look = self._looks.begin("look at the directory", self._look_anew())
        await asyncio.shield(self._next_look)

    async def _look_anew(self) -> None:
        async with self._look_lock:  # a look that is under way may have read too early
            self._next_look = None
        await self._look_once()

    async def _look_once(self) -> None:
        try:
            await self._look()
        except Unavailable as error:
            _tell_not_read(error)

    async def _keep_looking(self, kept: Kept) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await retried(
                partial(self._look_kept, kept),
                Unavailable,
                Pauses(LOOK_SECONDS, LOOK_SECONDS),
                tell=_tell_not_read,
            )

    async def _look_kept(self, kept: Kept) -> None:
        try:
            await self._look()
        except Unavailable:
            kept.turned()  # a database that is away is no fault of the watch
            raise
        kept.turned()


def _tell_not_read(error: BaseException) -> None:
    _log.warning("directory_not_read", reason=str(error))
