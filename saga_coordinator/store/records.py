"""The values that pass between the store and the rooms above it.

This module loads no SQL, so those rooms can be imported, simulated and tested without a database driver. Instants are seconds
since 1970 by the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from saga_coordinator.saga.machine.stored_entry import StoredEntry
from saga_coordinator.saga.words.errors import AlreadyExists, Resource
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason

ENTRIES_AT_ONCE = 20_000
"""The most log entries of all sagas that one claim takes over. A single saga may have more."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `correlation` says to what: an order number or a payment's identity. It is never empty here.

    A saga may get the event if it begins to wait within `keep_seconds` of the event's publication. None means
    `EVENT_KEPT_SECONDS`, which is also the most.
    """

    event_id: str
    name: str
    correlation: str
    payload: Any = None
    keep_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """What has become of a published event.

    `is_new`: it was not published before. `is_told`: every saga that waited for it has got it. `kept_until`: the first saga
    that waits until then gets it; None when no later saga will. `remembered_until`: a repetition is recognised until then.
    """

    is_new: bool
    is_told: bool
    kept_until: float | None
    remembered_until: float


@dataclass(frozen=True, slots=True)
class Letter:
    """What one coordinator asks of a saga that another one drives. `body` is JSON that only the engine reads."""

    saga_id: str
    letter_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A saga that this coordinator owns from now on.

    `previous_owner` is the coordinator whose lease ended before it let the saga go, or None. `entries` is the length of the
    saga's log.
    """

    saga_id: str
    namespace: Namespace
    previous_owner: str | None
    entries: int = field(default=0, compare=False)
    start_key: str = field(default="", compare=False)
    started_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Driver:
    """The coordinator that drives a saga: its `owner`, or, without an owner, the next one of the claim group with room."""

    owner: str | None
    claim_group: str
    is_owner_alive: bool
    is_group_alive: bool


@dataclass(frozen=True, slots=True)
class ClaimGroup:
    """A claim group: how many of its coordinators live, and how many of its sagas are due or have lost their owner.

    `waiting` counts at most a thousand due sagas.
    """

    name: str
    coordinators: int
    waiting: int


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry to decode and fold. `place` is the saga's index among the sagas that were asked for.

    `size_bytes` is the size of the entry's body as JSON.
    """

    place: int
    sequence: int
    entry: StoredEntry
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries of several sagas, one log behind the other. Without `has_more` the log of the last one ends here."""

    entries: tuple[LoggedEntry, ...]
    has_more: bool


class StartKeyTaken(AlreadyExists):
    """The start key belongs to the saga `saga_id` already, which the request with `request_digest` started."""

    def __init__(self, start_key: str, saga_id: str, request_digest: bytes) -> None:
        self.saga_id = saga_id
        self.request_digest = request_digest
        super().__init__(
            Reason.START_KEY_TAKEN,
            f"start key {start_key!r} belongs to saga {saga_id}, which a different request started",
            Resource("saga.v1.Saga", saga_id),
            saga_id=saga_id,
        )
