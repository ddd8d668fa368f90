"""The participants file as it is by now: read at the start, and again when it changes or when somebody asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from saga_coordinator.lifecycle import Background, Kept
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.saga.words.errors import InvalidRequest, Unavailable
from saga_coordinator.turns import Turns

LOOK_SECONDS = 2.0
"""How often it is looked whether the file has changed."""

_READING_SECONDS_MAX = 30.0

_Mark = tuple[int, int, int] | None

_log = structlog.get_logger(__name__)


class DirectoryFile:
    """One participants file; `path` None: there is none, and nobody is known by it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._use: Callable[[Directory], None] = lambda directory: None
        self._mark: _Mark = None
        self._background = Background()
        self._turns = Turns(
            "readings of the participants file",
            at_once=1,
            waiting_max=1,
            seconds_max=_READING_SECONDS_MAX,
        )

    @property
    def problems(self) -> Iterator[str]:
        """What keeps it from being read."""
        yield from self._background.problems
        yield from self._turns.problems

    async def load(self) -> Directory:
        """What it says now.

        Raises:
            InvalidRequest: with every fault found.
            Unavailable: it could not be read in time.
        """
        directory, self._mark = await self._turns.in_thread(_load, self._path)
        return directory

    def start(self, use: Callable[[Directory], None]) -> None:
        """Calls `use` with what the file says whenever it has changed."""
        self._use = use
        if self._path is not None:
            self._background.keep("the watch of the participants file", self._watch)

    def reload(self) -> None:
        """Reads it again, soon. Faults are logged, and what it said before stays in use."""
        self._background.spawn("reloading of participants", self._reload())

    async def stop(self) -> None:
        await self._background.stop()

    async def _watch(self, kept: Kept) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                mark = await self._turns.in_thread(_mark_of, self._path)
            except Unavailable:  # which `problems` tell
                continue
            if mark not in (None, self._mark):  # a file that is being replaced may be gone for a moment
                self._mark = mark
                await self._reload()
            kept.turned()

    async def _reload(self) -> None:
        try:
            directory = await self.load()
        except InvalidRequest as error:
            _log.error("participants_not_reloaded", faults=[str(fault) for fault in error.faults])
        except Unavailable as error:
            _log.error("participants_not_reloaded", faults=[str(error)])
        else:
            self._use(directory)
            _log.info("participants_reloaded", participants=sorted(directory.names))


def _load(path: Path | None) -> tuple[Directory, _Mark]:
    mark = _mark_of(path)  # before it is read: a change meanwhile is then seen as one
    return (Directory.empty() if path is None else Directory.load(path)), mark


def _mark_of(path: Path | None) -> _Mark:
    """What differs when the file does, also where a link now leads to another file, as in a mounted ConfigMap."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)
