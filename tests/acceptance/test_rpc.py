"""Every RPC over the wire: what it answers, and what it says to input that is wrong."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from saga_coordinator.api.pages import page_token
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import (
    Fault,
    GetDefinitionRequest,
    ListDefinitionsRequest,
    RegisterDefinitionRequest,
    ValidateDefinitionRequest,
)
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    REPORT_RESULT_CONTRADICTS,
    REPORT_RESULT_REPEATED,
    CancelSagaRequest,
    DecideApprovalRequest,
    GetSagaRequest,
    ListSagasRequest,
    ReportOutcomeRequest,
    StartSagaRequest,
    StartSagaResponse,
    WaitSagaRequest,
)
from tests.acceptance.conftest import Client, Shop, repeated
from tests.eventually import PATIENCE_SECONDS

NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"


class Refused:
    """How a call failed."""

    def __init__(self, call: Callable[[], object]) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        self.code: str = caught.value.code().name
        self.message = caught.value.details() or ""
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it is a grpc.Call, too
        self.details: dict[str, Any] = {}
        for packed in status.details if status else ():
            name = packed.TypeName().removeprefix("google.rpc.")
            self.details[name] = getattr(error_details_pb2, name)()
            packed.Unpack(self.details[name])

    @property
    def paths(self) -> list[str]:
        """The fields at fault."""
        assert self.code == "INVALID_ARGUMENT", (self.code, self.message)
        assert self.details["ErrorInfo"].domain == "saga-coordinator"
        return [violation.field for violation in self.details["BadRequest"].field_violations]


def pages_of(call: Callable[..., Any], request: Any) -> Iterator[Any]:
    """Every page of a list, the first one being what is asked for."""
    while True:
        page = call(request, timeout=PATIENCE_SECONDS)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def in_time(call: Callable[[float], Any]) -> Any:
    """What the call answers before its deadline, which is as many seconds away as even a slow machine leaves room in."""
    for seconds in (1, 3, 10, 30):
        try:
            return call(seconds)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    raise AssertionError("no answer came before the deadline")


def next_method(shop: Shop, saga_id: str) -> str:
    """What the saga calls next. The shop is shared: sagas that other tests left behind may still be calling it."""
    while (call := shop.called.get(timeout=PATIENCE_SECONDS)).saga_id != saga_id:
        pass
    return call.method


def value(payload: Any) -> Value:
    return ParseDict(payload, Value())


@pytest.fixture
def definition(client: Client) -> str:
    client.register("quick", "quick", "quick")
    return "quick"


@pytest.fixture
def start(client: Client, request: pytest.FixtureRequest) -> Callable[..., StartSagaResponse]:
    """Starts a saga with the test's name as its key."""

    def call(definition: str, **fields: Any) -> StartSagaResponse:
        fields = {"start_key": request.node.name, "definition": definition, **fields}
        asked = StartSagaRequest(**fields)
        return repeated(lambda: client.sagas.StartSaga(asked, timeout=PATIENCE_SECONDS))

    return call


# Definitions


def test_a_definition_is_registered_once_and_changed_by_versions(client: Client) -> None:
    step = {"name": "a", "action": {"participant": "shop"}, "read_only": True}
    spec = {"name": "versions", "steps": [step]}

    def register() -> tuple[int, bool]:
        answer = client.define(spec)
        return answer.registered.version, answer.created

    assert [register(), register()] == [(1, True), (1, False)]
    spec["description"] = "changed"
    assert [register(), register()] == [(2, True), (2, False)]
    first, newest = (
        client.definitions.GetDefinition(GetDefinitionRequest(name="versions", version=version)).registered
        for version in (1, 0)
    )
    assert (first.definition.description, newest.definition.description) == ("", "changed")
    assert MessageToDict(newest.definition, preserving_proto_field_name=True) == spec
    assert len(newest.digest) == 64


def faults_of(client: Client, spec: dict[str, Any]) -> Sequence[Fault]:
    request = ValidateDefinitionRequest(definition=ParseDict(spec, Definition()))
    return client.definitions.ValidateDefinition(request, timeout=PATIENCE_SECONDS).faults


