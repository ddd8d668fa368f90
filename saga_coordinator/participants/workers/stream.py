"""One connected worker, and the tasks that wait for the workers of one participant.

A task is bound to a worker only when it is sent. The tasks that wait then go in one message, as many as the worker has credits
for. A worker that stops reading keeps from the others only the tasks that it was sent before.
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
    """The first message of a worker: empty `methods` mean all, and `credits` is how many tasks it takes at once.

    `message_bytes_max` is the size of the largest message that it receives.
    """

    participant: str
    methods: frozenset[str]
    credits: int
    worker_id: str
    version: str
    message_bytes_max: int = MESSAGE_BYTES_MAX


class Assignment:
    """A task and whoever waits for its outcome, until `ends_at` of the loop's clock.

    The task is queued until it `is_given` to a worker, or is on its way to one. `outcome` is done when nobody waits any more.
    `lost_by` is the worker whose stream broke: it may still do the task, so no other worker gets the task before `ends_at`. A
    task that `is_forwarded` came from another coordinator, which decides where else the task may go. `written` is the serialized
    task, without what is known only when it is given: `task_id` and `timeout`.
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
        "written",
    )

    def __init__(
        self,
        task: Task,
        written: bytes,
        outcome: asyncio.Future[Outcome],
        ends_at: float,
        *,
        is_forwarded: bool = False,
    ) -> None:
        self.task = task
        self.written = written
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
        """Tells whether somebody still waits, and in time. Whoever was told that the task was not done may begin it anew."""
        return not self.outcome.done() and now < self.ends_at

    def settle(self, outcome: Outcome) -> None:
        """Gives the outcome to whoever waits; does nothing if nobody waits."""
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
        """Tells whether a worker that performs `method` is connected, with room or without."""
        return bool(self._serving_all or (self._served and self._served[method]))

    def has_room(self, method: str) -> bool:
        """Tells whether a worker here could begin one more task of that method, beside those that wait or will be put."""
        taken = self._queued + self.kept
        for stream in self.streams:
            if not stream.methods or method in stream.methods:
                taken -= max(0, stream.room)
                if taken < 0:
                    return True
        return False

    @property
    def methods(self) -> frozenset[str] | None:
        """The methods that are performed here: empty for all methods, None for no method."""
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
        """Gives the worker no more tasks; does nothing if it has left before."""
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
        """Queues a task, and wakes a worker with room."""
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
        """Takes the oldest tasks for a worker that has come for them: its fair share, no more than it has room for."""
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
        """Takes all tasks that no worker here performs."""
        for method in [method for method in self._queues if not self.serves(method)]:
            queue = self._queues.pop(method)
            self._queued -= len(queue)
            yield from queue.values()

    @property
    def has_unserved(self) -> bool:
        """Tells whether tasks wait that no worker here performs."""
        return any(not self.serves(method) for method in self._queues)

    def rest(self, stream: Stream) -> None:
        """Notes that the worker is idle. If a task waits for it after all, it is woken at once."""
        if stream not in self.streams or stream.room <= 0 or stream in self._idle or stream.is_busy:
            return
        if self._oldest(stream) is not None:
            self._woken += 1
            stream.wake()
        else:
            self._idle[stream] = None
            self.stuck -= stream.methods or frozenset(self.stuck)

    def is_occupied(self, stream: Stream) -> None:
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

    def _rouse_for_all(self) -> None:
        for method in self._queues:
            self._rouse(method)

    def _oldest(self, stream: Stream) -> OrderedDict[int, Assignment] | None:
        """The queue whose first task waits longest, among the queues that the worker serves."""
        queues = self._queues
        if not stream.methods and len(queues) == 1:
            return next(iter(queues.values()))
        served = [queue for method, queue in queues.items() if not stream.methods or method in stream.methods]
        return min(served, key=lambda queue: next(iter(queue)), default=None)


