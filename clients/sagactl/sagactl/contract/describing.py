"""Says in words what the contract says of a method, message, enum or service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

from sagactl.contract.contract import Contract
from sagactl.contract.plain import json_name

_SCALARS = {
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_BYTES: "bytes, as base64",
    FieldDescriptor.TYPE_DOUBLE: "number",
    FieldDescriptor.TYPE_FLOAT: "number",
    FieldDescriptor.TYPE_STRING: "text",
}
_WELL_KNOWN = {
    "google.protobuf.Timestamp": "instant, such as 2026-01-31T12:00:00Z",
    "google.protobuf.Duration": "span, such as 1.5s",
    "google.protobuf.Value": "any JSON value",
    "google.protobuf.Struct": "any JSON object",
    "google.protobuf.ListValue": "any JSON list",
    "google.protobuf.Empty": "nothing",
}


def signature(method: MethodDescriptor) -> str:
    """The method in one line, with what streams."""
    taken = f"{'stream ' if method.client_streaming else ''}{method.input_type.name}"
    given = f"{'stream ' if method.server_streaming else ''}{method.output_type.name}"
    return f"{method.containing_service.full_name}/{method.name}({taken}) -> {given}"


def described(symbol: Any, contract: Contract) -> dict[str, Any]:
    """What the contract says of the symbol, as plain values."""
    said: dict[str, Any] = {"name": symbol.full_name, "comment": contract.comment(symbol)}
    match symbol:
        case ServiceDescriptor():
            methods = [
                {"name": each.name, "signature": signature(each), "comment": contract.comment(each)}
                for each in symbol.methods
            ]
            return {"kind": "service", **said, "methods": methods}
        case MethodDescriptor():
            return {
                "kind": "method",
                **said,
                "signature": signature(symbol),
                "deprecated": bool(symbol.GetOptions().deprecated),
                "request": described(symbol.input_type, contract),
                "response": described(symbol.output_type, contract),
                "example": json.dumps(example_of(symbol.input_type)),
            }
        case EnumDescriptor():
            return {"kind": "enum", **said, "values": _values(symbol, contract)}
        case FieldDescriptor():
            return {"kind": "field", **_field(symbol, contract), "name": symbol.full_name}
        case _:
            return {"kind": "message", **said, "fields": [_field(field, contract) for field in symbol.fields]}


def _values(enum: EnumDescriptor, contract: Contract) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "number": each.number, "comment": contract.value_comment(enum, each.name)}
        for each in enum.values
    ]


def _field(field: FieldDescriptor, contract: Contract) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": json_name(field),
        "type": type_of(field),
        "comment": contract.comment(field),
    }
    oneof = field.containing_oneof
    if oneof is not None and not oneof.name.startswith("_"):
        said["one_of"] = oneof.name
    if field.enum_type is not None:
        said["values"] = _values(field.enum_type, contract)
    return said


def type_of(field: FieldDescriptor) -> str:
    """The type of a field, as those read it who write JSON."""
    message: Any = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return f"object of {type_of(message.fields_by_name['value'])}"
    if message is not None:
        name = _WELL_KNOWN.get(message.full_name, message.name)
    elif field.enum_type is not None:
        name = field.enum_type.name
    else:
        name = _SCALARS.get(field.type, "whole number")
    return f"list of {name}" if field.is_repeated else name


def example_of(message: Descriptor) -> dict[str, Any]:
    """A request to start from: the fields of the first level, without those that exclude each other."""
    shown: dict[str, Any] = {}
    chosen: set[str] = set()
    for field in message.fields:
        oneof = field.containing_oneof
        if oneof is not None:
            if oneof.name in chosen:
                continue
            chosen.add(oneof.name)
        shown[json_name(field)] = _example(field)
    return shown


def _example(field: FieldDescriptor) -> Any:
    message: Any = field.message_type
    if field.is_repeated:
        return {} if message is not None and message.GetOptions().map_entry else []
    if message is not None:
        return {"google.protobuf.Duration": "10s", "google.protobuf.Timestamp": "2026-01-31T12:00:00Z"}.get(
            message.full_name, {}
        )
    if field.enum_type is not None:
        return field.enum_type.values[-1].name
    return {"true or false": False, "text": "", "bytes, as base64": ""}.get(type_of(field), 0)


def lines_of(said: dict[str, Any], wrap: Any) -> Iterator[str]:
    """The same for people. `wrap` breaks a text into lines: `wrap(text, indent)`."""
    match said["kind"]:
        case "method":
            yield said["signature"] + ("  (deprecated)" if said["deprecated"] else "")
            yield from _commented(said["comment"], "  ", wrap)
            yield from ("", f"request {said['request']['name']}")
            yield from _fields(said["request"], wrap)
            yield from ("", f"response {said['response']['name']}")
            yield from _fields(said["response"], wrap)
            yield from ("", "example")
            method = said["name"].rpartition(".")[2]
            yield f"  sagactl call {method} '{said['example']}'"
        case "service":
            yield f"service {said['name']}"
            yield from _commented(said["comment"], "  ", wrap)
            for method in said["methods"]:
                yield from ("", method["signature"])
                yield from _commented(method["comment"], "    ", wrap)
        case "enum":
            yield f"enum {said['name']}"
            yield from _commented(said["comment"], "  ", wrap)
            yield from _of_values(said["values"], "  ", wrap)
        case "field":
            yield f"field {said['name']}: {said['type']}"
            yield from _commented(said["comment"], "  ", wrap)
            yield from _of_values(said.get("values", ()), "  ", wrap)
        case _:
            yield f"message {said['name']}"
            yield from _commented(said["comment"], "  ", wrap)
            yield from _fields(said, wrap)


def _fields(message: dict[str, Any], wrap: Any) -> Iterator[str]:
    if not message["fields"]:
        yield "  (no fields)"
    for field in message["fields"]:
        choice = f"  (one of `{field['one_of']}`)" if "one_of" in field else ""
        yield f"  {field['name']}: {field['type']}{choice}"
        yield from _commented(field["comment"], "      ", wrap)
        yield from _of_values(field.get("values", ()), "      ", wrap)


def _of_values(values: Any, indent: str, wrap: Any) -> Iterator[str]:
    for value in values:
        if value["number"] or value["comment"]:
            yield from wrap(f"{value['name']} {'- ' if value['comment'] else ''}{value['comment']}", indent)


def _commented(comment: str, indent: str, wrap: Any) -> Iterator[str]:
    for paragraph in comment.split("\n\n"):
        yield from wrap(paragraph, indent)
