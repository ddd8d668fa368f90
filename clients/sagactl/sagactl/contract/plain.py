"""Messages as plain values (objects, lists, texts, numbers), and back.

It is protobuf's JSON form with the contract's own field names, and with nothing dropped: a field that the descriptors do not
know is shown as `?NUMBER`, a value that an enum does not know as its number. Numbers of 64 bits are texts, so that no reader
rounds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sagactl.contract.contract import Contract
from sagactl.endings import WrongUsage

_VALUE = "google.protobuf.Value"
_AS_THEY_ARE = frozenset({"google.protobuf.Struct", _VALUE, "google.protobuf.ListValue"})
_ANY = "google.protobuf.Any"
_WHOLE_MAX = 2**53
_WIRE_BYTES, _WIRE_GROUP = 2, 3


def plain_of(message: Message, contract: Contract, *, defaults: bool = False) -> Any:
    """The plain value of a message. With `defaults`, fields without presence are there even if they are empty."""
    name = message.DESCRIPTOR.full_name
    if name == _ANY:
        return _any(message, contract)
    if name in _AS_THEY_ARE:
        return _whole(json_format.MessageToDict(message))
    if name.startswith("google.protobuf.") and name not in _FOUND_IN_DESCRIPTORS:
        return json_format.MessageToDict(message)
    return _fields(message, contract, defaults)


_FOUND_IN_DESCRIPTORS = frozenset(
    {"google.protobuf.FileDescriptorSet", "google.protobuf.FileDescriptorProto"}
)


def _fields(message: Message, contract: Contract, defaults: bool) -> dict[str, Any]:
    descriptor: Any = message.DESCRIPTOR
    shown: dict[str, Any] = {}
    for field in descriptor.fields:
        given = len(getattr(message, field.name)) > 0 if field.is_repeated else _is_given(message, field)
        if given or (defaults and (field.is_repeated or not field.has_presence)):
            shown[json_name(field)] = _value(getattr(message, field.name), field, contract, defaults)
    shown.update(_unknown_fields(message))
    return shown


def _unknown_fields(message: Message) -> dict[str, Any]:
    """The fields that the descriptors do not know; those that come more than once as a list."""
    unknown_fields: Any = UnknownFieldSet(message)  # its stubs lack that it can be iterated
    found: dict[str, list[Any]] = {}
    for unknown in unknown_fields:
        found.setdefault(f"?{unknown.field_number}", []).append(_unknown(unknown.wire_type, unknown.data))
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _is_given(message: Message, field: FieldDescriptor) -> bool:
    if field.has_presence:
        return message.HasField(field.name)
    return bool(getattr(message, field.name) != field.default_value)


def _value(value: Any, field: FieldDescriptor, contract: Contract, defaults: bool) -> Any:
    message: Any = field.message_type
    if message is not None and message.GetOptions().map_entry:
        of_value = message.fields_by_name["value"]
        return {_key(key): _one(value[key], of_value, contract, defaults) for key in sorted(value)}
    if field.is_repeated:
        return [_one(each, field, contract, defaults) for each in value]
    return _one(value, field, contract, defaults)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _one(value: Any, field: FieldDescriptor, contract: Contract, defaults: bool) -> Any:
    if field.message_type is not None:
        return plain_of(value, contract, defaults=defaults)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return int(value) if known is None else known.name
    if isinstance(value, bytes):
        import base64  # noqa: PLC0415  # few messages have bytes

        return base64.b64encode(value).decode()
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return str(value)
    return _whole(value)


def _whole(value: Any) -> Any:
    """The value without `.0` behind whole numbers, and with `NaN` and its like as texts, since JSON has none."""
    if isinstance(value, Mapping):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124  # NaN differs from itself
            return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
        return int(value) if value.is_integer() and abs(value) < _WHOLE_MAX else value
    return value


def _any(message: Any, contract: Contract) -> dict[str, Any]:
    packed = contract.any_class(message.type_url)
    if packed is not None:
        try:
            inner = plain_of(packed.FromString(message.value), contract)
        except DecodeError:
            inner = {"bytes": message.value.hex()}
    else:
        inner = {"bytes": message.value.hex()}
    return {"@type": message.type_url, **(inner if isinstance(inner, dict) else {"value": inner})}


def _unknown(wire_type: int, data: Any) -> Any:
    if wire_type == _WIRE_BYTES:
        try:
            text: str = data.decode()
        except UnicodeDecodeError:
            return data.hex()
        return text if text.isprintable() else data.hex()
    if wire_type == _WIRE_GROUP:
        return {f"?{each.field_number}": _unknown(each.wire_type, each.data) for each in data}
    return data


def json_name(field: FieldDescriptor) -> str:
    """The field's own name, unless the contract gives another one for JSON, such as `as` for `item_name`."""
    first, *others = field.name.split("_")
    usual = first + "".join(part[:1].upper() + part[1:] for part in others)
    return str(field.name if field.json_name == usual else field.json_name)


def message_from(plain: Mapping[str, Any], descriptor: Descriptor, contract: Contract) -> Message:
    """The message that a plain value says. Raises WrongUsage with what is wrong, and what the message takes."""
    message = contract.message_class(descriptor)()
    try:
        json_format.ParseDict(_as_written(plain), message)
    except (json_format.ParseError, ValueError, TypeError) as error:
        takes = ", ".join(json_name(field) for field in descriptor.fields) or "no fields"
        raise WrongUsage(f"{descriptor.full_name}: {_short(error)}; it takes: {takes}") from None
    return message


def _as_written(value: Any) -> Any:
    """YAML knows instants and dates of its own; the JSON form has them as texts."""
    if isinstance(value, Mapping):
        return {str(key): _as_written(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_written(inner) for inner in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.partition(" Available Fields(")[0].rstrip(".")
