"""Payloads: whatever is taken comes back the same and can be sent on, and whatever cannot is named with its place."""

import json
import math
from decimal import Decimal
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.pb.saga.v1.participant_service_pb2 import CompensateRequest
from saga_coordinator.pb.saga.v1.saga_service_pb2 import GetSagaResponse
from saga_coordinator.saga.words.canonical import canonical, canonical_bytes
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.saga.words.size import VALUES_MAX
from saga_coordinator.wire.payload import (
    NESTING_MAX,
    PayloadError,
    check_message,
    fill,
    from_value,
    message_bytes_max,
    payload_of,
    to_value,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
# Without -0.0, of which JSON and SQL make 0.
doubles = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)
scalars = st.none() | st.booleans() | texts | doubles | st.integers(-(2**53) + 1, 2**53 - 1)
payloads = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


def nested(levels: int, *, in_objects: bool) -> Any:
    payload: Any = "core"
    for _ in range(levels):
        payload = {"k": payload} if in_objects else [payload]
    return payload


def value_nested(levels: int, *, in_objects: bool) -> Value:
    root = value = Value()
    for _ in range(levels):
        value = value.struct_value.fields["k"] if in_objects else value.list_value.values.add()
    value.string_value = "core"
    return root


@given(payloads)
def test_a_payload_survives_being_sent_and_taken(payload: Any) -> None:
    taken = from_value(Value.FromString(to_value(payload).SerializeToString()))
    assert orjson.dumps(taken) == canonical_bytes(payload)


@given(payloads)
def test_a_value_is_the_one_that_protobuf_makes_of_the_same_json(payload: Any) -> None:
    assert to_value(payload) == json_format.ParseDict(payload, Value())


@given(payloads)
def test_a_value_survives_being_stored_as_json(payload: Any) -> None:
    value = to_value(payload)
    assert to_value(orjson.loads(orjson.dumps(from_value(value)))) == value


@pytest.mark.parametrize("number", [2.0**53, 2.0**60, -(2.0**63), 1e300, 5e-324, 1.7976931348623157e308])
def test_a_double_survives_being_stored_as_digits(number: float) -> None:
    taken = from_value(Value(number_value=number))
    digits = f"{Decimal(repr(taken)):f}"  # as jsonb writes it
    for load in (json.loads, orjson.loads):
        assert to_value(load(digits)).number_value == number
        assert orjson.dumps(canonical(load(digits))) == orjson.dumps(taken)


@pytest.mark.parametrize(
    ("number", "payload"),
    [(3.0, 3), (-0.0, 0), (2.0**53 - 1, 2**53 - 1), (2.0**53, 2**53), (2.0**64, 2.0**64), (0.5, 0.5)],
)
def test_whole_numbers_become_integers_while_64_bits_hold_them(number: float, payload: float) -> None:
    taken = from_value(Value(number_value=number))
    assert (taken, type(taken)) == (payload, type(payload))


def test_a_value_that_says_nothing_is_none() -> None:
    holder = Value()
    holder.list_value.values.add()
    holder.struct_value.fields["k"].SetInParent()
    assert from_value(Value()) is None
    assert from_value(holder) == {"k": None}


def test_a_payload_is_written_in_place() -> None:
    request = CompensateRequest(saga_id="s")
    fill(request.input, {"a": [1, "b"]})
    assert json_format.MessageToDict(request) == {"sagaId": "s", "input": {"a": [1, "b"]}}


def _bad_key() -> Value:
    value = Value()
    value.struct_value.fields["a"].struct_value.fields["x\0y"].bool_value = True
    return value


@pytest.mark.parametrize(
    ("value", "path", "description"),
    [
        (Value(number_value=math.nan), "", "finite"),
        (to_value({"a": [1, {"b": 2}]}), None, ""),
        (Value(string_value="a\0b"), "", "NUL"),
        (_bad_key(), "a['x\\x00y']", "NUL"),
    ],
)
def test_faults_have_a_place(value: Value, path: str | None, description: str) -> None:
    if path is None:
        value.struct_value.fields["a"].list_value.values[1].struct_value.fields["b"].number_value = math.inf
        path, description = "a[1].b", "finite"
    with pytest.raises(PayloadError, match=description) as caught:
        from_value(value)
    assert caught.value.path == path
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.faults[0].path == path


