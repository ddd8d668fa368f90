"""Workers that come and go, without any network."""

from __future__ import annotations

from saga_coordinator.participants.workers.stream import Greeting
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.pb.saga.v1.worker_service_pb2 import WorkResponse
from saga_coordinator.saga.words.errors import SagaError


async def test_one_that_is_being_welcomed_when_the_coordinator_stops_is_let_go_all_the_same() -> None:
    """Otherwise the stop would wait for it as long as it may."""
    workers = Workers()
    verdicts: list[SagaError | None] = []
    stream = workers.connect(Greeting("shop", frozenset(), 1, "worker", ""), lambda _: None, verdicts.append)
    workers.hand_out_no_more()
    assert not verdicts
    workers.admit(stream)
    assert verdicts == [None]
    assert WorkResponse.FromString(stream.next_message(0.0)).goodbye
