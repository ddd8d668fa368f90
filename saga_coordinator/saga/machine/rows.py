"""The columns of a stored entry: plain columns for what is queried, and canonical bytes for what the entry says (decision
0036).

What an entry says has two parts. The *facts* are the coordinator's own words and small: causes, instants, names. The *payload* is
what callers, participants and definitions said. It may be large, so it is read only where it is wanted. Both are canonical JSON:
the same entry has the same bytes, wherever and whenever it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import orjson

from saga_coordinator.saga.machine.entries import STEP_TYPES, Entry, EventReceived, WaitStarted
from saga_coordinator.saga.machine.stored_entry import BODY_FIELDS, StoredEntry, encode_fields, entry_type
from saga_coordinator.saga.words.identity import OperationKind

PAYLOADS = ("input", "items", "output", "payload", "previous", "shown")
"""The fields of a body that are its payload, in the order of their bytes."""

ITEM_COUNT = "item_count"
"""The fact that gives the number of an entry's `items` to readers who do not read the payload."""

EntryRow: TypeAlias = tuple[
    str, str | None, str | None, int, bytes, bytes | None, str | None, str | None, str | None
]
"""One entry in its columns: type, step, operation, attempt, facts, payload, event, correlation, identity of the event.

The payload is None if the entry has none. The last three columns say which event the entry waits for, or has received. A plain
tuple is made in a third of the time that a class of its own takes, for every entry of every saga.
"""


class _Form(NamedTuple):
    """What the entries of one type have in common: the names of the fields that are facts and payload, in the order of their
    bytes.
    """

    type: str
    is_of_attempt: bool
    facts: tuple[str, ...]
    payload: tuple[str, ...]
    is_about_event: bool


_FORMS: dict[type[Entry], _Form] = {
    kind: _Form(
        entry_type(kind),
        kind in STEP_TYPES,
        tuple(sorted(name for name in names if name not in PAYLOADS)),
        tuple(name for name in PAYLOADS if name in names),
        kind in (WaitStarted, EventReceived),
    )
    for kind, names in BODY_FIELDS.items()
}
_OPERATIONS = {kind: kind.value for kind in OperationKind}
_NOTHING = b"{}"


def entry_row(entry: Entry) -> EntryRow:
    """The columns of an entry. Its payload has its canonical form already: the core's door gave it that (decision 0024)."""
    kind, is_of_attempt, of_facts, of_payload, is_about_event = _FORMS[type(entry)]
    facts = encode_fields(entry, of_facts) if of_facts else {}
    payload: bytes | None = None
    if of_payload and (said := encode_fields(entry, of_payload)):
        payload = orjson.dumps(said)
        if "items" in said:
            facts[ITEM_COUNT] = len(said["items"])
    written = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS) if facts else _NOTHING
    step = operation = None
    attempt = 0
    if is_of_attempt:
        step = entry.step  # type: ignore[union-attr]
        operation = _OPERATIONS[entry.operation]  # type: ignore[union-attr]
        attempt = entry.attempt  # type: ignore[union-attr]
    if is_about_event:
        return kind, step, operation, attempt, written, payload, *_event_of(entry)
    return kind, step, operation, attempt, written, payload, None, None, None


def size_bytes(rows: Iterable[EntryRow]) -> int:
    """The size of what the entries say, facts and payload together."""
    return sum(len(row[4]) + len(row[5] or b"") for row in rows)


def _event_of(entry: Entry) -> tuple[str | None, str | None, str | None]:
    """The name, the correlation and the identity of the event that an entry is about."""
    match entry:
        case WaitStarted():
            return entry.event, entry.correlation, None
        case EventReceived():
            return entry.name, entry.correlation, entry.event_id
        case _:
            return None, None, None


def body_of(facts: bytes, payload: bytes | None) -> dict[str, Any]:
    """The body that these bytes were made of. It also reads the rows of version 0.1.0, which wrote the whole body into one
    part.

    If the payload was not read, `items` is a list of as many nulls.
    """
    body: dict[str, Any] = orjson.loads(facts)
    if payload is not None:
        body.update(orjson.loads(payload))
    count = body.pop(ITEM_COUNT, None)
    if count is not None:
        body.setdefault("items", [None] * count)
    return body


def stored_entry(
    type: str,  # noqa: A002  # as the column is called
    step: str | None,
    operation: str | None,
    attempt: int,
    facts: bytes,
    payload: bytes | None,
) -> StoredEntry:
    """The entry in these columns."""
    return StoredEntry(type, step, operation, attempt, body_of(facts, payload))
