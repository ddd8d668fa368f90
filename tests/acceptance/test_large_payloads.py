"""Sagas that are larger than an answer, on a server that is set so or was before: every client can look at them."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import ListValue, Value

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    Event,
    GetSagaRequest,
    ListSagasRequest,
    PreviewCompensationRequest,
    SignalSagaRequest,
    StartSagaRequest,
    WatchSagaRequest,
)
from tests.acceptance.conftest import Client, StartServing
from tests.eventually import PATIENCE_SECONDS, wait_until

TAKEN_BY_DEFAULT = 4 * 1024 * 1024


@pytest.fixture
def client(serving: StartServing, connect: Callable[[str], Client]) -> Client:
    """With gRPC's own limit of 4 MiB for what it receives."""
    return connect(serving("--payload-bytes-max", str(8 * 1024 * 1024)).address)


def started(client: Client, text: str, *steps: dict[str, Any], **more: Any) -> str:
    client.define({"name": "large", "steps": steps, **more})
    return client.start("large", given=text).saga_id


def log_of(client: Client, saga_id: str) -> Iterator[saga_pb2.Entry]:
    """Page by page."""
    after = 0
    while True:
        request = GetSagaRequest(saga_id=saga_id, include_log=True, log_after_sequence=after)
        answer = client.sagas.GetSaga(request, timeout=PATIENCE_SECONDS)
        assert answer.ByteSize() < TAKEN_BY_DEFAULT
        yield from answer.log
        if not answer.log:
            return
        after = answer.log[-1].sequence


def test_an_input_larger_than_an_answer_is_left_out_of_every_view(client: Client) -> None:
    ask = {"name": "ask", "approval": {"show": "${input}", "timeout": "600s"}}
    saga_id = started(client, "x" * 5_000_000, ask)
    saga = client.saga(saga_id)
    assert (saga.input_omitted, saga.HasField("input"), saga.outputs_omitted) == (True, False, True)
    assert [(step.name, step.status) for step in saga.steps] == [("ask", saga_pb2.STEP_STATUS_WAITING)]
    (listed,) = client.sagas.ListSagas(ListSagasRequest(), timeout=PATIENCE_SECONDS).sagas
    assert listed.input_omitted
    log = list(log_of(client, saga_id))
    assert [(entry.entry_type, entry.payload_omitted) for entry in log] == [
        ("saga_started", True),
        ("wait_started", True),
    ]
    assert "definition" in log[0].body.fields, "the rest of it is there"
    watched = next(client.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS))
    assert [entry.entry_type for entry in watched.entries] == ["saga_started", "wait_started"]
    client.cancel(saga_id)
    assert client.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPENSATED


def test_outputs_larger_than_an_answer_together_are_in_the_log_one_by_one(client: Client) -> None:
    """Under the limit each, which is all that was ever asked of them."""
    count = 5
    steps = [{"name": f"s{number}", "await_event": {"event": f"e{number}"}} for number in range(count)]
    output = {f"o{number}": f"${{steps.s{number}.output}}" for number in range(count)}
    saga_id = started(client, "", *steps, {"name": "ask", "approval": {"timeout": "600s"}}, output=output)
    large = Value(list_value=ListValue(values=[Value(number_value=1)] * 90_000))
    for number in range(count):
        event = Event(event_id=f"{number}", name=f"e{number}", payload=large)
        client.sagas.SignalSaga(SignalSagaRequest(saga_id=saga_id, event=event), timeout=PATIENCE_SECONDS)

    def is_asked() -> saga_pb2.Saga | None:
        saga = client.saga(saga_id)
        return saga if saga.steps[-1].status == saga_pb2.STEP_STATUS_WAITING else None

    saga = wait_until(is_asked, "the last step")
    assert saga is not None
    assert saga.outputs_omitted
    assert [step.HasField("output") for step in saga.steps] == [False] * (count + 1)
    shown = [entry for entry in log_of(client, saga_id) if entry.entry_type == "attempt_succeeded"]
    assert [len(entry.body.fields["output"].list_value.values) for entry in shown] == [90_000] * count
    watched = 0
    for response in client.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS):
        assert response.ByteSize() < TAKEN_BY_DEFAULT
        watched += len(response.entries)
        if watched >= response.saga.sequence:
            break
    preview = PreviewCompensationRequest(saga_id=saga_id)
    assert client.sagas.PreviewCompensation(preview, timeout=PATIENCE_SECONDS).ByteSize() < TAKEN_BY_DEFAULT


def test_half_a_million_numbers_are_refused_by_name_and_number(
    serving: StartServing, connect: Callable[[str], Client]
) -> None:
    """A megabyte as JSON, and more than five as they are sent: beyond what participants take."""
    by_default = connect(serving().address)
    numbers = Value(list_value=ListValue(values=[Value(number_value=0)] * 500_000))
    request = StartSagaRequest(definition="none", start_key="1", input=numbers)
    with pytest.raises(grpc.RpcError) as refused:
        by_default.sagas.StartSaga(request, timeout=PATIENCE_SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "input: is 5500005 bytes as protobuf; 1048576 is the limit"
