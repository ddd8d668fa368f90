"""The log: it replays, it says what participants said, it keeps to its own times (P7, P9, P10, P12)."""

from __future__ import annotations

from saga_coordinator.saga.entries import (
    AttemptPending,
    AttemptRefused,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    SagaFailed,
    SagaStarted,
)
from saga_coordinator.saga.outcome import Pending, Refused, Succeeded
from saga_coordinator.saga.state import fold
from simulation.evidence import ACTION, COMPENSATION, LATE_REFUSAL, LATE_SUCCESS, Evidence, Record
from simulation.participants import output_of

_TOLERANCE_SECONDS = 0.01
_CLOCK_BEHIND_SECONDS = 3.1
"""A coordinator's idea of the database's time is late by what its last renewal took to be answered: its lease at most."""


def judge_log(evidence: Evidence) -> None:
    """P7, P9, P10 and P12."""
    _judge_replay(evidence)
    for record in evidence.log:
        _judge_truth(evidence, record)
    _judge_times(evidence)
    for step in evidence.definition.steps:
        for kind in (ACTION, COMPENSATION):
            _judge_once(evidence, step.name, kind)
            _judge_reports(evidence, step.name, kind)
            _judge_budget(evidence, step.name, kind)


def _judge_replay(evidence: Evidence) -> None:
    entries = [record.entry for record in evidence.log]
    state, row = fold(evidence.saga_id, entries), evidence.row
    if fold(evidence.saga_id, entries) != state or state.sequence != len(entries):
        evidence.broken("P7", "replaying the log twice gives two states")
    failure = None if state.failure is None else (state.failure.code, state.failure.message)
    said = None if row.failure is None else (row.failure["code"], row.failure["message"])
    if (state.status, set(state.remaining), failure) != (row.status, set(row.remaining), said):
        is_late = evidence.log[-1].row.type == "outcome_late" and state.status is row.status
        if (
            not is_late
        ):  # what is told to a parked saga may take effects off its list, and its row follows later
            evidence.broken(
                "P7",
                f"the log says {state.status} {state.remaining} {failure}, the row {row.status} {row.remaining} {said}",
            )


def _judge_truth(evidence: Evidence, record: Record) -> None:
    """No outcome is invented, and none that was heard is turned into another."""
    row = record.row
    if row.step is None:
        return
    assert row.operation is not None
    heard = list(evidence.told(row.step, row.operation, record.at))
    of_call = [call for call in evidence.calls(row.step, row.operation) if call.attempt == row.attempt]
    is_true = True
    match record.entry:
        case AttemptSucceeded(output=output):
            is_true = Succeeded(output) in heard
            if row.operation == ACTION and output != output_of(evidence.saga_id, row.step):
                is_true = False
        case AttemptRefused(cause=cause) | NothingToUndo(cause=cause):
            is_true = Refused(cause) in heard
            if isinstance(record.entry, NothingToUndo) and evidence.is_success_recorded(
                row.step, record.sequence
            ):
                evidence.broken("P2", f"{row.step} was certain, and NOT_FOUND was taken for undone")
        case AttemptPending():
            is_true = any(isinstance(call.outcome, Pending) for call in of_call)
        case OutcomeLate(outcome=outcome):
            kind = Succeeded if outcome == LATE_SUCCESS else Refused
            is_true = any(isinstance(each, kind) for each in heard)
        case AttemptUnknown(cause=cause) | AttemptUnresolved(cause=cause):
            is_true = cause.code in {"COORDINATOR_LOST", "PENDING_TIMEOUT", "PENDING"} or not any(
                isinstance(call.outcome, Succeeded | Refused) and call.node == row.recorded_by
                for call in of_call
            )
        case InputInvalid():
            assert evidence.start is not None
            is_true = "maybe" not in evidence.start.input
        case _:
            pass
    if not is_true:
        evidence.broken("P12", f"entry {record.sequence} says what nobody said: {record.entry}")


def _judge_once(evidence: Evidence, step: str, operation: str) -> None:
    """P9: what was told twice is recorded once."""
    late = [
        record.entry.outcome
        for record in evidence.records(step, operation, "outcome_late")
        if isinstance(record.entry, OutcomeLate)
    ]
    succeeded = len(evidence.records(step, operation, "attempt_succeeded")) + late.count(LATE_SUCCESS)
    refused = len(evidence.records(step, operation, "attempt_refused", "nothing_to_undo"))
    if succeeded > 1 or refused + late.count(LATE_REFUSAL) > 1:
        evidence.broken("P9", f"the outcome of the {operation} of {step} was applied more than once")


