"""One saga's history, laid out for the checks: what was called, told and recorded, from outside of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from saga_coordinator.saga.definition import Definition, Step
from saga_coordinator.saga.entries import Entry, OutcomeLate
from saga_coordinator.saga.outcome import Outcome, Pending, Refused, Succeeded
from simulation.database import EPOCH, LogRow, Row
from simulation.history import Call, History, Report, Start
from simulation.participants import UNGUARDED

ACTION, COMPENSATION = "action", "compensation"
FINAL = frozenset({"saga_completed", "saga_compensated", "saga_parked"})
LATE_SUCCESS, LATE_REFUSAL = "SUCCEEDED", "REFUSED"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken. `saga_id` is empty where no single saga is concerned."""

    promise: str
    saga_id: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise} {self.saga_id}: {self.what}"


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of the log. `at` is in virtual seconds."""

    sequence: int
    entry: Entry
    row: LogRow
    at: float

    def is_about(self, step: str, operation: str) -> bool:
        return self.row.step == step and self.row.operation == operation


@dataclass(slots=True)
class Evidence:
    """Everything about one saga."""

    saga_id: str
    definition: Definition
    spec: dict[str, Any]
    row: Row
    log: list[Record]
    history: History
    start: Start | None
    violations: list[Violation] = field(default_factory=list)

    def broken(self, promise: str, what: str) -> None:
        self.violations.append(Violation(promise, self.saga_id, what))

    @property
    def ended_at(self) -> float:
        """When the log said that nothing moves any more; what contradictory participants say later changes nothing."""
        return next((record.at for record in self.log if record.row.type in FINAL), float("inf"))

    def calls(self, step: str, operation: str) -> list[Call]:
        return self.history.calls.get((self.saga_id, step, operation), [])

    def all_calls(self) -> Iterator[Call]:
        for step in self.definition.steps:
            yield from self.calls(step.name, ACTION)
            yield from self.calls(step.name, COMPENSATION)

    def reports(self, step: str, operation: str) -> list[Report]:
        return self.history.reports.get((self.saga_id, step, operation), [])

    def records(self, step: str, operation: str, *types: str) -> list[Record]:
        return [
            record for record in self.log if record.row.type in types and record.is_about(step, operation)
        ]

    def told(self, step: str, operation: str, by: float) -> Iterator[Outcome]:
        """Every outcome that coordinators had heard by then."""
        for call in self.calls(step, operation):
            if call.outcome is not None and call.answered_at is not None and call.answered_at <= by:
                yield call.outcome
        for report in self.reports(step, operation):
            if report.made_at <= by:
                yield report.outcome

    def has_succeeded(self, step: str, operation: str, by: float) -> bool:
        return any(isinstance(outcome, Succeeded) for outcome in self.told(step, operation, by))

    def is_success_recorded(self, step: str, before: int) -> bool:
        """Whether the log knew before that sequence that the action had succeeded."""
        return any(record.sequence < before for record in self._successes(step))

    def _successes(self, step: str) -> Iterator[Record]:
        yield from self.records(step, ACTION, "attempt_succeeded")
        for record in self.records(step, ACTION, "outcome_late"):
            if isinstance(record.entry, OutcomeLate) and record.entry.outcome == LATE_SUCCESS:
                yield record

    def may_have_effect(self, step: str, by: float) -> bool:
        """Whether an action was called by then without being refused: the log's word, where participants bear it out.

        Of an unguarded participant that said both nothing can be asked but what it said first.
        """
        refused = self._refused(step, by)
        if self.definition.step(step).action.participant in UNGUARDED and any(
            isinstance(report.outcome, Refused) for report in self.reports(step, ACTION)
        ):
            refused |= {record.row.attempt for record in self.records(step, ACTION, "attempt_refused")}
        return any(call.sent_at <= by and call.attempt not in refused for call in self.calls(step, ACTION))

    def was_intended(self, step: str) -> bool:
        """Whether the log intends an attempt of the action that was not refused: for all one knows it was made."""
        refused = self._refused(step, float("inf"))
        return any(
            record.row.attempt not in refused for record in self.records(step, ACTION, "attempt_started")
        )

    def _refused(self, step: str, by: float) -> set[int]:
        """Attempts of the action that were refused, and not in doubt before: doubt stays (DESIGN.md section 5).

        None, where a participant contradicted itself and said that the action had succeeded too.
        """
        doubted = {record.row.attempt for record in self.records(step, ACTION, "attempt_unknown")}
        if any(record.at <= by for record in self._successes(step)):
            return set()
        return {
            record.row.attempt
            for record in self.records(step, ACTION, "attempt_refused")
            if record.at <= by and record.row.attempt not in doubted and _bears_out(self, record)
        }

    def is_undone(self, step: Step, by: float) -> bool:
        """Whether the participant said so by then; NOT_FOUND says so only where nothing was certain."""
        for outcome in self.told(step.name, COMPENSATION, by):
            match outcome:
                case Succeeded():
                    return True
                case Refused(cause) if cause.code == "NOT_FOUND":
                    recorded = self.records(step.name, COMPENSATION, "nothing_to_undo")
                    if recorded and not self.is_success_recorded(step.name, recorded[0].sequence):
                        return True
                case _:
                    pass
        return False


def _bears_out(evidence: Evidence, record: Record) -> bool:
    assert record.row.step is not None
    assert record.row.operation is not None
    by_call = any(
        call.attempt == record.row.attempt and isinstance(call.outcome, Refused)
        for call in evidence.calls(record.row.step, record.row.operation)
    )
    return by_call or any(
        isinstance(report.outcome, Refused)
        for report in evidence.reports(record.row.step, record.row.operation)
    )


def records_of(rows: list[LogRow]) -> list[Record]:
    return [
        Record(sequence, row.entry(), row, row.recorded_at - EPOCH) for sequence, row in enumerate(rows, 1)
    ]


__all__ = [
    "ACTION",
    "COMPENSATION",
    "LATE_REFUSAL",
    "LATE_SUCCESS",
    "Evidence",
    "Pending",
    "Record",
    "Violation",
    "records_of",
]