def test_a_faulty_definition(client: Client) -> None:
    faulty = {"name": "Faulty", "steps": [{"name": "a"}, {"name": "a"}]}
    refused = Refused(lambda: client.define(faulty))
    assert refused.paths == [f"definition.{fault.path}" for fault in faults_of(client, faulty)]
    assert {"definition.name", "definition.steps[0].action", "definition.steps[1].name"} <= set(refused.paths)
    assert refused.details["ErrorInfo"].reason == "INVALID_DEFINITION"


def test_two_hundred_faults_fit_into_the_answer(client: Client) -> None:
    faulty = {"name": "faulty", "steps": [{"name": f"Step{number}", "action": {}} for number in range(200)]}
    violations = Refused(lambda: client.define(faulty)).details["BadRequest"].field_violations
    assert "more, which do not fit here" in violations[-1].description
    validated = faults_of(client, faulty)
    assert "more faults" in validated[-1].description
    assert len(validated) > len(violations)


def test_no_definition(client: Client) -> None:
    stub = client.definitions
    assert Refused(lambda: stub.RegisterDefinition(RegisterDefinitionRequest())).paths == ["definition"]
    assert Refused(lambda: stub.ValidateDefinition(ValidateDefinitionRequest())).paths == ["definition"]
    assert Refused(lambda: stub.GetDefinition(GetDefinitionRequest(name="\0", version=-1))).paths == [
        "name",
        "version",
    ]
    absent = Refused(lambda: stub.GetDefinition(GetDefinitionRequest(name="absent")))
    assert absent.code == "NOT_FOUND"
    info = absent.details["ResourceInfo"]
    assert (info.resource_type, info.resource_name) == ("saga.v1.Definition", "absent")


def test_definitions_in_pages(client: Client) -> None:
    for number in range(5):
        client.register(f"paged-{number}", "quick")
    pages = list(pages_of(client.definitions.ListDefinitions, ListDefinitionsRequest(page_size=2)))
    assert all(len(page.definitions) <= 2 for page in pages)
    names = [registered.definition.name for page in pages for registered in page.definitions]
    assert names == sorted(set(names))
    assert {f"paged-{number}" for number in range(5)} <= set(names)
    bad = ListDefinitionsRequest(page_size=-1)
    assert Refused(lambda: client.definitions.ListDefinitions(bad)).paths == ["page_size"]


# Starting


def test_a_start_answers_with_what_is_needed_to_go_on(
    start: Callable[..., StartSagaResponse], definition: str, request: pytest.FixtureRequest
) -> None:
    answer = start(definition)
    assert answer.created
    assert (answer.saga.definition, answer.saga.version) == (definition, 1)
    assert answer.saga.status == saga_pb2.SAGA_STATUS_RUNNING
    assert answer.saga.start_key == request.node.name
    assert len(answer.saga.saga_id) == 36


def test_a_start_that_waits_answers_with_the_end(
    start: Callable[..., StartSagaResponse], definition: str, shop: Shop
) -> None:
    answer = start(definition, wait=True, input=value({"order": 7}), labels={"tenant": "x"})
    assert answer.saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert [(step.name, step.attempt) for step in answer.saga.steps] == [("step_0", 1), ("step_1", 1)]
    assert MessageToDict(answer.saga.input) == {"order": 7}
    assert answer.saga.HasField("ended_at")
    assert next_method(shop, answer.saga.saga_id) == "quick"


def test_a_start_that_waits_in_vain_answers_before_the_deadline(
    client: Client, start: Callable[..., StartSagaResponse], shop: Shop
) -> None:
    client.register("hangs", "hang", timeout="600s")
    request = StartSagaRequest(definition="hangs", start_key="in-vain", wait=True)
    answer = in_time(lambda seconds: client.sagas.StartSaga(request, timeout=seconds))
    assert answer.saga.status == saga_pb2.SAGA_STATUS_RUNNING
    assert answer.saga.steps[0].status == saga_pb2.STEP_STATUS_RUNNING
    shop.may_answer.set()


