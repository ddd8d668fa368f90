"""Beginning what was decided a little at a time, so that a thousand calls do not have the loop for themselves."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 16
"""So many calls are begun before others have a turn: a few milliseconds, at a fifth of a millisecond each."""


class Pace:
    """Begins the first few at once, and the rest in turns of the loop, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._begun = 0

    def begin(self, work: Callable[[], None]) -> None:
        """Has the work begun now or soon."""
        if self._waiting or self._begun >= AT_ONCE:
            self._waiting.append(work)
            return
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._take_turn)
        self._begun += 1
        work()

    def begin_all(self) -> None:
        """Begins everything that has waited."""
        while self._waiting:
            self._waiting.popleft()()

    def _take_turn(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < AT_ONCE:
            if not self._begun:
                asyncio.get_running_loop().call_soon(self._take_turn)
            self._begun += 1
            self._waiting.popleft()()
