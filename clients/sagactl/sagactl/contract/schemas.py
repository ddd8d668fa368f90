"""The JSON Schema of a message as this program writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from sagactl.contract.plain import json_name

Schema = dict[str, Any]

_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
    "google.protobuf.Value": {},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Any": {"type": "object", "required": ["@type"]},
}
_LARGE = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
_FRACTIONS = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}


def schema_of(message: Descriptor, *, has_defaults: bool) -> Schema:
    """The schema of a message. With `has_defaults`, fields without presence are always there. Newer servers may send more."""
    definitions: dict[str, Schema] = {}
    top = _message(message, definitions, has_defaults)
    return {**top, "$defs": definitions} if definitions else top


def _message(message: Descriptor, definitions: dict[str, Schema], has_defaults: bool) -> Schema:
    properties = {json_name(field): _field(field, definitions, has_defaults) for field in message.fields}
    always = [json_name(field) for field in message.fields if field.is_repeated or not field.has_presence]
    schema: Schema = {"type": "object", "title": message.full_name, "properties": properties}
    return {**schema, "required": always} if has_defaults and always else schema


def _field(field: FieldDescriptor, definitions: dict[str, Schema], has_defaults: bool) -> Schema:
    message: Any = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return {
            "type": "object",
            "additionalProperties": _field(message.fields_by_name["value"], definitions, has_defaults),
        }
    one = _one(field, definitions, has_defaults)
    return {"type": "array", "items": one} if field.is_repeated else one


def _one(field: FieldDescriptor, definitions: dict[str, Schema], has_defaults: bool) -> Schema:
    message: Any = field.message_type
    if message is not None:
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        if message.full_name not in definitions:
            definitions[message.full_name] = {}  # a message may hold itself
            definitions[message.full_name] = _message(message, definitions, has_defaults)
        return {"$ref": f"#/$defs/{message.full_name}"}
    if field.enum_type is not None:
        return {"anyOf": [{"enum": [value.name for value in field.enum_type.values]}, {"type": "integer"}]}
    if field.type == FieldDescriptor.TYPE_STRING:
        return {"type": "string"}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    if field.cpp_type in _LARGE:
        return {"type": "string", "pattern": "^-?[0-9]+$"}
    return {"type": ["number", "string"] if field.cpp_type in _FRACTIONS else "integer"}
