"""Finds where a JSON value does not fit a message: every fault with its path. Protobuf's own parser stops at the first fault.

That parser also decides what a scalar may be, so the two never disagree. `UNRESOLVED` stands for a value that is not known yet:
it fits everywhere.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from saga_coordinator.participants.directory.descriptors import Method, some_of
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.nearest import did_you_mean

CONVERSION_ERRORS = (
    json_format.Error,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
    SystemError,  # for the name of an enum's value that UTF-8 cannot encode
)
"""What `json_format` raises on data that it did not expect, besides its own errors."""

UNRESOLVED: Final = object()
"""The value of a reference."""

_VALUE = "google.protobuf.Value"
_BYTES_VALUE = "google.protobuf.BytesValue"
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*", re.ASCII)
SPECIAL = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value"),
        *("BoolValue", "BytesValue", "DoubleValue", "FloatValue", "Int32Value", "Int64Value"),
        *("StringValue", "UInt32Value", "UInt64Value"),
    )
)
"""Messages whose JSON form is not an object of their fields."""

_TYPES: dict[int, str] = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
}


def misfits(payload: Any, method: Method, path: str = "") -> list[Fault]:
    """The faults, with their paths, that keep `payload` from being the method's request. Null is the empty request."""
    if payload is None:
        return []
    descriptor: Any = method.request.DESCRIPTOR  # the stubs tell two classes apart that are one
    return misfits_of(payload, descriptor, method.pool, path)


def misfits_of(payload: Any, descriptor: Descriptor, pool: DescriptorPool, path: str = "") -> list[Fault]:
    """The faults, with their paths, that keep `payload` from being the JSON form of such a message."""
    found = {fault.path: fault for fault in not_base64(payload, descriptor, path)}
    others = [fault for fault in _message(payload, descriptor, pool, path) if fault.path not in found]
    return sorted([*others, *found.values()], key=lambda fault: fault.path)


def not_base64(value: Any, descriptor: Descriptor, path: str = "") -> Iterator[Fault]:
    """Finds texts for fields of bytes that are not base64, in a value that is otherwise a message of that kind.

    Protobuf's parser skips characters that it does not know, and may so read an empty value.
    """
    if descriptor.full_name == _BYTES_VALUE:
        yield from _base64_faults(value, path)
    elif isinstance(value, dict) and _holds_bytes(descriptor):
        fields = _fields(descriptor)
        for key, item in value.items():
            if (field := fields.get(key)) is not None:
                yield from _bytes_in_field(item, field, f"{path}.{key}" if path else key)


def _bytes_in_field(value: Any, field: FieldDescriptor, path: str) -> Iterator[Fault]:
    kind = field.message_type
    elements = [(path, value)]
    if kind is not None and kind.GetOptions().map_entry:
        field = kind.fields_by_name["value"]
        elements = [(f"{path}.{key}", item) for key, item in value.items()] if isinstance(value, dict) else []
    elif field.is_repeated:
        elements = (
            [(f"{path}[{index}]", item) for index, item in enumerate(value)]
            if isinstance(value, list)
            else []
        )
    for place, item in elements:
        if field.type == FieldDescriptor.TYPE_BYTES:
            yield from _base64_faults(item, place)
        elif field.message_type is not None:
            yield from not_base64(item, field.message_type, place)


def _base64_faults(value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, str):
        return
    digits = value.rstrip("=")
    padding = len(value) - len(digits)
    is_whole = len(digits) % 4 != 1 and (not padding or (padding <= 2 and len(value) % 4 == 0))
    if not (is_whole and _BASE64.fullmatch(digits)):
        yield Fault(path, "is no bytes: a field of bytes takes base64, of the standard or the URL alphabet")


@functools.lru_cache(maxsize=1000)
def _holds_bytes(descriptor: Descriptor) -> bool:
    """Tells whether the message, or a message inside it, has a field of bytes."""
    seen: set[str] = set()
    left = [descriptor]
    while left:
        kind = left.pop()
        if kind.full_name in seen:
            continue
        seen.add(kind.full_name)
        if kind.full_name == _BYTES_VALUE:
            return True
        if kind.full_name in SPECIAL:
            continue
        if any(field.type == FieldDescriptor.TYPE_BYTES for field in kind.fields):
            return True
        left += [field.message_type for field in kind.fields if field.message_type is not None]
    return False


