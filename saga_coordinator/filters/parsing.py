"""Parses filters and checks them whole: every fault is told at once, with its position in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from saga_coordinator.filters.conditions import (
    All,
    AnyOf,
    BeginsWith,
    Compared,
    Condition,
    FromNow,
    Instant,
    Not,
    OneOf,
    Order,
    Present,
    Remains,
)
from saga_coordinator.filters.fields import Kind, Label, Subject
from saga_coordinator.filters.reading import (
    Wrong,
    beginning,
    instant_of,
    is_constant,
    span_constant,
    span_of,
    subject_of,
    text_of,
    value_of,
)
from saga_coordinator.saga.expressions.calculation import parse
from saga_coordinator.saga.expressions.syntax import Call, Comprehension, Constant, Items, Name, Node, Select
from saga_coordinator.saga.words.errors import ExpressionError, Fault

FILTER_CHARACTERS_MAX = 4096
COMPARISONS_MAX = 12
WORDS_MAX = 250
"""The most comparisons of one filter, and names, texts and numbers in it: a filter is parsed and compiled on the event loop."""

_WORD = re.compile(r'"[^"]*"|\w+|[^\w\s,.()]')

_EQUAL, _UNEQUAL = "_==_", "_!=_"
_ORDERS: Mapping[str, Order] = {
    "_<_": Order.LESS,
    "_<=_": Order.LESS_OR_EQUAL,
    "_>_": Order.GREATER,
    "_>=_": Order.GREATER_OR_EQUAL,
}
_TURNED: Mapping[Order, Order] = {
    Order.LESS: Order.GREATER,
    Order.LESS_OR_EQUAL: Order.GREATER_OR_EQUAL,
    Order.GREATER: Order.LESS,
    Order.GREATER_OR_EQUAL: Order.LESS_OR_EQUAL,
}
"""The same relation with its sides exchanged."""


def parse_filter(text: str, path: str, faults: list[Fault]) -> Condition | None:
    """The condition that the text says; None, and faults at `path`, if it says none. An empty text says none and has no fault."""
    if not text.strip():
        return None
    if len(text) > FILTER_CHARACTERS_MAX:
        faults.append(Fault(path, f"has {len(text)} characters; {FILTER_CHARACTERS_MAX} is the limit"))
        return None
    if (words := len(_WORD.findall(text))) > WORDS_MAX:
        faults.append(Fault(path, f"has {words} names, operators and constants; {WORDS_MAX} is the limit"))
        return None
    try:
        tree = parse(text)
    except ExpressionError as error:
        faults.append(Fault(path, str(error)))
        return None
    checking = _Checking(text)
    condition = checking.condition(tree)
    faults.extend(Fault(path, *checking.told(each)) for each in checking.wrongs)
    return None if checking.wrongs else condition


class _Checking:
    """Collects the faults of one filter."""

    def __init__(self, text: str) -> None:
        self.wrongs: list[Wrong] = []
        self._text = text
        self._comparisons = 0

    def told(self, wrong: Wrong) -> tuple[str, int]:
        """The description of a fault with its character, and the line: 0 if the text has one line only."""
        before = self._text[: max(wrong.at, 0)]
        character = len(before) - (before.rfind("\n") + 1) + 1
        line = before.count("\n") + 1 if "\n" in self._text else 0
        return f"character {character}: {wrong}", line

    def condition(self, node: Node) -> Condition:
        """The condition of a part; one without meaning where the part has a fault."""
        match node:
            case Call("_&&_" | "_||_" as joint):
                conditions = tuple(self.condition(each) for each in _joined(joint, node))
                return All(conditions) if joint == "_&&_" else AnyOf(conditions)
            case Call("!_", (inner,)):
                return Not(self.condition(inner))
            case _:
                return self._comparison(node)

    def _comparison(self, node: Node) -> Condition:
        self._comparisons += 1
        if self._comparisons == COMPARISONS_MAX + 1:
            self.wrongs.append(
                Wrong(beginning(node), f"one filter has at most {COMPARISONS_MAX} comparisons")
            )
        try:
            return _comparison(node)
        except Wrong as wrong:
            if self._comparisons <= COMPARISONS_MAX:
                self.wrongs.append(wrong)
            return All(())


def _joined(joint: str, node: Node) -> Iterator[Node]:
    """The parts of a chain of one operator."""
    if isinstance(node, Call) and node.function == joint:
        for side in node.arguments:
            yield from _joined(joint, side)
    else:
        yield node


def _comparison(node: Node) -> Condition:
    match node:
        case Call(function, (left, right), None) if function in (_EQUAL, _UNEQUAL) or function in _ORDERS:
            return _compared(node, function, left, right)
        case Call("@in", (left, right), None):
            return _membership(node, left, right)
        case Call("startsWith", (prefix,), target) if target is not None:
            subject = subject_of(target)
            if subject.kind is not Kind.TEXT:
                raise Wrong(node.at, f"`startsWith` is for texts, and `{subject.name}` is {subject.kind}")
            return BeginsWith(subject, text_of(prefix, "the beginning"))
        case Select(holder, field, True):
            return _optional(subject_of(Select(holder, field)), holder)
        case _:
            raise Wrong(beginning(node), _no_condition(node))


def _no_condition(node: Node) -> str:
    match node:
        case Name() | Select() | Call("_[_]"):
            return 'is no condition by itself: compare it, as in `status == "RUNNING"`'
        case Constant():
            return "is no condition"
        case Comprehension():
            return "macros such as `exists` are not for filters; use `in`"
        case Call("_?_:_"):
            return "`? :` is not for filters; use `&&` and `||`"
        case Call(function):
            name = function.strip("_").replace("_", "")
            return f"`{name}` is not for filters, which have ==, !=, <, <=, >, >=, in, &&, ||, !, startsWith and has"
        case _:
            return "is no condition"


def _compared(node: Node, function: str, left: Node, right: Node) -> Condition:
    order = _ORDERS.get(function)
    if is_constant(left) and is_constant(right):
        raise Wrong(node.at, "compares two constants; compare a field with a constant")
    if is_constant(left):
        left, right = right, left
        order = order and _TURNED[order]
    elif not is_constant(right):
        for side in (left, right):
            if span_of(side) is None:
                subject_of(side)
        raise Wrong(node.at, "compares two fields; compare a field with a constant")
    if function == _UNEQUAL:
        return Not(_related(node, None, left, right))
    return _related(node, order, left, right)


def _related(node: Node, order: Order | None, left: Node, right: Node) -> Condition:
    """The field on the left compared with the constant on the right: equal to it where `order` is None."""
    if (since := span_of(left)) is not None:
        instant = FromNow(-span_constant(right))
        return _of_instant(since, order and _TURNED[order], instant)
    subject = subject_of(left)
    if isinstance(right, Constant) and right.value is None:
        if order is not None:
            raise Wrong(node.at, "null is compared with == and != only")
        return Not(_optional(subject, right))
    if subject.kind is Kind.INSTANT:
        return _of_instant(subject, order, instant_of(right, subject))
    value = value_of(right, subject)
    if order is None:
        return OneOf(subject, (value,))
    if not isinstance(value, int):
        raise Wrong(node.at, f"`{subject.name}` is {subject.kind}, which is compared with ==, != and in")
    return Compared(subject, order, value)


def _of_instant(subject: Subject, order: Order | None, instant: Instant) -> Condition:
    if order is not None:
        return Compared(subject, order, instant)
    bounds = (Order.GREATER_OR_EQUAL, Order.LESS_OR_EQUAL)
    return All(tuple(Compared(subject, each, instant) for each in bounds))


def _optional(subject: Subject, node: Node) -> Condition:
    if not subject.is_optional:
        raise Wrong(beginning(node), f"every saga has `{subject.name}`")
    return Present(subject)


def _membership(node: Node, left: Node, right: Node) -> Condition:
    match right:
        case Name("remaining"):
            return Remains(text_of(left, "the name of a step"))
        case Name("labels"):
            return Present(Label(text_of(left, "the key of a label")))
        case Items(items):
            subject = subject_of(left)
            if subject.kind is Kind.INSTANT:
                raise Wrong(
                    node.at, f"`{subject.name}` is {subject.kind}, which is compared with <, <=, > and >="
                )
            if not items:
                raise Wrong(right.at, "is an empty list, which has nothing")
            return OneOf(subject, tuple(dict.fromkeys(value_of(each, subject) for each in items)))
        case _:
            raise Wrong(beginning(right), 'must be a list, as in `status in ["RUNNING", "COMPENSATING"]`')
