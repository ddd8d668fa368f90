"""A task and whoever waits for its outcome."""

from __future__ import annotations

import asyncio
from typing import Protocol

from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome, Unknown, clip, outcome_of_failure


class Taker(Protocol):
    """The worker's stream that was given a task."""

    def is_overdue(self, since: float) -> None: ...
    def settled(self) -> None: ...


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
        self.stream: Taker | None = None
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

    def run_out(self, timeout_seconds: float) -> None:
        """Ends an attempt whose time is over. The task counts against its worker's credits until the worker answers, too late."""
        if self.lost_by:
            self.settle(outcome_of_lost(self))
            return
        self.settle(outcome_of_failure("DEADLINE_EXCEEDED", f"no outcome within {timeout_seconds:g} s"))
        self.task.ClearField("input")
        self.written = b""
        if self.stream is not None:
            self.stream.is_overdue(self.given_at)
            self.stream.settled()


def outcome_of_lost(assignment: Assignment) -> Unknown:
    """The outcome of a task whose stream ended before the worker told one."""
    message = f"the stream of worker {assignment.lost_by} ended before it told the outcome"
    return Unknown(Cause("UNAVAILABLE", clip(message)))


def not_handed_out(reason: str, delay_seconds: float) -> Held:
    """The outcome of an attempt whose task no worker got; the attempt is made again after the delay."""
    return Held(Cause("UNAVAILABLE", clip(reason)), delay_seconds)
