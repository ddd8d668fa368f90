"""What there is to do for a saga, kept up to date entry by entry, so that a decision looks at no more than it changes.

An `Agenda` is worked out from a definition and a state, and says nothing that these two do not. It is kept with the state
(`SagaState.memo`), taken by the decision that goes on from there, moved along with each entry, and left with the new state.
Whoever goes on from a state whose agenda has been taken works it out anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from saga_coordinator.saga.definition.model import Definition, step_name
from saga_coordinator.saga.machine.ahead import Ahead
from saga_coordinator.saga.machine.place import Position, position_of
from saga_coordinator.saga.machine.state import SagaState, StepState
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.machine.undoing import Undoing


class Due(NamedTuple):
    """Something of an instance is due then. Ordered by time, then by where the instance stands."""

    instant: float
    position: Position
    key: str


class Agenda:
    """What is due when, for one saga in one of the two statuses in which it moves by itself."""

    def __init__(self, definition: Definition, state: SagaState) -> None:
        self.definition = definition
        self.is_undoing = state.status is not SagaStatus.RUNNING
        self.begun = 0
        """How many operations are in flight or between two attempts."""
        self._waits: dict[tuple[str, str], dict[str, None]] = {}
        """By event and correlation, the keys of the steps that wait, in the order in which they began to; "" has them all."""
        self._waits_of: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
        """The same, for each of the steps that they are instances of."""
        self.retries: list[tuple[Position, str]] = []
        """A heap of the operations whose next attempt is due; the first in the order written comes first."""
        self.polls: list[Due] = []
        """A heap of the pending operations that are to be asked about."""
        self._dues: list[Due] = []
        for key, step in state.steps.items():
            self._note(key, None, step)
        self.ahead = None if self.is_undoing else Ahead(definition, state)
        self.undoing = Undoing(definition, state) if self.is_undoing else None

    def follow(self, state: SagaState, key: str, before: StepState) -> None:
        """Moves along with an entry about that instance; `state` is what it led to, `before` what the instance was."""
        after = state.step(key)
        self._note(key, before, after)
        if self.ahead is not None:
            self.ahead.follow(state, key, before, after)
        if self.undoing is not None:
            self.undoing.follow(state, key, after)

    def waiting_for(self, event: str, correlation: str) -> str | None:
        """The key of the step that has waited longest for the event. An event without a correlation fits every wait for its
        name.
        """
        return next(iter(self._waits.get((event, correlation), ())), None)

    def each_waiting_for(self, event: str, correlation: str) -> Iterator[str]:
        """The keys of instances that wait for the event, one for each step."""
        if correlation:
            for keys in self._waits_of.get((event, correlation), {}).values():
                yield from islice(keys, 1)

    def each_waiting(self) -> Iterator[str]:
        """Keys of instances that wait for an event with a correlation: for each of these events, of each step one."""
        for event, correlation in self._waits_of:
            yield from self.each_waiting_for(event, correlation)

    def overdue(self, state: SagaState, now: float) -> str | None:
        """The key of the instance whose wait, or whose report, is overdue first, until that is recorded; None when there is none.

        An attempt or a question that is due is kept until there is room for it. What is held is overdue at its step's deadline.
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
        """When the next thing is due, once everything that is due now has been taken."""
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
        """Whether a pending operation is to be asked about now: `take_poll` says which."""
        while self.polls:
            poll_at = state.step(self.polls[0].key).poll_at
            if poll_at is not None and poll_at <= now:
                return True
            heapq.heappop(self.polls)
        return False

    def take_poll(self) -> str:
        """The key of the pending operation that is to be asked about first, once."""
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
    """When something of the step is due, each in its place: an attempt, the end of a wait, a question, a sign of life, P4, and
    the step's deadline where its action is held.

    When to look whether there is room for what is held is for whoever looks.
    """
    is_undoing = status is SagaStatus.COMPENSATING
    settles_at = step.settles_at if is_undoing else None
    retry_at = None if step.is_held else step.retry_at
    deadline_at = step.deadline_at if step.is_held and not is_undoing else None
    found = (retry_at, step.pending_until, step.poll_at, step.heartbeat_until, settles_at, deadline_at)
    return NOTHING if found == NOTHING else found


def _is_begun(step: StepState) -> bool:
    return step.is_in_flight or step.retry_at is not None
