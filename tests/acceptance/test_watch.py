"""A saga's log, watched as it grows: at the coordinator that drives the saga, at another one, and while one stops."""

import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    WatchSagaRequest,
    WatchSagaResponse,
)
from tests.acceptance.conftest import Client, Shop, StartServing
from tests.eventually import PATIENCE_SECONDS


def entry_types(responses: list[WatchSagaResponse]) -> list[str]:
    return [entry.entry_type for response in responses for entry in response.entries]


def started(client: Client, *methods: str) -> str:
    client.register("watched", *methods)
    return client.start("watched").saga_id


@pytest.fixture
def coordinators(
    serving: StartServing, connect: Callable[[str], Client], participants_file: Path
) -> tuple[Client, Client]:
    """Two on one database."""
    first, second = (serving("--participants", str(participants_file)) for _ in range(2))
    return connect(first.address), connect(second.address)


def test_a_watcher_sees_every_entry_once_and_then_the_end(
    coordinators: tuple[Client, Client], shop: Shop
) -> None:
    here, elsewhere = coordinators
    saga_id = started(here, "hang", "quick")
    shop.called.get(timeout=PATIENCE_SECONDS)
    watches = [
        client.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS)
        for client in (here, elsewhere)
    ]
    firsts = [next(watch) for watch in watches]
    assert [entry_types([first]) for first in firsts] == [["saga_started", "attempt_started"]] * 2
    shop.may_answer.set()
    for first, watch in zip(firsts, watches, strict=True):
        responses = [first, *watch]
        assert entry_types(responses) == [
            "saga_started",
            "attempt_started",
            "attempt_succeeded",
            "attempt_started",
            "attempt_succeeded",
            "saga_completed",
        ]
        sequences = [entry.sequence for response in responses for entry in response.entries]
        assert sequences == [1, 2, 3, 4, 5, 6]
        assert responses[-1].saga.status == saga_pb2.SAGA_STATUS_COMPLETED


def test_a_watch_can_be_taken_up_where_it_ended(coordinators: tuple[Client, Client], shop: Shop) -> None:
    here, elsewhere = coordinators
    saga_id = started(here, "quick", "refuse")
    list(here.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS))
    again = elsewhere.sagas.WatchSaga(
        WatchSagaRequest(saga_id=saga_id, after_sequence=5), timeout=PATIENCE_SECONDS
    )
    assert entry_types(list(again)) == [
        "saga_failed",
        "attempt_started",
        "attempt_succeeded",
        "saga_compensated",
    ]
    over = here.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id, after_sequence=9), timeout=PATIENCE_SECONDS)
    (response,) = over
    assert (entry_types([response]), response.saga.status) == ([], saga_pb2.SAGA_STATUS_COMPENSATED)


def test_a_watch_ends_when_its_coordinator_stops(
    serving: StartServing, connect: Callable[[str], Client], participants_file: Path, shop: Shop
) -> None:
    program = serving("--participants", str(participants_file), "--grace-seconds", "1")
    client = connect(program.address)
    saga_id = started(client, "hang")
    watch = client.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS)
    next(watch)
    program.send(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as ended:
        list(watch)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert program.wait() == 0


def test_what_cannot_be_watched(client: Client) -> None:
    for request, code in (
        (WatchSagaRequest(saga_id="no-saga"), grpc.StatusCode.INVALID_ARGUMENT),
        (WatchSagaRequest(saga_id="0198c2aa-1111-7222-8333-444455556666"), grpc.StatusCode.NOT_FOUND),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(client.sagas.WatchSaga(request, timeout=PATIENCE_SECONDS))
        assert caught.value.code() is code
