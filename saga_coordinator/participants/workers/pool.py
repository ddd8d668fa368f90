"""The workers of one participant that are connected here, and what is known of the room that they have."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

from saga_coordinator.participants.workers.assignment import Assignment, not_handed_out
from saga_coordinator.participants.workers.task_queue import TaskQueue
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.outcome import Held

NO_ROOM_SECONDS = 1.0
"""The seconds after which an attempt is made again for which all workers were busy."""

NO_WORKER_SECONDS = 6.0
"""The seconds after which an attempt is made again for which there was no worker: meanwhile its saga needs no memory."""

LOOKS_SPACING_SECONDS = 0.02
LOOKS_SECONDS_MAX = 60.0
"""How closely attempts for which all workers are busy look again one after the other, and after how long at most."""


class Worker(Protocol):
    """The stream of one worker, as its pool sees it. Empty `methods` mean that the worker performs all methods."""

    methods: frozenset[str]
    heard_at: float
    is_busy: bool
    is_woken: bool

    @property
    def room(self) -> int: ...
    def wake(self) -> None: ...
    def say_goodbye(self) -> None: ...
    @property
    def cut(self) -> Callable[[SagaError | None], None]: ...


class ServedMethods:
    """The methods that the workers of one participant perform, by how many workers. Empty `methods` mean all methods."""

    __slots__ = ("_all", "_some")

    def __init__(self) -> None:
        self._some: Counter[str] = Counter()
        self._all = 0

    def __contains__(self, method: str) -> bool:
        return bool(self._all or (self._some and self._some[method]))

    def add(self, methods: frozenset[str]) -> None:
        if methods:
            self._some.update(methods)
        else:
            self._all += 1

    def remove(self, methods: frozenset[str]) -> None:
        if methods:
            self._some.subtract(methods)
            self._some = +self._some
        else:
            self._all -= 1

    @property
    def methods(self) -> frozenset[str] | None:
        """The methods that are performed: empty for all methods, None for no method."""
        return frozenset() if self._all else frozenset(self._some) or None


class Pool:
    """The workers of one participant that are connected here, and the tasks that wait for one of them."""

    def __init__(self, participant: str, on_changed: Callable[[], None]) -> None:
        self.participant = participant
        self.streams: dict[Worker, None] = {}  # in the order in which they came, as everything is walked here
        self._on_changed = on_changed
        self._tasks = TaskQueue()
        self._served = ServedMethods()
        self._woken = 0
        self._idle: OrderedDict[Worker, None] = OrderedDict()
        self._kept = 0
        self._last_look_at = 0.0
        self.stuck: set[str] = set()
        """Methods for which an attempt was held because no worker here had room, since when none has had any."""

    # What is served

    def serves(self, method: str) -> bool:
        """Tells whether a worker that performs `method` is connected, with room or without."""
        return method in self._served

    @property
    def methods(self) -> frozenset[str] | None:
        """The methods that are performed here: empty for all methods, None for no method."""
        return self._served.methods

    def enter(self, stream: Worker) -> None:
        """Lets the worker take tasks from now on."""
        before = self.methods
        self.streams[stream] = None
        self._served.add(stream.methods)
        self.rest(stream)
        if self.methods != before:
            self._on_changed()

    def leave(self, stream: Worker) -> None:
        """Gives the worker no more tasks; does nothing if it has left before."""
        if stream not in self.streams:
            return
        del self.streams[stream]
        self._idle.pop(stream, None)
        self._served.remove(stream.methods)
        self._on_changed()

    # Room

    def has_room(self, method: str) -> bool:
        """Tells whether a worker here could begin one more task of that method, beside those that wait or will be put."""
        taken = len(self._tasks) + self._kept
        for stream in self.streams:
            if not stream.methods or method in stream.methods:
                taken -= max(0, stream.room)
                if taken < 0:
                    return True
        return False

    def keep_place(self) -> None:
        """Keeps a place for a task that will be put in a moment."""
        self._kept += 1

    def give_place_back(self) -> None:
        """Gives a place back that was kept."""
        self._kept -= 1

    def next_look_seconds(self, now: float) -> float:
        """The seconds until the next look for room. Attempts for which all workers are busy look one after the other."""
        self._last_look_at = max(now + NO_ROOM_SECONDS, self._last_look_at + LOOKS_SPACING_SECONDS)
        return min(self._last_look_at - now, LOOKS_SECONDS_MAX)

    def held_in_vain(self, method: str) -> Held:
        """The outcome of an attempt whose task waited for half of the attempt's timeout and was not handed out."""
        waited = "in half of the attempt's timeout, after which it is not handed out any more"
        who = self.no_worker(method)
        if self.serves(method):
            self.stuck.add(method)
            return not_handed_out(f"{who} had room {waited}", NO_ROOM_SECONDS)
        return not_handed_out(f"{who} was connected {waited}", NO_WORKER_SECONDS)

    def no_worker(self, method: str) -> str:
        """The beginning of a sentence about the workers that a task of the method does not find."""
        return f"no worker of `{self.participant}`" + (f" for method `{method}`" if method else "")

    # Tasks

    def put(self, assignment: Assignment) -> None:
        """Queues a task, and wakes a worker with room."""
        self._tasks.put(assignment)
        self._rouse(assignment.task.method)

    def forget(self, assignment: Assignment) -> None:
        """Takes a task out of the queue, if it is still there."""
        self._tasks.forget(assignment)

    def take(self, stream: Worker) -> Iterator[Assignment]:
        """Takes the oldest tasks for a worker that has come for them: its fair share, no more than it has room for."""
        share = -(-len(self._tasks) // max(1, self._woken))
        if stream.is_woken:
            stream.is_woken = False
            self._woken -= 1
        if stream not in self.streams or stream.room <= 0:
            for method in self._tasks.methods:  # the task that it was to come for is another worker's now
                self._rouse(method)
            return
        for _ in range(min(share, stream.room)):
            assignment = self._tasks.take_oldest(stream.methods)
            if assignment is None:
                return
            self.stuck.discard(assignment.task.method)
            yield assignment

    def take_unserved(self) -> Iterator[Assignment]:
        """Takes all tasks that no worker here performs."""
        for method in self._tasks.methods:
            if not self.serves(method):
                yield from self._tasks.take_all(method)

    @property
    def has_unserved(self) -> bool:
        """Tells whether tasks wait that no worker here performs."""
        return any(not self.serves(method) for method in self._tasks.methods)

    # Workers that come for tasks

    def rest(self, stream: Worker) -> None:
        """Notes that the worker is idle. If a task waits for it after all, it is woken at once."""
        if stream not in self.streams or stream.room <= 0 or stream in self._idle or stream.is_busy:
            return
        if self._tasks.has_task_for(stream.methods):
            self._woken += 1
            stream.wake()
        else:
            self._idle[stream] = None
            self.stuck -= stream.methods or frozenset(self.stuck)

    def is_occupied(self, stream: Worker) -> None:
        """Notes that a message for the worker is being made; the worker looks for tasks by itself afterwards."""
        self._idle.pop(stream, None)

    def woken_in_vain(self) -> None:
        """Notes that a worker has gone after it was woken. Its transport still comes for tasks, and wakes another worker."""
        self._woken -= 1

    def _rouse(self, method: str) -> None:
        for stream in self._idle:
            if not stream.methods or method in stream.methods:
                del self._idle[stream]
                self._woken += 1
                stream.wake()
                return
