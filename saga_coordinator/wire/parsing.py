"""Parses large messages piece by piece, so that no single call into C has more than a few milliseconds to do.

While a call into C lasts, no other thread runs. A list of lists of 1 MiB takes protobuf 20 to 45 ms. Bytes that are cut between
two fields of one message may be parsed one after the other into the same message: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from saga_coordinator.wire.unparsed import fields

PIECE_BYTES_MAX = 64 * 1024
"""The size of a piece: a millisecond or two. A single text may be larger, and takes no longer."""

_AT_ONCE_NANOSECONDS_MAX = 5_000_000
_NANOSECONDS = {b"\x0a": 35, b"\x12": 120, b"\x32": 70}
"""The time that protobuf needs for an item of a list or the key of an entry, for the value of an entry, and for a list, by tag.

Texts have such bytes, too. Then a message is parsed in pieces that need not be.
"""
_DELIMITED = 2
_KEY, _VALUE = 0x0A, 0x12
"""The tags in an entry of a map from texts to messages."""
_NESTING_MAX = 100
"""Protobuf's own limit."""


def parse_into(message: Message, raw: bytes) -> None:
    """Parses `raw` into an empty message. Raises DecodeError as `ParseFromString` does."""
    if _nanoseconds(raw) <= _AT_ONCE_NANOSECONDS_MAX:
        message.ParseFromString(raw)
    else:
        _merge(message, raw, 0, len(raw), _NESTING_MAX)


def _nanoseconds(raw: bytes) -> int:
    if len(raw) <= PIECE_BYTES_MAX:
        return 0
    return sum(price * raw.count(tag) for tag, price in _NANOSECONDS.items())


def _merge(message: Message, raw: bytes, start: int, end: int, room: int) -> None:
    """Parses the fields between `start` and `end`. `room` is how many more levels of messages may open here."""
    if room <= 0:
        raise DecodeError("Error parsing message: it is nested too deep")
    message.SetInParent()
    descriptor: Any = message.DESCRIPTOR  # the stubs tell two classes apart that are one
    known = descriptor.fields_by_number
    for number, begin, content, after in fields(raw, start, end, fields_max=len(raw)):
        if after - start <= PIECE_BYTES_MAX:
            continue
        if begin > start:
            message.MergeFromString(raw[start:begin])
        start = begin
        field = known.get(number)
        if after - begin <= PIECE_BYTES_MAX:
            continue
        start = after
        inner = None
        if field is not None and field.type == FieldDescriptor.TYPE_MESSAGE and raw[begin] & 7 == _DELIMITED:
            inner = _inner(message, field, raw, content, after)
        if inner is None:
            message.MergeFromString(raw[begin:after])
            continue
        part, places = inner
        for place in places:
            _merge(part, raw, *place, room - 1)
    if end > start:
        message.MergeFromString(raw[start:end])


def _inner(
    message: Message, field: FieldDescriptor, raw: bytes, start: int, end: int
) -> tuple[Message, list[tuple[int, int]]] | None:
    """The message that a field's bytes are parsed into, and where they are; None if the field has to be parsed as a whole."""
    holder = getattr(message, field.name)
    if not field.is_repeated:
        return holder, [(start, end)]
    assert field.message_type is not None
    if not field.message_type.GetOptions().map_entry:
        return holder.add(), [(start, end)]
    key, places, reached = b"", [], start
    for _, begin, content, reached in fields(raw, start, end):  # how far it came is needed below
        if raw[begin] == _KEY:
            key = raw[content:reached]
        elif raw[begin] == _VALUE:
            places.append((content, reached))
        else:
            return None
    kinds = field.message_type.fields_by_name
    if reached != end or not places or kinds["key"].type != FieldDescriptor.TYPE_STRING:
        return None
    if kinds["value"].type != FieldDescriptor.TYPE_MESSAGE:
        return None
    try:
        name = key.decode()
    except UnicodeDecodeError:
        return None
    holder.pop(name, None)  # the last of several entries with one key counts
    return holder[name], places
