"""Converts payloads between `google.protobuf.Value` and the JSON-like values that the rest of the program handles.

A payload is None, a bool, an int, a float, a str, or a list or dict (with str keys) of payloads. `Value` knows only doubles, so:

- what is read has the canonical form of `saga/words/canonical.py`: keys in order, and numbers in one form each;
- an int beyond 2**53 is sent as the nearest double, which is what it came from if it came from a `Value`.

Whoever needs larger exact numbers sends them as strings, as the JSON form of protobuf does with int64.

What a payload may amount to is stated in bytes of the `Value` that carries it: `saga/words/size.py`.

`json_format` does the same work 1.6 to 3.8 times slower and checks nothing.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

from google.protobuf import struct_pb2

from saga_coordinator.saga.words.canonical import NotCanonical, canonical_number
from saga_coordinator.saga.words.errors import Fault, InvalidRequest
from saga_coordinator.saga.words.size import CONTROL_BYTES, VALUES_MAX, Measure, TooLarge

NESTING_MAX = 32
"""Deepest nesting of lists and objects that is taken.

Protobuf's parsers in C++, Java and Python give up at 100 nested messages, and an object inside an object is three of them
(Value, Struct, map entry). 32 levels, inside an entry of a log that is shown as a Struct, are the 100th.
"""

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""The largest message that gRPC servers and clients take unless they are set otherwise."""

_MESSAGE_ROOM_BYTES = 512 * 1024
"""For everything beside the payload that a message carries: keys, headers, a cause."""

_SURELY_WITHIN_BYTES = 2 * VALUES_MAX
"""A value takes two bytes or more. One that is not set, and is sent on as null, takes twice as many then as it came with."""

_SMALL = 2**53

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,79}")
_KEY_SHOWN_MAX = 80


class PayloadError(InvalidRequest):
    """A payload that cannot be kept or sent. `path` says where in it: `lines[2].price`; empty for the whole of it."""

    def __init__(self, path: str, description: str) -> None:
        self.path = path
        self.description = description
        super().__init__([Fault(path, description)])

    def inside(self, segment: str | int) -> PayloadError:
        """The same error as seen from the object or list that holds the faulty payload under the key or index `segment`."""
        if isinstance(segment, int):
            head = f"[{segment}]"
        elif _PLAIN_KEY.fullmatch(segment):
            head = segment
        else:
            head = f"[{segment[:_KEY_SHOWN_MAX]!r}]"
        return self.below(head)

    def below(self, head: str) -> PayloadError:
        """The same error as seen from the request or message in which the faulty payload has the path `head`."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        return PayloadError(f"{head}{joint}{self.path}", self.description)


def payload_of(value: struct_pb2.Value, bytes_max: int) -> Any:
    """The payload in `value`, where it is no larger than `bytes_max` bytes and `VALUES_MAX` values. Raises as `from_value`."""
    size = value.ByteSize()
    if size > bytes_max:
        raise too_large(size, bytes_max)
    payload = from_value(value)
    if size > _SURELY_WITHIN_BYTES or CONTROL_BYTES * size > bytes_max:
        check_size(payload, bytes_max)
    return payload


def too_large(size: int, bytes_max: int, path: str = "") -> PayloadError:
    """The error that a payload of `size` bytes is too large."""
    return PayloadError(path, f"is {size} bytes as protobuf; {bytes_max} is the limit")


def from_value(value: struct_pb2.Value, *, depth_max: int = NESTING_MAX) -> Any:
    """The payload in `value`; an unset one is None.

    Raises:
        PayloadError: it holds what cannot be stored or sent on: a NaN or infinite number, a NUL character in a string or a key,
            or more than `depth_max` levels of lists and objects.
    """
    return _read(value, depth_max)


def _read(value: struct_pb2.Value, room: int) -> Any:
    """`room` is how many more levels of lists and objects may open here."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        text = value.string_value
        if "\0" in text:
            raise PayloadError("", "must not contain NUL characters")
        return text
    if kind == "number_value":
        number = value.number_value
        if number.is_integer() and -_SMALL < number < _SMALL:
            return int(number)
        try:
            return canonical_number(number)
        except NotCanonical as error:
            raise PayloadError("", str(error)) from None
    if kind == "struct_value":
        return _read_object(value.struct_value, room)
    if kind == "list_value":
        return _read_list(value.list_value, room)
    return value.bool_value if kind == "bool_value" else None


