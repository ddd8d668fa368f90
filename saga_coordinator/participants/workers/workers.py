"""Participants that dial the coordinator: who is connected, and which worker an attempt goes to.

An attempt goes to a worker that is connected here, or else to a coordinator that has such a worker. Otherwise the attempt waits
for up to half of its time, so that the worker has the other half. An attempt for which no worker had room was not made, and is
held. The attempts after it are tried at another coordinator first, until a worker here has room again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.participants.calls.room_news import RoomNews
from saga_coordinator.participants.workers.assignment import Assignment, not_handed_out
from saga_coordinator.participants.workers.elsewhere import Elsewhere, Forwarder
from saga_coordinator.participants.workers.pool import NO_ROOM_SECONDS, NO_WORKER_SECONDS, Pool
from saga_coordinator.participants.workers.stream import Greeting, Stream
from saga_coordinator.participants.workers.tasks import task_of, written
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.errors import SagaError, Unavailable
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Held, Outcome, Refused, clip
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.wire.conversion import convert, size_of
from saga_coordinator.wire.payload import PayloadError

HEARTBEAT_SECONDS = 10.0
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS

KEPT_SECONDS = 1.0
"""How long a place is kept for a task that is put once its attempt is committed."""


class Workers(Service):
    """All connected workers of one coordinator. Used from one event loop."""

    def __init__(self, forwarder: Forwarder | None = None) -> None:
        self._elsewhere = None if forwarder is None else Elsewhere(forwarder, self._served)
        self._pools: dict[str, Pool] = {}
        self._background = Background()
        self.room_news = RoomNews()
        """Tells of a participant for which a worker has come that performs what none did before, or less than before."""
        self._is_stopping = False

    async def start(self) -> None:
        """Begins to watch over streams, and to tell the other coordinators of them."""
        self._background.keep("the watch over workers", self._drop_silent, turn_seconds_max=SILENCE_SECONDS)
        if self._elsewhere is not None:
            await self._elsewhere.start()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps workers from being looked after."""
        yield from self._background.problems
        if self._elsewhere is not None:
            yield from self._elsewhere.problems

    def hand_out_no_more(self) -> None:
        """Hands out nothing more. Every stream ends as soon as its worker has told the outcomes of its tasks."""
        self._is_stopping = True
        for pool in self._pools.values():
            for stream in tuple(pool.streams):
                stream.say_goodbye()
            for assignment in tuple(pool.take_unserved()):
                assignment.settle(not_handed_out("the coordinator is stopping", 0.0))

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Lets go of everything; what is still under way ends unheard."""
        await self._background.stop(None)
        if self._elsewhere is not None:
            await self._elsewhere.stop()

    # Workers

    def connect(
        self,
        greeting: Greeting,
        on_wake: Callable[[Stream], None],
        on_cut: Callable[[SagaError | None], None],
    ) -> Stream:
        """Makes a stream, which gets tasks once `admit` is called; see `Stream` for what its transport is told.

        Raises Unavailable when the coordinator is stopping.
        """
        if self._is_stopping:
            raise Unavailable(
                Reason.COORDINATOR_STOPPING, "the coordinator is stopping; dial again, for another one"
            )
        now = asyncio.get_running_loop().time()
        return Stream(self._pool(greeting.participant), greeting, on_wake, on_cut, now)

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
        elsewhere = await self._elsewhere.methods_of(participant) if self._elsewhere is not None else None
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
        if is_elsewhere and self._elsewhere is not None:
            outcome = await self._elsewhere.forward(call.participant, task, ends_at)
            if outcome is not None:
                return outcome
            if ends_at - loop.time() < call.timeout_seconds / 2:  # to find out took too long
                return pool.held_in_vain(task.method)
        return await self._hand_out(pool, task, size, ends_at)

    async def look_for_room(self, participant: str, method: str) -> Held | None:
        """The reason why a task would not be handed out now, with when to look again; None if it would be."""
        pool = self._pool(participant)
        if self._is_stopping:
            return not_handed_out("the coordinator is stopping", NO_ROOM_SECONDS)
        loop, elsewhere = asyncio.get_running_loop(), self._elsewhere
        if pool.has_room(method):
            pool.keep_place()
            loop.call_later(KEPT_SECONDS, pool.give_place_back)
            return None
        is_crowded = elsewhere is not None and elsewhere.is_crowded(participant, loop.time())
        if elsewhere is not None and not is_crowded and await elsewhere.has_worker(participant, method):
            return None
        who = pool.no_worker(method)
        if pool.serves(method) or is_crowded:
            return not_handed_out(f"{who} has room", pool.next_look_seconds(loop.time()))
        return not_handed_out(f"{who} is connected", NO_WORKER_SECONDS)

    async def invoke_here(self, participant: str, task: Task, timeout_seconds: float) -> Outcome:
        """Makes an attempt of a saga that another coordinator drives; held when no worker here has room in time."""
        ends_at = asyncio.get_running_loop().time() + timeout_seconds
        pool = self._pool(participant)
        if not pool.serves(task.method):
            return not_handed_out(f"no worker of `{participant}` is connected any more", 0.0)
        return await self._hand_out(pool, task, task.ByteSize(), ends_at, is_forwarded=True)

    def _pool(self, participant: str) -> Pool:
        pool = self._pools.get(participant)
        if pool is None:
            pool = self._pools[participant] = Pool(
                participant, partial(self._is_served_otherwise, participant)
            )
        return pool

    def _is_served_otherwise(self, participant: str) -> None:
        if self._elsewhere is not None:
            self._elsewhere.has_changed()
        if self._pools[participant].methods is not None:
            self.room_news.tell(participant)

    async def _hand_out(
        self, pool: Pool, task: Task, size: int, ends_at: float, *, is_forwarded: bool = False
    ) -> Outcome:
        """`size` tells where the task is written: it is about that of its input, in bytes."""
        sent = await convert(size, written, task)
        if self._is_stopping:
            return not_handed_out("the coordinator is stopping", 0.0)
        loop = asyncio.get_running_loop()
        timeout_seconds = ends_at - loop.time()
        assignment = Assignment(task, sent, loop.create_future(), ends_at, is_forwarded=is_forwarded)
        assignment.timer = loop.call_later(
            timeout_seconds / 2, self._half_over, pool, assignment, timeout_seconds
        )
        pool.put(assignment)
        if self._elsewhere is not None and not pool.serves(task.method):
            self._elsewhere.look_for_workers(pool)
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
            assignment.timer = loop.call_at(assignment.ends_at, assignment.run_out, timeout_seconds)
        else:
            assignment.settle(pool.held_in_vain(assignment.task.method))

    def _served(self) -> Mapping[str, frozenset[str]]:
        """What is performed here: the methods of each participant that has workers."""
        return {name: pool.methods for name, pool in self._pools.items() if pool.methods is not None}

    async def _drop_silent(self, kept: Kept) -> None:
        """Drops workers that say nothing any more: a program that hangs keeps its connection."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS / 2)
            for pool in self._pools.values():
                for stream in tuple(pool.streams):
                    if loop.time() - stream.heard_at > SILENCE_SECONDS:
                        stream.cut(
                            Unavailable(
                                Reason.WORKER_SILENT,
                                f"the worker was silent for {SILENCE_SECONDS:g} s; it has to send a heartbeat every "
                                f"{HEARTBEAT_SECONDS:g} s",
                            )
                        )
            kept.turned()
