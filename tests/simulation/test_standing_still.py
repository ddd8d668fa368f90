"""What a process that stood still does with attempts whose time has passed meanwhile: none of them is made (P4).

Another coordinator may have taken the saga and waited as long as the attempt could be in flight; then it goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, cast

import grpc
import pytest

from proof.simulation.loop import Node, SimulatedLoop
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.calls.gates import Gate
from saga_coordinator.participants.directory.limits import BreakerLimits, ParticipantLimits
from saga_coordinator.participants.workers.forwarding import Peers
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.outcome import Held, Outcome, Succeeded
from saga_coordinator.store.workers import WorkersElsewhere


def call(attempt: int) -> Invoke:
    return Invoke("saga", "pay", OperationKind.ACTION, attempt, "key", "bank", "pay", {}, 1.0, None)


class Story:
    """Two calls to a participant that takes one at a time; the first one is answered after a tenth of a second."""

    def __init__(self, frozen_seconds: float) -> None:
        self.loop = SimulatedLoop(random.Random(1), is_fifo=True)
        self.node = Node(self.loop, "coordinator", offset=0.0, pace=1.0)
        self.made: list[tuple[int, float]] = []
        self.outcomes: list[Outcome] = []
        self._answered: asyncio.Future[None] = self.loop.create_future()
        self.node.spawn(self._run())
        self.loop.later(0.05, setattr, self.node, "is_frozen", True)
        self.loop.later(0.1, self._answered.set_result, None)
        self.loop.later(0.05 + frozen_seconds, self.node.thaw)
        self.loop.run(lambda: len(self.outcomes) == 2, 60.0)
        self.loop.close()

    async def _run(self) -> None:
        gate = Gate(
            "bank", ParticipantLimits(concurrency=1, breaker=BreakerLimits(is_on=False)), lambda name: None
        )
        gate.force(Forced.AUTOMATIC)
        self.outcomes += await asyncio.gather(*(gate.pass_through(call(n), self._attempt) for n in (1, 2)))

    async def _attempt(self, made: Invoke) -> Outcome:
        self.made.append((made.attempt, made.timeout_seconds))
        if made.attempt == 1:
            await self._answered
        return Succeeded(made.attempt)


def test_p4_a_call_whose_turn_comes_too_late_is_held_instead_of_made() -> None:
    story = Story(frozen_seconds=5.0)
    assert [attempt for attempt, _ in story.made] == [1]
    assert isinstance(story.outcomes[1], Held)


def test_p4_a_call_that_waited_for_its_turn_has_so_much_less_time() -> None:
    story = Story(frozen_seconds=0.1)
    assert [attempt for attempt, _ in story.made] == [1, 2]
    assert story.made[1][1] == pytest.approx(0.85, abs=0.01)


class Elsewhere:
    """Another coordinator that has the worker; what is sent there is taken down."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def publish(self, namespace: Namespace, served: Mapping[str, frozenset[str]]) -> None:
        raise AssertionError("nothing is performed here")

    async def elsewhere(self, namespace: Namespace) -> list[WorkersElsewhere]:
        return [WorkersElsewhere("depot", frozenset(), "other", "other:1")]

    def dial(self, address: str) -> grpc.aio.Channel:
        return cast("grpc.aio.Channel", self)

    def unary_unary(self, method: str) -> Any:
        return self._forward

    def get_state(self, *, try_to_connect: bool) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        pass

    async def _forward(self, request: bytes, **_: Any) -> bytes:
        self.sent.append(request)
        return b""


async def test_p4_a_task_whose_time_has_passed_is_not_forwarded() -> None:
    now = asyncio.get_running_loop().time
    other = Elsewhere()
    peers = Peers(other, payload_bytes_max=1000, dial=other.dial)
    assert await peers.find("depot", "pack") == "other"
    assert await peers.forward("other", "depot", Task(), ends_at=now() - 0.001) is None
    assert other.sent == []
    assert await peers.forward("other", "depot", Task(), ends_at=now() + 60) is not None
    assert len(other.sent) == 1
    await peers.stop()
