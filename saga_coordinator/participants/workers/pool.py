"""Participants that dial us: who is connected, and which of them an attempt goes to.

An attempt goes to a worker that is connected here, or else to a coordinator that has one. Otherwise the attempt waits for up to
half of its time, so that the worker has the other half. An attempt for which no worker had room was not made, and is held. The
attempts after it are tried at another coordinator first, until a worker here has room again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

import structlog

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.participants.calls.room_news import RoomNews
from saga_coordinator.participants.workers.stream import Assignment, Greeting, Pool, Stream, outcome_of_lost
from saga_coordinator.participants.workers.tasks import task_of, written
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.retrying import Pauses, retried
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.outcome import (
    Cause,
    CauseCode,
    Held,
    Outcome,
    Refused,
    clip,
    outcome_of_failure,
)
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.wire.conversion import convert, size_of
from saga_coordinator.wire.payload import PayloadError

HEARTBEAT_SECONDS = 10.0
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS

NO_ROOM_SECONDS = 1.0
"""After how long an attempt is made again for which all workers were busy."""

NO_WORKER_SECONDS = 6.0
"""After how long an attempt is made again for which there was no worker: meanwhile its saga needs no memory."""

KEPT_SECONDS = 1.0
"""How long a place is kept for a task that is put once its attempt is committed."""

LOOKS_SPACING_SECONDS = 0.02
LOOKS_SECONDS_MAX = 60.0
"""How closely those for whom all workers are busy look again one after the other, and after how long at most."""

_DOUBLED_MAX = 6

LOOK_SECONDS = 0.5
"""How often it is looked whether another coordinator has a worker for the tasks that wait here."""

_PUBLISH_AGAIN_SECONDS = 0.05
_PUBLISH_PAUSES = Pauses(1.0, 2.0)
_PUBLISH_EVERY_SECONDS = 30.0
"""What was told is told again: a statement that was given up here may be carried out later, and undo what was told after it."""

_log = structlog.get_logger(__name__)


class Forwarder(Protocol):
    """The way to other coordinators, which hand out the tasks that no worker here performs."""

    async def publish(self, served: Mapping[str, frozenset[str]]) -> None:
        """Publishes what is performed here: the methods of each participant; no methods mean all. Raises Unavailable."""

    async def find(self, participant: str, method: str) -> str | None:
        """The identity of a coordinator that has a worker for this."""

    async def forward(
        self, coordinator_id: str, participant: str, task: Task, ends_at: float
    ) -> Outcome | None:
        """The task's outcome there, by `ends_at` of the loop's clock; None if the task did not get there."""

    async def methods_of(self, participant: str) -> frozenset[str] | None:
        """The participant's methods that are performed elsewhere: empty for all methods, None for no method."""

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Lets go of the other coordinators."""


class Workers(Service):
    """All connected workers of one coordinator. Used from one event loop."""

    def __init__(self, forwarder: Forwarder | None = None) -> None:
        self._forwarder = forwarder
        self._pools: dict[str, Pool] = {}
        self._background = Background()
        self._looking: set[str] = set()
        self.room_news = RoomNews()
        """Tells of a participant for which a worker has come that performs what none did before, or less than before."""
        self._changed = asyncio.Event()
        self._is_stopping = False

    async def start(self) -> None:
        """Begins to watch over streams, and to tell the other coordinators of them."""
        self._background.keep("the watch over workers", self._drop_silent, turn_seconds_max=SILENCE_SECONDS)
        if self._forwarder is not None:
            self._background.keep("the word of workers", partial(self._publish, self._forwarder))

    @property
    def problems(self) -> Iterator[str]:
        """What keeps workers from being looked after."""
        return self._background.problems

    def hand_out_no_more(self) -> None:
        """Hands out nothing more. Every stream ends as soon as its worker has told the outcomes of its tasks."""
        self._is_stopping = True
        for pool in self._pools.values():
            for stream in tuple(pool.streams):
                stream.say_goodbye()
            for assignment in tuple(pool.take_unserved()):
                assignment.settle(_held("the coordinator is stopping", 0.0))

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Lets go of everything; what is still under way ends unheard."""
        await self._background.stop(None)
        if self._forwarder is not None:
            await self._forwarder.stop()

    # Workers

    def connect(self, greeting: Greeting, on_wake: Callable[[], None]) -> Stream:
        """Makes a stream, which gets tasks once `admit` is called. Raises Unavailable when the coordinator is stopping."""
        if self._is_stopping:
            raise Unavailable(
                Reason.COORDINATOR_STOPPING, "the coordinator is stopping; dial again, for another one"
            )
        return Stream(self._pool(greeting.participant), greeting, on_wake, asyncio.get_running_loop().time())

    def admit(self, stream: Stream) -> None:
        """Lets a worker that has been welcomed take tasks. If a stop came meanwhile, the worker is told of it."""
        if self._is_stopping:
            stream.say_goodbye()
        else:
            stream.enter()

    async def methods_of(self, participant: str) -> frozenset[str] | None:
        """The participant's methods that are performed here or elsewhere: empty for all methods, None for no method."""
        pool = self._pools.get(participant)
        here = pool.methods if pool is not None else None
        elsewhere = await self._forwarder.methods_of(participant) if self._forwarder is not None else None
        if here is None or elsewhere is None:
            return elsewhere if here is None else here
        return here | elsewhere if here and elsewhere else frozenset()

    # Attempts

    async def invoke(self, call: Invoke) -> Outcome:
        """Makes one attempt, which has ended `call.timeout_seconds` from now. Nothing that a worker does raises.

        If this is cancelled, the attempt is forgotten: a worker that has the task goes on, and its outcome comes too late.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + call.timeout_seconds
        try:
            size = size_of(call.input)
            task = await convert(size, task_of, call)
        except PayloadError as error:  # nothing was sent, and nothing will be different next time
            return Refused(Cause(CauseCode.INPUT_INVALID, clip(f"the input cannot be sent: {error}")))
        pool = self._pool(call.participant)
        is_elsewhere = not pool.serves(call.method) or call.method in pool.stuck
        if is_elsewhere and self._forwarder is not None:
            outcome = await self._elsewhere(self._forwarder, pool, task, ends_at)
            if outcome is not None:
                return outcome
            if ends_at - loop.time() < call.timeout_seconds / 2:  # to find out took too long
                return self._without_room(pool, task.method)
        return await self._hand_out(pool, task, size, ends_at)

    async def look_for_room(self, participant: str, method: str) -> Held | None:
        """The reason why a task would not be handed out now, with when to look again; None if it would be."""
        pool = self._pool(participant)
        if self._is_stopping:
            return _held("the coordinator is stopping", NO_ROOM_SECONDS)
        if pool.has_room(method):
            pool.kept += 1
            asyncio.get_running_loop().call_later(KEPT_SECONDS, _give_back, pool)
            return None
        is_full_elsewhere = asyncio.get_running_loop().time() < pool.full_elsewhere_until
        forwarder = None if is_full_elsewhere else self._forwarder
        if forwarder is not None and await forwarder.find(participant, method) is not None:
            return None
        who = f"no worker of `{participant}`" + (f" for method `{method}`" if method else "")
        if pool.serves(method) or is_full_elsewhere:
            return _held(f"{who} has room", self._spaced(pool))
        return _held(f"{who} is connected", NO_WORKER_SECONDS)

    def _spaced(self, pool: Pool) -> float:
        """The seconds until the next look. Attempts for which all workers are busy look one after the other."""
        now = asyncio.get_running_loop().time()
        pool.looked_at = max(now + NO_ROOM_SECONDS, pool.looked_at + LOOKS_SPACING_SECONDS)
        return min(pool.looked_at - now, LOOKS_SECONDS_MAX)

    async def invoke_here(self, participant: str, task: Task, timeout_seconds: float) -> Outcome:
        """Makes an attempt of a saga that another coordinator drives; held when no worker here has room in time."""
        ends_at = asyncio.get_running_loop().time() + timeout_seconds
        pool = self._pool(participant)
        if not pool.serves(task.method):
            return _held(f"no worker of `{participant}` is connected any more", 0.0)
        return await self._hand_out(pool, task, task.ByteSize(), ends_at, is_forwarded=True)

    def _pool(self, participant: str) -> Pool:
        pool = self._pools.get(participant)
        if pool is None:
            pool = self._pools[participant] = Pool(
                participant, partial(self._is_served_otherwise, participant)
            )
        return pool

    def _is_served_otherwise(self, participant: str) -> None:
        self._changed.set()
        if self._pools[participant].methods is not None:
            self.room_news.tell(participant)

    async def _hand_out(
        self, pool: Pool, task: Task, size: int, ends_at: float, *, is_forwarded: bool = False
    ) -> Outcome:
        """`size` tells where the task is written: it is about that of its input, in bytes."""
        sent = await convert(size, written, task)
        if self._is_stopping:
            return _held("the coordinator is stopping", 0.0)
        loop = asyncio.get_running_loop()
        timeout_seconds = ends_at - loop.time()
        assignment = Assignment(task, sent, loop.create_future(), ends_at, is_forwarded=is_forwarded)
        assignment.timer = loop.call_later(
            timeout_seconds / 2, self._half_over, pool, assignment, timeout_seconds
        )
        pool.put(assignment)
        if self._forwarder is not None and not pool.serves(task.method):
            self._look_elsewhere(pool)
        try:
            return await assignment.outcome
        finally:
            if assignment.timer is not None:
                assignment.timer.cancel()
            if not assignment.is_given:
                pool.forget(assignment)

    def _half_over(self, pool: Pool, assignment: Assignment, timeout_seconds: float) -> None:
        if assignment.is_given:
            loop = asyncio.get_running_loop()
            assignment.timer = loop.call_at(assignment.ends_at, _over, assignment, timeout_seconds)
        else:
            assignment.settle(self._without_room(pool, assignment.task.method))

    def _without_room(self, pool: Pool, method: str) -> Held:
        who = f"no worker of `{pool.participant}`" + (f" for method `{method}`" if method else "")
        waited = "in half of the attempt's timeout, after which it is not handed out any more"
        if pool.serves(method):
            pool.stuck.add(method)
            return _held(f"{who} had room {waited}", NO_ROOM_SECONDS)
        return _held(f"{who} was connected {waited}", NO_WORKER_SECONDS)

    # Other coordinators

    async def _elsewhere(
        self, forwarder: Forwarder, pool: Pool, task: Task, ends_at: float
    ) -> Outcome | None:
        coordinator_id = await forwarder.find(pool.participant, task.method)
        if coordinator_id is None:
            return None
        outcome = await forwarder.forward(coordinator_id, pool.participant, task, ends_at)
        if isinstance(outcome, Held):
            pool.full_elsewhere = min(pool.full_elsewhere + 1, _DOUBLED_MAX)
            pool.full_elsewhere_until = asyncio.get_running_loop().time() + 2.0**pool.full_elsewhere
        elif outcome is not None:
            pool.full_elsewhere, pool.full_elsewhere_until = 0, 0.0
        return outcome

    def _look_elsewhere(self, pool: Pool) -> None:
        if self._forwarder is not None and pool.participant not in self._looking:
            self._looking.add(pool.participant)
            self._background.spawn("look for workers elsewhere", self._keep_looking(self._forwarder, pool))

    async def _keep_looking(self, forwarder: Forwarder, pool: Pool) -> None:
        """Looks for workers elsewhere as long as tasks wait that no worker here performs."""
        try:
            while pool.has_unserved:
                await asyncio.sleep(LOOK_SECONDS)
                for assignment in tuple(pool.take_unserved()):
                    self._background.spawn("forwarding", self._forward_queued(forwarder, pool, assignment))
        finally:
            self._looking.discard(pool.participant)

    async def _forward_queued(self, forwarder: Forwarder, pool: Pool, assignment: Assignment) -> None:
        now = asyncio.get_running_loop().time()
        if not assignment.may_be_given(now):
            return
        if assignment.is_forwarded:
            assignment.settle(_held(f"no worker of `{pool.participant}` is connected here any more", 0.0))
            return
        assignment.is_given = True
        left = assignment.ends_at - now
        outcome = await self._elsewhere(forwarder, pool, assignment.task, assignment.ends_at)
        if outcome is not None:
            assignment.settle(outcome)
        elif not assignment.outcome.done():
            assignment.is_given = False
            if asyncio.get_running_loop().time() < assignment.ends_at - left / 2:
                pool.put(assignment)
                self._look_elsewhere(pool)
            else:
                assignment.settle(self._without_room(pool, assignment.task.method))

    async def _publish(self, forwarder: Forwarder, kept: Kept) -> None:
        await self._changed.wait()
        while True:
            await retried(
                partial(self._publish_once, forwarder),
                Unavailable,
                _PUBLISH_PAUSES,
                tell=lambda error: _log.warning("workers_not_published", reason=str(error)),
            )
            kept.turned()
            await asyncio.sleep(_PUBLISH_AGAIN_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PUBLISH_EVERY_SECONDS):
                    await self._changed.wait()

    async def _publish_once(self, forwarder: Forwarder) -> None:
        self._changed.clear()
        served = {name: pool.methods for name, pool in self._pools.items() if pool.methods is not None}
        try:
            await forwarder.publish(served)
        except Exception:
            self._changed.set()  # what is performed here has still to be told
            raise

    async def _drop_silent(self, kept: Kept) -> None:
        """Drops workers that say nothing any more: a program that hangs keeps its connection."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS / 2)
            for pool in self._pools.values():
                for stream in tuple(pool.streams):
                    if loop.time() - stream.heard_at > SILENCE_SECONDS:
                        stream.on_cut(
                            Unavailable(
                                Reason.WORKER_SILENT,
                                f"the worker was silent for {SILENCE_SECONDS:g} s; it has to send a heartbeat every "
                                f"{HEARTBEAT_SECONDS:g} s",
                            )
                        )
            kept.turned()


def _over(assignment: Assignment, timeout_seconds: float) -> None:
    """Ends an attempt whose time is over. The task counts against its worker's credits until the worker answers, too late."""
    if assignment.lost_by:
        assignment.settle(outcome_of_lost(assignment))
        return
    assignment.settle(outcome_of_failure("DEADLINE_EXCEEDED", f"no outcome within {timeout_seconds:g} s"))
    assignment.task.ClearField("input")
    assignment.written = b""
    if assignment.stream is not None:
        assignment.stream.is_overdue(assignment.given_at)
        assignment.stream.settled()


def _give_back(pool: Pool) -> None:
    pool.kept -= 1


def _held(message: str, delay_seconds: float) -> Held:
    return Held(Cause("UNAVAILABLE", clip(message)), delay_seconds)
