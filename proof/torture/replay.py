"""Folds each log again with today's code: the state that it leads to is the one that the row shows (P7)."""

from __future__ import annotations

from collections.abc import Iterator

from proof.torture.evidence import Evidence
from proof.violation import Violation
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode
from saga_coordinator.saga.words.errors import SagaError


def replay(evidence: Evidence) -> Iterator[Violation]:
    for saga_id, log in evidence.logs.items():
        row = evidence.rows.get(saga_id)
        if row is None:
            yield Violation("P8", saga_id, "has a log and no row")
            continue
        stored = [
            StoredEntry(entry.type, entry.step, entry.operation, entry.attempt, dict(entry.body))
            for entry in log
        ]
        try:
            first, second = (fold(saga_id, map(decode, stored)) for _ in range(2))
        except (SagaError, ValueError) as error:
            yield Violation("P7", saga_id, f"its log cannot be folded: {error}")
            continue
        if first != second:
            yield Violation("P7", saga_id, "folding its log twice gives two states")
        if (first.status, first.remaining) != (row.status, row.remaining):
            said = f"{row.status} {row.remaining}"
            yield Violation(
                "P7", saga_id, f"its log folds to {first.status} {first.remaining}, the row says {said}"
            )
