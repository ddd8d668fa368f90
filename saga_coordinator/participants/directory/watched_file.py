"""Follows the participants file: it is read at the start, and again when it changes or when somebody asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.retrying import Pauses, retried
from saga_coordinator.saga.words.errors import InvalidRequest, Unavailable
from saga_coordinator.turns import Turns

LOOK_SECONDS = 2.0
"""How often it is looked whether the file has changed."""

_READING_SECONDS_MAX = 30.0

_Mark = tuple[int, int, int] | None

_log = structlog.get_logger(__name__)


class DirectoryFile(Service):
    """One participants file. With `path` None there is no file, and no participant is known by it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.directory = Directory.empty()
        """What the file said when it was read last."""
        self._mark: _Mark = None
        self._turns = Turns(
            "readings of the participants file",
            at_once=1,
            waiting_max=1,
            seconds_max=_READING_SECONDS_MAX,
        )

    @property
    def problems(self) -> Iterator[str]:
        """What keeps the file from being read."""
        return self._turns.problems

    async def start(self) -> None:
        """Reads the file. Raises as `read`."""
        await self.read()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Has nothing to let go of."""

    async def read(self) -> Directory:
        """Reads what the file says now.

        Raises:
            InvalidRequest: with every fault found.
            Unavailable: the file could not be read in time.
        """
        self.directory, self._mark = await self._turns.in_thread(_load, self.path)
        return self.directory

    async def has_changed(self) -> bool:
        """Tells whether the file differs from the one seen last, and remembers it. Raises Unavailable if that takes too long."""
        mark = await self._turns.in_thread(_mark_of, self.path)
        if mark in (None, self._mark):  # a file that is being replaced may be gone for a moment
            return False
        self._mark = mark
        return True


class DirectoryWatch(Service):
    """Reads a participants file again when it has changed or when somebody asks for it, and puts it to use."""

    def __init__(self, file: DirectoryFile, use: Callable[[Directory], None]) -> None:
        self._file = file
        self._use = use
        self._background = Background()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps changes from being seen."""
        yield from self._background.problems
        yield from self._file.problems

    async def start(self) -> None:
        """Begins to watch the file for changes."""
        if self._file.path is not None:
            self._background.keep("the watch of the participants file", self._watch)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Watches the file no more."""
        await self._background.stop()

    def reload(self) -> None:
        """Reads the file again soon. If it has faults, they are logged and the former content stays in use."""
        self._background.spawn("reloading of participants", self._reload())

    async def _watch(self, kept: Kept) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            has_changed = await retried(
                self._file.has_changed,
                Unavailable,
                Pauses(LOOK_SECONDS, LOOK_SECONDS),
                tell=lambda error: _log.warning("participants_file_not_read", reason=str(error)),
            )
            if has_changed:
                await self._reload()
            kept.turned()

    async def _reload(self) -> None:
        try:
            directory = await self._file.read()
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
    """A mark that differs when the file does, also if a link now leads to another file, as in a mounted ConfigMap."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)
