"""The agenda of a saga: what there is to do for it. It is brought up to date with each entry, so a decision looks only at what
it changes.

An `Agenda` is computed from a definition and a state, and holds no further facts. The state carries it (`SagaState.memo`). A
decision takes the agenda from the state, updates it with each entry, and leaves it with the new state. A decision that finds it
already taken computes it anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from saga_coordinator.saga.definition.model import Definition, step_name
from saga_coordinator.saga.machine.ahead import Ahead
from saga_coordinator.saga.machine.place import Position, position_of
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.machine.undoing import Undoing


class Due(NamedTuple):
    """An instant at which an instance has something to do. Ordered by time, then by the instance's position."""

    instant: float
    position: Position
    key: str


class Agenda:
    """The agenda of one saga that is RUNNING or COMPENSATING."""

    def __init__(self, definition: Definition, state: SagaState) -> None:
        self.definition = definition
        self.is_undoing = state.status is not SagaStatus.RUNNING
        self.begun = 0
        """The number of operations that are in flight or between two attempts."""
        self._waits: dict[tuple[str, str], dict[str, None]] = {}
        """The keys of the waiting instances by event and correlation, the longest wait first. The correlation "" lists all
        waits for the event.
        """
        self._waits_of: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
        """The keys of the waiting instances by event and correlation, and then by the step's name."""
        self.retries: list[tuple[Position, str]] = []
        """A heap of the operations whose next attempt is due; the first in the order written comes first."""
        self.polls: list[Due] = []
        """A heap of the pending operations that are to be polled."""
        self._dues: list[Due] = []
        for key, step in state.steps.items():
            self._note(key, None, step)
        self.ahead = None if self.is_undoing else Ahead(definition, state)
        self.undoing = Undoing(definition, state) if self.is_undoing else None

    def follow(self, state: SagaState, key: str, before: StepState) -> None:
        """Updates the agenda with an entry about that instance. `state` is the saga's state after the entry, `before` the
        instance's state before it.
        """
        after = state.step(key)
        self._note(key, before, after)
        if self.ahead is not None:
            self.ahead.follow(state, key, before, after)
        if self.undoing is not None:
            self.undoing.follow(key, after)

    def waiting_for(self, event: str, correlation: str) -> str | None:
        """The key of the step that has waited longest for the event. An event without a correlation fits every wait for its
        name.
        """
        return next(iter(self._waits.get((event, correlation), ())), None)

    def each_waiting_for(self, event: str, correlation: str) -> Iterator[str]:
        """Yields the keys of instances that wait for the event: one instance of each step."""
        if correlation:
            for keys in self._waits_of.get((event, correlation), {}).values():
                yield from islice(keys, 1)

    def each_waiting(self) -> Iterator[str]:
        """Yields keys of instances that wait for an event with a correlation: for each event, one instance of each step."""
        for event, correlation in self._waits_of:
            yield from self.each_waiting_for(event, correlation)

    def overdue(self, state: SagaState, now: float) -> str | None:
        """The key of the instance whose wait or report has been overdue longest; None when there is none. It stays first until
        an entry ends the wait.

        A due attempt or poll is never overdue: it waits until there is room. A held attempt is overdue once its step's deadline
        has passed.
        """
        while self._dues and self._dues[0].instant <= now:
            instant, position, key = self._dues[0]
            step = state.step(key)
            is_bound = step.is_held and not self.is_undoing
            if instant in (step.pending_until, step.heartbeat_until) or (
                is_bound and instant == step.deadline_at
            ):
                return key
            heapq.heappop(self._dues)
            if instant == step.retry_at and not step.is_held:
                heapq.heappush(self.retries, (position, key))
            if instant == step.poll_at:
                heapq.heappush(self.polls, Due(instant, position, key))
        return None

    def next_due(self, state: SagaState) -> float | None:
        """The next instant at which anything is due. Everything that is due now has to be taken before."""
        while self._dues:
            instant, _, key = self._dues[0]
            if instant in instants(state.step(key), state.status):
                return instant
            heapq.heappop(self._dues)
        return None

    def retry(self, state: SagaState, now: float) -> tuple[Position, str] | None:
        """The first operation whose next attempt is due; None when there is none."""
        while self.retries:
            position, key = self.retries[0]
            step = state.step(key)
            if step.retry_at is not None and step.retry_at <= now and not step.is_held:
                return position, key
            heapq.heappop(self.retries)
        return None

    def is_poll_due(self, state: SagaState, now: float) -> bool:
        """Tells whether any pending operation is to be polled now. `take_poll` gives the first of them."""
        while self.polls:
            poll_at = state.step(self.polls[0].key).poll_at
            if poll_at is not None and poll_at <= now:
                return True
            heapq.heappop(self.polls)
        return False

    def take_poll(self) -> str:
        """Removes and returns the key of the pending operation that is to be polled first."""
        return heapq.heappop(self.polls).key

    def _note(self, key: str, before: StepState | None, after: StepState) -> None:
        self.begun += _is_begun(after) - (before is not None and _is_begun(before))
        status = SagaStatus.COMPENSATING if self.is_undoing else SagaStatus.RUNNING
        found = instants(after, status)
        if found is not NOTHING:
            known = NOTHING if before is None else instants(before, status)
            for instant, known_instant in zip(found, known, strict=True):
                if instant is not None and instant != known_instant:
                    position = position_of(self.definition, key, newest_first=self.is_undoing)
                    heapq.heappush(self._dues, Due(instant, position, key))
        if after.wait is not None and after.wait.event is not None:
            for correlation in {"", after.wait.correlation or ""}:
                waiting = self._waits.setdefault((after.wait.event, correlation), {})
                of_step = self._waits_of.setdefault((after.wait.event, correlation), {})
                same = of_step.setdefault(step_name(key), {})
                if after.is_open:
                    waiting[key] = same[key] = None
                else:
                    waiting.pop(key, None)
                    same.pop(key, None)


Instants = tuple[float | None, ...]
NOTHING: Instants = (None,) * 6


def instants(step: StepState, status: SagaStatus) -> Instants:
    """The instants at which the step has something to do, always in this order: its next attempt, the end of its wait, the next
    poll, the latest heartbeat, the end of an attempt that may still be in flight unseen (P4), and the step's deadline if its
    action is held.

    The shell decides when to look for room for a held attempt, so that instant is not among these.
    """
    is_undoing = status is SagaStatus.COMPENSATING
    settles_at = step.settles_at if is_undoing else None
    retry_at = None if step.is_held else step.retry_at
    deadline_at = step.deadline_at if step.is_held and not is_undoing else None
    found = (retry_at, step.pending_until, step.poll_at, step.heartbeat_until, settles_at, deadline_at)
    return NOTHING if found == NOTHING else found


def _is_begun(step: StepState) -> bool:
    return step.is_in_flight or step.retry_at is not None
