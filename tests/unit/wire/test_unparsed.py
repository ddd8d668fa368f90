"""Payloads are found in serialized messages before those are parsed."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import ListValue, Value
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2, worker_service_pb2
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.wire.payload import to_value
from saga_coordinator.wire.unparsed import FIELDS_MAX, fields, largest_payload, number_of


def test_the_largest_payload_is_found_with_its_path_and_size() -> None:
    event = saga_service_pb2.Event(event_id="e", name="n", payload=to_value({"a": "x" * 300}))
    request = saga_service_pb2.SignalSagaRequest(saga_id="s", event=event)
    found = largest_payload(request.DESCRIPTOR, request.SerializeToString())
    assert found == ("event.payload", event.payload.ByteSize())
    outcome = worker_service_pb2.TaskOutcome(task_id=300, success=saga_pb2.Success(output=to_value([1, 2])))
    raw = outcome.SerializeToString()
    assert largest_payload(outcome.DESCRIPTOR, raw) == ("success.output", outcome.success.output.ByteSize())
    assert number_of(raw, 1, 0, len(raw)) == 300


def test_where_there_is_none_nothing_is_found() -> None:
    request = saga_service_pb2.WaitSagaRequest(saga_id="s")
    request.timeout.seconds = 3
    assert largest_payload(request.DESCRIPTOR, request.SerializeToString()) == ("", 0)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_left_to_the_parser(raw: bytes) -> None:
    path, size = largest_payload(saga_service_pb2.StartSagaRequest.DESCRIPTOR, raw)
    assert path in ("", "input")
    assert 0 <= size <= len(raw)


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_fields_lie_one_behind_the_other(payloads: list[bytes]) -> None:
    message = Value()
    message.list_value.values.extend(Value(string_value=each.hex()) for each in payloads)
    raw = message.list_value.SerializeToString()
    found = list(fields(raw))
    assert [raw[begin:after] for _, begin, _, after in found] == [
        ListValue(values=[Value(string_value=each.hex())]).SerializeToString() for each in payloads
    ]


def test_no_time_is_spent_on_a_message_of_nothing_but_fields() -> None:
    with pytest.raises(InvalidRequest, match=f"more than {FIELDS_MAX} fields"):
        list(fields(b"\x08\x01" * (FIELDS_MAX + 1)))
    assert len(list(fields(b"\x08\x01" * FIELDS_MAX))) == FIELDS_MAX
