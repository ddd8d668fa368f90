"""Checks what expressions read of steps' outputs against the descriptors of replies and the declared schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from saga_coordinator.catalog.live_outline import Outline, Reading
from saga_coordinator.participants.calls.fit import SPECIAL
from saga_coordinator.participants.directory.descriptors import some_of
from saga_coordinator.saga.expressions.calculation import Calculation
from saga_coordinator.saga.expressions.cost import makes_number
from saga_coordinator.saga.expressions.reference import Reference
from saga_coordinator.saga.expressions.rewrite import BindingKind
from saga_coordinator.saga.expressions.syntax import Call, Constant, Items, Name, Node, walk
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.saga.words.outcome import clip

_TEXT = frozenset({"Duration", "FieldMask", "Timestamp", "BytesValue", "StringValue"})
_NUMBERS_AS_TEXT = frozenset({"Int64Value", "UInt64Value"})
_LONG = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    }
)
_CALCULATING = frozenset(
    {"_<_", "_<=_", "_>_", "_>=_", "_-_", "_*_", "@quotient", "@remainder", "-_", "@round", "@floor", "@ceil"}
)
_COMPARING = frozenset({"_==_", "_!=_", "_+_", "@in"})

Way = Sequence[str | int]


class _NotThere(Exception):
    """A path that leads nowhere; the message says why."""


def output_faults(
    outline: Outline, replies: Mapping[str, Descriptor], schemas: Mapping[str, Any]
) -> tuple[list[Fault], list[Fault]]:
    """Finds faults, and possible faults, in reads of steps' outputs. Replies and schemas are given by the step's name."""
    faults: list[Fault] = []
    doubts: list[Fault] = []
    for reading in outline.readings:
        long: set[Reference] = set()
        for reference in reading.expression.references:
            read = reading.output_read(reference)
            if read is None:
                continue
            name, way = read
            try:
                if name in replies:
                    if _is_long(replies[name], way):
                        long.add(reference)
                elif name in schemas and (doubt := _doubt(schemas[name], way)):
                    doubts.append(Fault(reading.path, clip(f"`{reference}`: {doubt}")))
            except _NotThere as error:
                faults.append(Fault(reading.path, clip(f"`{reference}`: {error}")))
        faults += [_used_as_number(reading, reference) for reference in _calculated_with(reading, long)]
    return faults, doubts


def _used_as_number(reading: Reading, reference: Reference) -> Fault:
    return Fault(
        reading.path,
        clip(
            f"`{reference}` is a whole number of 64 bits, which is text in JSON, and is used as a number: "
            f"write `int({reference})`"
        ),
    )


# Descriptors


def _is_long(descriptor: Descriptor, way: Way) -> bool:
    """Tells whether the path into the message ends at a 64-bit number. Raises _NotThere."""
    if not way:
        return descriptor.full_name.rpartition(".")[2] in _NUMBERS_AS_TEXT and _is_special(descriptor)
    if _is_special(descriptor):
        if descriptor.full_name.rpartition(".")[2] in _TEXT:
            raise _NotThere(f"a {descriptor.full_name} is text and has no fields")
        return False
    name, *rest = way
    if isinstance(name, int):
        raise _NotThere(f"{descriptor.full_name} is an object, of which no item can be taken")
    field = descriptor.fields_by_name.get(name)
    if field is None:
        known = [each.name for each in descriptor.fields]
        raise _NotThere(
            f"{descriptor.full_name} has no field `{name[:80]}`; it has: {some_of(known)}{did_you_mean(name, known)}"
        )
    return _is_long_field(field, rest)


def _is_long_field(field: FieldDescriptor, way: Way) -> bool:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return bool(way) and _is_long_field(message.fields_by_name["value"], way[1:])
    if field.is_repeated:
        if not way:
            return False
        if not isinstance(way[0], int):
            raise _NotThere(f"`{field.name}` is a list, which has items and no field `{way[0][:80]}`")
        way = way[1:]
    if message is not None:
        return _is_long(message, way)
    if way:
        raise _NotThere(f"`{field.name}` is no object, so there is nothing to select from it")
    return field.type in _LONG


def _is_special(descriptor: Descriptor) -> bool:
    return descriptor.full_name in SPECIAL


# Schemas


def _doubt(schema: Any, way: Way) -> str | None:
    """The reason to doubt the path though the schema allows it. Raises _NotThere if the schema rules it out."""
    for selector in way:
        if not isinstance(schema, Mapping):
            return None
        if isinstance(selector, int):
            schema = schema.get("items")
            continue
        known = schema.get("properties")
        if not isinstance(known, Mapping) or any(
            key in schema for key in ("$ref", "allOf", "anyOf", "oneOf")
        ):
            return None
        if selector not in known:
            what = f"the output_schema has no property `{selector[:80]}`; it has: {some_of(known)}"
            what += did_you_mean(selector, known)
            if schema.get("additionalProperties") is False and "patternProperties" not in schema:
                raise _NotThere(what)
            return what
        schema = known[selector]
    return None


# Numbers


def _calculated_with(reading: Reading, long: set[Reference]) -> Iterator[Reference]:
    """The references that the expression uses as a number."""
    if not long or not isinstance(reading.expression, Calculation):
        return
    names = {
        binding.name: binding.reference
        for binding in reading.expression.bindings
        if binding.kind is BindingKind.VALUE and binding.reference in long
    }
    told: set[Reference] = set()
    for node in walk(reading.expression.tree):
        match node:
            case Call("@calculate", (_, Items(operands))):
                is_comparing, is_sum = not makes_number(node), True
            case Call(function, operands) if function in _CALCULATING | _COMPARING:
                is_comparing, is_sum = function in _COMPARING, function == "_+_"
            case _:
                continue
        used = [names[each.name] for each in operands if isinstance(each, Name) and each.name in names]
        if is_comparing and not any(map(_is_number, operands)):
            # Text may be compared with text and added to it, but two numbers do not add up so.
            used = used if is_sum and len(used) > 1 else []
        for reference in used:
            if reference not in told:
                told.add(reference)
                yield reference


def _is_number(node: Node) -> bool:
    match node:
        case Constant(bool()):
            return False
        case Constant(int() | float()):
            return True
        case Items(items):
            return any(map(_is_number, items))
        case Call(function):
            return function in ("int", "double", "size") or function in _CALCULATING - {
                "_<_",
                "_<=_",
                "_>_",
                "_>=_",
            }
        case _:
            return False
