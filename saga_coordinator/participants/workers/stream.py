"""One connected worker, and the tasks that wait for the workers of one participant.

Tasks are bound to a worker only at the moment at which they are sent to it, as many as it has credits: whatever is there then
goes in one message, and a worker that stops reading keeps nothing from the others but what it was sent before.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from saga_coordinator.pb.saga.v1.worker_service_pb2 import Rejection, Task, WorkResponse
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Outcome, Refused, Unknown, clip
from saga_coordinator.wire.payload import MESSAGE_BYTES_MAX
from saga_coordinator.wire.times import write_duration
from saga_coordinator.wire.unparsed import embedded

BATCH_BYTES_MAX = 512 * 1024
"""A message is closed once it is this large, so that a large one is not waited for by what could be begun with."""

REJECTIONS_AT_ONCE = 20
"""In one message, so that it is no large one."""

REJECTIONS_MAX = 1000
"""Outcomes of tasks never given that are not yet told about; a worker that goes on without listening is not served any more.

Those of tasks that it was given are no more than its credits."""


_TASKS = WorkResponse.DESCRIPTOR.fields_by_name["tasks"].number


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker said of itself: `methods` empty means all, `credits` is how many tasks it takes at once.

    `message_bytes_max` is how large a message it receives.
    """

    participant: str
    methods: frozenset[str]
    credits: int
    worker_id: str
    version: str
    message_bytes_max: int = MESSAGE_BYTES_MAX


