"""Entries as they are stored: the columns that are queried, and a body."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from saga_coordinator.saga.machine.entries import ENTRY_TYPES, STEP_TYPES, Entry, Parent
from saga_coordinator.saga.words.canonical import canonical, canonical_number
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause


@immutable
class StoredEntry:
    """An entry as the store keeps it. `step` and `operation` are None, `attempt` is 0 for entries about the whole saga."""

    type: str
    step: str | None
    operation: str | None
    attempt: int
    body: dict[str, Any]


def entry_type(entry: Entry | type[Entry]) -> str:
    """The stored name of an entry's type: `attempt_started`."""
    return _NAMES[entry if isinstance(entry, type) else type(entry)]


def encode(entry: Entry) -> StoredEntry:
    """The stored form; fields that are None are left out of the body."""
    return StoredEntry(*place_of(entry), encode_fields(entry, BODY_FIELDS[type(entry)]))


def place_of(entry: Entry) -> tuple[str, str | None, str | None, int]:
    """The type, step, operation and attempt of an entry, as they are stored."""
    kind = type(entry)
    if kind in STEP_TYPES:
        operation = _OPERATIONS[entry.operation]  # type: ignore[union-attr]
        return _NAMES[kind], entry.step, operation, entry.attempt  # type: ignore[union-attr]
    return _NAMES[kind], None, None, 0


def encode_fields(entry: Entry, names: Sequence[str]) -> dict[str, Any]:
    """The stored form of the fields `names` that are not None."""
    body: dict[str, Any] = {}
    for name in names:
        value = getattr(entry, name)
        if value is None:
            continue
        kind = type(value)
        body[name] = _ENCODERS[kind](value) if kind in _ENCODERS else value
    return body


def decode(stored: StoredEntry) -> Entry:
    """The entry that was encoded, its payloads in their canonical form.

    Raises:
        ValueError: a type this version does not know: a newer coordinator wrote it.
    """
    kind = _BY_NAME.get(stored.type)
    if kind is None:
        raise ValueError(
            f"the log holds an entry of type {stored.type!r}, which this version does not know; upgrade it"
        )
    known = _FIELD_NAMES[kind]
    values = {name: value for name, value in stored.body.items() if name in known}
    if isinstance(values.get("cause"), dict):
        values["cause"] = Cause(**{n: text for n, text in values["cause"].items() if n in _CAUSE_FIELDS})
    if kind in STEP_TYPES:
        values["step"] = stored.step
    if "operation" in known:
        values["operation"] = OperationKind(stored.operation or "")
        values["attempt"] = stored.attempt
    for name in _PAYLOAD_FIELDS[kind]:
        if name in values:
            values[name] = canonical(values[name])
    for name in _TUPLES & values.keys():
        values[name] = tuple(values[name])
    if "parent" in values:
        values["parent"] = Parent(**values["parent"])
    return kind(**values)


def _encode_cause(cause: Cause) -> dict[str, str]:
    body = {"code": cause.code, "message": cause.message}
    if cause.step:
        body["step"] = cause.step
    if cause.requested_by:
        body["requested_by"] = cause.requested_by
    return body


_ENCODERS: dict[type, Callable[[Any], Any]] = {Cause: _encode_cause, Parent: asdict, float: canonical_number}
_TUPLES = {"remaining", "items", "workers"}
_PAYLOADS = {"input", "output", "shown", "items", "previous", "payload", "labels", "headers"}
"""The fields that hold what participants and callers said. The log returns them with the keys and numbers as the database
stores them.
"""
_ATTEMPT_COLUMNS = ("step", "operation", "attempt")
_NAMES: dict[type[Entry], str] = {
    kind: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower() for kind in ENTRY_TYPES
}
_BY_NAME: dict[str, type[Entry]] = {name: kind for kind, name in _NAMES.items()}
_FIELD_NAMES: dict[type[Entry], frozenset[str]] = {
    kind: frozenset(each.name for each in fields(kind)) for kind in ENTRY_TYPES
}
_PAYLOAD_FIELDS: dict[type[Entry], tuple[str, ...]] = {
    kind: tuple(each.name for each in fields(kind) if each.name in _PAYLOADS) for kind in ENTRY_TYPES
}
_CAUSE_FIELDS = frozenset(each.name for each in fields(Cause))


BODY_FIELDS: dict[type[Entry], tuple[str, ...]] = {
    kind: tuple(
        each.name for each in fields(kind) if kind not in STEP_TYPES or each.name not in _ATTEMPT_COLUMNS
    )
    for kind in ENTRY_TYPES
}
"""The fields of each type of entry that have no column of their own."""
_OPERATIONS = {kind: kind.value for kind in OperationKind}
