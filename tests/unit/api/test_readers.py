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
from saga_coordinator.engine.start import StartSaga
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


def started(**fields: Any) -> StartSaga:
    return saga_readers.start_saga(start(**fields), LIMIT)


def value(json: Any) -> Value:
    return json_format.ParseDict(json, Value())


def test_a_start_as_it_is_meant() -> None:
    deadline = Duration(seconds=1, nanos=500_000_000)
    asked = started(version=2, input=value({"n": 1}), labels={"a": "b"}, deadline=deadline)
    assert (asked.definition, asked.version, asked.start_key) == ("order", 2, "7")
    assert (asked.input, asked.labels, asked.deadline_seconds) == ({"n": 1}, {"a": "b"}, 1.5)


def test_what_a_start_leaves_out() -> None:
    asked = started()
    assert (asked.version, asked.input, asked.labels, asked.deadline_seconds) == (0, {}, {}, None)
    assert started(input=value(None)).input is None, "which is not the default"


def test_all_faults_of_a_start_at_once() -> None:
    request = StartSagaRequest(
        version=-1,
        start_key="a\nb",
        input=Value(string_value="x" * LIMIT),
        labels={"": "x", "k" * 64: "v" * 256},
        deadline=Duration(seconds=-1),
    )
    found = paths(saga_readers.start_saga, request, LIMIT)
    labels = {"labels", f"labels['{'k' * 63}']"}
    assert set(found) == {"definition", "version", "start_key", "input", "deadline"} | labels


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"start_key": ""}, "start_key"),
        ({"start_key": " "}, "start_key"),
        ({"start_key": "\u2003"}, "start_key"),
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
        ({"input": value("ä" * (LIMIT // 2))}, "input"),
        ({"deadline": Duration()}, "deadline"),
        ({"deadline": Duration(seconds=1, nanos=-1)}, "deadline"),
        ({"deadline": Duration(seconds=10**11)}, "deadline"),
    ],
)
def test_faults_of_a_start(fields: dict[str, Any], path: str) -> None:
    assert paths(saga_readers.start_saga, start(**fields), LIMIT) == [path]


@pytest.mark.parametrize("start_key", ["k" * 200, "Bestellung Nr. 7 / ä", "🦊" * 200])
def test_start_keys_that_are_taken(start_key: str) -> None:
    assert started(start_key=start_key).start_key == start_key


def test_size_is_measured_in_bytes_of_the_message_that_is_sent_on() -> None:
    assert len(started(input=value("x" * (LIMIT - 3))).input) == LIMIT - 3


TOKEN = token_of(SAGA_ID, "pay", OperationKind.ACTION, 3)


@pytest.mark.parametrize(
    ("read", "request_", "meant"),
    [
        (saga_readers.which_saga, GetSagaRequest(saga_id=SAGA_ID.upper()), (SAGA_ID, "")),
        (saga_readers.which_saga, GetSagaRequest(start_key="7"), ("", "7")),
        (saga_readers.wait_saga, WaitSagaRequest(saga_id=SAGA_ID), (SAGA_ID, None)),
        (saga_readers.wait_saga, WaitSagaRequest(saga_id=SAGA_ID, timeout=Duration()), (SAGA_ID, 0)),
        (
            saga_readers.cancel_saga,
            CancelSagaRequest(saga_id=SAGA_ID, reason="changed\nmind", requested_by="ada"),
            (SAGA_ID, CancelAsked("changed\nmind", "ada")),
        ),
        (
            report_readers.heartbeat,
            HeartbeatRequest(token=TOKEN, details="half"),
            (SAGA_ID, HeartbeatReceived("pay", OperationKind.ACTION, 3, "half")),
        ),
    ],
)
def test_requests_as_they_are_meant(read: Callable[[Any], object], request_: Any, meant: object) -> None:
    assert read(request_) == meant


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
    by_token = report_readers.report_outcome(ReportOutcomeRequest(token=TOKEN, **fields), LIMIT)
    assert by_token == (SAGA_ID, replace(reported, attempt=3))


def report_outcome(request: ReportOutcomeRequest) -> object:
    return report_readers.report_outcome(request, LIMIT)


NO_STATUSES: list[Any] = [1, 0, 99]
NOTHING_NAMED = ["saga_id", "step", "operation"]


@pytest.mark.parametrize(
    ("read", "request_", "faults"),
    [
        (saga_readers.which_saga, GetSagaRequest(), ["saga_id"]),
        (saga_readers.which_saga, GetSagaRequest(saga_id=SAGA_ID, start_key="7"), ["saga_id"]),
        (saga_readers.which_saga, GetSagaRequest(log_after_sequence=-1), ["saga_id", "log_after_sequence"]),
        (saga_readers.which_saga, GetSagaRequest(saga_id="7"), ["saga_id"]),
        (saga_readers.wait_saga, WaitSagaRequest(timeout=Duration(seconds=-1)), ["saga_id", "timeout"]),
        (saga_readers.cancel_saga, CancelSagaRequest(saga_id="x", reason=" "), ["saga_id", "reason"]),
        (saga_readers.cancel_saga, CancelSagaRequest(saga_id=SAGA_ID, reason="x" * 4097), ["reason"]),
        (
            saga_readers.cancel_saga,
            CancelSagaRequest(saga_id=SAGA_ID, reason="x", requested_by="a\0"),
            ["requested_by"],
        ),
        (report_readers.heartbeat, HeartbeatRequest(details="x" * 4097), [*NOTHING_NAMED, "details"]),
        (report_readers.heartbeat, HeartbeatRequest(token=TOKEN[:-1]), ["token"]),
        (report_outcome, report(token=TOKEN, succeeded=value(1)), NOTHING_NAMED),
        (report_outcome, ReportOutcomeRequest(), [*NOTHING_NAMED, "outcome"]),
        (report_outcome, report(refused=saga_pb2.Cause(code="no\0")), ["refused.code"]),
        (
            saga_readers.saga_filter,
            ListSagasRequest(statuses=NO_STATUSES, page_size=1001),
            ["statuses[1]", "statuses[2]", "page_size"],
        ),
        (definition_readers.definition_list, ListDefinitionsRequest(page_size=-1), ["page_size"]),
        (given_by, RegisterDefinitionRequest(), ["definition"]),
        (
            definition_readers.definition_spec,
            Definition(name="order", deadline=Duration(seconds=10**13)),  # which JSON cannot write
            ["deadline", "steps"],
        ),
    ],
)
def test_faults_of_requests(read: Callable[[Any], object], request_: Any, faults: list[str]) -> None:
    assert paths(read, request_) == faults


def test_filters() -> None:
    request = ListSagasRequest(
        statuses=[saga_pb2.SAGA_STATUS_RUNNING], definition="order", labels={"a": "b"}, page_size=7
    )
    wanted, page_size = saga_readers.saga_filter(request)
    assert (wanted.statuses, wanted.definition, wanted.labels) == ((SagaStatus.RUNNING,), "order", {"a": "b"})
    assert page_size == 7
    assert saga_readers.saga_filter(ListSagasRequest())[1] == 100


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


def test_faults_of_payloads_and_of_the_rest_come_together() -> None:
    definition = json_format.ParseDict({"name": "Order", "steps": [STEP]}, Definition())
    definition.steps[0].action.input.struct_value["sku"] = "a\0"
    definition.steps[0].compensation.input.number_value = float("inf")
    with pytest.raises(InvalidDefinition) as caught:
        definition_readers.definition_spec(definition)
    found = [fault.path for fault in caught.value.faults]
    assert found[:2] == ["steps[0].action.input.sku", "steps[0].compensation.input"]
    assert {"name", "steps[0].compensation"} <= set(found)


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