class Assignment:
    """A task and whoever waits for its outcome, until `ends_at` of the loop's clock.

    It is queued until it `is_given` to a worker, or on its way to one; `outcome` is done when nobody waits any more. `lost_by` is
    the worker whose stream broke: it may still be at it, so nobody else gets the task before `ends_at`. What `is_forwarded` came
    from another coordinator, which decides where else it may go.
    """

    __slots__ = (
        "ends_at",
        "given_at",
        "is_forwarded",
        "is_given",
        "lost_by",
        "number",
        "outcome",
        "stream",
        "task",
        "timer",
    )

    def __init__(
        self, task: Task, outcome: asyncio.Future[Outcome], ends_at: float, *, is_forwarded: bool = False
    ) -> None:
        self.task = task
        self.outcome = outcome
        self.ends_at = ends_at
        self.number = 0
        self.is_forwarded = is_forwarded
        self.is_given = False
        self.given_at = 0.0
        self.stream: Stream | None = None
        self.lost_by = ""
        self.timer: asyncio.TimerHandle | None = None

    def may_be_given(self, now: float) -> bool:
        """Whether somebody waits for it still, and in time. Who was told that it was not made may have it made anew."""
        return not self.outcome.done() and now < self.ends_at

    def settle(self, outcome: Outcome) -> None:
        """Tells whoever waits; nothing happens when nobody does."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Pool:
    """The workers of one participant that are connected here, and the tasks that wait for one of them."""

    def __init__(self, participant: str, on_changed: Callable[[], None]) -> None:
        self.participant = participant
        self.streams: dict[Stream, None] = {}  # in the order in which they came, as everything is walked here
        self._on_changed = on_changed
        self._queues: dict[str, OrderedDict[int, Assignment]] = {}
        self._numbers = 0
        self._queued = 0
        self._woken = 0
        self._idle: OrderedDict[Stream, None] = OrderedDict()
        self._served: Counter[str] = Counter()
        self._serving_all = 0
        self.kept = 0
        """Places that are kept for tasks that will be put in a moment."""
        self.full_elsewhere = 0
        """How often in a row another coordinator's workers had no room."""
        self.full_elsewhere_until = 0.0
        self.looked_at = 0.0
        """When the last of those looks again for whom there was no room, by the loop's clock."""
        self.stuck: set[str] = set()
        """Methods for which an attempt was held because no worker here had room, since when none has had any."""

    # What is served

    def serves(self, method: str) -> bool:
        """Whether a worker is connected that performs `method`, with room or without."""
        return bool(self._serving_all or (self._served and self._served[method]))

    def has_room(self, method: str) -> bool:
        """Whether a worker here could begin one more task of that method, beside those that wait or will be put."""
        taken = self._queued + self.kept
        for stream in self.streams:
            if not stream.methods or method in stream.methods:
                taken -= max(0, stream.room)
                if taken < 0:
                    return True
        return False

    @property
    def methods(self) -> frozenset[str] | None:
        """What is served here: empty for everything, None for nothing."""
        if self._serving_all:
            return frozenset()
        return frozenset(self._served) or None

    def enter(self, stream: Stream) -> None:
        """From now on the worker gets tasks."""
        before = self.methods
        self.streams[stream] = None
        if stream.methods:
            self._served.update(stream.methods)
        else:
            self._serving_all += 1
        self.rest(stream)
        if self.methods != before:
            self._on_changed()

    def leave(self, stream: Stream) -> None:
        """It gets no more; nothing happens when it has left before."""
        if stream not in self.streams:
            return
        del self.streams[stream]
        self._idle.pop(stream, None)
        if stream.methods:
            self._served.subtract(stream.methods)
            self._served = +self._served
        else:
            self._serving_all -= 1
        self._on_changed()

    # What waits

    def put(self, assignment: Assignment) -> None:
        """Queues a task, and has a worker with room come for it."""
        self._numbers += 1
        assignment.number = self._numbers
        method = assignment.task.method
        queue = self._queues.get(method)
        if queue is None:
            queue = self._queues[method] = OrderedDict()
        queue[assignment.number] = assignment
        self._queued += 1
        self._rouse(method)

    def forget(self, assignment: Assignment) -> None:
        """Takes a task out of the queue, if it is still there."""
        method = assignment.task.method
        queue = self._queues.get(method)
        if queue is not None and queue.pop(assignment.number, None) is not None:
            self._queued -= 1
            if not queue:
                del self._queues[method]

    def take(self, stream: Stream) -> Iterator[Assignment]:
        """The oldest tasks for a worker that has come for them: its fair share, no more than it has room for."""
        share = -(-self._queued // max(1, self._woken))
        if stream.is_woken:
            stream.is_woken = False
            self._woken -= 1
        if stream not in self.streams or stream.room <= 0:
            self._rouse_for_all()  # what it was to come for is another's now
            return
        for _ in range(min(share, stream.room)):
            queue = self._oldest(stream)
            if queue is None:
                return
            _, assignment = queue.popitem(last=False)
            self._queued -= 1
            self.stuck.discard(assignment.task.method)
            if not queue:
                del self._queues[assignment.task.method]
            yield assignment

    def take_unserved(self) -> Iterator[Assignment]:
        """All tasks that no worker here performs."""
        for method in [method for method in self._queues if not self.serves(method)]:
            queue = self._queues.pop(method)
            self._queued -= len(queue)
            yield from queue.values()

    @property
    def has_unserved(self) -> bool:
        """Whether there are tasks that no worker here performs."""
        return any(not self.serves(method) for method in self._queues)

    def rest(self, stream: Stream) -> None:
        """The worker has nothing to do; it is woken at once when there is something for it after all."""
        if stream not in self.streams or stream.room <= 0 or stream in self._idle or stream.is_busy:
            return
        if self._oldest(stream) is not None:
            self._woken += 1
            stream.wake()
        else:
            self._idle[stream] = None
            self.stuck -= stream.methods or frozenset(self.stuck)

    def is_occupied(self, stream: Stream) -> None:
        """The worker is being told something; it looks for tasks by itself afterwards."""
        self._idle.pop(stream, None)

    def woken_in_vain(self) -> None:
        """A worker that had been woken has gone instead; its transport comes all the same, and has another one woken."""
        self._woken -= 1

    def _rouse(self, method: str) -> None:
        for stream in self._idle:
            if not stream.methods or method in stream.methods:
                del self._idle[stream]
                self._woken += 1
                stream.wake()
                return

    def _rouse_for_all(self) -> None:
        for method in self._queues:
            self._rouse(method)

    def _oldest(self, stream: Stream) -> OrderedDict[int, Assignment] | None:
        """Of the queues that the worker serves, the one whose first task waits longest."""
        queues = self._queues
        if not stream.methods and len(queues) == 1:
            return next(iter(queues.values()))
        served = [queue for method, queue in queues.items() if not stream.methods or method in stream.methods]
        return min(served, key=lambda queue: next(iter(queue)), default=None)


class Stream:
    """One worker's stream, without its transport: that calls `next_message` after `on_wake`, until there is nothing to say.

    `on_cut` has the transport end the stream, with an error or, after the last task, with none.
    """

    __slots__ = (
        "_bytes_max",
        "_has_taken_leave",
        "_is_saying_goodbye",
        "_pool",
        "_rejections",
        "_said",
        "_strange",
        "_was_silent_too_long",
        "credits",
        "given",
        "heard_at",
        "is_busy",
        "is_woken",
        "last_task_id",
        "methods",
        "on_cut",
        "on_wake",
        "worker_id",
    )

    def __init__(self, pool: Pool, greeting: Greeting, on_wake: Callable[[], None], heard_at: float) -> None:
        self._pool = pool
        self.methods = greeting.methods
        self.credits = greeting.credits
        self.worker_id = greeting.worker_id
        self.on_wake = on_wake
        self.on_cut: Callable[[SagaError | None], None] = lambda _: None
        self.heard_at = heard_at
        self.given: dict[int, Assignment] = {}
        self.last_task_id = 0
        self.is_busy = False
        """Whether the transport is at it: it asks for the next message by itself."""
        self.is_woken = False
        self._said: deque[bytes] = deque()
        self._bytes_max = greeting.message_bytes_max
        self._rejections: list[Rejection] = []
        self._strange = 0
        self._is_saying_goodbye = False
        self._has_taken_leave = False
        self._was_silent_too_long = False

    @property
    def room(self) -> int:
        """How many more tasks it takes. Tasks that are overdue still count: it has not come back from them."""
        return 0 if self._was_silent_too_long else self.credits - len(self.given)

    def heard(self, now: float) -> None:
        """It has said something."""
        self.heard_at = now
        self._was_silent_too_long = False

    def is_overdue(self, since: float) -> None:
        """A task that it was given at `since` has run out of time: if it has been silent since, it gets no more for now."""
        if self.heard_at < since:
            self._was_silent_too_long = True
            self._pool.is_occupied(self)

    def enter(self) -> None:
        """From now on it gets tasks."""
        self._pool.enter(self)

    def wake(self) -> None:
        """Has the transport come for a message."""
        self.is_woken = True
        self._begin()

    def say(self, message: WorkResponse) -> None:
        """Sends something beside tasks, as soon as it can be."""
        self._said.append(message.SerializeToString())
        self._pool.is_occupied(self)
        self._begin()

    def _begin(self) -> None:
        if not self.is_busy:
            self.is_busy = True
            self.on_wake()

    def next_message(self, now: float) -> bytes:
        """What there is to be said now; empty when there is nothing, and then the transport may rest.

        A serialized message is all of its parts one after the other, so what was serialized alone need not be again.
        """
        if self._rejections:
            told, self._rejections = (
                self._rejections[:REJECTIONS_AT_ONCE],
                self._rejections[REJECTIONS_AT_ONCE:],
            )
            self._said.append(WorkResponse(rejections=told).SerializeToString())
            self._strange = min(self._strange, len(self._rejections))
        parts: list[bytes] = []
        size = 0
        while self._said and (not parts or size + len(self._said[0]) <= self._bytes_max):
            parts.append(self._said.popleft())
            size += len(parts[-1])
        if not self._said and size < BATCH_BYTES_MAX:
            self._add_tasks(parts, size, now)
        if not parts:
            self.is_busy = False
            self._pool.rest(self)
        return b"".join(parts)

    def _add_tasks(self, parts: list[bytes], size: int, now: float) -> None:
        """Has what waits for this worker sent with a message of `size` bytes so far, or with the next one."""
        for assignment in self._pool.take(self):
            if not assignment.may_be_given(now) or not (part := self._give(assignment, now)):
                continue
            if parts and size + len(part) > self._bytes_max:
                self._said.append(part)
                return
            parts.append(part)
            size += len(part)
            if size >= BATCH_BYTES_MAX:
                return

    def _give(self, assignment: Assignment, now: float) -> bytes:
        """The task as the worker is sent it; empty when it is more than the worker takes, which would end its stream."""
        task = assignment.task
        task.task_id = self.last_task_id + 1
        write_duration(task.timeout, max(1e-9, assignment.ends_at - now))
        message = embedded(_TASKS, task.SerializeToString(deterministic=True))
        if len(message) > self._bytes_max:
            assignment.is_given = (
                True  # nobody else gets it either: it would be the same with the next worker
            )
            assignment.settle(_refused_for_size(len(message), self.worker_id, self._bytes_max))
            return b""
        self.last_task_id += 1
        self.given[self.last_task_id] = assignment
        assignment.is_given = True
        assignment.stream = self
        assignment.given_at = now
        return message

    def settle(self, task_id: int, outcome: Outcome) -> Task | None:
        """Takes an outcome. Returns the task when that is late: nobody waits for it any more."""
        assignment = self.given.pop(task_id, None)
        if assignment is None:
            if not 0 < task_id <= self.last_task_id:
                self._strange += 1
                self.reject(
                    task_id,
                    "PERMISSION_DENIED",
                    f"this stream never got task {task_id}: answer only its own tasks, and report those of an earlier stream by "
                    "SagaService.ReportOutcome",
                )
            return None  # told before (P9)
        if assignment.outcome.done():
            return assignment.task
        assignment.settle(outcome)
        return None

    def reject(self, task_id: int, code: str, message: str) -> None:
        """Tells the worker that an outcome was not taken; `code` is the name of a gRPC status."""
        self._rejections.append(Rejection(task_id=task_id, code=code, message=message))
        self._pool.is_occupied(self)
        self._begin()

    @property
    def is_deaf(self) -> bool:
        """Whether it goes on about tasks that it was never given and does not listen."""
        return self._strange > REJECTIONS_MAX

    def settled(self) -> None:
        """There may be room for more tasks, or nothing left that somebody waits for."""
        if self._is_saying_goodbye:
            if all(assignment.outcome.done() for assignment in self.given.values()):
                self.on_cut(None)
        elif not self.is_busy:
            self._pool.rest(self)

    def change_credits(self, tasks_at_once: int) -> None:
        """From now on it takes so many."""
        self._pool.is_occupied(self)
        self.credits = tasks_at_once

    def take_no_more(self) -> None:
        """The worker takes its leave."""
        self._has_taken_leave = True
        self._pool.leave(self)

    def say_goodbye(self) -> None:
        """We take our leave: what the worker has it may finish, then the stream ends."""
        self._pool.leave(self)
        self._is_saying_goodbye = True
        self.say(WorkResponse(goodbye=True))
        self.settled()

    def end(self) -> None:
        """The stream is over; whatever the worker had may have been done, and is still being done unless it took its leave."""
        self._pool.leave(self)
        if self.is_woken:
            self.is_woken = False
            self._pool.woken_in_vain()
        self.is_busy = True  # nobody is to come for more
        given, self.given = self.given, {}
        for assignment in given.values():
            assignment.lost_by = self.worker_id
            if self._has_taken_leave:
                assignment.settle(outcome_of_lost(assignment))


def _refused_for_size(size: int, worker_id: str, bytes_max: int) -> Refused:
    """Nothing was sent, and nothing would be different next time."""
    message = (
        f"the task's message has {size} bytes, and worker {worker_id} takes at most {bytes_max}: give the step less "
        "input, or let "
        "the worker receive larger messages and say so in `hello.message_bytes_max`"
    )
    return Refused(Cause(CauseCode.INPUT_INVALID, clip(message)))


def outcome_of_lost(assignment: Assignment) -> Unknown:
    """What is known of a task whose stream ended first."""
    message = f"the stream of worker {assignment.lost_by} ended before it told the outcome"
    return Unknown(Cause("UNAVAILABLE", clip(message)))
