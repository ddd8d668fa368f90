"""Events, approvals, output and preview through the API of a running coordinator."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    DecideApprovalRequest,
    Event,
    GetSagaRequest,
    PreviewCompensationRequest,
    PublishEventRequest,
    SignalSagaRequest,
)
from tests.acceptance.conftest import Client, Shop
from tests.acceptance.test_rpc import NOBODY, Refused
from tests.eventually import PATIENCE_SECONDS

ACTION = {"participant": "shop", "method": "quick"}
UNDO = {"participant": "shop", "method": "undo"}


def register(client: Client, name: str, *steps: dict[str, Any], **more: Any) -> None:
    client.define({"name": name, "steps": steps, **more})


def step(client: Client, saga_id: str, name: str) -> saga_pb2.StepState:
    return next(each for each in client.saga(saga_id).steps if each.name == name)


@pytest.fixture
def paying(client: Client) -> str:
    register(
        client,
        "paying",
        {"name": "reserve", "action": ACTION, "compensation": UNDO | {"input": {"order": "${input.order}"}}},
        {"name": "paid", "await_event": {"event": "paid", "correlation": "order ${input.order}"}},
        {
            "name": "decision",
            "approval": {"approvers": ["ann"], "show": {"amount": "${steps.paid.output.amount}"}},
        },
        output={"amount": "${steps.paid.output.amount}"},
        labels={"order": "${input.order}"},
    )
    return "paying"


def test_a_saga_that_waits_for_an_event_and_for_a_person(client: Client, paying: str) -> None:
    saga_id = client.start(paying, "waiting 1", {"order": 17}).saga_id
    client.await_entry(saga_id, "wait_started", "paid")
    waiting = step(client, saga_id, "paid")
    assert (waiting.awaited_event, waiting.awaited_correlation) == ("paid", "order 17")

    preview = client.sagas.PreviewCompensation(
        PreviewCompensationRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS
    )
    assert [[call.step for call in stage.calls] for stage in preview.stages] == [["reserve"]]
    call = preview.stages[0].calls[0]
    assert (call.participant, call.method, call.idempotency_key) == (
        "shop",
        "undo",
        f"{saga_id}/reserve/compensation",
    )
    assert MessageToDict(call.input) == {"order": 17}
    assert preview.status == saga_pb2.SAGA_STATUS_COMPENSATED
    assert not preview.remaining_effects

    event = Event(
        event_id="p1", name="paid", correlation="order 17", payload=ParseDict({"amount": 3}, Value())
    )
    assert client.sagas.PublishEvent(PublishEventRequest(event=event), timeout=PATIENCE_SECONDS).sagas == 1
    again = client.sagas.PublishEvent(PublishEventRequest(event=event), timeout=PATIENCE_SECONDS)
    assert (again.sagas, again.duplicate, again.HasField("kept_until")) == (0, True, False)
    event.payload.number_value = 4
    other = Refused(
        lambda: client.sagas.PublishEvent(PublishEventRequest(event=event), timeout=PATIENCE_SECONDS)
    )
    assert other.code == "ALREADY_EXISTS"
    early = Event(event_id="p2", name="paid", correlation="order 18")
    asked = PublishEventRequest(event=early)
    asked.keep_for.seconds = 60
    kept = client.sagas.PublishEvent(asked, timeout=PATIENCE_SECONDS)
    assert (kept.sagas, kept.duplicate) == (0, False)
    week = 7 * 24 * 3600
    assert kept.remembered_until.seconds - kept.kept_until.seconds == pytest.approx(week - 60, abs=1)

    client.await_entry(saga_id, "wait_started", "decision")
    assert MessageToDict(step(client, saga_id, "decision").shown) == {"amount": 3}
    decision = DecideApprovalRequest(saga_id=saga_id, step="decision", approved=True, decided_by="eve")
    refused = Refused(lambda: client.sagas.DecideApproval(decision, timeout=PATIENCE_SECONDS))
    assert refused.code == "PERMISSION_DENIED"
    assert "who may: ann" in refused.message
    decision.decided_by = "ann"
    assert client.sagas.DecideApproval(decision, timeout=PATIENCE_SECONDS).applied
    assert not client.sagas.DecideApproval(decision, timeout=PATIENCE_SECONDS).applied
    saga = client.settled(saga_id)
    assert saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert MessageToDict(saga.output) == {"amount": 3}
    assert saga.labels == {"order": "17"}


def test_a_signal_to_one_saga(client: Client, paying: str) -> None:
    saga_id = client.start(paying, "waiting 2", {"order": 18}).saga_id
    event = Event(event_id="s1", name="paid", payload=ParseDict({"amount": 1}, Value()))
    assert client.sagas.SignalSaga(
        SignalSagaRequest(saga_id=saga_id, event=event), timeout=PATIENCE_SECONDS
    ).applied
    assert not client.sagas.SignalSaga(
        SignalSagaRequest(saga_id=saga_id, event=event), timeout=PATIENCE_SECONDS
    ).applied
    client.await_entry(saga_id, "wait_started", "decision")


def test_instances_and_children_are_shown(client: Client, shop: Shop) -> None:
    register(client, "one_parcel", {"name": "pack", "action": ACTION, "compensation": UNDO})
    register(
        client,
        "parcels",
        {
            "name": "parcels",
            "for_each": {
                "items": "input.parcels",
                "steps": [{"name": "send", "saga": {"definition": "one_parcel", "input": "${item}"}}],
            },
        },
    )
    saga_id = client.start("parcels", "parcels 1", {"parcels": [1, 2]}).saga_id
    saga = client.settled(saga_id)
    assert saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert [each.name for each in saga.steps] == ["parcels", "parcels[0].send", "parcels[1].send"]
    key = f"{saga_id}/parcels[1].send/action"
    child = client.sagas.GetSaga(GetSagaRequest(start_key=key), timeout=PATIENCE_SECONDS).saga
    assert (child.parent_saga_id, child.parent_step) == (saga_id, "parcels[1].send")
    assert child.input.number_value == 2


def test_faults_of_these_requests(client: Client) -> None:
    sagas = client.sagas
    assert Refused(lambda: sagas.PublishEvent(PublishEventRequest())).paths == [
        "event.correlation",
        "event.event_id",
        "event.name",
    ]
    too_long = PublishEventRequest(event=Event(event_id="e", name="n", correlation="c"))
    too_long.keep_for.seconds = 8 * 24 * 3600
    assert Refused(lambda: sagas.PublishEvent(too_long)).paths == ["keep_for"]
    assert Refused(lambda: sagas.SignalSaga(SignalSagaRequest(saga_id="x"))).paths == [
        "saga_id",
        "event.event_id",
        "event.name",
    ]
    assert Refused(lambda: sagas.DecideApproval(DecideApprovalRequest(saga_id=NOBODY))).paths == [
        "step",
        "decided_by",
    ]
    nobody = DecideApprovalRequest(saga_id=NOBODY, step="a", decided_by="b")
    assert Refused(lambda: sagas.DecideApproval(nobody)).code == "NOT_FOUND"
    assert (
        Refused(lambda: sagas.PreviewCompensation(PreviewCompensationRequest(saga_id=NOBODY))).code
        == "NOT_FOUND"
    )
    event = Event(event_id="e", name="n")
    assert (
        Refused(lambda: sagas.SignalSaga(SignalSagaRequest(saga_id=NOBODY, event=event))).code == "NOT_FOUND"
    )
