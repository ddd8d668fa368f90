"""The JSON of letters, in which one coordinator asks something of a saga and another one answers.

The JSON follows from the fields of the dataclasses, so a new input or answer needs nothing here. A value is the name of its type
under `kind`, and its fields beside that. Where a field holds a member of a union, such as an outcome, the field is the name of
the member's type, and the member's fields stand beside it. Version 0.1.0 asks in the same JSON; its answers look different, and
coordinators of that version understand no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_type_hints

from saga_coordinator.saga.machine.answers import ANSWERS, APPLIED, Answer, HeartbeatTaken, NotApplied, WhyNot
from saga_coordinator.saga.machine.inputs import ASKED, Asked
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.reasons import Reason

_ASKED_NAMES: Mapping[type, str] = {kind: name for name, kind in ASKED.items()}
_ANSWER_NAMES: Mapping[type, str] = {kind: name for name, kind in ANSWERS.items()}


def asked_body(asked: Asked) -> dict[str, Any]:
    """The body of a letter that asks."""
    return {"kind": _ASKED_NAMES[type(asked)], **_written(asked)}


def asked_in(body: Mapping[str, Any]) -> Asked:
    """What a letter asks.

    A field that this version does not know has to be empty: its value would be a part of the request that is not done.

    Raises:
        LookupError, TypeError, ValueError: this version does not know such a request.
    """
    asked = cast("Asked", _read(ASKED[body["kind"]], body))
    unknown = [name for name in body.keys() - {"kind", *_written(asked)} if body[name]]
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
    return asked


def answer_body(answer: Answer) -> dict[str, Any]:
    """The body of an answer, which a coordinator of version 0.1.0 reads as well."""
    return {**_as_in_0_1_0(answer), "kind": _ANSWER_NAMES[type(answer)], **_written(answer)}


def answer_in(body: Mapping[str, Any]) -> Answer:
    """The answer in a letter. If only a later version knows the answer, this is what the letter says to version 0.1.0."""
    try:
        return cast("Answer", _read(ANSWERS[body["kind"]], body))
    except (LookupError, TypeError, ValueError):
        return _from_0_1_0(body)


def _as_in_0_1_0(answer: Answer) -> dict[str, Any]:
    body: dict[str, Any] = {"refusal": None, "is_applied": not isinstance(answer, NotApplied)}
    match answer:
        case Refusal():
            body["refusal"] = answer.message
        case NotApplied(WhyNot() as why):  # to version 0.1.0, what contradicts is a repetition
            body["because"] = (WhyNot.REPEATED if why is WhyNot.CONTRADICTS else why).value
        case HeartbeatTaken():
            body["heartbeat"] = _written(answer)
        case _:  # the rest is said
            pass
    return body


def _from_0_1_0(body: Mapping[str, Any]) -> Answer:
    """The answer of an owner of version 0.1.0, which does not name the reason of a refusal."""
    if body["refusal"] is not None:
        return Refusal(Reason.OWNER_TOO_OLD, body["refusal"])
    if heartbeat := body.get("heartbeat"):
        return cast("Answer", _read(HeartbeatTaken, heartbeat))
    because = WhyNot.__members__.get(body.get("because", ""))
    return APPLIED if body["is_applied"] else NotApplied(because)


def _written(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON."""
    body: dict[str, Any] = {}
    for name, hint in _fields(value.__class__).items():
        part = getattr(value, name)
        if _members(hint):
            body |= {name: _name(type(part)), **_written(part)}
        elif is_dataclass(part):
            body[name] = _written(part)
        else:
            body[name] = part.value if isinstance(part, Enum) else part
    return body


def _read(kind: Any, body: Mapping[str, Any]) -> Any:
    """The dataclass `kind` made of the fields in `body`. A missing field has its default."""
    values: dict[str, Any] = {}
    for name, hint in _fields(kind).items():
        if name in body:
            members = _members(hint)
            values[name] = _read(members[body[name]], body) if members else _part(hint, body[name])
    return kind(**values)


def _part(hint: Any, value: Any) -> Any:
    if isinstance(hint, UnionType):  # with None, since a union of dataclasses has members
        hint = next(each for each in get_args(hint) if each is not NoneType)
    if value is None or not isinstance(hint, type):
        return value
    if is_dataclass(hint):
        return _read(hint, value)
    return hint(value) if issubclass(hint, Enum | float) else value


@cache
def _fields(kind: type[Any]) -> Mapping[str, Any]:
    """The names of a dataclass's fields, and their types."""
    return get_type_hints(kind)


@cache
def _members(hint: Any) -> Mapping[str, type]:
    """The members of a union of dataclasses, by their names; empty for any other type."""
    members = get_args(hint) if isinstance(hint, UnionType) else ()
    return {_name(each): each for each in members} if all(map(is_dataclass, members)) else {}


def _name(kind: type) -> str:
    return kind.__name__.lower()