def test_the_same_start_twice(start: Callable[..., StartSagaResponse], definition: str) -> None:
    first, second = start(definition, input=value([1])), start(definition, input=value([1]))
    assert (first.created, second.created) == (True, False)
    assert first.saga.saga_id == second.saga.saga_id
    assert second.saga.HasField("started_at")


def test_the_same_key_for_another_start(start: Callable[..., StartSagaResponse], definition: str) -> None:
    saga_id = start(definition, input=value([1])).saga.saga_id
    refused = Refused(lambda: start(definition, input=value([2])))
    assert refused.code == "ALREADY_EXISTS"
    assert refused.details["ErrorInfo"].reason == "START_KEY_TAKEN"
    assert dict(refused.details["ErrorInfo"].metadata) == {"saga_id": saga_id}
    taken = refused.details["ResourceInfo"]
    assert (taken.resource_type, taken.resource_name) == ("saga.v1.Saga", saga_id)


def test_starting_what_does_not_exist(start: Callable[..., StartSagaResponse], definition: str) -> None:
    absent = Refused(lambda: start("absent"))
    assert absent.code == "NOT_FOUND"
    assert absent.details["ResourceInfo"].resource_name == "absent"
    assert Refused(lambda: start(definition, version=99)).code == "NOT_FOUND"


def test_an_unknown_participant(client: Client, start: Callable[..., StartSagaResponse]) -> None:
    step = {"name": "a", "action": {"participant": "nobody"}, "read_only": True}
    client.define({"name": "lost", "steps": [step]})
    refused = Refused(lambda: start("lost"))
    assert refused.code == "FAILED_PRECONDITION"
    assert "nobody" in refused.message
    assert refused.details["ErrorInfo"].reason == "NO_SUCH_PARTICIPANT"
    assert dict(refused.details["ErrorInfo"].metadata) == {"definition": "lost", "participant": "nobody"}


def test_all_faults_of_a_start_at_once(client: Client) -> None:
    request = StartSagaRequest(version=-1, labels={"": "x"}, deadline=Duration(seconds=-1))
    refused = Refused(lambda: client.sagas.StartSaga(request))
    assert refused.paths == ["definition", "version", "start_key", "labels", "deadline"]
    assert refused.message.startswith("5 faults: definition: is required; ")


@pytest.mark.parametrize(
    ("payload", "path", "said"),
    [
        (value("x" * 16384), "input", "16384 is the limit"),
        (value({"lines": ["x" * 65536]}), "input", "16384 is the limit"),
        (value({"order": "a\0"}), "input.order", "NUL"),
        (value({"a\0": 1}), "input['a\\x00']", "NUL"),
        (Value(number_value=float("nan")), "input", "finite"),
        (value(json.loads("[" * 33 + "]" * 33)), "input" + "[0]" * 32, "too deep"),
    ],
    ids=["large", "larger", "NUL", "NUL in a key", "NaN", "deep"],
)
def test_payloads_that_are_not_taken(
    start: Callable[..., StartSagaResponse], definition: str, payload: Value, path: str, said: str
) -> None:
    refused = Refused(lambda: start(definition, input=payload))
    assert refused.paths == [path]
    assert said in refused.message


def test_a_payload_beyond_what_any_request_may_be(
    start: Callable[..., StartSagaResponse], definition: str
) -> None:
    """A little beyond is refused in words, by name and number; what would only fill the memory, by gRPC."""
    refused = Refused(lambda: start(definition, input=value("x" * 1_000_000)))
    assert (refused.code, refused.paths) == ("INVALID_ARGUMENT", ["input"])
    refused = Refused(lambda: start(definition, input=value("x" * 5_000_000)))
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert start(definition).created


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x22" + b"\x7f" * 40],
    ids=["no message", "no UTF-8", "cut off"],
)
def test_bytes_that_are_no_request(client: Client, raw: bytes) -> None:
    call: Callable[..., bytes] = client.channel.unary_unary("/saga.v1.SagaService/StartSaga")
    refused = Refused(lambda: call(raw, timeout=PATIENCE_SECONDS))
    assert refused.code == "INVALID_ARGUMENT"
    assert "cannot be parsed" in refused.message