class Stream:
    """One worker's stream, without its transport. The transport calls `next_message` after `on_wake` until nothing is left.

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
        """The number of further tasks that the worker takes. Overdue tasks still count, since it has not come back from them."""
        return 0 if self._was_silent_too_long else self.credits - len(self.given)

    def heard(self, now: float) -> None:
        """Notes that the worker has said something."""
        self.heard_at = now
        self._was_silent_too_long = False

    def is_overdue(self, since: float) -> None:
        """Notes that a task given at `since` has run out of time. A worker silent since then gets no more tasks for now."""
        if self.heard_at < since:
            self._was_silent_too_long = True
            self._pool.is_occupied(self)

    def enter(self) -> None:
        """From now on it gets tasks."""
        self._pool.enter(self)

    def wake(self) -> None:
        """Makes the transport come for a message."""
        self.is_woken = True
        self._begin()

    def say(self, message: WorkResponse) -> None:
        """Sends a message other than tasks, as soon as possible."""
        self._said.append(message.SerializeToString())
        self._pool.is_occupied(self)
        self._begin()

    def _begin(self) -> None:
        if not self.is_busy:
            self.is_busy = True
            self.on_wake()

    def next_message(self, now: float) -> bytes:
        """The next serialized message to the worker; empty if there is none, and then the transport may rest.

        A serialized message is its serialized parts one after the other, so no part is serialized twice.
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
        """Adds the tasks that wait for this worker to a message of `size` bytes so far; the rest goes with the next message."""
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
        """The task as it is sent; empty if it is larger than the worker's messages may be, which would end its stream."""
        assignment.task.task_id = self.last_task_id + 1
        rest = Task(task_id=self.last_task_id + 1)
        write_duration(rest.timeout, max(1e-9, assignment.ends_at - now))
        message = embedded(_TASKS, assignment.written + rest.SerializeToString())
        if len(message) > self._bytes_max:
            assignment.is_given = (
                True  # nobody else gets it either: it would be the same with the next worker
            )
            assignment.settle(_refused_for_size(len(message), self.worker_id, self._bytes_max))
            return b""
        assignment.written = b""
        self.last_task_id += 1
        self.given[self.last_task_id] = assignment
        assignment.is_given = True
        assignment.stream = self
        assignment.given_at = now
        return message

    def settle(self, task_id: int, outcome: Outcome) -> Task | None:
        """Takes an outcome. Returns the task if the outcome is late, so that nobody waits for it any more."""
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
        """Tells whether the worker keeps reporting tasks that it was never given, and does not listen."""
        return self._strange > REJECTIONS_MAX

    def settled(self) -> None:
        """Goes on after an outcome: there may be room for more tasks, or no task left that somebody waits for."""
        if self._is_saying_goodbye:
            if all(assignment.outcome.done() for assignment in self.given.values()):
                self.on_cut(None)
        elif not self.is_busy:
            self._pool.rest(self)

    def change_credits(self, tasks_at_once: int) -> None:
        """Sets how many tasks the worker takes at once from now on."""
        self._pool.is_occupied(self)
        self.credits = tasks_at_once

    def take_no_more(self) -> None:
        """Notes that the worker takes its leave, and gives it no more tasks."""
        self._has_taken_leave = True
        self._pool.leave(self)

    def say_goodbye(self) -> None:
        """Says goodbye to the worker, which may finish its tasks; then the stream ends."""
        self._pool.leave(self)
        self._is_saying_goodbye = True
        self.say(WorkResponse(goodbye=True))
        self.settled()

    def end(self) -> None:
        """Ends the stream. The worker's tasks may have been done, and may still be going on unless it took its leave."""
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
    """The outcome of a task that is too large for the worker. Nothing was sent, and another attempt would be as large."""
    message = (
        f"the task's message has {size} bytes, and worker {worker_id} takes at most {bytes_max}: give the step less "
        "input, or let "
        "the worker receive larger messages and say so in `hello.message_bytes_max`"
    )
    return Refused(Cause(CauseCode.INPUT_INVALID, clip(message)))


def outcome_of_lost(assignment: Assignment) -> Unknown:
    """The outcome of a task whose stream ended before the worker told one."""
    message = f"the stream of worker {assignment.lost_by} ended before it told the outcome"
    return Unknown(Cause("UNAVAILABLE", clip(message)))