def _judge_reports(evidence: Evidence, step: str, operation: str) -> None:
    """P1, P9: a report that was taken is in the log, once (`_judge_once`), however often it was told and with which answer."""
    for report in evidence.reports(step, operation):
        if None in report.answers:
            evidence.broken("P9", f"a report on the {operation} of {step} was refused")
        is_success = isinstance(report.outcome, Succeeded)
        types = ("attempt_succeeded",) if is_success else ("attempt_refused", "nothing_to_undo")
        late = LATE_SUCCESS if is_success else LATE_REFUSAL
        is_recorded = evidence.records(step, operation, *types) or any(
            isinstance(record.entry, OutcomeLate) and record.entry.outcome == late
            for record in evidence.records(step, operation, "outcome_late")
        )
        if report.answers and not is_recorded:
            evidence.broken("P1", f"a report on the {operation} of {step} was taken and lost")


def _judge_budget(evidence: Evidence, step: str, operation: str) -> None:
    started = evidence.records(step, operation, "attempt_started")
    if not started:
        return
    definition = evidence.definition.step(step)
    described = definition.action if operation == ACTION else definition.compensation
    assert described is not None
    cut_off = sum(
        isinstance(record.entry, AttemptUnknown) and record.entry.cause.code == "COORDINATOR_LOST"
        for record in evidence.records(step, operation, "attempt_unknown")
    )
    if len(started) > described.retry.max_attempts + cut_off:
        evidence.broken("P12", f"the {operation} of {step} was attempted {len(started)} times")


def _judge_times(evidence: Evidence) -> None:
    """P10: nothing is done before its time by the database's clock, and nothing long after its deadline."""
    started = evidence.log[0]
    assert isinstance(started.entry, SagaStarted)
    deadline_at = started.entry.deadline_at
    limits = [
        seconds
        for seconds in (
            evidence.definition.deadline_seconds,
            evidence.start.deadline_seconds if evidence.start else None,
        )
        if seconds is not None
    ]
    if evidence.start is not None and (deadline_at is None) != (not limits):
        evidence.broken("P10", f"the deadline is {deadline_at}, the limits are {limits}")
    if (
        deadline_at is not None
        and deadline_at > started.row.recorded_at + min(limits, default=0.0) + _TOLERANCE_SECONDS
    ):
        evidence.broken("P10", "the deadline is later than what was asked for")
    _judge_deadline(evidence, deadline_at)
    _judge_pauses(evidence)


def _judge_deadline(evidence: Evidence, deadline_at: float | None) -> None:
    """Decisions on a saga are made one after the other: one whose predecessor was committed late is late itself."""
    pivot = evidence.definition.pivot
    if deadline_at is None:
        return
    committed_at = 0.0
    for earlier, record in zip(evidence.log, evidence.log[1:], strict=False):
        row, now = record.row, record.row.recorded_at + _TOLERANCE_SECONDS
        if earlier.row.recorded_at < row.recorded_at:
            committed_at = earlier.row.recorded_at
        if row.type == "attempt_started" and pivot is not None and row.step == pivot.name:
            return
        is_call = row.type == "attempt_started" and row.operation == ACTION
        if is_call and committed_at > deadline_at + _CLOCK_BEHIND_SECONDS:
            evidence.broken("P10", f"entry {record.sequence}: {row.step} was called after the deadline")
        match record.entry:
            case SagaFailed(cause=cause) if cause.code == "DEADLINE" and deadline_at > now:
                evidence.broken("P10", f"the deadline {deadline_at} was raised at {now}")
            case _:
                pass


def _judge_pauses(evidence: Evidence) -> None:
    due: dict[tuple[str, str], float] = {}
    settled: dict[str, float] = {}
    for record in evidence.log:
        row, now = record.row, record.row.recorded_at + _TOLERANCE_SECONDS
        place = (row.step or "", row.operation or "")
        if row.type == "attempt_started":
            if due.pop(place, 0.0) > now:
                evidence.broken("P10", f"entry {record.sequence}: {place} was retried before its time")
            if row.operation == COMPENSATION and settled.get(place[0], 0.0) > now:
                evidence.broken("P4", f"entry {record.sequence}: {place[0]} was undone before it had settled")
        if isinstance(record.entry, AttemptUnknown):
            due[place] = record.entry.retry_at
        settles_at = getattr(record.entry, "settles_at", None)
        if settles_at is not None and row.operation == ACTION:
            settled[place[0]] = max(settled.get(place[0], 0.0), settles_at)