def test_nesting_deeper_than_parsers_go(client: Client) -> None:
    deep = b""
    for _ in range(120):  # Value.list_value { ListValue.values { ... } }
        inner = b"\x0a" + _varint(len(deep)) + deep
        deep = b"\x32" + _varint(len(inner)) + inner
    raw = StartSagaRequest(definition="quick", start_key="deep").SerializeToString()
    raw += b"\x22" + _varint(len(deep)) + deep
    call: Callable[..., bytes] = client.channel.unary_unary("/saga.v1.SagaService/StartSaga")
    refused = Refused(lambda: call(raw, timeout=PATIENCE_SECONDS))
    assert refused.code == "INVALID_ARGUMENT"


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


# Looking


def test_a_saga_with_its_log(
    client: Client, start: Callable[..., StartSagaResponse], definition: str
) -> None:
    saga_id = start(definition, wait=True).saga.saga_id
    answer = client.sagas.GetSaga(
        GetSagaRequest(saga_id=saga_id.upper(), include_log=True), timeout=PATIENCE_SECONDS
    )
    assert [entry.entry_type for entry in answer.log] == [
        "saga_started",
        "attempt_started",
        "attempt_succeeded",
        "attempt_started",
        "attempt_succeeded",
        "saga_completed",
    ]
    assert [entry.sequence for entry in answer.log] == [1, 2, 3, 4, 5, 6]
    assert answer.saga.sequence == 6
    assert MessageToDict(answer.log[2].body) == {"output": {"done": "step_0"}}
    later = GetSagaRequest(saga_id=saga_id, include_log=True, log_after_sequence=4)
    assert [entry.sequence for entry in client.sagas.GetSaga(later, timeout=PATIENCE_SECONDS).log] == [5, 6]
    assert not client.sagas.GetSaga(GetSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS).log


def test_a_saga_by_its_start_key(
    client: Client, start: Callable[..., StartSagaResponse], definition: str, request: pytest.FixtureRequest
) -> None:
    saga_id = start(definition).saga.saga_id
    found = client.sagas.GetSaga(GetSagaRequest(start_key=request.node.name), timeout=PATIENCE_SECONDS)
    assert found.saga.saga_id == saga_id


@pytest.mark.parametrize(
    "call",
    [
        lambda sagas: sagas.GetSaga(GetSagaRequest(saga_id=NOBODY)),
        lambda sagas: sagas.GetSaga(GetSagaRequest(start_key="nobody's")),
        lambda sagas: sagas.WaitSaga(WaitSagaRequest(saga_id=NOBODY)),
        lambda sagas: sagas.CancelSaga(CancelSagaRequest(saga_id=NOBODY, reason="x")),
        lambda sagas: sagas.ReportOutcome(
            ReportOutcomeRequest(
                saga_id=NOBODY,
                step="a",
                operation=saga_pb2.OPERATION_KIND_ACTION,
                succeeded=Value(bool_value=True),
            )
        ),
    ],
    ids=["get", "get by key", "wait", "cancel", "report"],
)
def test_a_saga_that_does_not_exist(client: Client, call: Callable[[Any], object]) -> None:
    refused = Refused(lambda: call(client.sagas))
    assert refused.code == "NOT_FOUND"
    assert refused.details["ResourceInfo"].resource_type == "saga.v1.Saga"


@pytest.mark.parametrize(
    ("call", "paths"),
    [
        (lambda sagas: sagas.GetSaga(GetSagaRequest()), ["saga_id"]),
        (
            lambda sagas: sagas.GetSaga(GetSagaRequest(saga_id="7", log_after_sequence=-1)),
            ["saga_id", "log_after_sequence"],
        ),
        (lambda sagas: sagas.GetSaga(GetSagaRequest(start_key="\0")), ["start_key"]),
        (
            lambda sagas: sagas.ListSagas(ListSagasRequest(page_size=1001, definition="\0")),
            ["definition", "page_size"],
        ),
        (lambda sagas: sagas.ListSagas(ListSagasRequest(page_token="x")), ["page_token"]),
        (lambda sagas: sagas.WaitSaga(WaitSagaRequest(timeout=Duration(seconds=-1))), ["saga_id", "timeout"]),
        (lambda sagas: sagas.CancelSaga(CancelSagaRequest()), ["saga_id", "reason"]),
        (
            lambda sagas: sagas.ReportOutcome(ReportOutcomeRequest()),
            ["saga_id", "step", "operation", "outcome"],
        ),
    ],
)
def test_faults_of_other_requests(client: Client, call: Callable[[Any], object], paths: list[str]) -> None:
    assert Refused(lambda: call(client.sagas)).paths == paths


