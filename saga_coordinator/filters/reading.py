"""Reads the parts of a comparison: the field, and the constants that it is compared with."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from saga_coordinator.filters.conditions import FromNow, Instant
from saga_coordinator.filters.constants import duration, timestamp
from saga_coordinator.filters.fields import FIELDS, NAMES, REMAINING, SPANS, Field, Kind, Label, Subject
from saga_coordinator.nearest import nearest, suggestion
from saga_coordinator.saga.expressions.syntax import Call, Constant, Items, Name, Node, Select, children
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.identity import SAGA_ID

WHOLE_MAX = 2**63 - 1

_T = TypeVar("_T")


class Wrong(Exception):
    """A fault of a filter: `at` is the character, counted from 0."""

    def __init__(self, at: int, what: str) -> None:
        self.at = at
        super().__init__(what)


def beginning(node: Node) -> int:
    """The character at which the part begins, counted from 0, as far as it is known."""
    places = (node.at, *map(beginning, children(node)))
    return min((place for place in places if place >= 0), default=-1)


def is_constant(node: Node) -> bool:
    """Tells whether the part is meant as a constant: it reads no field but `now`."""
    match node:
        case Constant() | Items() | Name("now") | Call("timestamp" | "duration"):
            return True
        case Call("_+_" | "_-_" | "-_", arguments):
            return all(map(is_constant, arguments))
        case _:
            return False


def subject_of(node: Node) -> Subject:
    """The field that a part names. Raises Wrong if it names none."""
    match node:
        case Name(name) if name in FIELDS:
            return FIELDS[name]
        case Name(name):
            raise Wrong(node.at, _no_field(name))
        case Select(Name("labels"), key) | Call("_[_]", (Name("labels"), Constant(str(key)))):
            return Label(checked_text(key, node))
        case Select(Name(holder) as named, part):
            if (found := FIELDS.get(f"{holder}.{part}")) is not None:
                return found
            if not (parts := _parts_of(holder)):
                raise Wrong(named.at, _no_field(holder))
            near = nearest(part, [each.partition(".")[2] for each in parts])
            meant = f"; did you mean `{holder}.{near}`?" if near else ""
            raise Wrong(
                max(node.at + 1, named.at), f"`{holder}` has no `{part}`, but {_listed(parts)}{meant}"
            )
        case Call("size", (Name("remaining"),)) | Call("size", (), Name("remaining")):
            return REMAINING
        case _:
            raise Wrong(beginning(node), "is no field that sagas are found by")


def span_of(node: Node) -> Field | None:
    """The instant since which the part counts time (`age`, `idle`); None if the part does not."""
    return SPANS.get(node.name) if isinstance(node, Name) else None


def value_of(node: Node, subject: Subject) -> str | int:
    """A constant of the field's kind, not an instant. Raises Wrong."""
    match subject.kind, node:
        case Kind.STATUS, Constant(str(status)):
            if status not in set(SagaStatus):
                known = ", ".join(SagaStatus)
                raise Wrong(
                    node.at, f'"{status}" is no status{suggestion(status.upper(), SagaStatus)} ({known})'
                )
            return status
        case Kind.IDENTITY, Constant(str(identity)):
            if not SAGA_ID.fullmatch(identity.lower()):
                raise Wrong(node.at, f"`{subject.name}` is a UUID, which this is not")
            return identity.lower()
        case Kind.TEXT, Constant(str(text)):
            return checked_text(text, node)
        case Kind.NUMBER, Constant(int(number)) if not isinstance(number, bool):
            if abs(number) > WHOLE_MAX:
                raise Wrong(node.at, "is too large a number")
            return number
        case _:
            raise Wrong(
                beginning(node),
                f"`{subject.name}` is {subject.kind}, so compare it with one{_as_in(subject)}",
            )


def text_of(node: Node, what: str) -> str:
    """A text; `what` says in a message what it is. Raises Wrong."""
    if isinstance(node, Constant) and isinstance(node.value, str):
        return checked_text(node.value, node)
    raise Wrong(beginning(node), f"{what} is a text in quotes")


def checked_text(text: str, node: Node) -> str:
    """A text that a row can have. Raises Wrong."""
    if "\0" in text:
        raise Wrong(beginning(node), "has a NUL character, which no field has")
    return text


def instant_of(node: Node, subject: Subject) -> Instant:
    """A constant instant. Raises Wrong."""
    match node:
        case Name("now"):
            return FromNow(timedelta())
        case Call("timestamp", (Constant(str(text)) as written,), None):
            return _constant(written, f'timestamp("{text}")', timestamp(text))
        case Call("_+_" | "_-_" as sign, (Name("now"), later)):
            delay = span_constant(later)
            return FromNow(delay if sign == "_+_" else -delay)
        case _:
            raise Wrong(
                beginning(node),
                f'`{subject.name}` is {subject.kind}: compare it with `timestamp("2026-01-31T09:00:00Z")`, `now`, or'
                ' `now - duration("1h")`',
            )


def span_constant(node: Node) -> timedelta:
    """A constant duration. Raises Wrong."""
    match node:
        case Call("duration", (Constant(str(text)) as written,), None):
            return _constant(written, f'duration("{text}")', duration(text))
        case _:
            raise Wrong(beginning(node), 'must be a duration, as in `duration("1h30m")`')


def _constant(node: Node, written: str, read: _T | str) -> _T:
    if isinstance(read, str):
        raise Wrong(node.at, f"`{written}` {read}")
    return read


def _no_field(name: str) -> str:
    if name in FIELDS:
        return f"`{name}` has no parts"
    if parts := _parts_of(name):
        return f"`{name}` is no field itself, but {_listed(parts)}"
    if name in SPANS:
        return f'`{name}` is compared with a duration, as in `{name} > duration("1h")`'
    if name == "labels":
        return 'labels are compared by their keys, as in `labels["tenant"] == "acme"`'
    if name == "remaining":
        return 'write `size(remaining) > 0`, or `"reserve" in remaining`'
    if name in set(SagaStatus):
        return f'a status is a text: write "{name}"'
    return f"there is no field `{name}`{suggestion(name, NAMES)}"


def _parts_of(holder: str) -> list[str]:
    return [name for name in FIELDS if name.startswith(f"{holder}.")]


def _listed(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names) + (" is one" if len(names) == 1 else " are")


def _as_in(subject: Subject) -> str:
    match subject.kind:
        case Kind.STATUS:
            return ', as in "RUNNING"'
        case Kind.NUMBER:
            return ", such as 2"
        case _:
            return " in quotes"
