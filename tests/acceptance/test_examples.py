"""The examples at a running coordinator, with a real service for each of their participants' names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.participant_service_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga_coordinator.pb.saga.v1.participant_service_pb2_grpc import (
    ParticipantServiceServicer,
)
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    DecideApprovalRequest,
    Event,
    GetSagaRequest,
    ListSagasRequest,
    PublishEventRequest,
)
from saga_coordinator.saga.definition.parsing import parse_definition
from tests.acceptance.conftest import Client, Serving, StartServing, participant
from tests.eventually import PATIENCE_SECONDS
from tools.simulate_examples import example_definitions

DEFINITIONS = {
    source["name"]: source for source in (yaml.safe_load(path.read_text()) for path in example_definitions())
}


class Business(ParticipantServiceServicer):
    """Performs every method, and keeps what stands of each: an action adds, its compensation takes away."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, str]] = set()
        """Methods, each with a part of the inputs that it refuses."""
        self.standing: dict[str, list[str]] = {}

    def Execute(self, request: ExecuteRequest, context: grpc.ServicerContext) -> ExecuteResponse:  # noqa: N802
        given = str(MessageToDict(request.input))
        if any(method == request.method and part in given for method, part in self.refused):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
        self.standing.setdefault(request.saga_id, []).append(request.step)
        made = {
            "id": request.step,
            "points": 600,
            "tracking": "T-1",
            "reservation_id": "r",
            "booking": "b",
            "number": "n",
        }
        return ExecuteResponse(output=ParseDict(made | {"authorization_id": "a"}, Value()))

    def Compensate(self, request: CompensateRequest, context: grpc.ServicerContext) -> CompensateResponse:  # noqa: N802
        done = self.standing.get(request.saga_id, [])
        if request.step in done:
            done.remove(request.step)
        return CompensateResponse()


@pytest.fixture
def business() -> Iterator[tuple[Business, str]]:
    servicer = Business()
    with participant(servicer) as address:
        yield servicer, address


@pytest.fixture
def client(
    business: tuple[Business, str], serving: StartServing, connect: Callable[[str], Client], tmp_path: Path
) -> Client:
    """A coordinator that has every example registered."""
    names = {name for source in DEFINITIONS.values() for name in parse_definition(source).participants}
    file = tmp_path / "participants.yaml"
    file.write_text(
        yaml.safe_dump({"participants": {name: {"target": business[1]} for name in sorted(names)}})
    )
    coordinator: Serving = serving("--participants", str(file))
    connected = connect(coordinator.address)
    left = list(DEFINITIONS.values())
    while left:  # children first, as a definition has to be there before what runs it
        source = next(each for each in left if not run_by(each) & {other["name"] for other in left})
        left.remove(source)
        connected.define(source)
    return connected


def run_by(source: Any) -> set[str]:
    """The names of the definitions that this one, or a part of it, runs."""
    if isinstance(source, list):
        return set().union(*map(run_by, source))
    if not isinstance(source, dict):
        return set()
    found = set().union(*map(run_by, source.values()))
    return found | ({source["saga"]["definition"]} if isinstance(source.get("saga"), dict) else set())


def status(saga: saga_pb2.Saga) -> str:
    return saga_pb2.SagaStatus.Name(saga.status).removeprefix("SAGA_STATUS_")


def test_order_as_a_graph(client: Client) -> None:
    order = {
        "order_id": "A-1", "customer_id": "c", "card": "4242", "amount_cents": 4460, "address": "12 Canal Street",
        "lines": [{"sku": "teapot", "quantity": 1}],
    }  # fmt: skip
    saga = client.settled(client.start("order-fulfilment-dag", given=order).saga_id)
    assert status(saga) == "COMPLETED"
    assert MessageToDict(saga.output) == {"tracking": "T-1", "mailed": True}
    assert dict(saga.labels) == {"customer": "c"}


