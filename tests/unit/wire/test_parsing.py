"""What is parsed piece by piece is the same message as if it were parsed at once, and what cannot be parsed is told."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from bench.contents import CONTENTS
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.pb.saga.v1 import worker_service_pb2
from saga_coordinator.wire.parsing import PIECE_BYTES_MAX, parse_into
from saga_coordinator.wire.payload import to_value
from saga_coordinator.wire.unparsed import embedded

LISTS: list[Any] = [[]] * 100_000


@pytest.mark.parametrize(
    "payload",
    [
        *(CONTENTS[name](1024 * 1024) for name in ("keys", "nested lists", "plain text", "small numbers")),
        {"": LISTS, "ä": {"b": LISTS, "c": "x" * 2 * PIECE_BYTES_MAX}, "d": 1},
        [[LISTS, 1, LISTS]],
    ],
    ids=lambda payload: str(type(payload).__name__),
)
def test_large_messages_are_parsed_in_pieces(payload: Any) -> None:
    expected = worker_service_pb2.WorkRequest(credits=3)
    for number in (1, 2):
        expected.outcomes.add(task_id=number).success.output.CopyFrom(to_value(payload))
    parse_into(message := worker_service_pb2.WorkRequest(), expected.SerializeToString())
    assert message == expected


@pytest.mark.parametrize("is_first_a_list", [True, False])
def test_what_comes_twice_counts_as_in_protobuf(*, is_first_a_list: bool) -> None:
    """Fields of messages are merged, and the last of several entries with one key and of several kinds counts."""
    first, second = to_value({"a": LISTS, "b": 1}), to_value({"a": LISTS[:50_000], "c": LISTS})
    raw = first.SerializeToString() + second.SerializeToString()
    if is_first_a_list:
        raw = to_value(LISTS).SerializeToString() + raw
    parse_into(message := Value(), raw)
    assert message == Value.FromString(raw)
    assert len(message.struct_value.fields["a"].list_value.values) == 50_000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\x0a",
        lambda raw: raw.replace(b"start", b"st\xffrt"),
        lambda raw: embedded(3, raw.replace(b"inner", b"inn\xff\xff")),
    ],
)
def test_what_cannot_be_parsed_is_told(spoil: Any) -> None:
    raw = pb.StartSagaRequest(definition="start", input=to_value({"inner": LISTS})).SerializeToString()
    parse_into(pb.StartSagaRequest(), raw)
    with pytest.raises(DecodeError):
        pb.StartSagaRequest.FromString(spoil(raw))
    with pytest.raises(DecodeError):
        parse_into(pb.StartSagaRequest(), spoil(raw))


def test_what_is_nested_too_deep_is_told_before_it_is_followed() -> None:
    raw = to_value(LISTS).SerializeToString()
    for _ in range(5_000):
        raw = embedded(6, embedded(1, raw))
    with pytest.raises(DecodeError):
        parse_into(Value(), raw)
