"""What is appended to the log, and the sessions over which it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.rows import EntryRow, entry_row, size_bytes
from saga_coordinator.saga.machine.stored_entry import StoredEntry
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.act import ActRecord
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.outcome import Cause

WRITTEN_AT_ONCE_BYTES = 128 * 1024
"""After so much has been written as JSON, others get their turn on the event loop."""


@immutable
class Start:
    """The row and the start key of a new saga. Instants are seconds since the epoch by the database's clock.

    The row does not have the saga's input, which is in the log's first entry.
    """

    start_key: str
    request_digest: bytes
    definition: str
    version: int
    labels: dict[str, str]
    deadline_at: float | None


@immutable
class Move:
    """The change of a saga's row that comes with its entries. `wake_at` is set when the saga is let go to sleep.

    Only its owner moves a saga. A settled saga has no owner: then `settled_as` is the status that the row has to have.
    """

    status: SagaStatus
    failure: Cause | None
    remaining: tuple[str, ...]
    is_owned: bool
    wake_at: float | None = None
    settled_as: SagaStatus | None = None


@immutable
class Append:
    """Entries of one saga, the first at `sequence`. `start` is set for a new saga, `move` if its row changes with them.

    `acts` are the records of the acts that were decided with the entries, also of those that were refused and left no entry.
    """

    saga_id: str
    namespace: Namespace
    sequence: int
    entries: Sequence[Entry]
    start: Start | None = None
    move: Move | None = None
    acts: Sequence[ActRecord] = ()


@immutable
class WrittenAppend:
    """An append whose entries are in their stored form."""

    append: Append
    rows: Sequence[EntryRow]


def written(append: Append) -> WrittenAppend:
    """The append with its entries in their stored form, which is made once for each."""
    return WrittenAppend(append, list(map(entry_row, append.entries)))


async def written_in_turns(append: Append) -> WrittenAppend:
    """Does what `written` does, and lets other tasks have their turn after each large entry."""
    rows: list[EntryRow] = []
    for entry in append.entries:
        rows.append(entry_row(entry))
        if size_bytes(rows[-1:]) > WRITTEN_AT_ONCE_BYTES:
            await asyncio.sleep(0)
    return WrittenAppend(append, rows)


class Conflict(Exception):
    """A write met rows that exist already, so nothing of it was written."""


class TakenBack(Unavailable):
    """The database took a write back for a reason that may pass. The session goes on, and nothing of the write is there."""


class LogSession(Protocol):
    """Writes over one connection. Every method raises Unavailable when the database is away or the session broken."""

    async def write(self, appends: Sequence[WrittenAppend]) -> float | None:
        """Commits all of the appends or none; returns their `recorded_at`, if it is known.

        Raises Conflict, TakenBack, or the driver's error for data that cannot be stored.
        """

    async def start_key_holder(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        """The saga that has the start key, and the digest of the request that started it."""

    async def taken(self, appends: Sequence[Append]) -> list[int]:
        """The indices of the appends that meet a start key or a first entry that exists already."""

    async def written(self, saga_id: str, sequence: int, count: int) -> list[tuple[str, StoredEntry]]:
        """Up to `count` entries from `sequence` on, each with the coordinator that wrote it."""

    async def ping(self) -> None:
        """Returns when the database answers."""


class LogWriter(Protocol):
    def session(self) -> AbstractAsyncContextManager[LogSession]:
        """A session on a connection of its own."""
