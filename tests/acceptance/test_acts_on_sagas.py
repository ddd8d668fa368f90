"""A person's acts on sagas, as the person meets them: over gRPC, with a real database, and a coordinator that is killed."""

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from saga_coordinator.pb.saga.v1 import definition_service_pb2 as definitions
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as sagas
from saga_coordinator.pb.saga.v1.operator_service_pb2_grpc import OperatorServiceStub
from tests.acceptance.conftest import Client
from tests.acceptance.test_rpc import Refused
from tests.eventually import wait_until

SECONDS = 20
WHO: Any = {"requested_by": "ana", "reason": "a drill"}
NEEDS_ATTENTION = saga_pb2.SAGA_STATUS_NEEDS_ATTENTION


@pytest.fixture
def operators(client: Client) -> OperatorServiceStub:
    return OperatorServiceStub(client.channel)


@pytest.fixture
def parked(client: Client) -> str:
    """A saga whose first step cannot be undone by its participant, and whose second step was refused."""
    return _started(
        client,
        "steps:\n"
        "- {name: reserve, action: {participant: shop, method: quick}, compensation: {participant: shop, method: refuse}}\n"
        "- {name: ship, irreversible: true, action: {participant: shop, method: refuse}}\n",
        NEEDS_ATTENTION,
    )


def _started(client: Client, steps: str, status: int = 0) -> str:
    name = f"operated_{uuid.uuid4().hex[:8]}"
    text = f"name: {name}\n{steps}"
    client.definitions.RegisterDefinition(definitions.RegisterDefinitionRequest(text=text), timeout=SECONDS)
    request = sagas.StartSagaRequest(definition=name, start_key=name, wait=bool(status))
    saga = client.sagas.StartSaga(request, timeout=60).saga
    assert not status or saga.status == status
    return saga.saga_id


def test_a_parked_saga_is_understood_planned_retried_skipped_and_abandoned(
    client: Client, operators: OperatorServiceStub, parked: str
) -> None:
    answer = operators.ListAvailableActs(pb.ListAvailableActsRequest(saga_id=parked), timeout=SECONDS)
    allowed = {(pb.ActVerb.Name(act.verb)[9:], act.step, act.finding) for act in answer.acts if act.allowed}
    assert allowed == {
        ("RETRY_STEP", "", 0),
        ("ABANDON_SAGA", "", 0),
        ("RETRY_STEP", "reserve", 0),
        ("SKIP_STEP", "reserve", 0),
        ("RESOLVE_STEP", "reserve", pb.FINDING_UNDONE),
    }
    assert all(act.allowed or act.refusal for act in answer.acts)

    planned = operators.RetrySaga(pb.RetrySagaRequest(saga_id=parked, dry_run=True, **WHO), timeout=SECONDS)
    assert [entry.entry_type for entry in planned.plan.entries] == [
        "operation_retried",
        "undo_unparked",
        "attempt_started",
    ]
    assert [(call.step, call.method) for call in planned.plan.calls] == [("reserve", "refuse")]
    assert planned.saga.sequence == answer.sequence, "a plan changes nothing"

    retried = operators.RetrySaga(pb.RetrySagaRequest(saga_id=parked, **WHO), timeout=SECONDS)
    assert retried.applied
    waited = sagas.WaitSagaRequest(saga_id=parked)
    again = client.sagas.WaitSaga(waited, timeout=60).saga
    assert (again.status, again.steps[0].attempt) == (NEEDS_ATTENTION, 2)

    skipped = operators.SkipStep(pb.SkipStepRequest(saga_id=parked, step="reserve", **WHO), timeout=SECONDS)
    assert (skipped.applied, list(skipped.saga.remaining_effects)) == (True, ["reserve"])
    ended = operators.AbandonSaga(pb.AbandonSagaRequest(saga_id=parked, **WHO), timeout=SECONDS).saga
    assert (ended.status, list(ended.remaining_effects)) == (saga_pb2.SAGA_STATUS_ABANDONED, ["reserve"])
    assert ended.HasField("ended_at")

    acts = operators.ListActs(
        pb.ListActsRequest(subject_kind=pb.ACT_SUBJECT_KIND_SAGA, subject=parked), timeout=SECONDS
    ).acts
    assert [(pb.ActVerb.Name(act.verb)[9:], act.result, act.declared_by) for act in reversed(acts)] == [
        ("RETRY_STEP", pb.ACT_RESULT_DONE, "ana"),
        ("SKIP_STEP", pb.ACT_RESULT_DONE, "ana"),
        ("ABANDON_SAGA", pb.ACT_RESULT_DONE, "ana"),
    ]


