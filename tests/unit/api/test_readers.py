"""Requests: checked whole, every fault with the field's name, nothing accepted that the store would choke on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value

from saga_coordinator.api import definition_readers, event_readers, report_readers, saga_readers
from saga_coordinator.api.definition_text import given_by
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import (
    ListDefinitionsRequest,
    RegisterDefinitionRequest,
)
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    CancelSagaRequest,
    GetSagaRequest,
    HeartbeatRequest,
    ListSagasRequest,
    PublishEventRequest,
    ReportOutcomeRequest,
    StartSagaRequest,
    WaitSagaRequest,
)
from saga_coordinator.saga.machine.inputs import CancelAsked, HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import InvalidDefinition, InvalidRequest
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Refused, Succeeded, Unknown
from saga_coordinator.saga.words.token import token_of

SAGA_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
LIMIT = 1024


def paths(check: Callable[..., object], *arguments: object) -> list[str]:
    with pytest.raises(InvalidRequest) as caught:
        check(*arguments)
    return [fault.path for fault in caught.value.faults]


def start(**fields: Any) -> StartSagaRequest:
    return StartSagaRequest(**{"definition": "order", "start_key": "7", **fields})


def value(json: Any) -> Value:
    return json_format.ParseDict(json, Value())


def test_a_start_as_it_is_meant() -> None:
    asked = saga_readers.start_saga(
        start(
            version=2,
            input=value({"n": 1}),
            labels={"a": "b"},
            deadline=Duration(seconds=1, nanos=500_000_000),
        ),
        LIMIT,
    )
    assert (asked.definition, asked.version, asked.start_key) == ("order", 2, "7")
    assert asked.input == {"n": 1}
    assert asked.labels == {"a": "b"}
    assert asked.deadline_seconds == 1.5


@pytest.mark.parametrize("blank", [" ", "   ", "\u2003"])
def test_a_blank_start_key_is_none(blank: str) -> None:
    assert paths(saga_readers.start_saga, start(start_key=blank), LIMIT) == ["start_key"]


def test_what_a_start_leaves_out() -> None:
    asked = saga_readers.start_saga(start(), LIMIT)
    assert (asked.version, asked.input, asked.labels, asked.deadline_seconds) == (0, {}, {}, None)


def test_an_input_of_null_is_not_the_default() -> None:
    assert saga_readers.start_saga(start(input=value(None)), LIMIT).input is None


def test_all_faults_of_a_start_at_once() -> None:
    request = StartSagaRequest(
        version=-1,
        start_key="a\nb",
        input=Value(string_value="x" * LIMIT),
        labels={"": "x", "k" * 64: "v" * 256},
        deadline=Duration(seconds=-1),
    )
    found = paths(saga_readers.start_saga, request, LIMIT)
    assert sorted(set(found)) == sorted(
        {"definition", "version", "start_key", "input", "labels", f"labels['{'k' * 63}']", "deadline"}
    )


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"start_key": ""}, "start_key"),
        ({"start_key": "k" * 201}, "start_key"),
        ({"start_key": "a\0"}, "start_key"),
        ({"start_key": "a\x7f"}, "start_key"),
        ({"definition": "a\0"}, "definition"),
        ({"definition": "d" * 101}, "definition"),
        ({"labels": {str(n): "" for n in range(33)}}, "labels"),
        ({"labels": {"a": "\0"}}, "labels['a']"),
        ({"input": Value(number_value=float("nan"))}, "input"),
        ({"input": value({"lines": [{"sku": "a\0"}]})}, "input.lines[0].sku"),
        ({"input": value({"a": "x" * LIMIT})}, "input"),
        ({"deadline": Duration()}, "deadline"),
        ({"deadline": Duration(seconds=1, nanos=-1)}, "deadline"),
        ({"deadline": Duration(seconds=10**11)}, "deadline"),
    ],
)
def test_faults_of_a_start(fields: dict[str, Any], path: str) -> None:
    assert paths(saga_readers.start_saga, start(**fields), LIMIT) == [path]


@pytest.mark.parametrize("start_key", ["k" * 200, "Bestellung Nr. 7 / ä", "🦊" * 200])
def test_start_keys_that_are_taken(start_key: str) -> None:
    assert saga_readers.start_saga(start(start_key=start_key), LIMIT).start_key == start_key


def test_size_is_measured_in_bytes_of_the_message_that_is_sent_on() -> None:
    asked = saga_readers.start_saga(start(input=Value(string_value="x" * (LIMIT - 3))), LIMIT)
    assert len(asked.input) == LIMIT - 3
    assert paths(saga_readers.start_saga, start(input=Value(string_value="ä" * (LIMIT // 2))), LIMIT) == [
        "input"
    ]


def test_which_saga() -> None:
    assert saga_readers.which_saga(GetSagaRequest(saga_id=SAGA_ID.upper())) == (SAGA_ID, "")
    assert saga_readers.which_saga(GetSagaRequest(start_key="7")) == ("", "7")
    assert paths(saga_readers.which_saga, GetSagaRequest()) == ["saga_id"]
    assert paths(saga_readers.which_saga, GetSagaRequest(saga_id=SAGA_ID, start_key="7")) == ["saga_id"]
    assert paths(saga_readers.which_saga, GetSagaRequest(saga_id="7", log_after_sequence=-1)) == [
        "saga_id",
        "log_after_sequence",
    ]


def test_waiting() -> None:
    assert saga_readers.wait_saga(WaitSagaRequest(saga_id=SAGA_ID)) == (SAGA_ID, None)
    assert saga_readers.wait_saga(WaitSagaRequest(saga_id=SAGA_ID, timeout=Duration())) == (SAGA_ID, 0)
    assert paths(saga_readers.wait_saga, WaitSagaRequest(timeout=Duration(seconds=-1))) == [
        "saga_id",
        "timeout",
    ]


def test_cancelling() -> None:
    request = CancelSagaRequest(saga_id=SAGA_ID, reason="changed\nmind", requested_by="ada")
    assert saga_readers.cancel_saga(request) == (SAGA_ID, CancelAsked("changed\nmind", "ada"))
    assert paths(saga_readers.cancel_saga, CancelSagaRequest(reason=" ", requested_by="a\0")) == [
        "saga_id",
        "reason",
        "requested_by",
    ]
    assert paths(saga_readers.cancel_saga, CancelSagaRequest(saga_id=SAGA_ID, reason="x" * 4097)) == [
        "reason"
    ]


def report(**fields: Any) -> ReportOutcomeRequest:
    return ReportOutcomeRequest(
        **{"saga_id": SAGA_ID, "step": "pay", "operation": saga_pb2.OPERATION_KIND_ACTION, **fields}
    )


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"succeeded": value({"n": 1})}, Succeeded({"n": 1})),
        ({"refused": saga_pb2.Cause(code="NOT_FOUND", message="m")}, Refused(Cause("NOT_FOUND", "m"))),
        ({"refused": saga_pb2.Cause()}, Refused(Cause("FAILED_PRECONDITION", ""))),
        ({"unknown": saga_pb2.Cause(message="a\0")}, Unknown(Cause("UNKNOWN", "a\ufffd"))),
    ],
)
def test_reports(fields: dict[str, Any], outcome: object) -> None:
    saga_id, reported = report_readers.report_outcome(report(**fields), LIMIT)
    assert (saga_id, reported) == (SAGA_ID, OutcomeReported("pay", OperationKind.ACTION, reported.outcome))
    assert reported.outcome == outcome
    token = token_of(SAGA_ID, "pay", OperationKind.ACTION, 3)
    by_token = report_readers.report_outcome(ReportOutcomeRequest(token=token, **fields), LIMIT)
    assert by_token == (SAGA_ID, replace(reported, attempt=3))


def test_heartbeats() -> None:
    token = token_of(SAGA_ID, "pay", OperationKind.COMPENSATION, 3)
    assert report_readers.heartbeat(HeartbeatRequest(token=token, details="half")) == (
        SAGA_ID,
        HeartbeatReceived("pay", OperationKind.COMPENSATION, 3, "half"),
    )
    assert paths(report_readers.heartbeat, HeartbeatRequest(details="x" * 4097)) == [
        "saga_id",
        "step",
        "operation",
        "details",
    ]


def test_a_token_stands_alone_and_unchanged() -> None:
    token = token_of(SAGA_ID, "pay", OperationKind.ACTION, 3)
    mixed = report(token=token, succeeded=value(1))
    assert paths(report_readers.report_outcome, mixed, LIMIT) == ["saga_id", "step", "operation"]
    assert paths(report_readers.heartbeat, HeartbeatRequest(token=token[:-1])) == ["token"]


def test_faults_of_a_report() -> None:
    assert paths(report_readers.report_outcome, ReportOutcomeRequest(), LIMIT) == [
        "saga_id",
        "step",
        "operation",
        "outcome",
    ]
    bad = report(refused=saga_pb2.Cause(code="no\0"))
    assert paths(report_readers.report_outcome, bad, LIMIT) == ["refused.code"]


def test_filters() -> None:
    request = ListSagasRequest(
        statuses=[saga_pb2.SAGA_STATUS_RUNNING], definition="order", labels={"a": "b"}, page_size=7
    )
    wanted, page_size = saga_readers.saga_filter(request)
    assert (wanted.statuses, wanted.definition, wanted.labels) == ((SagaStatus.RUNNING,), "order", {"a": "b"})
    assert page_size == 7
    assert saga_readers.saga_filter(ListSagasRequest())[1] == 100
    bad = ListSagasRequest(statuses=[1, 0, 99], page_size=1001)  # type: ignore[list-item]  # not of the enum
    assert paths(saga_readers.saga_filter, bad) == ["statuses[1]", "statuses[2]", "page_size"]
    assert paths(definition_readers.definition_list, ListDefinitionsRequest(page_size=-1)) == ["page_size"]


STEP = {
    "name": "pay",
    "action": {"participant": "payments", "input": {"cents": 7, "huge": 1e300}, "timeout": "0.5s"},
    "read_only": True,
}


def test_the_canonical_form_of_a_definition() -> None:
    definition = json_format.ParseDict({"name": "order", "steps": [STEP], "deadline": "60s"}, Definition())
    spec = definition_readers.definition_spec(definition)
    assert spec == {
        "name": "order",
        "deadline": "60s",
        "steps": [{**STEP, "action": {**STEP["action"], "timeout": "0.500s"}}],  # type: ignore[dict-item]
    }
    assert definition.steps[0].action.HasField("input")


def test_a_request_without_a_definition() -> None:
    assert paths(given_by, RegisterDefinitionRequest()) == ["definition"]


def test_faults_of_payloads_and_of_the_rest_come_together() -> None:
    definition = json_format.ParseDict({"name": "Order", "steps": [STEP]}, Definition())
    definition.steps[0].action.input.struct_value["sku"] = "a\0"
    definition.steps[0].compensation.input.number_value = float("inf")
    with pytest.raises(InvalidDefinition) as caught:
        definition_readers.definition_spec(definition)
    found = [fault.path for fault in caught.value.faults]
    assert found[:2] == ["steps[0].action.input.sku", "steps[0].compensation.input"]
    assert {"name", "steps[0].compensation"} <= set(found)


def test_a_duration_that_json_cannot_write() -> None:
    definition = Definition(name="order", deadline=Duration(seconds=10**13))
    assert paths(definition_readers.definition_spec, definition) == ["deadline", "steps"]


def test_the_trace_context_of_a_start_is_kept_and_no_other_header() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    metadata: list[tuple[str, str | bytes]] = [
        ("traceparent", trace),
        ("authorization", "secret"),
        ("tracestate", "x" * 513),
        ("a-bin", b"\0"),
    ]
    assert saga_readers.start_saga(start(), LIMIT, metadata).headers == {"traceparent": trace}
    assert saga_readers.start_saga(start(), LIMIT).headers is None


def test_headers_that_the_settings_name_are_sent_on_too() -> None:
    metadata: list[tuple[str, str | bytes]] = [("x-tenant", "acme"), ("x-user", "ana"), ("traceparent", "t")]
    asked = saga_readers.start_saga(start(), LIMIT, metadata, {"x-tenant", "x-region"})
    assert asked.headers == {"traceparent": "t", "x-tenant": "acme"}


@pytest.mark.parametrize(
    "metadata",
    [[("x-tenant", "a" * 1025)], [("x-tenant", "a\tb")], [("x-tenant", "acme"), ("x-tenant", "other")]],
    ids=["too long", "not a line", "twice"],
)
def test_a_header_that_cannot_be_sent_on_is_refused_rather_than_left_out(
    metadata: list[tuple[str, str | bytes]],
) -> None:
    assert paths(saga_readers.start_saga, start(), LIMIT, metadata, {"x-tenant"}) == ["metadata x-tenant"]


@pytest.mark.parametrize(
    ("check", "request_", "path"),
    [
        (event_readers.publish_event, PublishEventRequest, "event.payload"),
        (report_readers.report_outcome, ReportOutcomeRequest, "success.output"),
        (saga_readers.start_saga, StartSagaRequest, "input"),
    ],
)
def test_a_fault_inside_a_payload_is_named_by_one_path(check: Any, request_: Any, path: str) -> None:
    request = json_format.ParseDict({}, request_())
    holder = request
    for name in path.split("."):
        holder = getattr(holder, name)
    holder.struct_value["lines"] = [1, "\0"]
    arguments: tuple[Any, ...] = (LIMIT, []) if request_ is StartSagaRequest else (LIMIT,)
    assert f"{path}.lines[1]" in paths(check, request, *arguments)
