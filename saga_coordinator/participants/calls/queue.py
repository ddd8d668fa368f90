"""The queue before one participant: calls that wait there for a moment, because there is no room for them yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

_CALLS_MAX = 20_000
_ACTION_TURN = 4
"""At least one of so many calls taken from the queue is an action; otherwise compensations come first."""


class Waiting:
    """A call in the queue. `is_open` until it is taken out or withdrawn."""

    __slots__ = ("is_compensation", "is_open")

    def __init__(self, *, is_compensation: bool) -> None:
        self.is_compensation = is_compensation
        self.is_open = True


class CallQueue:
    """The waiting calls of one participant, the oldest first among the actions and among the compensations.

    `len` counts the calls that are open. A withdrawn call leaves an empty place, which counts for nothing.
    """

    __slots__ = ("_open", "_turn", "_waiting")

    def __init__(self) -> None:
        self._waiting: tuple[deque[Waiting], deque[Waiting]] = (deque(), deque())  # actions, compensations
        self._open = 0
        self._turn = 0

    def __len__(self) -> int:
        return self._open

    @property
    def is_full(self) -> bool:
        return self._open >= _CALLS_MAX

    def append(self, *, is_compensation: bool) -> Waiting:
        """Queues one more call."""
        waiting = Waiting(is_compensation=is_compensation)
        self._waiting[is_compensation].append(waiting)
        self._open += 1
        return waiting

    def ahead(self, *, is_compensation: bool) -> int:
        """The number of calls that would have their turn before a call that is queued now. Compensations come first."""
        return len(self._waiting[True]) if is_compensation else self._open

    def kinds(self) -> Iterator[bool]:
        """The kinds of calls that wait, the one whose turn it is first: True stands for compensations."""
        is_actions_turn = self._turn % _ACTION_TURN == _ACTION_TURN - 1
        for is_compensation in (False, True) if is_actions_turn else (True, False):
            if self._waiting[is_compensation]:
                yield is_compensation

    def admit_first(self, *, is_compensation: bool) -> Waiting | None:
        """Takes the first call of a kind out of the queue for its turn; returns None for an empty place."""
        waiting = self._take(is_compensation=is_compensation)
        self._turn += waiting is not None
        return waiting

    def refuse_first(self) -> Waiting | None:
        """Takes a call out of the queue that gets no turn, compensations first; returns None for an empty place."""
        return self._take(is_compensation=bool(self._waiting[True]))

    def withdraw(self, waiting: Waiting) -> None:
        """Withdraws a call; does nothing if it is not in the queue any more."""
        if waiting.is_open:
            waiting.is_open = False
            self._open -= 1
            if not self._open:
                for waiting_calls in self._waiting:
                    waiting_calls.clear()

    def _take(self, *, is_compensation: bool) -> Waiting | None:
        waiting = self._waiting[is_compensation].popleft()
        if not waiting.is_open:
            return None
        waiting.is_open = False
        self._open -= 1
        return waiting
