"""The syntax tree of a CEL expression, read from and written to the form that the CEL library serializes.

The library shows no tree, but serializes one as `cel.expr.ParsedExpr`
(https://github.com/google/cel-spec/blob/master/proto/cel/expr/syntax.proto). The few messages of it that matter here are read and
written by hand, since the core depends on no protobuf. Macros are already expanded in it.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_ANY_OF_PARSED = b"type.googleapis.com/cel.expr.ParsedExpr"
_VARINT, _FIXED64, _LENGTH_DELIMITED = 0, 1, 2

Literal = None | bool | int | float | str | bytes


@dataclass(frozen=True, slots=True)
class Written:
    """A part of an expression. `at` is the character at which it stands, counted from 0; of a call, the character of the operator
    or of the bracket behind the function's name. It is -1 for a part that was not read with its position.
    """

    at: int = field(default=-1, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Constant(Written):
    """A literal; integers of both kinds are ints."""

    value: Literal


@dataclass(frozen=True, slots=True)
class Name(Written):
    """A variable, or a type such as `string`."""

    name: str


@dataclass(frozen=True, slots=True)
class Select(Written):
    """`operand.field`, or `has(operand.field)` when `is_test`."""

    operand: Node
    field: str
    is_test: bool = False


@dataclass(frozen=True, slots=True)
class Call(Written):
    """`function(arguments)`, `target.function(arguments)`, or an operator under its CEL name, such as `_+_`."""

    function: str
    arguments: tuple[Node, ...]
    target: Node | None = None


@dataclass(frozen=True, slots=True)
class Items(Written):
    """A list literal."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entries(Written):
    """A map literal, or the construction of a message when `message` is its name."""

    entries: tuple[tuple[Node, Node], ...]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Comprehension(Written):
    """An expanded macro: `exists`, `all`, `exists_one`, `map` or `filter`."""

    variable: str
    range: Node
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node

    @property
    def body(self) -> tuple[Node, Node]:
        """The nodes that are evaluated for each item."""
        return self.condition, self.step


Node = Constant | Name | Select | Call | Items | Entries | Comprehension


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    match node:
        case Select():
            return (node.operand,)
        case Call():
            return node.arguments if node.target is None else (node.target, *node.arguments)
        case Items():
            return node.items
        case Entries():
            return tuple(itertools.chain.from_iterable(node.entries))
        case Comprehension():
            return (node.range, node.initial, *node.body, node.result)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for child in children(node):
        yield from walk(child)


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read(serialized: bytes, *, with_positions: bool = False) -> Node:
    """The tree of an expression serialized without type-checking; on demand, each part with its position.

    Raises:
        ValueError: it is no `ParsedExpr`, or uses a part of CEL that is not known here.
    """
    envelope = _Message(serialized)
    if envelope.raw(1) != _ANY_OF_PARSED:
        raise ValueError("is not a parsed expression")
    parsed = _Message(envelope.raw(2))
    return _node(parsed.raw(2), _positions(_Message(parsed.raw(3))) if with_positions else _UNPLACED)


_UNPLACED: Mapping[int, int] = {}


def _positions(source_info: _Message) -> Mapping[int, int]:
    """The character at which each part stands, by the number of the part."""
    entries = map(_Message, source_info.each(4))
    return {entry.whole(1): entry.whole(2) for entry in entries}