def test_sagas_in_pages(client: Client, start: Callable[..., StartSagaResponse], definition: str) -> None:
    started = [
        start(
            definition, start_key=f"page-{number}", labels={"list": "yes", "n": str(number)}, wait=True
        ).saga.saga_id
        for number in range(5)
    ]
    request = ListSagasRequest(labels={"list": "yes"}, definition=definition, page_size=2)
    pages = list(pages_of(client.sagas.ListSagas, request))
    assert [len(page.sagas) for page in pages] == [2, 2, 1]
    listed = [saga for page in pages for saga in page.sagas]
    assert [saga.saga_id for saga in listed] == sorted(started, reverse=True)
    assert not any(saga.steps for saga in listed)
    completed = ListSagasRequest(labels={"list": "yes"}, statuses=[saga_pb2.SAGA_STATUS_COMPLETED])
    assert len(client.sagas.ListSagas(completed, timeout=PATIENCE_SECONDS).sagas) == 5
    running = ListSagasRequest(labels={"list": "yes"}, statuses=[saga_pb2.SAGA_STATUS_RUNNING])
    assert not client.sagas.ListSagas(running, timeout=PATIENCE_SECONDS).sagas


def test_tokens_of_another_list_and_tampered_ones(
    client: Client, start: Callable[..., StartSagaResponse], definition: str
) -> None:
    for number in range(2):
        start(definition, start_key=f"token-{number}", labels={"token": "yes"})
    answer = client.sagas.ListSagas(
        ListSagasRequest(labels={"token": "yes"}, page_size=1), timeout=PATIENCE_SECONDS
    )
    token = answer.next_page_token
    tampered = ("A" if token[0] != "A" else "B") + token[1:]
    wrong: list[tuple[Callable[[Any], object], Message]] = [
        (client.sagas.ListSagas, ListSagasRequest(page_size=1, page_token=token)),
        (client.sagas.ListSagas, ListSagasRequest(labels={"token": "yes"}, page_token=tampered)),
        (client.sagas.ListSagas, ListSagasRequest(labels={"token": "yes"}, page_token=token + "AAAA")),
        (client.definitions.ListDefinitions, ListDefinitionsRequest(page_token=token)),
    ]
    for method, request in wrong:
        assert Refused(lambda method=method, request=request: method(request)).paths == ["page_token"]  # type: ignore[misc]


def test_a_page_of_large_sagas_ends_early_rather_than_exceed_what_clients_take(
    client: Client, start: Callable[..., StartSagaResponse], definition: str
) -> None:
    # A list of zeros is six times as large in protobuf as in JSON.
    large = value([0] * 1400)
    count = 250
    for number in range(count):
        start(definition, start_key=f"large-{number}", labels={"large": "yes"}, input=large)
    pages = list(pages_of(client.sagas.ListSagas, ListSagasRequest(labels={"large": "yes"}, page_size=1000)))
    assert len(pages) > 1
    assert sum(len(page.sagas) for page in pages) == count


# Waiting, cancelling, reporting


