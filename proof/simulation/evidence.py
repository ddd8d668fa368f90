"""One saga's history, laid out for the checks: what was called, told and recorded, from outside of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proof.plan import Instance, Plan
from proof.simulation.database import EPOCH
from proof.simulation.directory import UNGUARDED
from proof.simulation.history import Call, History, Report, Start
from proof.simulation.tables import LogRow, Row
from proof.violation import Violation
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.entries import (
    AttemptRefused,
    Entry,
    OutcomeLate,
    Parent,
    SagaCompleted,
    SagaFailed,
    SagaRecalled,
    SagaStarted,
)
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.outcome import Cause, Outcome, Refused, Succeeded

ACTION, COMPENSATION = "action", "compensation"
FINAL = frozenset({"saga_completed", "saga_compensated", "saga_parked"})
LATE_SUCCESS, LATE_REFUSAL = "SUCCEEDED", "REFUSED"
PARENT_FAILED = "PARENT_FAILED"
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of the log. `at` is in virtual seconds."""

    sequence: int
    entry: Entry
    row: LogRow
    at: float


@dataclass
class Evidence:
    """Everything about one saga. `children` are the sagas that its steps ran, by the step's key."""

    saga_id: str
    definition: Definition
    spec: dict[str, Any]
    row: Row
    log: list[Record]
    history: History
    start: Start | None
    violations: list[Violation] = field(default_factory=list)
    children: dict[str, Evidence] = field(default_factory=dict)
    is_stalled: bool = False
    """Whether it waits for a child that needs a person."""

    def __post_init__(self) -> None:
        first = self.log[0].entry
        assert isinstance(first, SagaStarted)
        self.first = first
        # A child that is only there to be found undone has no input, and starts nothing.
        self.plan = Plan(self.spec, first.input or {"items": []})
        self._by_place: dict[tuple[str | None, str | None], list[Record]] = {}
        for record in self.log:
            self._by_place.setdefault((record.row.step, record.row.operation), []).append(record)

    def broken(self, promise: str, what: str) -> None:
        self.violations.append(Violation(promise, self.saga_id, what))

    @property
    def parent(self) -> Parent | None:
        return self.first.parent

    @property
    def ended_at(self) -> float:
        """When the log said that nothing moves any more; what contradictory participants say later changes nothing."""
        return next((record.at for record in reversed(self.log) if record.row.type in FINAL), _NEVER)

    @property
    def recalled_at(self) -> float:
        """When the saga that it is a step of had it undone."""
        return next((record.at for record in self.log if _is_recall(record.entry)), _NEVER)

    @property
    def is_tombstone(self) -> bool:
        """Whether it was undone before it was ever started."""
        return len(self.log) > 1 and self.log[0].at == self.log[1].at and _is_recall(self.log[1].entry)

    def turned(self) -> Cause | None:
        """Why the saga went back."""
        for record in self.log:
            if isinstance(record.entry, SagaFailed | SagaRecalled):
                return record.entry.cause
        return None

    # What went over the wire.

    def calls(self, step: str, operation: str) -> list[Call]:
        if step in self.children:
            return self._calls_of_child(step, operation)
        return self.history.calls.get((self.saga_id, step, operation), [])

    def _calls_of_child(self, step: str, operation: str) -> list[Call]:
        """A child's start and its turn at its parent's wish, as if they were calls that end at once."""
        child = self.children[step]
        at = child.recalled_at if operation == COMPENSATION else child.log[0].at
        if at == _NEVER or (operation == ACTION and child.is_tombstone):
            return []
        intents = self.records(step, operation, "attempt_started")
        intent_at = EPOCH + (intents[0].at if intents else _NEVER)
        call = Call(self.saga_id, step, operation, 1, "", None, "", at, 0.0, _NEVER, "", intent_at)
        call.answered_at = at
        return [call]

    def all_calls(self) -> Iterator[Call]:
        """Of participants."""
        for each in self.plan.calls:
            yield from self.calls(each.key, ACTION)
            yield from self.calls(each.key, COMPENSATION)

    def reports(self, step: str, operation: str) -> list[Report]:
        return self.history.reports.get((self.saga_id, step, operation), [])

    def records(self, step: str, operation: str, *types: str) -> list[Record]:
        return [record for record in self._by_place.get((step, operation), ()) if record.row.type in types]

    # What was told.

    def told(self, step: str, operation: str, by: float) -> Iterator[Outcome]:
        """Every outcome that coordinators had heard by then."""
        for outcome, at in self._everything_told(step, operation):
            if at <= by:
                yield outcome

    def _everything_told(self, step: str, operation: str) -> Iterator[tuple[Outcome, float]]:
        if step in self.children:
            yield from self.children[step].told_as_child(operation)
            return
        for call in self.calls(step, operation):
            if call.outcome is not None and call.answered_at is not None:
                yield call.outcome, call.answered_at
        for report in self.reports(step, operation):
            yield report.outcome, report.made_at

    def told_as_child(self, operation: str) -> Iterator[tuple[Outcome, float]]:
        """What a parent may take the child's log for."""
        for record in self.log:
            match record.entry:
                case SagaCompleted(output=output) if operation == ACTION:
                    yield Succeeded(output), record.at
                case _ if record.row.type == "saga_compensated":
                    is_undone = operation == COMPENSATION
                    yield (Succeeded() if is_undone else Refused(Cause("CHILD_FAILED", "")), record.at)
                case _:
                    pass

    def succeeded_at(self, step: str, operation: str) -> float:
        """When the first success was heard of."""
        told = self._everything_told(step, operation)
        return min((at for outcome, at in told if isinstance(outcome, Succeeded)), default=_NEVER)

    def is_success_recorded(self, step: str, before: int) -> bool:
        """Whether the log knew before that sequence that the action had succeeded."""
        return any(record.sequence < before for record in self._successes(step))

    def _successes(self, step: str) -> Iterator[Record]:
        yield from self.records(step, ACTION, "attempt_succeeded")
        for record in self.records(step, ACTION, "outcome_late"):
            if isinstance(record.entry, OutcomeLate) and record.entry.outcome == LATE_SUCCESS:
                yield record

    # What that means.

    def may_have_effect(self, each: Instance, by: float) -> bool:
        """Whether an action was called by then without being refused: the log's word, where participants bear it out.

        Of an unguarded participant that said both nothing can be asked but what it said first.
        """
        step = each.key
        if each.is_child:
            child = self.children.get(step)
            return child is not None and child.log[0].at <= by and not self.is_undone(each, by)
        refused = self._refused(step, by)
        if each.operation(ACTION)["participant"] in UNGUARDED and any(
            isinstance(report.outcome, Refused) for report in self.reports(step, ACTION)
        ):
            refused |= {record.row.attempt for record in self.records(step, ACTION, "attempt_refused")}
        return any(call.sent_at <= by and call.attempt not in refused for call in self.calls(step, ACTION))

    def was_intended(self, step: str) -> bool:
        """Whether the log intends an attempt of the action that was not refused: for all one knows it was made."""
        refused = self._refused(step, _NEVER)
        return any(
            record.row.attempt not in refused for record in self.records(step, ACTION, "attempt_started")
        )

    def _refused(self, step: str, by: float) -> set[int]:
        """Attempts of the action that were refused, and not in doubt before: doubt stays (docs/concepts.md), but for that of
        an attempt which was accepted and is itself refused in the end.

        None, where a participant contradicted itself and said that the action had succeeded too.
        """
        doubted = {record.row.attempt for record in self.records(step, ACTION, "attempt_unknown")}
        accepted = {record.row.attempt for record in self.records(step, ACTION, "attempt_pending")}
        if any(record.at <= by for record in self._successes(step)):
            return set()
        settling = [
            record
            for record in self.records(step, ACTION, "attempt_refused")
            if record.at <= by and isinstance(record.entry, AttemptRefused) and record.entry.settles_doubt
        ]
        # Such a refusal is of the attempt that was accepted, also where a later attempt was held and lends it its number.
        refused = accepted if any(_bears_out(self, record) for record in settling) else set()
        return refused | {
            record.row.attempt
            for record in self.records(step, ACTION, "attempt_refused", "outcome_late")
            if record.at <= by
            and (
                self._was_accepted_and_refused(record)
                if record.row.type == "outcome_late" or record.row.attempt in doubted
                else True
            )
            and _bears_out(self, record)
        }

    def _was_accepted_and_refused(self, record: Record) -> bool:
        """Whether the entry says that a refusal takes the doubt back, of an attempt that had been accepted."""
        assert record.row.step is not None
        accepted = {each.row.attempt for each in self.records(record.row.step, ACTION, "attempt_pending")}
        is_said = isinstance(record.entry, AttemptRefused | OutcomeLate) and record.entry.settles_doubt
        return bool(is_said) and record.row.attempt in accepted

    def is_undone(self, each: Instance, by: float) -> bool:
        """Whether the participant said so by then; NOT_FOUND says so only where nothing was certain."""
        if each.is_child:
            child = self.children.get(each.key)
            return child is None or (child.row.status is SagaStatus.COMPENSATED and child.ended_at <= by)
        for outcome in self.told(each.key, COMPENSATION, by):
            match outcome:
                case Succeeded():
                    return True
                case Refused(cause) if cause.code == "NOT_FOUND":
                    recorded = self.records(each.key, COMPENSATION, "nothing_to_undo")
                    if recorded and not self.is_success_recorded(each.key, recorded[0].sequence):
                        return True
                case _:
                    pass
        return False

    def is_undo_given_up(self, each: Instance, by: float) -> bool:
        """Whether its compensation failed for good, and the definition lets the others go on."""
        types = ("attempt_refused", "attempt_unresolved", "input_invalid")
        return each.is_undo_optional and any(
            record.at <= by for record in self.records(each.key, COMPENSATION, *types)
        )


def _is_recall(entry: Entry) -> bool:
    return isinstance(entry, SagaFailed | SagaRecalled) and entry.cause.code == PARENT_FAILED


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


def link(evidences: dict[str, Evidence]) -> list[Violation]:
    """Gives every saga its children. A step that ran two sagas is told."""
    violations = []
    for child in evidences.values():
        parent = None if child.parent is None else evidences.get(child.parent.saga_id)
        if child.parent is None:
            continue
        if parent is None or child.parent.step in parent.children:
            violations.append(Violation("P5", child.saga_id, f"a second child, or nobody's: {child.parent}"))
            continue
        parent.children[child.parent.step] = child
    for evidence in evidences.values():
        evidence.is_stalled = _waits_for_a_person(evidence)
    return violations


def _waits_for_a_person(evidence: Evidence) -> bool:
    """Whether it stands still because a child of it, or of its children, needs attention."""
    return evidence.row.status not in SETTLED and any(
        child.row.status is SagaStatus.NEEDS_ATTENTION or _waits_for_a_person(child)
        for child in evidence.children.values()
    )