class _Message:
    """The fields of one protobuf message by number, each with all its values in their order."""

    __slots__ = ("_fields",)

    def __init__(self, encoded: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        position = 0
        while position < len(encoded):
            key, position = _varint(encoded, position)
            value: int | bytes
            if key & 7 == _VARINT:
                value, position = _varint(encoded, position)
            else:
                length = 8
                if key & 7 == _LENGTH_DELIMITED:
                    length, position = _varint(encoded, position)
                value, position = encoded[position : position + length], position + length
            self._fields.setdefault(key >> 3, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def whole(self, number: int) -> int:
        value = self._fields.get(number, [0])[-1]
        assert isinstance(value, int)
        return value

    def raw(self, number: int) -> bytes:
        value = self._fields.get(number, [b""])[-1]
        assert isinstance(value, bytes)
        return value

    def text(self, number: int) -> str:
        return self.raw(number).decode()

    def each(self, number: int) -> list[bytes]:
        return [value for value in self._fields.get(number, []) if isinstance(value, bytes)]


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = encoded[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _node(encoded: bytes, positions: Mapping[int, int]) -> Node:
    message = _Message(encoded)
    at = positions.get(message.whole(2), -1)
    if 3 in message:
        return Constant(_constant(_Message(message.raw(3))), at=at)
    if 4 in message:
        return Name(_Message(message.raw(4)).text(1), at=at)
    if 5 in message:
        select = _Message(message.raw(5))
        return Select(_node(select.raw(1), positions), select.text(2), bool(select.whole(3)), at=at)
    if 6 in message:
        call = _Message(message.raw(6))
        target = _node(call.raw(1), positions) if 1 in call else None
        return Call(call.text(2), tuple(_node(each, positions) for each in call.each(3)), target, at=at)
    if 7 in message:
        return Items(tuple(_node(each, positions) for each in _Message(message.raw(7)).each(1)), at=at)
    if 8 in message:
        return _entries(_Message(message.raw(8)), positions, at)
    if 9 in message:
        parts = _Message(message.raw(9))
        inner = (_node(parts.raw(number), positions) for number in range(4, 8))
        return Comprehension(parts.text(1), _node(parts.raw(2), positions), parts.text(3), *inner, at=at)
    raise ValueError("has a part that is not known here")


def _entries(message: _Message, positions: Mapping[int, int], at: int) -> Entries:
    entries = []
    for entry in map(_Message, message.each(2)):
        key = _node(entry.raw(3), positions) if 3 in entry else Constant(entry.text(2))
        entries.append((key, _node(entry.raw(4), positions)))
    return Entries(tuple(entries), message.text(1), at=at)


def _constant(message: _Message) -> Literal:
    if 2 in message:
        return bool(message.whole(2))
    if 3 in message:
        unsigned = message.whole(3)
        return unsigned - (1 << 64) if unsigned >> 63 else unsigned
    if 4 in message:
        return message.whole(4)
    if 5 in message:
        return float(struct.unpack("<d", message.raw(5))[0])
    if 6 in message:
        return message.text(6)
    return message.raw(7) if 7 in message else None


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write(node: Node) -> bytes:
    """The tree in the form that the library reads."""
    return _field(1, _ANY_OF_PARSED) + _field(2, _field(2, _Writer().node(node)))


class _Writer:
    """Numbers the nodes, as the library demands."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def node(self, node: Node) -> bytes:
        return _field(2, next(self._ids)) + self._content(node)

    def _content(self, node: Node) -> bytes:
        match node:
            case Constant():
                return _field(3, _written_constant(node.value))
            case Name():
                return _field(4, _field(1, node.name.encode()))
            case Select():
                test = _field(3, 1) if node.is_test else b""
                return _field(5, _field(1, self.node(node.operand)) + _field(2, node.field.encode()) + test)
            case Call():
                target = _field(1, self.node(node.target)) if node.target is not None else b""
                arguments = b"".join(_field(3, self.node(each)) for each in node.arguments)
                return _field(6, target + _field(2, node.function.encode()) + arguments)
            case Items():
                return _field(7, b"".join(_field(1, self.node(each)) for each in node.items))
            case Entries():
                return _field(8, b"".join(_field(2, self._entry(*entry)) for entry in node.entries))
            case Comprehension():
                return _field(9, self._comprehension(node))

    def _entry(self, key: Node, value: Node) -> bytes:
        return _field(1, next(self._ids)) + _field(3, self.node(key)) + _field(4, self.node(value))

    def _comprehension(self, node: Comprehension) -> bytes:
        ranged = _field(1, node.variable.encode()) + _field(2, self.node(node.range))
        parts = (node.initial, node.condition, node.step, node.result)
        written = (_field(number, self.node(part)) for number, part in enumerate(parts, 4))
        return ranged + _field(3, node.accumulator.encode()) + b"".join(written)


def _written_constant(value: Literal) -> bytes:
    match value:
        case None:
            return _field(1, 0)
        case bool():
            return _field(2, int(value))
        case int():
            return _field(3, value & ((1 << 64) - 1))
        case float():
            return _key(5, _FIXED64) + struct.pack("<d", value)
        case str():
            return _field(6, value.encode())
        case bytes():
            return _field(7, value)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _key(number, _VARINT) + _written_varint(value)
    return _key(number, _LENGTH_DELIMITED) + _written_varint(len(value)) + value


def _key(number: int, wire_type: int) -> bytes:
    return _written_varint(number << 3 | wire_type)


def _written_varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
