"""What sagas see of bulkheads: the reason on the step, no attempt spent, and the sagas of others unhindered."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import RegisterDefinitionRequest
from saga_coordinator.pb.saga.v1.directory_service_pb2 import Participant, PutParticipantRequest
from saga_coordinator.pb.saga.v1.directory_service_pb2_grpc import DirectoryServiceStub
from saga_coordinator.pb.saga.v1.participant_service_pb2 import ExecuteRequest, ExecuteResponse
from saga_coordinator.pb.saga.v1.participant_service_pb2_grpc import add_ParticipantServiceServicer_to_server
from saga_coordinator.pb.saga.v1.saga_pb2 import SAGA_STATUS_COMPLETED
from saga_coordinator.pb.saga.v1.saga_service_pb2 import GetSagaRequest, StartSagaRequest
from tests.acceptance.conftest import Client, Shop, StartServing

SECONDS = 120
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


def register(client: Client, name: str, participant: str, method: str, **more: Any) -> None:
    operation = {"participant": participant, "method": method, **more}
    steps = [{"name": "only", "action": operation, "compensation": {"participant": "shop", "method": "undo"}}]
    request = RegisterDefinitionRequest(definition=ParseDict({"name": name, "steps": steps}, Definition()))
    client.definitions.RegisterDefinition(request, timeout=SECONDS)


def start(client: Client, definition: str, *, wait: bool = False, metadata: Any = ()) -> tuple[str, int]:
    request = StartSagaRequest(definition=definition, start_key=definition, wait=wait)
    saga = client.sagas.StartSaga(request, timeout=SECONDS, metadata=metadata).saga
    return saga.saga_id, saga.status


def get(client: Client, saga_id: str) -> dict[str, Any]:
    request = GetSagaRequest(saga_id=saga_id, include_log=True)
    answer = client.sagas.GetSaga(request, timeout=SECONDS)
    return MessageToDict(answer, preserving_proto_field_name=True)


def test_an_open_breaker_spends_no_attempts_and_hinders_nobody_else(client: Client, shop: Shop) -> None:
    retry = {"max_attempts": 3, "initial_backoff": "0.01s", "max_backoff": "0.01s"}
    register(client, "unlucky", "sick", "away", retry=retry)
    register(client, "lucky", "shop", "quick")
    saga_id, _ = start(client, "unlucky")
    kinds: list[str] = []
    while "attempt_held" not in kinds:
        kinds = [entry["entry_type"] for entry in get(client, saga_id).get("log", [])]
        assert "step_failed" not in kinds
    found = get(client, saga_id)["saga"]
    (step,) = found["steps"]
    assert (found["status"], step["cause"]["code"]) == ("SAGA_STATUS_RUNNING", "CIRCUIT_OPEN")
    assert "UNAVAILABLE" in step["cause"]["message"]
    assert "retry_at" in step
    assert kinds.count("attempt_unknown") == shop.called.qsize() == 2

    assert start(client, "lucky", wait=True)[1] == SAGA_STATUS_COMPLETED


class Listening(Shop):
    """A shop that keeps the metadata of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: queue.Queue[dict[str, Any]] = queue.Queue()

    def Execute(self, request: ExecuteRequest, context: grpc.ServicerContext) -> ExecuteResponse:  # noqa: N802
        self.metadata.put(dict(context.invocation_metadata()))
        return super().Execute(request, context)


def test_headers_that_the_settings_name_reach_the_participant(client: Client) -> None:
    shop, server = Listening(), grpc.server(futures.ThreadPoolExecutor(1))
    add_ParticipantServiceServicer_to_server(shop, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    request = PutParticipantRequest(participant=Participant(name="tenanted", target=target))
    DirectoryServiceStub(client.channel).PutParticipant(request, timeout=SECONDS)
    register(client, "tenanted", "tenanted", "quick")
    start(client, "tenanted", wait=True, metadata=[("x-tenant", "acme"), ("x-user", "ana")])
    server.stop(None).wait()
    metadata = shop.metadata.get_nowait()
    assert (metadata["x-tenant"], "x-user" in metadata) == ("acme", False)
