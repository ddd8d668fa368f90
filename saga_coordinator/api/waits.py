"""Calls that wait for something to happen: they end when the server stops, and would hold the stop up otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Waits:
    """The calls of one service that wait. Used from one event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """Tells whether waits have been told to end."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ends every wait, and every one that begins from now on."""
        self._stopping.set()
        while self._waiting:
            self._waiting.pop().cancel()

    async def until(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Waits for `work` and returns its result; None if the server stops first."""
        if self._stopping.is_set():
            work.close()
            return None
        task = asyncio.current_task()
        assert task is not None, "an RPC is answered in a task"
        self._waiting.add(task)
        try:
            return await work
        except asyncio.CancelledError:
            if not self._stopping.is_set() or task.uncancel():
                raise  # the caller hung up
            return None
        finally:
            self._waiting.discard(task)
