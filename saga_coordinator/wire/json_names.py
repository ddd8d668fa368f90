"""The JSON form of a definition, with the names that people write.

The fields are named as in the contract, `for_each` rather than `forEach`. If the contract gives a JSON name of its own, that
name counts: `as` and `use` read well in YAML, but are keywords in languages that code is generated for.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


def json_form(message: Message) -> dict[str, Any]:
    """The JSON form of a message. Raises ValueError and `json_format.Error`, as `json_format.MessageToDict` does."""
    spec: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    descriptor: Any = message.DESCRIPTOR  # the stubs tell two classes apart that are one
    return _renamed(spec, descriptor)


def _renamed(spec: dict[str, Any], descriptor: Descriptor) -> dict[str, Any]:
    return {
        _json_name(descriptor.fields_by_name[name]): _inner(value, descriptor.fields_by_name[name])
        for name, value in spec.items()
    }


def _inner(value: Any, field: FieldDescriptor) -> Any:
    """Renames the fields of the contract's own messages inside; leaves payloads and maps as they are."""
    message, owner = field.message_type, field.containing_type
    is_ours = message is not None and owner is not None and message.file.package == owner.file.package
    if message is None or not is_ours or message.GetOptions().map_entry:
        return value
    return [_renamed(item, message) for item in value] if field.is_repeated else _renamed(value, message)


def _json_name(field: FieldDescriptor) -> str:
    """The field's own name, unless the contract says another one for JSON."""
    usual = "".join(
        part if index == 0 else part[:1].upper() + part[1:]
        for index, part in enumerate(field.name.split("_"))
    )
    return field.name if field.json_name == usual else field.json_name