@pytest.mark.parametrize(
    ("payload", "path", "description"),
    [
        ({"a": [0, math.nan]}, "a[1]", "finite"),
        ([-math.inf], "[0]", "finite"),
        ({"a": 10**400}, "a", "range of a double"),
        ({"a": {"b c": "\ud800"}}, "a['b c']", "UTF-8"),
        ({"a": {"\ud800": 1}}, "a", "keys"),
        ({"a": {1: 1}}, "a", "keys"),
        ({"a": b"bytes"}, "a", "not bytes"),
        ((1, 2), "", "not tuple"),
    ],
)
def test_what_cannot_be_sent_has_a_place(payload: Any, path: str, description: str) -> None:
    with pytest.raises(PayloadError, match=description) as caught:
        to_value(payload)
    assert caught.value.path == path


@pytest.mark.parametrize("in_objects", [True, False])
def test_nesting_is_limited_both_ways(in_objects: bool) -> None:
    deepest = nested(NESTING_MAX, in_objects=in_objects)
    assert from_value(value_nested(NESTING_MAX, in_objects=in_objects)) == deepest
    assert to_value(deepest) == value_nested(NESTING_MAX, in_objects=in_objects)
    with pytest.raises(PayloadError, match="too deep"):
        from_value(value_nested(NESTING_MAX + 1, in_objects=in_objects))
    with pytest.raises(PayloadError, match="too deep"):
        to_value([deepest])
    with pytest.raises(PayloadError, match="too deep"):
        from_value(value_nested(3, in_objects=in_objects), depth_max=2)


def test_what_is_taken_can_be_sent_on_and_shown() -> None:
    """The deepest payload fits where it is nested most: in the log of a saga."""
    shown = GetSagaResponse()
    fill(shown.log.add().body.fields["output"], nested(NESTING_MAX, in_objects=True))
    assert GetSagaResponse.FromString(shown.SerializeToString()) == shown


def test_the_limit_is_no_lower_than_it_must_be() -> None:
    shown = GetSagaResponse()
    deeper = nested(NESTING_MAX + 1, in_objects=True)
    fill(shown.log.add().body.fields["output"], deeper, depth_max=NESTING_MAX + 1)
    with pytest.raises(DecodeError, match="Error parsing"):
        GetSagaResponse.FromString(shown.SerializeToString())


def numbers(count: int) -> Value:
    return to_value([0] * count)


def test_a_payload_is_measured_as_the_message_that_carries_it() -> None:
    """As JSON these are 2,001 bytes; as they are sent, 11,003."""
    sent = numbers(1000)
    assert len(orjson.dumps(from_value(sent))) == 2001
    assert payload_of(sent, 11_003) == [0] * 1000
    with pytest.raises(PayloadError, match="is 11003 bytes as protobuf; 11002 is the limit"):
        payload_of(sent, 11_002)


def test_values_are_limited_besides_their_bytes() -> None:
    """They are what converting takes time for: nulls take the fewest bytes."""
    assert len(payload_of(to_value([None] * (VALUES_MAX - 1)), 1 << 20)) == VALUES_MAX - 1
    with pytest.raises(PayloadError, match=f"more than {VALUES_MAX} values"):
        payload_of(to_value([None] * VALUES_MAX), 1 << 20)
    unset = Value()
    unset.list_value.values.extend(Value() for _ in range(VALUES_MAX))
    with pytest.raises(PayloadError, match=f"more than {VALUES_MAX} values"):
        payload_of(unset, 1 << 20)


def test_what_is_taken_is_no_larger_when_it_is_sent_on() -> None:
    """A value that is not set is sent on as null, which takes twice as many bytes."""
    unset = Value()
    unset.list_value.values.extend(Value() for _ in range(100))
    size = unset.ByteSize()
    with pytest.raises(PayloadError, match=f"more than {size} bytes as protobuf"):
        payload_of(unset, size)
    taken = payload_of(unset, 2 * size)
    assert to_value(taken).ByteSize() <= 2 * size


def test_a_message_that_is_too_large_for_whom_it_is_for_is_not_sent() -> None:
    assert check_message(b"1234", 4) == b"1234"
    with pytest.raises(PayloadError, match="a message of 5 bytes; 4 is the most"):
        check_message(b"12345", 4)
    assert message_bytes_max(1 << 20) == 4 << 20, "the default leaves room below what every gRPC server takes"
    assert message_bytes_max(8 << 20) > 8 << 20
