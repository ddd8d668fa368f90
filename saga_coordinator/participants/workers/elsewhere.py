"""Tasks of workers that are connected to other coordinators, and what those coordinators are told of the workers here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.participants.workers.assignment import Assignment, not_handed_out
from saga_coordinator.participants.workers.pool import Pool
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.retrying import Pauses, retried
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.outcome import Held, Outcome

LOOK_SECONDS = 0.5
"""The seconds between two looks whether another coordinator has a worker for the tasks that wait here."""

_DOUBLED_MAX = 6
_PUBLISH_AGAIN_SECONDS = 0.05
_PUBLISH_PAUSES = Pauses(1.0, 2.0)
_PUBLISH_EVERY_SECONDS = 30.0
"""What was told is told again: a statement that was given up here may be carried out later, and undo what was told after it."""

_log = structlog.get_logger(__name__)

Served = Mapping[str, frozenset[str]]
"""The methods that are performed of each participant; the empty set stands for all methods."""


class Forwarder(Protocol):
    """The way to other coordinators, which hand out the tasks that no worker here performs."""

    async def publish(self, served: Served) -> None:
        """Publishes what is performed here. Raises Unavailable."""

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


@dataclass(slots=True)
class _Crowd:
    """How often in a row another coordinator's workers had no room, and until when they are not looked for."""

    times: int = 0
    until: float = 0.0


class Elsewhere(Service):
    """The workers at other coordinators. Used from one event loop.

    A task that waits here is forwarded as soon as another coordinator has a worker for it. A task that came from another
    coordinator is not forwarded again.
    """

    def __init__(self, forwarder: Forwarder, served: Callable[[], Served]) -> None:
        """Publishes what `served` returns, whenever it `has_changed`."""
        self._forwarder = forwarder
        self._served = served
        self._background = Background()
        self._looking: set[str] = set()
        self._crowds: dict[str, _Crowd] = {}
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Begins to tell the other coordinators of the workers here."""
        self._background.keep("the word of workers", self._publish)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Lets go of the other coordinators; what is forwarded ends unheard."""
        await self._background.stop(None)
        await self._forwarder.stop()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps the other coordinators from being told of the workers here."""
        return self._background.problems

    def has_changed(self) -> None:
        """Notes that other methods are performed here than before."""
        self._changed.set()

    async def methods_of(self, participant: str) -> frozenset[str] | None:
        """The participant's methods that are performed elsewhere: empty for all methods, None for no method."""
        return await self._forwarder.methods_of(participant)

    async def has_worker(self, participant: str, method: str) -> bool:
        """Tells whether another coordinator has a worker for this."""
        return await self._forwarder.find(participant, method) is not None

    def is_crowded(self, participant: str, now: float) -> bool:
        """Tells whether other coordinators' workers had no room a short while ago."""
        crowd = self._crowds.get(participant)
        return crowd is not None and now < crowd.until

    async def forward(self, participant: str, task: Task, ends_at: float) -> Outcome | None:
        """The task's outcome at another coordinator; None if no coordinator has a worker, or the task did not get there."""
        coordinator_id = await self._forwarder.find(participant, task.method)
        if coordinator_id is None:
            return None
        outcome = await self._forwarder.forward(coordinator_id, participant, task, ends_at)
        if isinstance(outcome, Held):
            crowd = self._crowds.setdefault(participant, _Crowd())
            crowd.times = min(crowd.times + 1, _DOUBLED_MAX)
            crowd.until = asyncio.get_running_loop().time() + 2.0**crowd.times
        elif outcome is not None:
            self._crowds.pop(participant, None)
        return outcome

    def look_for_workers(self, pool: Pool) -> None:
        """Looks for workers elsewhere as long as tasks wait in the pool that no worker here performs."""
        if pool.participant not in self._looking:
            self._looking.add(pool.participant)
            self._background.spawn("look for workers elsewhere", self._keep_looking(pool))

    async def _keep_looking(self, pool: Pool) -> None:
        try:
            while pool.has_unserved:
                await asyncio.sleep(LOOK_SECONDS)
                for assignment in tuple(pool.take_unserved()):
                    self._background.spawn("forwarding", self._forward_queued(pool, assignment))
        finally:
            self._looking.discard(pool.participant)

    async def _forward_queued(self, pool: Pool, assignment: Assignment) -> None:
        now = asyncio.get_running_loop().time()
        if not assignment.may_be_given(now):
            return
        if assignment.is_forwarded:
            gone = f"no worker of `{pool.participant}` is connected here any more"
            assignment.settle(not_handed_out(gone, 0.0))
            return
        assignment.is_given = True
        left = assignment.ends_at - now
        outcome = await self.forward(pool.participant, assignment.task, assignment.ends_at)
        if outcome is not None:
            assignment.settle(outcome)
        elif not assignment.outcome.done():
            assignment.is_given = False
            if asyncio.get_running_loop().time() < assignment.ends_at - left / 2:
                pool.put(assignment)
                self.look_for_workers(pool)
            else:
                assignment.settle(pool.held_in_vain(assignment.task.method))

    async def _publish(self, kept: Kept) -> None:
        await self._changed.wait()
        while True:
            await retried(self._publish_once, Unavailable, _PUBLISH_PAUSES, tell=_tell_not_published)
            kept.turned()
            await asyncio.sleep(_PUBLISH_AGAIN_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PUBLISH_EVERY_SECONDS):
                    await self._changed.wait()

    async def _publish_once(self) -> None:
        self._changed.clear()
        try:
            await self._forwarder.publish(self._served())
        except Exception:
            self._changed.set()  # what is performed here has still to be told
            raise


def _tell_not_published(error: BaseException) -> None:
    _log.warning("workers_not_published", reason=str(error))