def _read_object(struct: struct_pb2.Struct, room: int) -> dict[str, Any]:
    if room <= 0:
        raise _too_deep()
    payload: dict[str, Any] = {}
    fields = struct.fields
    key = ""
    try:
        for key in sorted(fields):  # a third faster than over `items()`, which protobuf leaves to Python
            if "\0" in key:
                raise PayloadError("", "has a key with a NUL character")
            payload[key] = _read(fields[key], room - 1)
    except PayloadError as error:
        raise error.inside(key) from None
    return payload


def _read_list(values: struct_pb2.ListValue, room: int) -> list[Any]:
    if room <= 0:
        raise _too_deep()
    payload: list[Any] = []
    try:
        for item in values.values:
            payload.append(_read(item, room - 1))  # noqa: PERF401  # how far it came is the path
    except PayloadError as error:
        raise error.inside(len(payload)) from None
    return payload


def to_value(payload: Any, *, depth_max: int = NESTING_MAX) -> struct_pb2.Value:
    """The `Value` that holds `payload`.

    Raises:
        PayloadError: as `from_value`, and for strings that UTF-8 cannot encode, integers beyond the range of a double, and
            objects that JSON does not know.
    """
    value = struct_pb2.Value()
    fill(value, payload, depth_max=depth_max)
    return value


def fill(value: struct_pb2.Value, payload: Any, *, depth_max: int = NESTING_MAX) -> None:
    """Writes `payload` into `value`, which is empty, in place inside its message. Raises as `to_value`."""
    _write(value, payload, depth_max)


def fill_object(struct: struct_pb2.Struct, payload: dict[str, Any], *, depth_max: int = NESTING_MAX) -> None:
    """Writes an object into `struct`, which is empty, in place inside its message. Raises as `to_value`."""
    _write_object(struct, payload, depth_max)


def _write(value: struct_pb2.Value, payload: Any, room: int) -> None:
    kind = type(payload)
    if kind is str:
        try:
            value.string_value = payload
        except UnicodeEncodeError:
            raise PayloadError("", "must be text that UTF-8 can encode") from None
    elif kind is int or kind is float:
        _write_number(value, payload)
    elif kind is dict:
        _write_object(value.struct_value, payload, room)
    elif kind is list:
        _write_list(value.list_value, payload, room)
    elif kind is bool:
        value.bool_value = payload
    elif payload is None:
        value.null_value = struct_pb2.NULL_VALUE
    else:
        raise PayloadError("", f"must be a JSON value, not {kind.__name__}")


def _write_number(value: struct_pb2.Value, number: float) -> None:
    try:
        value.number_value = number
    except OverflowError:
        raise PayloadError("", "must be within the range of a double") from None
    if not isfinite(number):
        raise PayloadError("", "must be a finite number")


def _write_object(struct: struct_pb2.Struct, payload: dict[str, Any], room: int) -> None:
    if room <= 0:
        raise _too_deep()
    struct.SetInParent()  # an empty object would otherwise stay unset
    fields = struct.fields
    key = ""
    try:
        for key, item in payload.items():
            _write(fields[key], item, room - 1)
    except PayloadError as error:
        raise error.inside(key) from None
    except (TypeError, UnicodeEncodeError):
        raise PayloadError("", "must have keys that are text which UTF-8 can encode") from None


def _write_list(values: struct_pb2.ListValue, payload: list[Any], room: int) -> None:
    if room <= 0:
        raise _too_deep()
    values.SetInParent()
    add = values.values.add
    try:
        for item in payload:
            _write(add(), item, room - 1)
    except PayloadError as error:
        raise error.inside(len(values.values) - 1) from None


def _too_deep() -> PayloadError:
    return PayloadError("", f"is one level of lists and objects too deep; {NESTING_MAX} is the limit")


def check_size(payload: Any, bytes_max: int) -> None:
    """Raises PayloadError when `payload` is larger than `bytes_max` bytes as a `Value`, or has more than `VALUES_MAX` values."""
    try:
        Measure(bytes_max).check(payload)
    except TooLarge as error:
        raise PayloadError("", str(error)) from None


def message_bytes_max(payload_bytes_max: int) -> int:
    """The size of the largest message that is sent if payloads are limited to `payload_bytes_max`. By default every gRPC server
    takes it. With a higher limit of payloads, participants and workers have to take as much."""
    return max(MESSAGE_BYTES_MAX, payload_bytes_max + _MESSAGE_ROOM_BYTES)


def check_message(message: bytes, bytes_max: int) -> bytes:
    """The serialized message. Raises PayloadError if it is too large for its receiver."""
    if len(message) > bytes_max:
        raise PayloadError(
            "", f"it makes a message of {len(message)} bytes; {bytes_max} is the most that is sent"
        )
    return message
