"""Programs of workers: they dial some coordinator, take tasks, tell what came of them, and go wrong in every way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from proof.simulation.directory import WORKER_METHODS, WORKERS
from proof.simulation.loop import SimulatedLoop
from proof.simulation.participants import SimulatedParticipants
from proof.simulation.streams import Connection, Network
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Hello, TaskOutcome, WorkRequest, WorkResponse
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.outcome import Outcome, Refused, Succeeded
from saga_coordinator.wire.outcomes import write_outcome
from saga_coordinator.wire.times import seconds_of

_HEARTBEAT_SECONDS = 10.0
_BATCH_SECONDS = 0.004
_CREDITS = (1, 2, 5, 50)
_WORK_SECONDS = (0.3, 0.3, 3.0)
"""Some work is long enough for its stream to be lost meanwhile: its outcome is then told by its token."""


@dataclass(eq=False, slots=True)
class Job:
    """A task that a worker has; `is_begun` once it does something about it, `is_dropped` when its program has ended."""

    task_id: int
    invoke: Invoke
    connection: Connection
    timeout_seconds: float
    is_begun: bool = False
    is_dropped: bool = False


class WorkerProgram:
    """One process of a participant. `methods` empty: it performs all of them."""

    def __init__(
        self,
        network: Network,
        participants: SimulatedParticipants,
        dice: random.Random,
        participant: str,
        methods: Sequence[str],
        number: int,
    ) -> None:
        self.is_hung = False
        self.connection: Connection | None = None
        self._network = network
        self._participants = participants
        self._loop: SimulatedLoop = network.loop
        self._dice = dice
        self._participant = participant
        self._methods = methods
        self._id = f"{participant}-{number}"
        self._jobs: list[Job] = []
        self._outbox: list[TaskOutcome] = []
        self._made_up: set[int] = set()
        self._credits = 0
        self._is_leaving = False
        self._dial_in(dice.random())

    # Streams.

    @property
    def is_reading(self) -> bool:
        return not self.is_hung

    def _dial_in(self, delay: float) -> None:
        self._loop.later(delay, self._dial)

    def _dial(self) -> None:
        if self.connection is not None:
            return
        self._outbox, self._is_leaving = [], False
        self.connection = self._network.dial(self)
        if self.connection is None:
            self._dial_in(0.3)
            return
        hello = Hello(
            participant=self._participant,
            methods=self._methods,
            credits=self._dice.choice(_CREDITS),
            worker_id=self._id,
        )
        self._credits = hello.credits
        self.connection.send(WorkRequest(hello=hello))
        self._loop.later(_HEARTBEAT_SECONDS, self._beat, self.connection)

    def _beat(self, connection: Connection) -> None:
        if self.connection is connection:
            if not self.is_hung:
                connection.send(WorkRequest(heartbeat=True))
            self._loop.later(_HEARTBEAT_SECONDS, self._beat, connection)

    def is_over(self) -> None:
        """The stream has ended; what it was at goes on."""
        self.connection = None
        self._dial_in(0.02 + 2 * self._dice.random() ** 2)

    def read(self, message: WorkResponse) -> None:
        """Takes tasks and other words."""
        connection = self.connection
        assert connection is not None
        for rejection in message.rejections:
            if rejection.task_id in self._made_up:
                self._participants.history.met["task_rejected"] += 1
            else:
                self._participants.history.defects.append(
                    f"{self._id} was given what is rejected: {rejection}"
                )
        has = sum(job.connection is connection for job in self._jobs) + len(message.tasks)
        if message.tasks and has > self._credits:
            self._participants.history.crowded.append(
                (message.tasks[0].saga_id, f"{self._id} takes {self._credits} tasks, and has {has}")
            )
        for task in message.tasks:
            invoke = connection.tasks[task.task_id]
            job = Job(task.task_id, invoke, connection, seconds_of(task.timeout))
            self._jobs.append(job)
            self._participants.deliveries += 1
            self._begin_in(self._delay(job), job)
        if message.goodbye:
            self._is_leaving = True
            self._maybe_finish()

    # Tasks.

    def _delay(self, job: Job) -> float:
        draw = self._dice.random
        if self._participants.happens("task_slow"):
            return 2.5 * draw() * job.timeout_seconds
        return 0.0005 + 0.02 * draw()

    def _begin_in(self, delay: float, job: Job) -> None:
        self._loop.later(delay, self._begin, job)

    def _begin(self, job: Job) -> None:
        if job.is_dropped:
            return
        if self.is_hung:
            self._begin_in(0.3, job)
            return
        if self._participants.happens("task_returned"):
            self._tell(job, None)
            return
        job.is_begun = True
        outcome = self._participants.perform(job.invoke)
        self._loop.later(
            self._dice.choice(_WORK_SECONDS) * self._dice.random() ** 4, self._tell, job, outcome
        )

    def _tell(self, job: Job, outcome: Outcome | None) -> None:
        """Says what came of it: by its stream, else, where that is over, by its token or not at all. None: given back."""
        if job.is_dropped:
            return
        if self.is_hung:
            self._loop.later(0.3, self._tell, job, outcome)
            return
        self._end(job)
        if job.connection is self.connection:
            message = TaskOutcome()
            if outcome is not None:
                write_outcome(message, outcome)
            if outcome is None:
                message.returned.SetInParent()
            message.task_id = job.task_id
            self._say(message)
        elif (
            isinstance(outcome, Succeeded | Refused) and not job.invoke.is_poll and self._dice.random() < 0.6
        ):
            self._participants.history.met["told_by_token"] += 1
            self._participants.report(job.invoke, outcome)

    def _end(self, job: Job) -> None:
        job.is_dropped = True
        self._jobs.remove(job)
        self._participants.deliveries -= 1

    def _say(self, message: TaskOutcome) -> None:
        if not self._outbox:
            self._participants.deliveries += 1
            self._loop.later(_BATCH_SECONDS * self._dice.random(), self._flush, self.connection)
        self._outbox.append(message)

    def _flush(self, connection: Connection) -> None:
        self._participants.deliveries -= 1
        if connection is not self.connection:
            return
        said, self._outbox = self._outbox, []
        if self._participants.happens("task_told_twice"):
            said += said
        if self._participants.happens("task_made_up"):
            self._made_up.add(1_000_000 + len(self._made_up))
            said.append(TaskOutcome(task_id=1_000_000 + len(self._made_up) - 1))
            said[-1].pending.SetInParent()
        request = WorkRequest(outcomes=said)
        if self._dice.random() < 0.03:
            request.credits = self._dice.choice(_CREDITS)
            self._credits = max(self._credits, request.credits)  # what it was given before it may keep
        connection.send(request)
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        """A leave is taken when everything is told."""
        connection = self.connection
        if not self._is_leaving or connection is None or self._outbox:
            return
        if not any(job.connection is connection for job in self._jobs):
            connection.finish()

    # What goes wrong.

    def crash(self) -> None:
        """The process ends, and another one takes its place."""
        for job in list(self._jobs):
            self._end(job)
        if self.connection is not None:
            self.connection.hang_up_in(self._dice.choice((0.001, 0.2, 60.0)))
            self.connection.close_in(0.0)
            self.connection.is_broken = True

    def hang(self, seconds: float) -> None:
        """It reads nothing, says nothing and does nothing for a while."""
        self.is_hung = True
        self._loop.later(seconds, self.recover)

    def recover(self) -> None:
        self.is_hung = False
        if self.connection is not None:
            self.connection.read_on()

    def take_leave(self) -> None:
        """It says goodbye, gives back what it has not begun, and ends the stream once it has told the rest."""
        connection = self.connection
        if connection is None or self._is_leaving or self.is_hung:
            return
        self._is_leaving = True
        connection.send(WorkRequest(goodbye=True))
        for job in [job for job in self._jobs if not job.is_begun and job.connection is connection]:
            self._participants.history.faults["task_returned"] += 1
            self._tell(job, None)
        self._maybe_finish()


@dataclass(slots=True)
class Crew:
    """All workers. There is one of each participant that performs everything."""

    network: Network
    participants: SimulatedParticipants
    dice: random.Random
    programs: list[WorkerProgram] = field(default_factory=list)

    def hire(self) -> None:
        for participant in WORKERS:
            self._hire(participant, ())
            for _ in range(self.dice.choice((0, 1, 2))):
                self._hire(
                    participant, self.dice.choice(((), WORKER_METHODS, *((each,) for each in WORKER_METHODS)))
                )

    def _hire(self, participant: str, methods: Sequence[str]) -> None:
        number = len(self.programs) + 1
        dice = random.Random(self.dice.random())
        self.programs.append(
            WorkerProgram(self.network, self.participants, dice, participant, methods, number)
        )

    def any(self) -> WorkerProgram:
        return self.dice.choice(self.programs)
