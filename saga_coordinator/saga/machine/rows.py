"""The columns of a stored entry: plain columns for what is queried, and canonical bytes for what the entry says (decision
0036).

What an entry says has two parts. The *facts* are the coordinator's own words and small: causes, instants, names. The *payload* is
what callers, participants and definitions said. It may be large, so it is read only where it is wanted. Both are canonical JSON:
the same entry has the same bytes, wherever and whenever it is written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from saga_coordinator.saga.machine.entries import Entry, EventReceived, WaitStarted
from saga_coordinator.saga.machine.stored_entry import BODY_FIELDS, StoredEntry, encode_fields, place_of

PAYLOADS = ("input", "items", "output", "payload", "previous", "shown")
"""The fields of a body that are its payload, in the order of their bytes."""

ITEM_COUNT = "item_count"
"""The fact that gives the number of an entry's `items` to readers who do not read the payload."""

_PARTS: dict[type[Entry], tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    kind: (
        tuple(name for name in names if name not in PAYLOADS),
        tuple(name for name in PAYLOADS if name in names),
        kind in (WaitStarted, EventReceived),
    )
    for kind, names in BODY_FIELDS.items()
}
"""The fields of each type of entry that are facts, those that are its payload, and whether it is about an event."""

_NOTHING = b"{}"
_NO_EVENT = (None, None, None)


class EntryRow(NamedTuple):
    """One entry in its columns. `payload` is None if the entry has no payload.

    `event`, `correlation` and `event_id` say which event the entry waits for, or has received.
    """

    type: str
    step: str | None
    operation: str | None
    attempt: int
    facts: bytes
    payload: bytes | None
    event: str | None = None
    correlation: str | None = None
    event_id: str | None = None

    @property
    def size_bytes(self) -> int:
        """The size of the two parts together."""
        return len(self.facts) + len(self.payload or b"")


def entry_row(entry: Entry) -> EntryRow:
    """The columns of an entry. Its payload has its canonical form already: the core's door gave it that (decision 0024)."""
    of_facts, of_payload, is_about_event = _PARTS[type(entry)]
    facts = encode_fields(entry, of_facts) if of_facts else None
    payload: bytes | None = None
    if of_payload and (said := encode_fields(entry, of_payload)):
        payload = orjson.dumps(said)
        if "items" in said:
            facts = {**(facts or {}), ITEM_COUNT: len(said["items"])}
    written = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS) if facts else _NOTHING
    about_event = _event_of(entry) if is_about_event else _NO_EVENT
    # This bypasses the class's own constructor, which would take as long as everything else here, for every entry of every
    # saga.
    return tuple.__new__(EntryRow, (*place_of(entry), written, payload, *about_event))


def _event_of(entry: Entry) -> tuple[str | None, str | None, str | None]:
    """The name, the correlation and the identity of the event that an entry is about."""
    match entry:
        case WaitStarted():
            return entry.event, entry.correlation, None
        case EventReceived():
            return entry.name, entry.correlation, entry.event_id
        case _:
            return _NO_EVENT


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
