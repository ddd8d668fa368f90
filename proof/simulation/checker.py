"""Judges a batch: every promise of every saga, from what clients, participants and the database saw.

Of the program it knows the vocabulary (definitions, entries, outcomes) and `fold`, which it holds against the rows. It does not
know how anything is decided, committed or owned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from proof.simulation.batch import CALM_AT_SECONDS, Batch
from proof.simulation.evidence import FINAL, Evidence, Record, link, records_of
from proof.simulation.history import Start
from proof.simulation.judge_calls import judge_calls
from proof.simulation.judge_end import judge_end
from proof.simulation.judge_family import judge_family
from proof.simulation.judge_log import judge_log
from proof.simulation.judge_rooms import judge_beats, judge_holds, judge_rooms
from proof.simulation.judge_waits import judge_published, judge_waits
from proof.violation import Violation
from saga_coordinator.saga.machine.entries import Entry, SagaEntry
from saga_coordinator.saga.machine.state import SagaState, apply
from saga_coordinator.saga.machine.transitions import SAGA_TRANSITIONS, STEP_TRANSITIONS, SagaStatus
from saga_coordinator.saga.words.act import ActResult
from saga_coordinator.saga.words.errors import ImpossibleTransition


@dataclass(slots=True)
class Verdict:
    """Of one batch. `rows_seen`: the rows of the transition tables that its logs went through."""

    seed: int
    sagas: int
    faults: Counter[str]
    met: Counter[str]
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
    verdict = Verdict(batch.seed, len(database.sagas), history.faults, history.met)
    verdict.violations += [Violation("defect", "", what) for what in history.defects]
    verdict.violations += [Violation("P1", saga_id, "it never settled") for saga_id in history.unsettled]
    evidences = _evidences(batch)
    verdict.violations += link(evidences)
    for saga_id, evidence in evidences.items():
        verdict.ends[
            "waiting for a parked child" if evidence.is_stalled else database.sagas[saga_id].status
        ] += 1
        verdict.violations += _judge_saga(evidence, evidences, verdict.rows_seen)
    verdict.violations += judge_published(history, evidences, CALM_AT_SECONDS)
    verdict.violations += judge_rooms(history)
    _judge_starts(batch, verdict)
    _judge_cancels(batch, evidences, verdict)
    for saga_id, at, has_ended in history.waits:
        if not has_ended:
            verdict.violations.append(Violation("P13", saga_id, f"was said to have settled at {at:.3f}"))
    for saga_id, step, _ in history.calls:
        if saga_id not in evidences:
            verdict.violations.append(
                Violation("P6", saga_id, "was called for without being in the database")
            )
        elif step not in evidences[saga_id].plan.instances:
            verdict.violations.append(Violation("P12", saga_id, f"{step} was called, which it does not have"))
    return verdict


def _evidences(batch: Batch) -> dict[str, Evidence]:
    database = batch.database
    starts = {start.start_key: start for start in batch.history.starts}
    evidences = {}
    for saga_id, row in database.sagas.items():
        definition = database.definitions[row.definition].definition
        spec = database.specs[row.definition]
        log = records_of(database.logs[saga_id])
        start = starts.get(row.start_key)
        evidences[saga_id] = Evidence(saga_id, definition, spec, row, log, batch.history, start)
    return evidences


def _judge_saga(evidence: Evidence, evidences: dict[str, Evidence], rows_seen: set[str]) -> list[Violation]:
    try:
        _walk(evidence.saga_id, evidence.log, rows_seen)
    except ImpossibleTransition as error:
        evidence.broken("P7", f"the log cannot be replayed: {error}")
        return evidence.violations
    try:
        judge_log(evidence)
        judge_waits(evidence)
        judge_calls(evidence)
        judge_beats(evidence, CALM_AT_SECONDS)
        judge_holds(evidence, CALM_AT_SECONDS)
        judge_family(evidence, evidences)
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


def _judge_cancels(batch: Batch, evidences: dict[str, Evidence], verdict: Verdict) -> None:
    """A cancel that was promised is kept; one that was refused had come too late."""
    for cancel in batch.history.cancels:
        row = batch.database.sagas.get(cancel.saga_id)
        if row is None or cancel.is_done is None:
            continue
        is_stalled = evidences[cancel.saga_id].is_stalled
        if (
            cancel.is_done
            and not is_stalled
            and row.status not in {SagaStatus.COMPENSATED, SagaStatus.NEEDS_ATTENTION}
        ):
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
        results = batch.database.acts.get(cancel.act.act_id, set())
        if not (results - {ActResult.REFUSED} if cancel.is_done else results):
            what = f"a cancel is recorded as {sorted(results)}, and done is {cancel.is_done}"
            verdict.violations.append(Violation("P12", cancel.saga_id, what))
