"""Records to messages: every status has its word on the wire, steps are folded from the log, and payloads come out as stored."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf import json_format

from proof.core.definitions import step
from saga_coordinator.participants.calls.breaker import BreakerState, Forced
from saga_coordinator.participants.directory.addresses import LOAD_BALANCING
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.machine.entries import (
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    BlockOpened,
    Entry,
    SagaFailed,
    SagaStarted,
)
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.stored_entry import encode
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.store.sagas import LogEntry, SagaRecord
from saga_coordinator.views.definition import registered_message
from saga_coordinator.views.log import folded, write_entry
from saga_coordinator.views.saga import add_progress, saga_message, write_listed
from saga_coordinator.wire.enumerations import (
    BREAKER_CONTROL_NUMBERS,
    BREAKER_STATE_NUMBERS,
    LOAD_BALANCING_NUMBERS,
    OPERATION_KINDS,
    SAGA_STATUSES,
)
from saga_coordinator.wire.payload import NESTING_MAX

MANY = {"name": "many", "for_each": {"items": "input", "steps": [step("each", read_only=True)]}}
SAGA_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
OWNER = "b54adc00-67f9-4b8e-8a57-6ae2b4c5f0aa"
AT = datetime(2026, 1, 31, 10, 0, 0, 250_000, UTC)
ACTION = OperationKind.ACTION

STEPS = [step(name, action={"participant": "shop", "input": {"of": name}}) for name in ("reserve", "charge")]
SPEC = {"name": "order", "deadline": "60s", "steps": STEPS}


def record(status: SagaStatus = SagaStatus.RUNNING) -> SagaRecord:
    return SagaRecord(
        saga_id=SAGA_ID,
        namespace=DEFAULT_NAMESPACE,
        definition="order",
        version=3,
        status=status,
        start_key="7",
        input={"lines": [{"sku": "a", "count": 2}], "note": None},
        labels={"tenant": "x"},
        failure=Cause("CANCELLED", "changed mind", requested_by="ada"),
        remaining=("reserve",),
        started_at=AT,
        ended_at=None,
        deadline_at=AT,
        sequence=2,
        owner=None,
    )


def log(*entries: Entry) -> list[LogEntry]:
    return [LogEntry(number, encode(entry), AT, OWNER) for number, entry in enumerate(entries, start=1)]


@pytest.mark.parametrize("status", SagaStatus)
def test_a_saga(status: SagaStatus) -> None:
    message = saga_message(record(status))
    assert saga_pb2.SagaStatus.Name(message.status) == f"SAGA_STATUS_{status}"
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == {
        "saga_id": SAGA_ID,
        "definition": "order",
        "version": 3,
        "status": f"SAGA_STATUS_{status}",
        "start_key": "7",
        "input": {"lines": [{"sku": "a", "count": 2.0}], "note": None},
        "labels": {"tenant": "x"},
        "failure": {"code": "CANCELLED", "message": "changed mind", "requested_by": "ada"},
        "remaining_effects": ["reserve"],
        "started_at": "2026-01-31T10:00:00.250Z",
        "deadline_at": "2026-01-31T10:00:00.250Z",
        "sequence": 2,
    }


def test_a_parked_saga_says_what_blocks_it_beside_why_it_failed() -> None:
    parked = replace(record(SagaStatus.NEEDS_ATTENTION), blocked_by=Cause("UNAVAILABLE", "away", "reserve"))
    assert saga_message(parked).failure.code == "CANCELLED"
    assert saga_message(parked).blocked_by == saga_pb2.Cause(
        code="UNAVAILABLE", message="away", step="reserve"
    )
    assert not saga_message(record()).HasField("blocked_by")


def test_a_saga_that_is_larger_than_a_page_as_a_message_is_listed_without_its_input() -> None:
    """A number takes three bytes as JSON and eleven as a message."""
    small, large = replace(record(), input=[0] * 100), replace(record(), input=[0] * 400_000)
    listed = pb.ListSagasResponse()
    write_listed(small, listed.sagas.add())
    assert listed.sagas[0] == saga_message(small)
    assert len(saga_message(large).input.list_value.values) == 400_000
    write_listed(large, shown := listed.sagas.add())
    assert (shown.saga_id, shown.HasField("input"), shown.input_omitted) == (large.saga_id, False, True)


def test_every_word_of_the_contract_has_a_meaning_and_the_other_way_round() -> None:
    assert set(SAGA_STATUSES) == set(saga_pb2.SagaStatus.values()) - {0}
    assert set(OPERATION_KINDS) == set(saga_pb2.OperationKind.values()) - {0}
    assert {f"STEP_STATUS_{status}" for status in StepStatus} == set(saga_pb2.StepStatus.keys()[1:])
    assert {f"EFFECT_{effect.name}" for effect in EffectKnown} == set(saga_pb2.Effect.keys()[1:])
    assert set(BREAKER_STATE_NUMBERS) == set(BreakerState)
    assert set(BREAKER_CONTROL_NUMBERS) == set(Forced)
    assert set(LOAD_BALANCING_NUMBERS) == set(LOAD_BALANCING)


def steps_after(entries: list[LogEntry]) -> list[saga_pb2.StepState]:
    message = saga_pb2.Saga()
    add_progress(message, parse_definition(SPEC), folded(SAGA_ID, entries))
    return list(message.steps)


def test_steps_are_folded_from_the_log() -> None:
    reserve, charge = steps_after(
        log(
            SagaStarted("order", 3, {}),
            AttemptStarted("reserve", ACTION, 1),
            AttemptSucceeded("reserve", ACTION, 1, {"id": 9}),
            AttemptStarted("charge", ACTION, 1),
            AttemptUnknown("charge", ACTION, 1, Cause("UNAVAILABLE", "down"), 0.5, AT.timestamp()),
        )
    )
    assert (reserve.name, reserve.attempt) == ("reserve", 1)
    assert (reserve.status, reserve.effect) == (saga_pb2.STEP_STATUS_SUCCEEDED, saga_pb2.EFFECT_CERTAIN)
    assert json_format.MessageToDict(reserve.output) == {"id": 9.0}
    assert not reserve.HasField("cause")
    assert (charge.status, charge.effect) == (saga_pb2.STEP_STATUS_RUNNING, saga_pb2.EFFECT_POSSIBLE)
    assert charge.cause == saga_pb2.Cause(code="UNAVAILABLE", message="down")
    assert charge.retry_at.ToDatetime(UTC) == AT
    assert not charge.HasField("output")


def test_outputs_that_no_answer_can_hold_are_left_out() -> None:
    definition = parse_definition({"name": "many", "steps": [MANY]})
    large = {"text": "x" * 100_000}
    entries: list[Entry] = [SagaStarted("many", 1, {}), BlockOpened("many", items=tuple(range(40)))]
    for index in range(40):
        key = f"many[{index}].each"
        entries += [AttemptStarted(key, ACTION, 1), AttemptSucceeded(key, ACTION, 1, large)]
    message = saga_pb2.Saga()
    add_progress(message, definition, folded(SAGA_ID, log(*entries)))
    assert message.outputs_omitted
    assert message.ByteSize() < 100_000
    assert [step.status for step in message.steps[1:]] == 40 * [saga_pb2.STEP_STATUS_SUCCEEDED]


def test_an_output_of_null_is_told_from_one_not_known() -> None:
    reserve, charge = steps_after(
        log(
            SagaStarted("order", 3, {}),
            AttemptStarted("reserve", ACTION, 1),
            AttemptSucceeded("reserve", ACTION, 1, None),
        )
    )
    assert reserve.output.WhichOneof("kind") == "null_value"
    assert not charge.HasField("output")


@pytest.mark.parametrize(
    ("entry", "body"),
    [
        (
            SagaStarted("order", 3, {"n": 1}),
            {"definition": "order", "version": 3.0, "input": {"n": 1.0}, "labels": {}},
        ),
        (AttemptStarted("reserve", ACTION, 2), {}),
        (AttemptPending("reserve", ACTION, 2, 1.5), {"pending_until": 1.5}),
        (
            AttemptRefused("reserve", ACTION, 2, Cause("NOT_FOUND", "m")),
            {"cause": {"code": "NOT_FOUND", "message": "m"}},
        ),
        (
            SagaFailed(Cause("CANCELLED", "m", requested_by="ada")),
            {"cause": {"code": "CANCELLED", "message": "m", "requested_by": "ada"}},
        ),
    ],
)
def test_entries(entry: Entry, body: dict[str, object]) -> None:
    message = saga_pb2.Entry()
    write_entry(LogEntry(4, encode(entry), AT, OWNER), message)
    assert json_format.MessageToDict(message.body) == body
    assert (message.sequence, message.recorded_by) == (4, OWNER)
    assert message.recorded_at.ToDatetime(UTC) == AT
    is_about_a_step = hasattr(entry, "step")
    assert message.step == ("reserve" if is_about_a_step else "")
    assert message.attempt == (2 if is_about_a_step else 0)
    assert message.operation == (
        saga_pb2.OPERATION_KIND_ACTION if is_about_a_step else saga_pb2.OPERATION_KIND_UNSPECIFIED
    )


def test_the_deepest_payload_is_shown_in_its_entry() -> None:
    payload: object = 1
    for _ in range(NESTING_MAX):
        payload = {"a": payload}
    (logged,) = log(SagaStarted("order", 3, payload))
    written = saga_pb2.Entry()
    write_entry(logged, written)
    shown = saga_pb2.Entry.FromString(written.SerializeToString()).body.fields["input"]
    for _ in range(NESTING_MAX):
        shown = shown.struct_value.fields["a"]
    assert shown.number_value == 1


def test_a_definition_as_it_was_given() -> None:
    registered = RegisteredDefinition("order", 3, "d" * 64, SPEC, AT)
    message = registered_message(registered)
    assert (message.version, message.digest) == (3, "d" * 64)
    assert message.registered_at.ToDatetime(UTC) == AT
    assert json_format.MessageToDict(message.definition, preserving_proto_field_name=True) == SPEC
