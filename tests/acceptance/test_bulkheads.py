"""What sagas see of bulkheads: the reason on the step, no attempt spent, and the sagas of others unhindered."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from saga_coordinator.pb.saga.v1.directory_service_pb2 import Participant, PutParticipantRequest
from saga_coordinator.pb.saga.v1.directory_service_pb2_grpc import DirectoryServiceStub
from saga_coordinator.pb.saga.v1.participant_service_pb2 import ExecuteRequest, ExecuteResponse
from saga_coordinator.pb.saga.v1.saga_pb2 import SAGA_STATUS_COMPLETED, SAGA_STATUS_RUNNING
from saga_coordinator.pb.saga.v1.saga_service_pb2 import GetSagaRequest, StartSagaRequest
from tests.acceptance.conftest import Client, Shop, StartServing, participant
from tests.eventually import PATIENCE_SECONDS

PARTICIPANTS = """
participants:
  sick:
    target: "{address}"
    limits: {{breaker: {{calls_min: 2, failure_ratio: 0.5, rest: 600s, rest_max: 600s}}}}
  shop: {{target: "{address}"}}
"""


@pytest.fixture
def client(
    serving: StartServing, connect: Callable[[str], Client], shop_server: tuple[Shop, str], tmp_path: Path
) -> Client:
    file = tmp_path / "participants.yaml"
    file.write_text(PARTICIPANTS.format(address=shop_server[1]))
    return connect(serving("--participants", file, "--forward-headers", "x-tenant").address)


def register(client: Client, name: str, to: str, method: str, **more: Any) -> None:
    operation = {"participant": to, "method": method, **more}
    steps = [{"name": "only", "action": operation, "compensation": {"participant": "shop", "method": "undo"}}]
    client.define({"name": name, "steps": steps})


def kinds_of_entries(client: Client, saga_id: str) -> list[str]:
    request = GetSagaRequest(saga_id=saga_id, include_log=True)
    return [entry.entry_type for entry in client.sagas.GetSaga(request, timeout=PATIENCE_SECONDS).log]


def test_an_open_breaker_spends_no_attempts_and_hinders_nobody_else(client: Client, shop: Shop) -> None:
    retry = {"max_attempts": 3, "initial_backoff": "0.01s", "max_backoff": "0.01s"}
    register(client, "unlucky", "sick", "away", retry=retry)
    register(client, "lucky", "shop", "quick")
    saga_id = client.start("unlucky").saga_id
    while "attempt_held" not in (kinds := kinds_of_entries(client, saga_id)):
        assert "step_failed" not in kinds
    found = client.saga(saga_id)
    (step,) = found.steps
    assert (found.status, step.cause.code) == (SAGA_STATUS_RUNNING, "CIRCUIT_OPEN")
    assert "UNAVAILABLE" in step.cause.message
    assert step.HasField("retry_at")
    assert kinds.count("attempt_unknown") == shop.called.qsize() == 2

    assert client.start("lucky", wait=True).status == SAGA_STATUS_COMPLETED


class Listening(Shop):
    """A shop that keeps the metadata of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: queue.Queue[dict[str, Any]] = queue.Queue()

    def Execute(self, request: ExecuteRequest, context: grpc.ServicerContext) -> ExecuteResponse:  # noqa: N802
        self.metadata.put(dict(context.invocation_metadata()))
        return super().Execute(request, context)


def test_headers_that_the_settings_name_reach_the_participant(client: Client) -> None:
    shop = Listening()
    with participant(shop) as target:
        put = PutParticipantRequest(participant=Participant(name="tenanted", target=target))
        DirectoryServiceStub(client.channel).PutParticipant(put, timeout=PATIENCE_SECONDS)
        register(client, "tenanted", "tenanted", "quick")
        start = StartSagaRequest(definition="tenanted", start_key="1", wait=True)
        client.sagas.StartSaga(
            start, timeout=PATIENCE_SECONDS, metadata=(("x-tenant", "acme"), ("x-user", "ana"))
        )
    metadata = shop.metadata.get_nowait()
    assert (metadata["x-tenant"], "x-user" in metadata) == ("acme", False)
