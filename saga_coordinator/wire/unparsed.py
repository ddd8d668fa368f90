"""Looks into serialized messages and nests them without parsing, so that no time is spent on the payloads in them.

See https://protobuf.dev/programming-guides/encoding/. What does not look like a message is left to the parser, which says why.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor

from saga_coordinator.saga.words.errors import InvalidRequest

FIELDS_MAX = 20_000
"""Of one message; the most that any has which is in order is the outcomes of 10,000 tasks."""

_VALUE = "google.protobuf.Value"


def fields(
    raw: bytes, start: int = 0, end: int | None = None, *, fields_max: int = FIELDS_MAX
) -> Iterator[tuple[int, int, int, int]]:
    """The number of each field, where the field begins, and where its content begins and ends. Stops at bytes that are no field.

    Raises InvalidRequest when there are more than `fields_max`.
    """
    end = len(raw) if end is None else end
    found = 0
    while start < end:
        begin = start
        found += 1
        if found > fields_max:
            raise InvalidRequest.at("", f"the request has more than {fields_max} fields in one message")
        tag, start = _varint(raw, start, end)
        content = start
        match tag & 7:
            case 0:
                _, start = _varint(raw, start, end)
            case 1:
                start += 8
            case 2:
                size, content = _varint(raw, start, end)
                start = content + size
            case 5:
                start += 4
            case _:
                return
        if start > end:
            return
        yield tag >> 3, begin, content, start


def _varint(raw: bytes, start: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while start < end and shift < 64:
        byte = raw[start]
        start += 1
        number |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    else:
        return 0, end + 1
    return number, start


def largest_payload(
    descriptor: Descriptor, raw: bytes, start: int = 0, end: int | None = None
) -> tuple[str, int]:
    """Path and size of the largest `google.protobuf.Value` in a message, not in its lists; ("", 0) when there is none."""
    largest = ("", 0)
    for number, _, content, after in fields(raw, start, end):
        field = descriptor.fields_by_number.get(number)
        if field is None or field.message_type is None or field.is_repeated:
            continue
        if field.message_type.full_name == _VALUE:
            found = (field.name, after - content)
        else:
            path, size = largest_payload(field.message_type, raw, content, after)
            found = (f"{field.name}.{path}", size)
        if found[1] > largest[1]:
            largest = found
    return largest


def number_of(raw: bytes, field_number: int, start: int, end: int) -> int:
    """The last value of a varint field; 0 if the field is absent."""
    found = 0
    for number, _, content, after in fields(raw, start, end):
        if number == field_number:
            found = _varint(raw, content, after)[0]
    return found


def embedded(field_number: int, message: bytes) -> bytes:
    """The serialized message that has this message in that field and nothing else. Building it would copy every value."""
    return b"".join((_varint_of(field_number << 3 | 2), _varint_of(len(message)), message))


def _varint_of(number: int) -> bytes:
    written = bytearray()
    while number >= 128:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
