"""Streams of workers to coordinators: in order, until one side ends them or the network does.

At the coordinator's end the service that serves (`api.worker_service`) reads and writes, on its node; at the other end is a
worker's program, outside of all nodes.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from proof.simulation.directory import STATUS_METHOD
from proof.simulation.history import Handed
from proof.simulation.loop import Node, SimulatedLoop
from proof.simulation.participants import attempt_of
from proof.simulation.wire import PAYLOAD_BYTES_MAX, Wire
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.worker_service import WorkerService
from saga_coordinator.participants.workers.tasks import operation_of
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task, TaskOutcome, WorkRequest, WorkResponse
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.outcome import Refused, Succeeded
from saga_coordinator.wire.outcomes import outcome_of
from saga_coordinator.wire.times import seconds_of

_UNREAD_MAX = 4
"""Messages that a worker has not read yet; no more are written before it does."""


class Worker(Protocol):
    """The program at the other end. None of this is told after `is_over`."""

    @property
    def is_reading(self) -> bool: ...
    def read(self, message: WorkResponse) -> None: ...
    def is_over(self) -> None: ...


@dataclass(slots=True)
class Network:
    """All streams. `serving` are the services of the nodes that take streams now."""

    loop: SimulatedLoop
    dice: random.Random
    wire: Wire
    serving: list[tuple[Node, WorkerService]] = field(default_factory=list)
    streams: list[Connection] = field(default_factory=list)
    dialled: int = 0

    def dial(self, worker: Worker) -> Connection | None:
        """A stream to some coordinator; None where nobody answers."""
        if not self.serving:
            return None
        node, service = self.dice.choice(self.serving)
        if not node.is_alive:
            return None
        self.dialled += 1
        connection = Connection(self, self.dialled, node, worker)
        self.streams.append(connection)
        connection.task = node.spawn(connection.serve(service))
        return connection

    def forget(self, node: Node) -> None:
        """The node takes no more streams; when it is gone, those that it had break."""
        self.serving = [each for each in self.serving if each[0] is not node]
        if not node.is_alive:
            for connection in self.streams:
                if connection.node is node:
                    connection.close_in(0.01 + 2 * self.dice.random() ** 3)


class Connection:
    """One stream. What is sent in a direction arrives in that order."""

    def __init__(self, network: Network, number: int, node: Node, worker: Worker) -> None:
        self.number = number
        self.node = node
        self.task: asyncio.Task[None] | None = None
        self.is_open = True
        self.is_broken = False
        """Nothing gets through any more, whoever knows of it."""
        self.tasks: dict[int, Invoke] = {}
        """What was given to the worker, by the numbers that it has there."""
        self._network = network
        self._loop = network.loop
        self._worker = worker
        self._inbox: deque[WorkRequest] = deque()
        self._is_read_out = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._unread: deque[WorkResponse] = deque()
        self._there_at = self._here_at = 0.0

    # At the coordinator.

    async def serve(self, service: WorkerService) -> None:
        """As gRPC serves a call. What the service raises is the stream's status."""
        try:
            await service.Work(self, Caller())
        except (SagaError, asyncio.CancelledError):
            pass
        finally:
            self.close_in(0.001 + 0.01 * self._network.dice.random())

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> bytes:
        while not self._inbox:
            if self._is_read_out:
                raise StopAsyncIteration
            self._reader = self._loop.create_future()
            await self._reader
        return self._inbox.popleft().SerializeToString()

    async def write(self, message: bytes) -> None:
        """Returns once the message is on its way; a worker that does not read holds up what comes after."""
        response = WorkResponse.FromString(message)
        for task in response.tasks:
            self._is_handed_out(task)
        self._there_at = max(self._loop.now + 0.0003 + 0.002 * self._network.dice.random(), self._there_at)
        self._loop.later(self._there_at - self._loop.now, self._arrive_there, response)
        while len(self._unread) >= _UNREAD_MAX:
            self._writer = self._loop.create_future()
            await self._writer

    def _is_handed_out(self, task: Task) -> None:
        wire = self._network.wire
        key = (task.saga_id, task.step, str(operation_of(task)), task.attempt)
        if task.method == STATUS_METHOD:
            self.tasks[task.task_id] = wire.questions[key]
        else:
            self.tasks[task.task_id], call = wire.asked[key]
            wire.history.met["task_handed_out"] += 1
            wire.history.met["task_forwarded"] += call.node != self.node.id
            handed = Handed(self.node.id, self.number, self._loop.now)
            wire.history.handed.setdefault(key, []).append(handed)
            if call.node == self.node.id:  # else it was sent when it was forwarded
                wire.sent(call, seconds_of(task.timeout))
        wire.on_sent(self.node.id)

    # At the worker.

    def send(self, request: WorkRequest) -> None:
        """The worker says something."""
        if self.is_open:
            delay = 0.0003 + 0.002 * self._network.dice.random()
            self._here_at = max(self._loop.now + delay, self._here_at)
            self._loop.later(self._here_at - self._loop.now, self._on_node, self._arrive_here, request)

    def finish(self) -> None:
        """The worker has said everything."""
        self._loop.later(max(0.001, self._here_at - self._loop.now), self._on_node, self._end_of_requests)

    def read_on(self) -> None:
        """The worker reads what has gathered."""
        while self._unread and self._worker.is_reading and self.is_open:
            self._worker.read(self._unread.popleft())
        if self._writer is not None and len(self._unread) < _UNREAD_MAX:
            self._on_node(_wake, self._writer)

    def lose(self) -> None:
        """The network loses it. Each side finds out when it does; the coordinator, if it has to, by the silence."""
        dice = self._network.dice
        self.is_broken = True
        self.hang_up_in(dice.choice((0.01, 0.5, 3.0, 60.0)))
        self.close_in(dice.choice((0.01, 0.5, 3.0)))

    def hang_up_in(self, delay: float) -> None:
        """The coordinator hears that the worker has gone: gRPC cancels what serves it."""
        if self.task is not None:
            self._loop.later(delay, self._on_node, self.task.cancel)

    def close_in(self, delay: float) -> None:
        """The worker finds that the stream is over."""
        self._loop.later(delay, self._close)

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._network.streams.remove(self)
            self._worker.is_over()

    # In between.

    def _arrive_there(self, response: WorkResponse) -> None:
        if self.is_open and not self.is_broken:
            self._unread.append(response)
            self.read_on()

    def _on_node(self, callback: Any, *given: Any) -> None:
        if self.node.is_alive:
            self._loop.call_soon(callback, *given, context=self.node.context.copy())

    def _arrive_here(self, request: WorkRequest) -> None:
        if self.is_broken:
            return
        if request.goodbye:
            self._network.wire.history.left.add(self.number)
        for told in request.outcomes:
            self._is_told(told)
        self._inbox.append(request)
        _wake(self._reader)

    def _is_told(self, told: TaskOutcome) -> None:
        invoke, outcome = self.tasks.get(told.task_id), outcome_of(told, PAYLOAD_BYTES_MAX)
        if invoke is None or invoke.is_poll:
            return
        self._network.wire.history.answered.setdefault(attempt_of(invoke), self._loop.now)
        if isinstance(outcome, Succeeded | Refused):
            self._network.wire.participants.told(invoke, outcome)

    def _end_of_requests(self) -> None:
        self._is_read_out = True
        _wake(self._reader)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
