"""The room for sagas in memory: how much is left, and which definitions may use it.

Room is shared by dynamic thresholds (Choudhury and Hahne, 1998): a definition may hold as many sagas in memory as are free. So a
definition whose participant hangs never takes all of the room, and others can use the rest (P11).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from saga_coordinator.engine.left_to_others import LeftToOthers
from saga_coordinator.engine.runs import Runs
from saga_coordinator.saga.words.errors import Overloaded


class Room:
    """The room of one coordinator. Sagas in memory, starts on their way and awaited claims take up room."""

    def __init__(self, runs: Runs, left_to_others: LeftToOthers, *, sagas_max: int, backlog_max: int) -> None:
        self._runs = runs
        self._sagas_max = sagas_max
        self.left_to_others = left_to_others
        self.backlog_max = backlog_max
        self._backlog = 0
        self._starting: dict[str, str] = {}
        self._starting_of: Counter[str] = Counter()
        self._claims_awaited = 0

    @property
    def free(self) -> int:
        """The number of further sagas that fit; negative if there are too many."""
        return self._sagas_max - len(self._runs) - len(self._starting) - self._claims_awaited

    def has_room_for(self, definition: str) -> bool:
        """Tells whether one more saga of this definition may be driven here now."""
        return self._held_by(definition) < self.free

    def crowded(self) -> list[str]:
        """The definitions that hold so many sagas that no more of them may be taken."""
        free = self.free
        definitions = self._runs.definitions | self._starting_of.keys()
        return [definition for definition in definitions if self._held_by(definition) >= free]

    def _held_by(self, definition: str) -> int:
        return self._runs.count_of(definition) + self._starting_of[definition]

    # Starts.

    @property
    def starting(self) -> Collection[str]:
        """The sagas whose starts are on their way. Their rows may name this coordinator before it has heard of that."""
        return self._starting.keys()

    def keep_for_start(self, saga_id: str, definition: str) -> None:
        """Keeps room for a saga whose start is on its way."""
        self._starting[saga_id] = definition
        self._starting_of[definition] += 1

    def end_start(self, saga_id: str) -> None:
        """Gives back the room of a start that has ended, however it ended."""
        self._starting_of[self._starting.pop(saga_id)] -= 1

    def count_queued(self) -> None:
        """Counts a start that there is no room for. Raises Overloaded when too many sagas wait already."""
        if self._backlog >= self.backlog_max:
            raise Overloaded(
                f"{self._backlog} sagas wait for a coordinator with room; repeat later, or add coordinators"
            )
        self._backlog += 1

    # The queue.

    @property
    def has_backlog(self) -> bool:
        """Tells whether sagas waited for a coordinator with room when they were last counted, or were queued since."""
        return self._backlog > 0

    def note_backlog(self, sagas: int) -> None:
        """Notes how many sagas wait for a coordinator with room."""
        self._backlog = sagas

    # Claims.

    def keep_for_claims(self, count: int) -> None:
        """Keeps room for as many claims as are awaited; 0 once the answer has come."""
        self._claims_awaited = count