def _message(value: Any, descriptor: Descriptor, pool: DescriptorPool, path: str) -> Iterator[Fault]:
    if value is UNRESOLVED:
        return
    if descriptor.full_name in SPECIAL:
        if not _is_open(value):
            yield from _parsed(value, descriptor, pool, path, descriptor.full_name)
        return
    if not isinstance(value, dict):
        yield Fault(path, f"must be an object: {descriptor.full_name} is a message")
        return
    fields = _fields(descriptor)
    given: dict[str, str] = {}
    for key, item in value.items():
        place = f"{path}.{key}" if path else key
        field = fields.get(key)
        if field is None:
            if not key.startswith("["):  # an extension, which is left to the parser
                names = some_of(each.name for each in descriptor.fields)
                meant = did_you_mean(key, fields)
                yield Fault(place, f"is not a field of {descriptor.full_name}; it has: {names}{meant}")
            continue
        if item is not None:
            for group in (field.name, field.containing_oneof and field.containing_oneof.name):
                if group and given.setdefault(group, key) != key:
                    yield Fault(place, f"cannot be given beside `{given[group]}`")
        yield from _field(item, field, descriptor, pool, place)


def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """The message's fields, by both of the names that JSON may use."""
    return {name: field for field in descriptor.fields for name in (field.name, field.json_name)}


def _field(
    value: Any, field: FieldDescriptor, owner: Descriptor, pool: DescriptorPool, path: str
) -> Iterator[Fault]:
    message = field.message_type
    if value is None and field.is_repeated and message is not None and message.full_name == _VALUE:
        yield Fault(path, "must be a list: the field is repeated")  # the parser stumbles over this null
        return
    if value is None or value is UNRESOLVED:
        return
    elements: list[
        tuple[str, Any, Any]
    ]  # where, what, and what the field would be if there were nothing else in it
    if message is not None and message.GetOptions().map_entry:
        if not isinstance(value, dict):
            yield Fault(path, "must be an object: it is a map")
            return
        message = message.fields_by_name["value"].message_type
        elements = [(f"{path}.{key}", item, {key: item}) for key, item in value.items()]
    elif field.is_repeated:
        if not isinstance(value, list):
            yield Fault(path, "must be a list: the field is repeated")
            return
        elements = [(f"{path}[{index}]", item, [item]) for index, item in enumerate(value)]
    else:
        elements = [(path, value, value)]
    for place, item, alone in elements:
        if message is not None and message.full_name not in SPECIAL:
            if isinstance(alone, dict) and alone is not item:  # in a map the key can be at fault, too
                keys: dict[str, Any] = {key: {} for key in alone}
                yield from _parsed({field.name: keys}, owner, pool, place, "key of this map")
            yield from _message(item, message, pool, place)
        elif not _is_open(item):
            yield from _parsed({field.name: alone}, owner, pool, place, _type_name(field))


def _is_open(value: Any) -> bool:
    """Tells whether a part of the value is not known yet."""
    if isinstance(value, dict):
        return any(map(_is_open, value.values()))
    if isinstance(value, list):
        return any(map(_is_open, value))
    return value is UNRESOLVED


def _type_name(field: FieldDescriptor) -> str:
    """The name of the field's type as the .proto file writes it."""
    named = field.message_type or field.enum_type
    if named is None:
        return _TYPES[field.type]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _type_name(field.message_type.fields_by_name["value"])
    return named.full_name


def _parsed(
    value: Any, descriptor: Descriptor, pool: DescriptorPool, path: str, wanted: str
) -> Iterator[Fault]:
    """The fault in `value` if it cannot be read as a message of that kind; `wanted` says what should stand there."""
    message = message_factory.GetMessageClass(descriptor)()
    try:
        json_format.ParseDict(value, message, descriptor_pool=pool)
    except CONVERSION_ERRORS as error:
        yield Fault(path, f"is no {wanted}: {_TAKES.get(wanted) or _reason(error)}")


_WHOLE = "it takes a whole number from {} to {}"
_TAKES: dict[str, str] = {
    **dict.fromkeys(("int32", "sint32", "sfixed32"), _WHOLE.format("-2^31", "2^31-1")),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), _WHOLE.format("-2^63", "2^63-1")),
    **dict.fromkeys(("uint32", "fixed32"), _WHOLE.format("0", "2^32-1")),
    **dict.fromkeys(("uint64", "fixed64"), _WHOLE.format("0", "2^64-1")),
    **dict.fromkeys(("double", "float"), 'it takes a number, "NaN", "Infinity" or "-Infinity"'),
    "bool": "it takes true or false",
    "string": "it takes a text in quotes that is valid Unicode",
    "bytes": "it takes a text in base64",
    "google.protobuf.Duration": 'it takes a text such as "1.5s"',
    "google.protobuf.Timestamp": 'it takes a text such as "2026-01-31T12:30:00Z"',
}
"""What the JSON form of each kind is. The parser's own words about these are those of Python, which say nothing to a caller."""


def _reason(error: Exception) -> str:
    """The parser's message, without its own account of the place."""
    text = " ".join(str(error).split())
    while text.startswith("Failed to parse ") and ": " in text:
        text = text.partition(": ")[2]
    return text.rpartition(" at ")[0] or text
