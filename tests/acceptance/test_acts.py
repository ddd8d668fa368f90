"""Every act of a person is on record, done or refused, and nothing can take it off."""

import uuid
from collections.abc import Callable

import grpc
import psycopg
import pytest

from saga_coordinator.pb.saga.v1 import definition_service_pb2 as definitions
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as directory
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as operators
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as sagas
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub
from saga_coordinator.pb.saga.v1.directory_service_pb2_grpc import DirectoryServiceStub
from saga_coordinator.pb.saga.v1.operator_service_pb2_grpc import OperatorServiceStub
from tests.acceptance.conftest import Client, repeated
from tests.acceptance.test_rpc import Refused, pages_of
from tests.eventually import PATIENCE_SECONDS

WHO = {"requested_by": "ana", "reason": "a drill"}
DONE, NOTHING, REFUSED = operators.ACT_RESULT_DONE, operators.ACT_RESULT_NOTHING, operators.ACT_RESULT_REFUSED


@pytest.fixture
def records(client: Client) -> Callable[[str], list[operators.Act]]:
    """The acts on the subject of that name, the oldest first."""
    stub = OperatorServiceStub(client.channel)

    def of(subject: str) -> list[operators.Act]:
        found: list[operators.Act] = []
        for kind in operators.ActSubjectKind.values()[1:]:
            request = operators.ListActsRequest(subject_kind=kind, subject=subject, page_size=1)
            found += [act for page in pages_of(stub.ListActs, request) for act in page.acts]
        return found[::-1]

    return of


def told(acts: list[operators.Act]) -> list[tuple[str, int]]:
    assert all(act.principal == "anonymous" and act.HasField("recorded_at") for act in acts)
    return [(operators.ActVerb.Name(act.verb).removeprefix("ACT_VERB_"), act.result) for act in acts]


@pytest.fixture
def waiting(client: Client) -> str:
    """A saga that waits for a person."""
    name = f"approval_{uuid.uuid4().hex[:8]}"
    spec = f"name: {name}\nsteps: [{{name: ask, approval: {{}}}}]"
    client.definitions.RegisterDefinition(
        definitions.RegisterDefinitionRequest(text=spec), timeout=PATIENCE_SECONDS
    )
    return client.start(name).saga_id


def test_a_decided_approval_and_cancellations_that_come_too_late(
    client: Client, waiting: str, records: Callable[[str], list[operators.Act]]
) -> None:
    decision = sagas.DecideApprovalRequest(
        saga_id=waiting, step="ask", approved=True, decided_by="ana", comment="fine"
    )
    client.sagas.DecideApproval(decision, timeout=PATIENCE_SECONDS)
    client.settled(waiting)
    cancel = sagas.CancelSagaRequest(saga_id=waiting, **WHO)
    assert (
        Refused(lambda: repeated(lambda: client.sagas.CancelSaga(cancel, timeout=PATIENCE_SECONDS))).code
        == "FAILED_PRECONDITION"
    )
    approved, refused = records(waiting)
    assert told([approved, refused]) == [("APPROVE_STEP", DONE), ("CANCEL_SAGA", REFUSED)]
    assert (approved.detail, approved.declared_by, approved.reason) == ("ask", "ana", "fine")
    assert (approved.state_before, approved.state_after) == ("RUNNING", "COMPLETED")
    assert (refused.declared_by, refused.reason, refused.state_after) == ("ana", "a drill", "COMPLETED")
    assert "nothing left to cancel" in refused.why


def test_a_cancellation_and_its_repetition(
    client: Client, waiting: str, records: Callable[[str], list[operators.Act]]
) -> None:
    cancel = sagas.CancelSagaRequest(saga_id=waiting, **WHO)
    repeated(lambda: client.sagas.CancelSaga(cancel, timeout=PATIENCE_SECONDS))
    client.settled(waiting)
    assert told(records(waiting)) == [("CANCEL_SAGA", DONE)]


def test_what_is_decided_about_versions(
    client: Client, records: Callable[[str], list[operators.Act]]
) -> None:
    name = f"versions_{uuid.uuid4().hex[:8]}"
    client.register(name, "first")
    client.register(name, "first", "second")
    stub = DefinitionServiceStub(client.channel)
    stub.SetDefaultVersion(
        definitions.SetDefaultVersionRequest(name=name, version=2, **WHO), timeout=PATIENCE_SECONDS
    )
    refused = definitions.DeprecateDefinitionRequest(name=name, version=2, deprecated=True, **WHO)
    with pytest.raises(grpc.RpcError):
        stub.DeprecateDefinition(refused, timeout=PATIENCE_SECONDS)
    for _ in range(2):
        newest = definitions.SetDefaultVersionRequest(name=name, version=0, **WHO)
        stub.SetDefaultVersion(newest, timeout=PATIENCE_SECONDS)
    for deprecated in (True, False):
        stub.DeprecateDefinition(
            definitions.DeprecateDefinitionRequest(name=name, version=1, deprecated=deprecated),
            timeout=PATIENCE_SECONDS,
        )
    stub.DeleteDefinition(
        definitions.DeleteDefinitionRequest(name=name, version=1, **WHO), timeout=PATIENCE_SECONDS
    )
    acts = records(name)
    assert told(acts) == [
        ("SET_DEFAULT_VERSION", DONE),
        ("DEPRECATE_DEFINITION", REFUSED),
        ("SET_DEFAULT_VERSION", DONE),
        ("SET_DEFAULT_VERSION", NOTHING),
        ("DEPRECATE_DEFINITION", DONE),
        ("REINSTATE_DEFINITION", DONE),
        ("DELETE_DEFINITION", DONE),
    ]
    assert [act.detail for act in acts] == ["2", "2", "", "", "1", "1", "1"]
    assert "is the default" in acts[1].why