def test_loan_that_a_person_decides_and_the_customer_signs(client: Client) -> None:
    loan = {
        "application_id": "L-1", "applicant_id": "p", "branch": "utrecht", "amount_cents": 500_000,
        "first_instalment_at": "2020-01-01T00:00:00Z",
    }  # fmt: skip
    saga_id = client.start("loan-approval", given=loan).saga_id
    event = Event(
        event_id="e-1",
        name="contract.signed",
        correlation="L-1",
        payload=ParseDict({"iban": "NL91"}, Value()),
    )
    client.sagas.PublishEvent(PublishEventRequest(event=event), timeout=PATIENCE_SECONDS)
    client.await_entry(saga_id, "wait_started", "review")
    decision = DecideApprovalRequest(saga_id=saga_id, step="review", approved=True, decided_by="ann.meyer")
    client.sagas.DecideApproval(decision, timeout=PATIENCE_SECONDS)
    saga = client.settled(saga_id)
    assert status(saga) == "COMPLETED"
    assert MessageToDict(saga.output) == {"decided_by": "ann.meyer", "paid_to": "NL91"}


def test_payroll_of_five_hundred(client: Client, business: tuple[Business, str]) -> None:
    people = [{"id": f"e-{number}", "iban": "NL", "net_cents": 1} for number in range(500)]
    month = {"company": "tea", "month": "2026-01", "total_cents": 500, "employees": people}
    business[0].refused.add(("Transfer", "2026-01/e-137"))
    saga_id = client.start("payroll", given=month).saga_id
    client.await_entry(saga_id, "wait_started", "release")
    decision = DecideApprovalRequest(
        saga_id=saga_id, step="release", approved=True, decided_by="head.of.finance"
    )
    client.sagas.DecideApproval(decision, timeout=PATIENCE_SECONDS)
    saga = client.settled(saga_id)
    assert status(saga) == "COMPLETED"
    wages = MessageToDict(saga.output)["wages"]
    assert [wage["id"] for wage in wages if not wage["paid"]] == ["e-137"]
    assert len(business[0].standing[saga_id]) == 501  # the earmark, 499 transfers, and the books


BASKET = {
    "basket_id": "B-1", "card": "4242", "amount_cents": 300,
    "sellers": [{"seller_id": name, "lines": [{"sku": "x"}], "share_cents": 90} for name in ("ann", "bob", "cat")],
}  # fmt: skip


def children(client: Client, parent: str) -> list[saga_pb2.Saga]:
    request = ListSagasRequest(definition="seller-order")
    listed = client.sagas.ListSagas(request, timeout=PATIENCE_SECONDS).sagas
    return [each for each in listed if each.labels["parent_saga_id"] == parent]


def test_basket_whose_parts_are_sagas(client: Client) -> None:
    saga_id = client.start("marketplace-checkout", given=BASKET).saga_id
    saga = client.settled(saga_id)
    assert status(saga) == "COMPLETED"
    parcels = MessageToDict(saga.output)["parcels"]
    assert parcels == [{"seller_id": name, "tracking": "T-1"} for name in ("ann", "bob", "cat")]
    assert [status(each) for each in children(client, saga_id)] == ["COMPLETED"] * 3


@pytest.mark.parametrize("refused", [("Reserve", "B-1/bob"), ("Capture", "B-1")])
def test_basket_that_fails_leaves_nothing_of_its_parts(
    client: Client, business: tuple[Business, str], refused: tuple[str, str]
) -> None:
    business[0].refused.add(refused)
    saga_id = client.start("marketplace-checkout", given=BASKET).saga_id
    assert status(client.settled(saga_id)) == "COMPENSATED"
    parts = children(client, saga_id)
    assert [status(each) for each in parts] == ["COMPENSATED"] * 3
    assert not any(business[0].standing.values())
    log = client.sagas.GetSaga(
        GetSagaRequest(saga_id=parts[0].saga_id, include_log=True), timeout=PATIENCE_SECONDS
    ).log
    assert "saga_compensated" in [entry.entry_type for entry in log]