def test_waiting(client: Client, start: Callable[..., StartSagaResponse], shop: Shop) -> None:
    client.register("hangs", "hang", timeout="600s")
    saga_id = start("hangs").saga.saga_id
    for fields in ({"timeout": Duration()}, {"timeout": Duration(nanos=50_000_000)}):
        answer = client.sagas.WaitSaga(WaitSagaRequest(saga_id=saga_id, **fields), timeout=PATIENCE_SECONDS)
        assert not answer.settled
        assert answer.saga.status == saga_pb2.SAGA_STATUS_RUNNING
    wait = WaitSagaRequest(saga_id=saga_id)
    assert not in_time(lambda seconds: client.sagas.WaitSaga(wait, timeout=seconds)).settled
    waiting = client.sagas.WaitSaga.future(WaitSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS)
    shop.may_answer.set()
    assert waiting.result().settled
    assert client.sagas.WaitSaga(WaitSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS).settled


def test_a_caller_who_hangs_up_does_not_stop_the_saga(client: Client, definition: str, shop: Shop) -> None:
    request = StartSagaRequest(definition=definition, start_key="hangs-up", wait=True)
    call = client.sagas.StartSaga.future(request, timeout=PATIENCE_SECONDS)
    while client.saga(saga_id := shop.called.get(timeout=PATIENCE_SECONDS).saga_id).start_key != "hangs-up":
        pass
    call.cancel()
    assert client.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPLETED


def test_cancelling(client: Client, start: Callable[..., StartSagaResponse], shop: Shop) -> None:
    client.register("cancelled", "quick", "later")
    saga_id = start("cancelled").saga.saga_id
    assert [next_method(shop, saga_id) for _ in range(2)] == ["quick", "later"]
    request = CancelSagaRequest(saga_id=saga_id, reason="changed\nmind", requested_by="ada")
    for _ in range(2):
        repeated(lambda: client.sagas.CancelSaga(request, timeout=PATIENCE_SECONDS))
    saga = client.settled(saga_id)
    assert saga.status == saga_pb2.SAGA_STATUS_COMPENSATED
    assert saga.failure == saga_pb2.Cause(code="CANCELLED", message="changed\nmind", requested_by="ada")


def test_cancelling_what_has_completed(
    client: Client, start: Callable[..., StartSagaResponse], definition: str
) -> None:
    saga_id = start(definition, wait=True).saga.saga_id
    late = CancelSagaRequest(saga_id=saga_id, reason="too late")
    refused = Refused(lambda: repeated(lambda: client.sagas.CancelSaga(late)))
    assert refused.code == "FAILED_PRECONDITION"
    assert refused.details["ErrorInfo"].reason == "SAGA_ENDED"
    assert dict(refused.details["ErrorInfo"].metadata) == {"saga_id": saga_id}


def test_only_an_approver_may_decide(client: Client, start: Callable[..., StartSagaResponse]) -> None:
    approval = {"approvers": ["ada", "grace"]}
    client.define({"name": "asked", "steps": [{"name": "agree", "approval": approval}]})
    saga_id = start("asked").saga.saga_id

    def decide(who: str, step: str = "agree", *, approved: bool = True) -> object:
        request = DecideApprovalRequest(saga_id=saga_id, step=step, decided_by=who, approved=approved)
        return client.sagas.DecideApproval(request, timeout=PATIENCE_SECONDS)

    refused = Refused(lambda: decide("mallory"))
    assert (refused.code, refused.details["ErrorInfo"].reason) == ("PERMISSION_DENIED", "NOT_AN_APPROVER")
    assert dict(refused.details["ErrorInfo"].metadata) == {"saga_id": saga_id, "step": "agree"}
    assert Refused(lambda: decide("ada", "none")).details["ErrorInfo"].reason == "NO_SUCH_STEP"
    decide("ada")
    late = Refused(lambda: decide("grace", approved=False))
    assert (late.code, late.details["ErrorInfo"].reason) == ("FAILED_PRECONDITION", "NO_WAIT")


def test_a_made_up_page_token_is_told(client: Client) -> None:
    """Anybody can make one whose digest is right."""
    versions = ListDefinitionsRequest(name="order")
    for token in (page_token(versions, "first"), page_token(versions, "-1"), "x", "é"):
        versions.page_token = token
        assert Refused(lambda: client.definitions.ListDefinitions(versions)).paths == ["page_token"]
    sagas = ListSagasRequest()
    sagas.page_token = page_token(sagas, "no saga")
    assert Refused(lambda: client.sagas.ListSagas(sagas)).paths == ["page_token"]


