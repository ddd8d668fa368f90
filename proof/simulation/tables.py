"""Rows of the simulated database, and the constraints that the schema sets to them."""

from __future__ import annotations

from dataclasses import dataclass

from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.rows import stored_entry
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.store.records import Event


class CheckViolated(Exception):
    """A constraint of the schema does not hold."""


@dataclass(slots=True)
class Row:
    """A row of `saga.sagas`."""

    saga_id: str
    start_key: str
    definition: str
    version: int
    deadline_at: float | None
    status: SagaStatus
    failure: dict[str, str] | None
    remaining: tuple[str, ...]
    owner: str | None
    wake_at: float | None


@dataclass(slots=True)
class EventRow:
    """A row of `saga.events`."""

    event: Event
    published_at: float
    expires_at: float
    taken_at: float | None = None
    taken_by: str | None = None


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of `saga.log`."""

    type: str
    step: str | None
    operation: str | None
    attempt: int
    facts: bytes
    payload: bytes | None
    recorded_at: float
    recorded_by: str

    def stored(self) -> StoredEntry:
        return stored_entry(self.type, self.step, self.operation, self.attempt, self.facts, self.payload)

    def entry(self) -> Entry:
        return decode(self.stored())


def check(row: Row) -> None:
    """The table's constraints. Raises CheckViolated."""
    is_moving = row.status not in SETTLED
    if is_moving and row.owner is None and row.wake_at is None:
        raise CheckViolated(f"sagas_moving_is_driven: {row}")
    if not is_moving and (row.owner is not None or row.wake_at is not None):
        raise CheckViolated(f"sagas_settled_is_at_rest: {row}")
    if row.remaining and row.status not in {SagaStatus.NEEDS_ATTENTION, SagaStatus.ABANDONED}:
        raise CheckViolated(f"sagas_only_the_unfinished_leave_effects: {row}")
