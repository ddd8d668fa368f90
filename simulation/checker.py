"""Judges a batch: every promise of every saga, from what clients, participants and the database saw.

Of the program it knows the vocabulary (definitions, entries, outcomes) and `fold`, which it holds against the rows. It does not
know how anything is decided, committed or owned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from saga_coordinator.saga.entries import Entry, SagaEntry
from saga_coordinator.saga.errors import ImpossibleTransition
from saga_coordinator.saga.state import (
    SAGA_TRANSITIONS,
    STEP_TRANSITIONS,
    SagaState,
    SagaStatus,
    apply,
)
from simulation.batch import Batch
from simulation.evidence import FINAL, Evidence, Record, Violation, records_of
from simulation.history import Start
from simulation.judge_calls import judge_calls
from simulation.judge_end import judge_end
from simulation.judge_log import judge_log


@dataclass(slots=True)
class Verdict:
    """Of one batch. `rows_seen`: the rows of the transition tables that its logs went through."""

    seed: int
    sagas: int
    faults: Counter[str]
    violations: list[Violation] = field(default_factory=list)
    rows_seen: set[str] = field(default_factory=set)
    ends: Counter[str] = field(default_factory=Counter)


ALL_ROWS = frozenset(
    {f"{status} {entry.__name__}" for status, entry in SAGA_TRANSITIONS}
    | {f"{status} {operation} {entry.__name__}" for status, operation, entry in STEP_TRANSITIONS}
)


def judge(batch: Batch) -> Verdict:
    """Everything that is wrong with a batch."""
    history, database = batch.history, batch.database
    verdict = Verdict(batch.seed, len(database.sagas), history.faults)
    verdict.violations += [Violation("defect", "", what) for what in history.defects]
    verdict.violations += [Violation("P1", saga_id, "it never settled") for saga_id in history.unsettled]
    starts = {start.start_key: start for start in history.starts}
    for saga_id, row in database.sagas.items():
        verdict.ends[row.status] += 1
        start = starts.get(row.start_key)
        registered = database.definitions[row.definition]
        log = records_of(database.logs.get(saga_id, []))
        evidence = Evidence(saga_id, registered.definition, registered.spec, row, log, history, start)
        verdict.violations += _judge_saga(evidence, verdict.rows_seen)
    _judge_starts(batch, verdict)
    _judge_cancels(batch, verdict)
    for saga_id, at, has_ended in history.waits:
        if not has_ended:
            verdict.violations.append(Violation("P13", saga_id, f"was said to have settled at {at:.3f}"))
    for saga_id, _, _ in history.calls:
        if saga_id not in database.sagas:
            verdict.violations.append(
                Violation("P6", saga_id, "was called for without being in the database")
            )
    return verdict


def _judge_saga(evidence: Evidence, rows_seen: set[str]) -> list[Violation]:
    try:
        _walk(evidence.saga_id, evidence.log, rows_seen)
    except ImpossibleTransition as error:
        evidence.broken("P7", f"the log cannot be replayed: {error}")
        return evidence.violations
    try:
        judge_log(evidence)
        judge_calls(evidence)
        judge_end(evidence)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, StopIteration) as error:
        evidence.broken("P7", f"the history makes no sense: {error!r}")
    return evidence.violations


def _walk(saga_id: str, log: list[Record], rows_seen: set[str]) -> None:
    state: SagaState | None = None
    for record in log:
        rows_seen.add(_table_row(state, record.entry))
        state = apply(saga_id, state, record.entry)


def _table_row(state: SagaState | None, entry: Entry) -> str:
    name = type(entry).__name__
    if isinstance(entry, SagaEntry):
        return f"{state and state.status} {name}"
    assert state is not None
    return f"{state.step(entry.step).status} {entry.operation} {name}"


def _judge_starts(batch: Batch, verdict: Verdict) -> None:
    """P1 and P9: what clients were told about their starts."""
    database = batch.database
    by_key: dict[str, list[str]] = defaultdict(list)
    for saga_id, row in database.sagas.items():
        by_key[row.start_key].append(saga_id)
    for start in batch.history.starts:
        sagas = by_key[start.start_key]
        if len(sagas) > 1:
            verdict.violations.append(Violation("P9", sagas[1], f"{start.start_key} started {sagas}"))
        for what in _wrong_answers(batch, start, sagas):
            verdict.violations.append(
                Violation("P9", sagas[0] if sagas else "", f"{start.start_key}: {what}")
            )


def _wrong_answers(batch: Batch, start: Start, sagas: list[str]) -> list[str]:
    if not sagas:
        return [f"answered {start.answers}, but there is no saga (P1)"] if start.answers else []
    first = batch.database.logs[sagas[0]][0].entry()
    body = first.input["body"]  # type: ignore[union-attr]
    wrong = []
    for answer in start.answers:
        if answer.saga_id is None and answer.body == body:
            wrong.append("the same request was told that the key belongs to another")
        elif answer.saga_id is not None and answer.body != body:
            wrong.append("a different request was given the saga")
        elif answer.saga_id is not None and answer.saga_id not in sagas:
            wrong.append(f"was answered {answer.saga_id}, but the database has {sagas}")
    if sum(answer.is_created for answer in start.answers) > 1:
        wrong.append("was created more than once")
    return wrong


def _judge_cancels(batch: Batch, verdict: Verdict) -> None:
    """A cancel that was promised is kept; one that was refused had come too late."""
    for cancel in batch.history.cancels:
        row = batch.database.sagas.get(cancel.saga_id)
        if row is None or cancel.is_done is None:
            continue
        if cancel.is_done and row.status not in {SagaStatus.COMPENSATED, SagaStatus.NEEDS_ATTENTION}:
            verdict.violations.append(Violation("P1", cancel.saga_id, f"was cancelled and is {row.status}"))
        pivot = batch.database.definitions[row.definition].definition.pivot
        is_too_late = any(
            record.at <= cancel.answered_at
            and (
                record.row.type in FINAL
                or (
                    pivot is not None
                    and record.row.type == "attempt_started"
                    and record.row.step == pivot.name
                )
            )
            for record in records_of(batch.database.logs[cancel.saga_id])
        )
        if not cancel.is_done and not is_too_late:
            verdict.violations.append(Violation("P2", cancel.saga_id, "a cancel was refused without reason"))
