"""Outcomes that come later, over gRPC: tokens, and a thousand pending steps that outlive a coordinator killed with SIGKILL."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import ListValue, Value

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import RegisterDefinitionRequest
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    HeartbeatRequest,
    HeartbeatResponse,
    ReportOutcomeRequest,
    StartSagaRequest,
    WaitSagaRequest,
)
from tests.acceptance.conftest import Client, Shop, StartServing
from tests.eventually import PATIENCE_SECONDS

SAGAS = 1000
CALLERS = 16


def register(client: Client) -> None:
    """A saga that has the shop do something later for each item, and undoes nothing that was refused."""
    later = {
        "name": "later",
        "action": {"participant": "shop", "method": "later", "heartbeat_timeout": "600s"},
        "compensation": {"participant": "shop", "method": "undo"},
    }
    definition = {
        "name": "patient",
        "steps": [{"name": "all", "for_each": {"items": "input", "steps": [later]}}],
    }
    client.definitions.RegisterDefinition(
        RegisterDefinitionRequest(definition=ParseDict(definition, Definition())), timeout=PATIENCE_SECONDS
    )


def start(client: Client, key: str, items: int) -> str:
    request = StartSagaRequest(
        definition="patient",
        start_key=key,
        input=Value(list_value=ListValue(values=[Value(number_value=n) for n in range(items)])),
    )
    return client.sagas.StartSaga(request, timeout=PATIENCE_SECONDS).saga.saga_id


def report(client: Client, token: str) -> saga_service_pb2.ReportOutcomeResponse:
    request = ReportOutcomeRequest(token=token, succeeded=Value(string_value="done"))
    return client.sagas.ReportOutcome(request, timeout=PATIENCE_SECONDS)


def test_a_thousand_pending_steps_outlive_their_coordinator(
    serving: StartServing, participants_file: Path, shop: Shop, connect: Callable[[str], Client]
) -> None:
    flags = ("--participants", participants_file, "--lease-seconds", "1")
    first = serving(*flags)
    client = connect(first.address)
    register(client)
    with ThreadPoolExecutor(CALLERS) as callers:
        saga_ids = list(callers.map(lambda number: start(client, f"s{number}", 1), range(SAGAS)))
        calls = [shop.called.get(timeout=PATIENCE_SECONDS) for _ in range(SAGAS)]
        first.send(signal.SIGKILL)
        first.wait()
        second = connect(serving(*flags).address)
        answers = list(callers.map(lambda call: report(second, call.token), calls))
        assert {answer.result for answer in answers} == {saga_service_pb2.REPORT_RESULT_APPLIED}
        settled = list(
            callers.map(
                lambda saga_id: second.sagas.WaitSaga(
                    WaitSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS
                ),
                saga_ids,
            )
        )
        assert {answer.saga.status for answer in settled} == {saga_pb2.SAGA_STATUS_COMPLETED}
        again = list(callers.map(lambda call: report(second, call.token), calls[::50]))
    assert {answer.result for answer in again} == {saga_service_pb2.REPORT_RESULT_REPEATED}


def test_a_token_is_all_it_takes(client: Client, shop: Shop) -> None:
    register(client)
    saga_id = start(client, "by token", 1)
    token = shop.called.get(timeout=PATIENCE_SECONDS).token
    beat = HeartbeatRequest(token=token, details="half of it")
    answer = client.sagas.Heartbeat(beat, timeout=PATIENCE_SECONDS)
    assert answer == HeartbeatResponse(awaited=True, timeout=Duration(seconds=600))
    changed = HeartbeatRequest(token=token[:-2])
    with pytest.raises(grpc.RpcError) as refused:
        client.sagas.Heartbeat(changed, timeout=PATIENCE_SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert report(client, token).result == saga_service_pb2.REPORT_RESULT_APPLIED
    refusal = ReportOutcomeRequest(token=token, refused=saga_pb2.Cause(message="after all"))
    late = client.sagas.ReportOutcome(refusal, timeout=PATIENCE_SECONDS)
    assert (late.applied, late.result) == (False, saga_service_pb2.REPORT_RESULT_LATE)
    assert late.saga.saga_id == saga_id
    assert late.saga.status == saga_pb2.SAGA_STATUS_COMPLETED
