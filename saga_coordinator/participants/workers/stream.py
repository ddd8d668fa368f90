"""One connected worker, without its transport.

A task is bound to a worker only when it is sent. The tasks that wait then go in one message, as many as the worker has credits
for. A worker that stops reading keeps from the others only the tasks that it was sent before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from saga_coordinator.participants.workers.assignment import Assignment, outcome_of_lost
from saga_coordinator.participants.workers.pool import Pool
from saga_coordinator.participants.workers.unsent import UnsentMessages
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task, WorkResponse
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Outcome, Refused, clip
from saga_coordinator.wire.payload import MESSAGE_BYTES_MAX
from saga_coordinator.wire.times import write_duration
from saga_coordinator.wire.unparsed import embedded

BATCH_BYTES_MAX = 512 * 1024
"""A message is closed once it is this large, so that tasks that could be begun do not wait for a large message."""

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


class Stream:
    """One worker's stream, without its transport.

    The transport calls `next_message` after `on_wake` until nothing is left. `cut` has it end the stream with an error, or
    with OK for None.
    """

    __slots__ = (
        "_bytes_max",
        "_has_taken_leave",
        "_is_saying_goodbye",
        "_on_wake",
        "_pool",
        "_unsent",
        "_was_silent_too_long",
        "credits",
        "cut",
        "given",
        "heard_at",
        "is_busy",
        "is_woken",
        "last_task_id",
        "methods",
        "worker_id",
    )

    def __init__(
        self,
        pool: Pool,
        greeting: Greeting,
        on_wake: Callable[[Stream], None],
        cut: Callable[[SagaError | None], None],
        heard_at: float,
    ) -> None:
        self._on_wake = on_wake
        self.cut = cut
        self._pool = pool
        self.methods = greeting.methods
        self.credits = greeting.credits
        self.worker_id = greeting.worker_id
        self.heard_at = heard_at
        self.given: dict[int, Assignment] = {}
        self.last_task_id = 0
        self.is_busy = False
        """Whether the transport is writing; it asks for the next message by itself."""
        self.is_woken = False
        self._unsent = UnsentMessages()
        self._bytes_max = greeting.message_bytes_max
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
        """Lets the worker take tasks from now on."""
        self._pool.enter(self)

    def wake(self) -> None:
        """Makes the transport come for a message."""
        self.is_woken = True
        self._begin()

    def say(self, message: WorkResponse) -> None:
        """Sends a message other than tasks, as soon as possible."""
        self._unsent.add(message.SerializeToString())
        self._pool.is_occupied(self)
        self._begin()

    def _begin(self) -> None:
        if not self.is_busy:
            self.is_busy = True
            self._on_wake(self)

    def next_message(self, now: float) -> bytes:
        """The next serialized message to the worker; empty if there is none, and then the transport may rest.

        A serialized message is its serialized parts one after the other, so no part is serialized twice.
        """
        parts, is_all = self._unsent.take(self._bytes_max)
        size = sum(map(len, parts))
        if is_all and size < BATCH_BYTES_MAX:
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
                self._unsent.add(part)
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
            assignment.is_given = True  # and to no other worker, for which it may be as large
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
                self.reject(
                    task_id,
                    "PERMISSION_DENIED",
                    f"this stream never got task {task_id}: answer only its own tasks, and report those of an earlier stream by "
                    "SagaService.ReportOutcome",
                    was_given=False,
                )
            return None  # told before (P9)
        if assignment.outcome.done():
            return assignment.task
        assignment.settle(outcome)
        return None

    def reject(self, task_id: int, code: str, message: str, *, was_given: bool = True) -> None:
        """Tells the worker that an outcome was not taken; `code` is the name of a gRPC status."""
        self._unsent.reject(task_id, code, message, was_given=was_given)
        self._pool.is_occupied(self)
        self._begin()

    @property
    def is_deaf(self) -> bool:
        """Tells whether the worker keeps reporting tasks that it was never given, and does not listen."""
        return self._unsent.is_unheard

    def settled(self) -> None:
        """Goes on after an outcome: there may be room for more tasks, or no task left that somebody waits for."""
        if self._is_saying_goodbye:
            if all(assignment.outcome.done() for assignment in self.given.values()):
                self.cut(None)
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