def test_a_duration_that_is_none_is_told_with_its_place(client: Client) -> None:
    faulty = Definition(name="faulty")
    step = faulty.steps.add(name="a")
    step.action.participant = "shop"
    step.action.retry.max_backoff.seconds = 2**60
    refused = Refused(
        lambda: client.definitions.RegisterDefinition(RegisterDefinitionRequest(definition=faulty))
    )
    assert "definition.steps[0].action.retry.max_backoff" in refused.paths
    assert "315576000000" in refused.message


def test_reporting_an_outcome(client: Client, start: Callable[..., StartSagaResponse], shop: Shop) -> None:
    client.register("reported", "later")
    saga_id = start("reported").saga.saga_id
    assert next_method(shop, saga_id) == "later"
    step = saga_pb2.OPERATION_KIND_ACTION
    report = ReportOutcomeRequest(
        saga_id=saga_id, step="step_0", operation=step, succeeded=value({"parcel": 9})
    )
    assert client.sagas.ReportOutcome(report, timeout=PATIENCE_SECONDS).applied
    answer = client.sagas.ReportOutcome(report, timeout=PATIENCE_SECONDS)
    assert not answer.applied
    assert answer.saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert MessageToDict(answer.saga.steps[0].output) == {"parcel": 9}
    in_other_words = ReportOutcomeRequest(saga_id=saga_id, step="step_0", operation=step)
    in_other_words.success.output.CopyFrom(value({"parcel": 9}))
    repeated = client.sagas.ReportOutcome(in_other_words, timeout=PATIENCE_SECONDS)
    assert repeated.result == REPORT_RESULT_REPEATED
    in_other_words.success.output.CopyFrom(value({"parcel": 10}))
    contradicting = client.sagas.ReportOutcome(in_other_words, timeout=PATIENCE_SECONDS)
    assert (contradicting.applied, contradicting.result) == (False, REPORT_RESULT_CONTRADICTS)
    assert contradicting.saga.sequence == repeated.saga.sequence
    assert MessageToDict(contradicting.saga.steps[0].output) == {"parcel": 9}
    nothing = ReportOutcomeRequest(saga_id=saga_id, step="step_0", operation=step)
    assert Refused(lambda: client.sagas.ReportOutcome(nothing)).paths == ["outcome"]
    unknown = ReportOutcomeRequest(saga_id=saga_id, step="none", operation=step, succeeded=value(None))
    assert Refused(lambda: client.sagas.ReportOutcome(unknown)).code == "FAILED_PRECONDITION"
    large = ReportOutcomeRequest(
        saga_id=saga_id, step="step_0", operation=step, succeeded=value("x" * 20_000)
    )
    assert Refused(lambda: client.sagas.ReportOutcome(large)).paths == ["succeeded"]


def test_a_refused_saga_tells_why(client: Client, start: Callable[..., StartSagaResponse]) -> None:
    client.register("refused", "quick", "refuse")
    saga = start("refused", wait=True).saga
    assert saga.status == saga_pb2.SAGA_STATUS_COMPENSATED
    assert saga.failure == saga_pb2.Cause(code="FAILED_PRECONDITION", message="sold out", step="step_1")
    assert [(step.status, step.effect) for step in saga.steps] == [
        (saga_pb2.STEP_STATUS_COMPENSATED, saga_pb2.EFFECT_CERTAIN),
        (saga_pb2.STEP_STATUS_FAILED, saga_pb2.EFFECT_NONE),
    ]


@pytest.mark.parametrize("methods", [("quick", "quick"), ("quick", "refuse")])
def test_what_a_waiting_start_answers_is_what_the_database_says(
    client: Client, start: Callable[..., StartSagaResponse], shop: Shop, methods: tuple[str, str]
) -> None:
    client.register("settled", *methods)
    answered = start(
        "settled", start_key="-".join(methods), wait=True, input=value({"n": [1, None]}), labels={"a": "b"}
    )
    assert answered.saga == client.saga(answered.saga.saga_id)