def test_an_effect_that_a_person_undid_lets_the_saga_end(operators: OperatorServiceStub, parked: str) -> None:
    request = pb.ResolveStepRequest(saga_id=parked, step="reserve", finding=pb.FINDING_UNDONE, **WHO)
    resolved = operators.ResolveStep(request, timeout=SECONDS)
    assert resolved.saga.status == saga_pb2.SAGA_STATUS_COMPENSATED


def test_an_act_whose_answer_was_lost_is_done_once(operators: OperatorServiceStub, parked: str) -> None:
    request = pb.RetrySagaRequest(saga_id=parked, act_id=str(uuid.uuid4()), **WHO)
    first = operators.RetrySaga(request, timeout=SECONDS)
    wait_until(lambda: _status(operators, parked) == NEEDS_ATTENTION, "the saga to be parked again")
    again = operators.RetrySaga(request, timeout=SECONDS)
    assert (first.applied, again.applied, first.act_id) == (True, False, again.act_id)
    assert again.saga.steps[0].attempt == 2


def _status(operators: OperatorServiceStub, saga_id: str) -> int:
    request = pb.RetrySagaRequest(saga_id=saga_id, step="ship", dry_run=True)
    try:
        return operators.RetrySaga(request, timeout=SECONDS).saga.status
    except grpc.RpcError:
        return NEEDS_ATTENTION


def test_a_paused_saga_makes_no_call_until_it_is_resumed(
    client: Client, operators: OperatorServiceStub
) -> None:
    saga_id = _started(
        client,
        "steps:\n- {name: ask, approval: {}}\n- {name: ship, action: {participant: shop, method: quick},"
        " compensation: {participant: shop, method: undo}}\n",
    )
    assert operators.PauseSaga(pb.PauseSagaRequest(saga_id=saga_id, **WHO), timeout=SECONDS).applied
    decision = sagas.DecideApprovalRequest(saga_id=saga_id, step="ask", approved=True, decided_by="ben")
    assert client.sagas.DecideApproval(decision, timeout=SECONDS).applied
    saga = client.sagas.GetSaga(sagas.GetSagaRequest(saga_id=saga_id), timeout=SECONDS).saga
    assert [step.status for step in saga.steps] == [
        saga_pb2.STEP_STATUS_SUCCEEDED,
        saga_pb2.STEP_STATUS_PENDING,
    ]
    assert saga.hold.requested_by == "ana"
    assert operators.ResumeSaga(pb.ResumeSagaRequest(saga_id=saga_id, **WHO), timeout=SECONDS).applied
    ended = client.sagas.WaitSaga(sagas.WaitSagaRequest(saga_id=saga_id), timeout=60).saga
    assert ended.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert not ended.HasField("hold")


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda stub: stub.AbandonSaga(pb.AbandonSagaRequest(saga_id="x")), "saga_id"),
        (lambda stub: stub.AbandonSaga(pb.AbandonSagaRequest(saga_id=str(uuid.uuid4()))), "reason"),
        (lambda stub: stub.PauseSaga(pb.PauseSagaRequest(saga_id=str(uuid.uuid4()), act_id="one")), "act_id"),
        (lambda stub: stub.SkipStep(pb.SkipStepRequest(saga_id=str(uuid.uuid4()))), "step"),
        (
            lambda stub: stub.ResolveStep(pb.ResolveStepRequest(saga_id=str(uuid.uuid4()), step="s")),
            "finding",
        ),
    ],
)
def test_a_wrong_request_names_the_field(
    operators: OperatorServiceStub, ask: Callable[[OperatorServiceStub], object], field: str
) -> None:
    refused = Refused(lambda: ask(operators))
    assert (refused.code, field in refused.message) == ("INVALID_ARGUMENT", True)