def test_the_newest_as_the_default_where_there_is_none(
    client: Client, records: Callable[[str], list[operators.Act]]
) -> None:
    name = f"versions_{uuid.uuid4().hex[:8]}"
    stub = DefinitionServiceStub(client.channel)
    newest = definitions.SetDefaultVersionRequest(name=name, version=0, **WHO)
    asked = Refused(lambda: stub.SetDefaultVersion(newest, timeout=PATIENCE_SECONDS))
    assert (asked.code, records(name)) == ("NOT_FOUND", [])  # nothing of that name exists, so there is no act
    client.register(name, "first")
    deprecated = definitions.DeprecateDefinitionRequest(name=name, version=1, deprecated=True, **WHO)
    stub.DeprecateDefinition(deprecated, timeout=PATIENCE_SECONDS)
    asked = Refused(lambda: stub.SetDefaultVersion(newest, timeout=PATIENCE_SECONDS))
    assert asked.code == "FAILED_PRECONDITION"
    acts = records(name)
    assert told(acts) == [("DEPRECATE_DEFINITION", DONE), ("SET_DEFAULT_VERSION", REFUSED)]
    assert "every version" in acts[1].why


def test_what_is_decided_about_participants(
    client: Client, records: Callable[[str], list[operators.Act]]
) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    stub = DirectoryServiceStub(client.channel)
    participant = directory.Participant(name=name, target="127.0.0.1:1")
    unknown = directory.SetBreakerRequest(participant=name, control=directory.BREAKER_CONTROL_OPEN, **WHO)
    assert Refused(lambda: stub.SetBreaker(unknown, timeout=PATIENCE_SECONDS)).code == "NOT_FOUND"
    assert records(name) == []
    stub.PutParticipant(
        directory.PutParticipantRequest(participant=participant, **WHO), timeout=PATIENCE_SECONDS
    )
    for control in (directory.BREAKER_CONTROL_OPEN, directory.BREAKER_CONTROL_AUTOMATIC):
        stub.SetBreaker(
            directory.SetBreakerRequest(participant=name, control=control, **WHO), timeout=PATIENCE_SECONDS
        )
    stub.DeleteParticipant(directory.DeleteParticipantRequest(name=name, **WHO), timeout=PATIENCE_SECONDS)
    with pytest.raises(grpc.RpcError):  # nothing of that name exists, so there is no act
        stub.DeleteParticipant(directory.DeleteParticipantRequest(name=name, **WHO), timeout=PATIENCE_SECONDS)
    in_file = directory.Participant(name="shop", target="127.0.0.1:1")
    with pytest.raises(grpc.RpcError):
        stub.PutParticipant(
            directory.PutParticipantRequest(participant=in_file, **WHO), timeout=PATIENCE_SECONDS
        )
    acts = records(name)
    assert told(acts) == [
        ("PUT_PARTICIPANT", DONE),
        ("SET_BREAKER", DONE),
        ("SET_BREAKER", DONE),
        ("DELETE_PARTICIPANT", DONE),
    ]
    assert [(act.state_before, act.state_after) for act in acts[1:3]] == [("", "OPEN"), ("OPEN", "AUTOMATIC")]
    assert told(records("shop"))[-1] == ("PUT_PARTICIPANT", REFUSED)


def test_no_record_can_be_changed(client: Client, waiting: str, module_dsn: str) -> None:
    client.cancel(waiting)
    for statement in (
        "UPDATE saga.operator_acts SET reason = 'another'",
        "DELETE FROM saga.operator_acts",
        "TRUNCATE saga.operator_acts",
    ):
        with (
            psycopg.connect(module_dsn, autocommit=True) as connection,
            pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="only added to"),
        ):
            connection.execute(statement)


def test_a_subject_needs_its_kind(client: Client) -> None:
    stub = OperatorServiceStub(client.channel)
    refused = Refused(
        lambda: stub.ListActs(operators.ListActsRequest(subject="shop"), timeout=PATIENCE_SECONDS)
    )
    assert refused.paths == ["subject_kind"]
