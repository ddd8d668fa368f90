"""The calls of a definition and the reads of its expressions, each with its place: the questions of a live check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from saga_coordinator.participants.calls.fit import UNRESOLVED
from saga_coordinator.pb.saga.v1 import definition_pb2
from saga_coordinator.saga.expressions.condition import compile_condition
from saga_coordinator.saga.expressions.expression import Expression, Selection, compile_template
from saga_coordinator.saga.expressions.reference import Reference
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.outcome import clip

_DEFINITION: Any = definition_pb2.Definition.DESCRIPTOR
_OPERATION = definition_pb2.Operation.DESCRIPTOR.full_name
_STEP = definition_pb2.Step.DESCRIPTOR.full_name
_CONDITIONS = frozenset({"when", "until", "items"})
_TEMPLATES = frozenset({"correlation", "labels"})


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a method, and its place in the definition. `input` has UNRESOLVED for values that are not known yet."""

    path: str
    participant: str
    method: str
    input: Any

    @property
    def is_plain(self) -> bool:
        """Tells whether the method is a plain gRPC method, named in full."""
        return "/" in self.method

    def fault(self, name: str, description: str) -> Fault:
        return Fault(f"{self.path}.{name}", clip(description))


@dataclass(frozen=True, slots=True)
class Reading:
    """An expression, the step whose compensation it stands in, if any, and the lists that the loops around it go over."""

    path: str
    expression: Expression
    undone: str | None
    items: Mapping[str, Reference]

    def output_read(self, reference: Reference) -> tuple[str, tuple[str | int, ...]] | None:
        """The step whose output is read, and the path into the output; None if the reference reads something else."""
        listed = self.items.get(reference.root)
        if listed is not None:
            return self.output_read(Reference(listed.root, (*listed.selectors, 0, *reference.selectors)))
        match reference.root, reference.selectors:
            case "steps", (str() as name, "output", *way):
                return name, tuple(way)
            case "output", way if self.undone is not None:
                return self.undone, tuple(way)
            case _:
                return None


@dataclass(slots=True)
class Outline:
    """The outline of a definition. `actions` are the calls whose reply is a step's output; `declared` are the declared steps
    that steps use. Both are keyed by the step's name."""

    calls: list[Call] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    actions: dict[str, Call] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a definition; `step` is the step that it belongs to."""

    path: str = ""
    step: str = ""
    is_undo: bool = False
    items: Mapping[str, Reference] = field(default_factory=dict)

    def below(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def outline_of(spec: Mapping[str, Any]) -> Outline:
    """The outline of a valid definition in its canonical JSON form, with the contract's field names."""
    outline = Outline()
    _read(spec, _DEFINITION, _Place(), outline)
    return outline


def _read(source: Mapping[str, Any], descriptor: Descriptor, place: _Place, outline: Outline) -> None:
    """Reads everything in `source`, in the contract's order. In payloads only expressions are looked for."""
    if descriptor.full_name == _STEP:
        place = replace(place, step=source.get("name", ""))
        if source.get("use"):
            outline.declared[place.step] = source["use"]
    if descriptor.full_name == _OPERATION and "participant" in source:
        _add_calls(source, place, outline)
    inside = replace(place, items=_inside(source, place))
    for described in descriptor.fields:
        if described.name in source:
            # The list that a loop goes over is read outside of it, and all else within.
            around = place if described.name == "items" else inside
            _read_field(source[described.name], described, around, outline)


def _read_field(value: Any, described: FieldDescriptor, place: _Place, outline: Outline) -> None:
    name, inner = described.name, described.message_type
    path = place.below(name)
    if name in _CONDITIONS:
        expression = compile_condition(value, path, [])
        if expression is not None:
            outline.readings.append(_reading(path, expression, place))
    elif name in _TEMPLATES or (inner is not None and inner.file.name != _DEFINITION.file.name):
        if name != "input_schema":
            _add_template(value, path, place, outline)
    elif inner is not None:
        below = replace(place, path=path, is_undo=place.is_undo or name == "compensation")
        if isinstance(value, list):
            for index, item in enumerate(value):
                _read(item, inner, replace(below, path=f"{path}[{index}]"), outline)
        else:
            _read(value, inner, below, outline)


def _inside(source: Mapping[str, Any], place: _Place) -> Mapping[str, Reference]:
    """The lists of the loops around the content of `source`, which may be a loop itself."""
    items = source.get("items")
    expression = compile_condition(items, "", []) if isinstance(items, str) else None
    if not isinstance(expression, Selection):
        return place.items
    name = source.get("as") or source.get("item_name") or "item"
    return {**place.items, name: expression.references[0]}


def _add_calls(source: Mapping[str, Any], place: _Place, outline: Outline) -> None:
    call = Call(
        place.path, source["participant"], source.get("method") or place.step, _literal(source.get("input"))
    )
    outline.calls.append(call)
    if not place.is_undo:
        outline.actions[place.step] = call
    status = source.get("status")
    if status:
        given = _literal(status.get("input", source.get("input")))
        outline.calls.append(Call(f"{place.path}.status", call.participant, status["method"], given))


def _add_template(source: Any, path: str, place: _Place, outline: Outline) -> None:
    match source:
        case str():
            for expression in compile_template(source, "", []).expressions:
                outline.readings.append(_reading(path, expression, place))
        case Mapping():
            for key, item in source.items():
                _add_template(item, f"{path}.{key}", place, outline)
        case list():
            for index, item in enumerate(source):
                _add_template(item, f"{path}[{index}]", place, outline)
        case _:
            pass


def _reading(path: str, expression: Expression, place: _Place) -> Reading:
    return Reading(path, expression, place.step if place.is_undo else None, place.items)


def _literal(source: Any) -> Any:
    """The payload as it will be sent, as far as it is known by now."""
    if isinstance(source, dict):
        return {key: _literal(item) for key, item in source.items()}
    if isinstance(source, list):
        return [_literal(item) for item in source]
    if isinstance(source, str):
        template = compile_template(source, "", [])
        return UNRESOLVED if template.expressions else template.render({})
    return source
