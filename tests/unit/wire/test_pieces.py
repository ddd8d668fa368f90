"""What is serialized piece by piece is the same message, and is measured before."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from saga_coordinator.pb.saga.v1 import (
    definition_service_pb2,
    directory_service_pb2,
    operator_service_pb2,
    saga_pb2,
    worker_service_pb2,
)
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.wire.payload import fill, to_value
from saga_coordinator.wire.pieces import serialized, size_at_most

SERVICES = [
    service
    for file in (definition_service_pb2, directory_service_pb2, operator_service_pb2, pb, worker_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]


def answer() -> pb.GetSagaResponse:
    message = pb.GetSagaResponse()
    message.saga.saga_id = "s"
    message.saga.labels["tenant"] = "ä" * 100
    message.saga.remaining_effects.extend(["reserve", "charge"])
    message.saga.started_at.seconds = 10
    message.saga.failure.message = "no"
    fill(message.saga.input, [[[1]], {"a": "x" * 300}])
    fill(message.saga.output, None)
    for name in ("reserve", "charge"):
        fill(message.saga.steps.add(name=name).output, {"name": name})
        entry = message.log.add(entry_type=name, sequence=len(message.log))
        entry.body.update({"output": [name] * 100})
    return message


def test_a_message_is_serialized_piece_by_piece_and_taken_apart() -> None:
    expected, message = answer(), answer()
    assert pb.GetSagaResponse.FromString(serialized(message)) == expected
    assert not message.ListFields()


def test_the_size_is_not_guessed_too_small_and_counted_no_further_than_asked() -> None:
    message = answer()
    assert message.ByteSize() <= size_at_most(message) <= message.ByteSize() + 200
    assert 100 <= size_at_most(message, enough=100) < message.ByteSize()


@pytest.mark.parametrize(
    "kind",
    [method.output_type for service in SERVICES for method in service.methods],
    ids=lambda kind: str(kind.name),
)
def test_every_answer_can_be_divided(kind: Message) -> None:
    message = GetMessageClass(kind)()  # type: ignore[arg-type]
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None:
            continue
        if not field.is_repeated:
            getattr(message, field.name).SetInParent()
        elif not field.message_type.GetOptions().map_entry:
            getattr(message, field.name).add()
    raw = message.SerializeToString()
    assert size_at_most(message) >= len(raw)
    assert GetMessageClass(kind).FromString(serialized(message)) == GetMessageClass(kind).FromString(raw)  # type: ignore[arg-type]


def test_a_payload_alone_is_one_piece() -> None:
    step = saga_pb2.StepState(name="reserve", output=to_value([1, 2]))
    assert saga_pb2.StepState.FromString(serialized(step)) == saga_pb2.StepState(
        name="reserve", output=to_value([1, 2])
    )
