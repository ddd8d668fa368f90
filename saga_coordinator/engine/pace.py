"""Begins calls a few at a time, so that a thousand calls do not keep the event loop from everything else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 16
"""The number of calls that begin in one turn of the loop: a few milliseconds, at a fifth of a millisecond each."""


class Pace:
    """Begins the first few pieces of work at once, and the others in later turns of the loop, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._begun = 0

    def begin(self, work: Callable[[], None]) -> None:
        """Begins the work now or soon."""
        if self._waiting or self._begun >= AT_ONCE:
            self._waiting.append(work)
            return
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._take_turn)
        self._begun += 1
        work()

    def begin_all(self) -> None:
        """Begins all work that waits."""
        while self._waiting:
            self._waiting.popleft()()

    def _take_turn(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < AT_ONCE:
            if not self._begun:
                asyncio.get_running_loop().call_soon(self._take_turn)
            self._begun += 1
            self._waiting.popleft()()
