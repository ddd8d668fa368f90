"""The columns that an entry is kept in: what is queried in plain columns, what it says as canonical bytes (decision 0036).

What an entry says has two parts. The *facts* are the coordinator's own words and small: causes, instants, names. The *payload* is
what callers, participants and definitions said. It may be large, so it is read only where it is wanted. Both are canonical JSON:
the same entry has the same bytes, wherever and whenever it is written.
"""

from __future__ import annotations

from typing import Any

import orjson

from saga_coordinator.saga.machine.entries import (
    Entry,
    EventReceived,
    StoredEntry,
    WaitStarted,
    encode,
)
from saga_coordinator.saga.words.canonical import canonical_bytes
from saga_coordinator.saga.words.immutable import immutable

PAYLOADS = ("input", "items", "output", "payload", "previous", "shown")
"""The fields of a body that are its payload, in the order of their bytes."""

ITEM_COUNT = "item_count"
"""Among the facts of an entry with `items`: how many they are, for whoever does not read the payload."""

_PAYLOADS = frozenset(PAYLOADS)
_EMPTY = b"{}"


@immutable
class EntryRow:
    """One entry in its columns. `payload` is None where there is none.

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
        """Of the two parts together."""
        return len(self.facts) + len(self.payload or b"")


def entry_row(entry: Entry) -> EntryRow:
    """The columns of an entry. Its payload has its canonical form already: the core's door gave it that (decision 0024)."""
    stored = encode(entry)
    body = stored.body
    facts, payload = _EMPTY, None
    if body:
        said = {name: body[name] for name in PAYLOADS if name in body} if _PAYLOADS & body.keys() else None
        if said:
            payload = orjson.dumps(said)
            body = {name: value for name, value in body.items() if name not in _PAYLOADS}
            if "items" in said:
                body[ITEM_COUNT] = len(said["items"])
        if body:
            facts = canonical_bytes(body)
    event = correlation = event_id = None
    if isinstance(entry, WaitStarted):
        event, correlation = entry.event, entry.correlation
    elif isinstance(entry, EventReceived):
        event, correlation, event_id = entry.name, entry.correlation, entry.event_id
    return EntryRow(
        stored.type,
        stored.step,
        stored.operation,
        stored.attempt,
        facts,
        payload,
        event,
        correlation,
        event_id,
    )


def body_of(facts: bytes, payload: bytes | None) -> dict[str, Any]:
    """The body that these bytes were made of, also where version 0.1.0 wrote all of it into one part.

    Without their payload, as many nulls stand for the items of an entry.
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
