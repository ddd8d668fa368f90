"""Outcomes that come later, over gRPC: tokens, and a thousand pending steps that outlive a coordinator killed with SIGKILL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    HeartbeatRequest,
    HeartbeatResponse,
    ReportOutcomeRequest,
)
from tests.acceptance.conftest import Client, Shop, StartServing, repeated
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
    loop = {"name": "all", "for_each": {"items": "input", "steps": [later]}}
    client.define({"name": "patient", "steps": [loop]})


def report(client: Client, token: str) -> saga_service_pb2.ReportOutcomeResponse:
    request = ReportOutcomeRequest(token=token, succeeded=Value(string_value="done"))
    return repeated(lambda: client.sagas.ReportOutcome(request, timeout=PATIENCE_SECONDS))


def test_a_thousand_pending_steps_outlive_their_coordinator(
    serving: StartServing,
    participants_file: Path,
    shop: Shop,
    connect: Callable[[str], Client],
    database_dsn: str,
) -> None:
    first = serving("--participants", participants_file)
    client = connect(first.address)
    register(client)
    with ThreadPoolExecutor(CALLERS) as callers:
        saga_ids = list(
            callers.map(lambda number: client.start("patient", f"s{number}", [0]).saga_id, range(SAGAS))
        )
        calls = [shop.called.get(timeout=PATIENCE_SECONDS) for _ in range(SAGAS)]
        first.kill(database_dsn)
        second = connect(serving("--participants", participants_file).address)
        answers = list(callers.map(lambda call: report(second, call.token), calls))
        assert {answer.result for answer in answers} == {saga_service_pb2.REPORT_RESULT_APPLIED}
        assert {saga.status for saga in callers.map(second.settled, saga_ids)} == {
            saga_pb2.SAGA_STATUS_COMPLETED
        }
        again = list(callers.map(lambda call: report(second, call.token), calls[::50]))
    assert {answer.result for answer in again} == {saga_service_pb2.REPORT_RESULT_REPEATED}


def test_a_token_is_all_it_takes(client: Client, shop: Shop) -> None:
    register(client)
    saga_id = client.start("patient", given=[0]).saga_id
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
