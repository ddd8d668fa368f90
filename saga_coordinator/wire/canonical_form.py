"""The canonical JSON form of a definition, or of a declared step, that came as a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2
from google.protobuf.message import Message

from saga_coordinator.saga.words.errors import Fault, InvalidDefinition
from saga_coordinator.wire.json_names import json_form
from saga_coordinator.wire.payload import PayloadError, from_value
from saga_coordinator.wire.times import duration_problem

_Path = tuple[str | int, ...]


def canonical_form(message: Message, faults: list[Fault]) -> dict[str, Any]:
    """The message's JSON form, without the payloads in which there are faults. Raises InvalidDefinition when it has none.

    The message is without its payloads afterwards. To copy it before would hold the interpreter for as long as to parse it.
    """
    payloads = list(_take_payloads(message, (), faults))
    try:
        spec = json_form(message)
    except (ValueError, json_format.Error):
        raise InvalidDefinition([*faults, Fault("", "has a value without a JSON form")]) from None
    for path, payload in payloads:
        place: Any = spec
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = payload
    return spec


def _take_payloads(message: Message, path: _Path, faults: list[Fault]) -> Iterator[tuple[_Path, Any]]:
    """Takes the payloads out of a message, each with its path: in their canonical form whole numbers would be floats.

    Durations that are none, which have no such form, are taken out too, and told.
    """
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            for index, item in enumerate(value):
                if isinstance(item, duration_pb2.Duration) and (problem := duration_problem(item)):
                    faults.append(Fault(path_of((*path, field.name, index)), problem))
                    item.Clear()
                yield from _take_payloads(item, (*path, field.name, index), faults)
        elif isinstance(value, struct_pb2.Value | struct_pb2.Struct):
            at = (*path, field.name)
            whole = value if isinstance(value, struct_pb2.Value) else struct_pb2.Value(struct_value=value)
            try:
                yield at, from_value(whole)
            except PayloadError as error:
                for part in reversed(at):
                    error = error.inside(part)
                faults.extend(error.faults)
            message.ClearField(field.name)
        elif isinstance(value, duration_pb2.Duration):
            if problem := duration_problem(value):
                faults.append(Fault(path_of((*path, field.name)), problem))
                message.ClearField(field.name)
        else:
            yield from _take_payloads(value, (*path, field.name), faults)


def path_of(parts: Iterable[str | int]) -> str:
    """`steps[2].action` of its parts."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
