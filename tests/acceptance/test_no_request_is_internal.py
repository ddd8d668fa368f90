"""No request whatever is answered with INTERNAL: of every RPC, messages made of what is hard to take as it comes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from saga_coordinator.pb.saga.v1 import (
    definition_service_pb2,
    directory_service_pb2,
    saga_service_pb2,
    worker_service_pb2,
)
from tests.acceptance.conftest import Client
from tests.eventually import PATIENCE_SECONDS

MESSAGES = 60
STREAM_SECONDS = 5.0
"""For the first answer of a stream, which may have none."""
NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
METHODS: dict[str, MethodDescriptor] = {
    method.full_name: method
    for file in (definition_service_pb2, directory_service_pb2, saga_service_pb2, worker_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming
}
TEXTS = (
    *(
        "",
        "\0",
        "a\0b",
        "shop",
        "order",
        "step_0",
        " ",
        "x" * 5_000,
        "\N{REPLACEMENT CHARACTER}",
        "\x1b[2J",
        "\U0010ffff",
    ),
    *(
        "00000000-0000-7000-8000-000000000000",
        "00000000-0000-7000-8000-00000000000\0",
        "unix:/\0",
        "unix:relative",
    ),
    *(
        "dns:///host:99999",
        "127.0.0.1:1",
        "ipv6:[::1]:1",
        "/etc/passwd",
        "../x",
        "${",
        "${input.a",
        "${1/0}",
        "$${",
    ),
    *("a.b/C", "-1", "1e400", "9999999999999s", "shop.\0", "{}", "[", "name: x"),
)
LARGEST = 2**63 - 1

Make = Callable[[random.Random], Any]
MADE: dict[int, Make] = {
    FieldDescriptor.CPPTYPE_BOOL: lambda dice: dice.random() < 0.5,
    FieldDescriptor.CPPTYPE_DOUBLE: lambda dice: dice.choice(
        [0.0, -1.0, 0.5, 1e308, 5e-324, math.nan, math.inf, -math.inf]
    ),
    FieldDescriptor.CPPTYPE_ENUM: lambda dice: dice.choice([0, 1, 2, 3, 99, -1, 2**31 - 1]),
    FieldDescriptor.CPPTYPE_INT32: lambda dice: dice.choice([0, 1, 2, -1, 1000, 2**31 - 1, -(2**31)]),
    FieldDescriptor.CPPTYPE_INT64: lambda dice: dice.choice(
        [0, 1, -1, LARGEST, -LARGEST - 1, 315_576_000_001, 10**12]
    ),
    FieldDescriptor.CPPTYPE_STRING: lambda dice: dice.choice(TEXTS),
}


def fill(message: Message, dice: random.Random, depth: int = 0) -> Message:
    """Sets some of the fields, to values that are rarely what they should be."""
    for field in message.DESCRIPTOR.fields:
        if dice.random() < (0.35 if depth < 5 else 0.9):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(getattr(message, field.name), field, dice, depth)
        elif field.message_type is not None:
            _fill_inside(message, field, dice, depth)
        elif field.is_repeated:
            getattr(message, field.name).extend(_value(field, dice) for _ in range(dice.randrange(3)))
        else:
            setattr(message, field.name, _value(field, dice))
    return message


def _value(field: Any, dice: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return dice.choice([b"", b"\xff\xfe", b"\n\x03abc", bytes(range(256))])
    return MADE[field.cpp_type](dice)


def _fill_inside(message: Message, field: Any, dice: random.Random, depth: int) -> None:
    held = getattr(message, field.name)
    if field.is_repeated:
        for _ in range(dice.randrange(3)):
            fill(held.add(), dice, depth + 1)
    else:
        held.SetInParent()
        fill(held, dice, depth + 1)


def _fill_map(held: Any, field: Any, dice: random.Random, depth: int) -> None:
    value = field.message_type.fields_by_name["value"]
    for _ in range(dice.randrange(3)):
        key = dice.choice(TEXTS)
        if value.message_type is not None:
            fill(held[key], dice, depth + 1)
        else:
            held[key] = _value(value, dice)


def requests(method: MethodDescriptor) -> Iterator[bytes]:
    for number in range(MESSAGES):
        dice = random.Random(f"{method.full_name} {number}")
        yield fill(GetMessageClass(method.input_type)(), dice).SerializeToString()


def code_of(client: Client, method: MethodDescriptor, raw: bytes) -> grpc.StatusCode:
    path = f"/{method.containing_service.full_name}/{method.name}"
    channel: Any = client.channel
    try:
        if method.server_streaming:
            answers = channel.unary_stream(path)(raw, timeout=STREAM_SECONDS)
            next(answers, None)
            answers.cancel()
        else:
            channel.unary_unary(path)(raw, timeout=PATIENCE_SECONDS)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("name", METHODS)
def test_no_request_is_answered_with_internal(name: str, client: Client) -> None:
    method = METHODS[name]
    bad = [(raw, code) for raw in requests(method) if (code := code_of(client, method, raw)) in NEVER]
    assert not bad, [
        (code.name, str(GetMessageClass(method.input_type).FromString(raw))[:600]) for raw, code in bad[:3]
    ]


DURATIONS = [
    (LARGEST, 0),
    (-LARGEST, 0),
    (0, 2**31 - 1),
    (1, -1),
    (315_576_000_001, 0),
    (10**12, 999_999_999),
]


@pytest.mark.parametrize(("seconds", "nanos"), DURATIONS)
@pytest.mark.parametrize(
    "field",
    ["limits.breaker.window", "limits.breaker.rest", "defaults.timeout", "defaults.retry.max_backoff"],
)
def test_a_duration_out_of_range_is_told_with_its_place(
    field: str, seconds: int, nanos: int, client: Client
) -> None:
    request, channel = directory_service_pb2.PutParticipantRequest(), cast("Any", client.channel)
    request.participant.name, request.participant.target = "shop_2", "127.0.0.1:1"
    place: Any = request.participant
    for part in field.split("."):
        place = getattr(place, part)
    place.seconds, place.nanos = seconds, nanos
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/saga.v1.DirectoryService/PutParticipant")(
            request.SerializeToString(), timeout=PATIENCE_SECONDS
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"participant.{field.split('.', maxsplit=1)[0]}" in str(refused.value.details())
