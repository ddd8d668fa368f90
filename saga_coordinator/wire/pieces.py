"""Measures and serializes a message piece by piece, so that no single call into C has more than a payload to do.

While a call into C lasts, no other thread runs, and an answer may hold seven payloads that take 7 ms each. A piece is one item of
a repeated field, such as a step or an entry of a log, or one payload.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from saga_coordinator.wire.unparsed import embedded

_PAYLOADS = frozenset({"google.protobuf.Value", "google.protobuf.Struct", "google.protobuf.ListValue"})
_HEADER_BYTES_MAX = 6
_NUMBER_BYTES_MAX = 10


class _Content(Enum):
    """What a field holds."""

    PLAIN = auto()  # numbers, texts and small messages
    MAP = auto()  # a map of texts or numbers
    PAYLOAD = auto()
    ITEMS = auto()  # messages, each a piece
    PIECES = auto()  # a message that itself has pieces


def size_at_most(message: Message, enough: int | None = None) -> int:
    """The size of the serialized message, or a few bytes more for each field. It counts no further than `enough`."""
    size: int = 0
    for field, value in message.ListFields():
        match _content(field):
            case _Content.ITEMS:
                for item in value:
                    size += _HEADER_BYTES_MAX + item.ByteSize()
                    if enough is not None and size >= enough:
                        return size
            case _Content.PIECES:
                size += _HEADER_BYTES_MAX + size_at_most(value, None if enough is None else enough - size)
            case _Content.MAP:
                size += sum(3 * _HEADER_BYTES_MAX + _bytes(key) + _bytes(value[key]) for key in value)
            case _:
                size += _HEADER_BYTES_MAX + _bytes(value)
        if enough is not None and size >= enough:
            return size
    return size


def serialized(message: Message) -> bytes:
    """The bytes of a message, which is taken apart and empty afterwards. Its pieces stand behind its other fields."""
    pieces: list[bytes] = []
    for field, value in message.ListFields():
        match _content(field):
            case _Content.ITEMS:
                pieces += [embedded(field.number, item.SerializeToString()) for item in value]
            case _Content.PIECES:
                pieces.append(embedded(field.number, serialized(value)))
            case _Content.PAYLOAD:
                pieces.append(embedded(field.number, value.SerializeToString()))
            case _:
                continue
        message.ClearField(field.name)
    return b"".join([message.SerializeToString(), *pieces])


def _bytes(value: Any) -> int:
    if isinstance(value, Message):
        size: int = value.ByteSize()
        return size
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, int | float):
        return _NUMBER_BYTES_MAX
    return sum(_HEADER_BYTES_MAX + _bytes(each) for each in value)


@cache
def _content(field: FieldDescriptor) -> _Content:
    kind = field.message_type
    if kind is None:
        return _Content.PLAIN
    if kind.GetOptions().map_entry:
        return _Content.MAP
    if field.is_repeated:
        return _Content.ITEMS
    if kind.full_name in _PAYLOADS:
        return _Content.PAYLOAD
    return _Content.PIECES if _has_pieces(kind) else _Content.PLAIN


def _has_pieces(kind: Descriptor) -> bool:
    return any(_content(field) not in (_Content.PLAIN, _Content.MAP) for field in kind.fields)
