"""The log: it replays, it says what participants said, it keeps to its own times (P7, P9, P10, P12)."""

from __future__ import annotations

from proof.conditions import holds
from proof.plan import Instance, Run, branch_of
from proof.simulation.course import Course
from proof.simulation.evidence import ACTION, COMPENSATION, LATE_REFUSAL, LATE_SUCCESS, Evidence, Record
from proof.simulation.history import Call, Report
from proof.simulation.participants import GAVE_UP, STRAY, output_of
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    BlockOpened,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    SagaCompleted,
    SagaFailed,
    StepFailed,
    StepSkipped,
)
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.words.outcome import Outcome, Pending, Refused, Succeeded, Unknown

TOLERANCE_SECONDS = 0.01
CLOCK_BEHIND_SECONDS = 3.1
"""A coordinator's idea of the database's time is late by what its last renewal took to be answered: its lease at most."""

_ENDS_OF_ATTEMPTS = (
    "attempt_succeeded",
    "attempt_refused",
    "attempt_unresolved",
    "attempt_pending",
    "nothing_to_undo",
    "input_invalid",
    "step_failed",
)
_NOT_OF_PARTICIPANTS = frozenset(
    {"COORDINATOR_LOST", "PENDING_TIMEOUT", "HEARTBEAT_TIMEOUT", "PENDING", "STEP_DEADLINE"}
)


def judge_log(evidence: Evidence) -> None:
    """P7, P9, P10 and P12."""
    _judge_replay(evidence)
    for record in evidence.log:
        _judge_truth(evidence, record)
    _judge_times(evidence)
    for each in evidence.plan.operations:
        for kind in (ACTION, COMPENSATION):
            _judge_once(evidence, each.key, kind)
            if each.is_call:
                _judge_reports(evidence, each.key, kind)
                _judge_budget(evidence, each, kind)
    _judge_limits(evidence)


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


# No outcome is invented, and none that was heard is turned into another.


def _judge_truth(evidence: Evidence, record: Record) -> None:
    row = record.row
    if isinstance(record.entry, SagaCompleted):
        given = evidence.plan.given
        if record.entry.output != {"ref": evidence.saga_id, "n": given.get("n")}:
            evidence.broken("P12", f"the output is {record.entry.output} ({record.entry.output_problem})")
    if row.step is None:
        return
    each = evidence.plan.instances.get(row.step)
    if each is None:
        evidence.broken("P12", f"entry {record.sequence} is about {row.step}, which this saga does not have")
    elif each.is_call or each.is_child:
        _judge_operation(evidence, each, record)
    else:
        _judge_shape(evidence, each, record)


def _judge_shape(evidence: Evidence, each: Instance, record: Record) -> None:
    """What is said of steps that call nobody, but for the ends of waits (`judge_waits`)."""
    is_true = True
    match record.entry:
        case BlockOpened(items=items, branch=branch):
            if each.kind == "for_each":
                is_true = list(items or ()) == evidence.plan.given["items"]
            elif each.kind == "switch":
                is_true = branch == branch_of(each)
        case StepSkipped() | StepFailed():
            is_true = _is_skip_true(each, record)
        case _:
            pass
    if not is_true:
        evidence.broken("P12", f"entry {record.sequence} says what the input does not: {record.entry}")


def _is_skip_true(each: Instance, record: Record) -> bool:
    meant = holds(each.spec.get("when"), each.run.variables)
    match record.entry:
        case StepSkipped():
            is_without_branch = each.kind == "switch" and branch_of(each) == -1
            return meant is False or (meant is True and is_without_branch)
        case StepFailed(cause=cause) if cause.code == "EXPRESSION_INVALID":
            return meant is None or (each.kind == "switch" and branch_of(each) is None)
        case StepFailed(cause=cause) if cause.code == "PASSES_SPENT":
            untils = [holds(each.spec["repeat"]["until"], run.variables) for run in each.runs]
            return not any(untils)
        case _:
            return True


def _judge_operation(evidence: Evidence, each: Instance, record: Record) -> None:
    row = record.row
    assert row.operation is not None
    heard = list(evidence.told(each.key, row.operation, record.at))
    of_call = [call for call in evidence.calls(each.key, row.operation) if call.attempt == row.attempt]
    is_true = True
    match record.entry:
        case AttemptSucceeded(output=output):
            is_true = Succeeded(output) in heard
            if each.is_call and row.operation == ACTION:
                is_true = is_true and output == output_of(evidence.saga_id, each.key)
        case AttemptRefused(cause=cause) | NothingToUndo(cause=cause):
            is_true = Refused(cause) in heard if each.is_call else _is_child_refused(heard, cause.code)
            if isinstance(record.entry, NothingToUndo) and evidence.is_success_recorded(
                each.key, record.sequence
            ):
                evidence.broken("P2", f"{each.key} was certain, and NOT_FOUND was taken for undone")
        case AttemptPending() if each.is_call:
            is_true = any(isinstance(call.outcome, Pending) for call in of_call)
        case AttemptHeld():
            is_true = (evidence.saga_id, each.key, row.operation, row.attempt) in evidence.history.was_held
        case OutcomeLate(outcome=outcome):
            kind = Succeeded if outcome == LATE_SUCCESS else Refused
            is_true = any(isinstance(told, kind) for told in heard)
        case AttemptUnknown() | AttemptUnresolved():
            is_true = _is_doubt_true(evidence, each, record, of_call)
        case InputInvalid():
            is_true = "maybe" not in evidence.plan.given
        case StepSkipped() | StepFailed():
            is_true = _is_skip_true(each, record)
        case _:
            pass
    if not is_true:
        evidence.broken("P12", f"entry {record.sequence} says what nobody said: {record.entry}")


def _is_doubt_true(evidence: Evidence, each: Instance, record: Record, of_call: list[Call]) -> bool:
    """Whether somebody said that they do not know, or nobody said anything."""
    row, entry = record.row, record.entry
    assert isinstance(entry, AttemptUnknown | AttemptUnresolved)
    assert row.operation is not None
    if entry.cause.code in (GAVE_UP, STRAY):
        return any(
            report.attempt == row.attempt
            and report.outcome == Unknown(entry.cause)
            and report.made_at <= record.at
            for report in evidence.reports(each.key, row.operation)
        )
    if entry.cause.code in _NOT_OF_PARTICIPANTS:
        return True
    is_held = (evidence.saga_id, each.key, row.operation, row.attempt) in evidence.history.held
    return not is_held and not any(
        isinstance(call.outcome, Succeeded | Refused) and call.node == row.recorded_by for call in of_call
    )


def _is_child_refused(heard: list[Outcome], code: str) -> bool:
    """A child that failed, or one that its parent asked to go back and that could not any more."""
    return code == "FAILED_PRECONDITION" or any(
        isinstance(told, Refused) and told.cause.code == code for told in heard
    )


# What is told, how often, and how often it is tried.


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
        if isinstance(report.outcome, Unknown):
            _judge_unknown_report(evidence, report)
            continue
        is_success = isinstance(report.outcome, Succeeded)
        types = ("attempt_succeeded",) if is_success else ("attempt_refused", "nothing_to_undo")
        late = LATE_SUCCESS if is_success else LATE_REFUSAL
        is_recorded = evidence.records(step, operation, *types) or any(
            isinstance(record.entry, OutcomeLate) and record.entry.outcome == late
            for record in evidence.records(step, operation, "outcome_late")
        )
        if report.answers and not is_recorded:
            evidence.broken("P1", f"a report on the {operation} of {step} was taken and lost")


def _judge_unknown_report(evidence: Evidence, report: Report) -> None:
    """What is reported as unknown moves only the attempt that it is about, and that one only while it is pending."""
    assert isinstance(report.outcome, Unknown)
    places = evidence.records(report.step, report.operation, "attempt_unknown", "attempt_unresolved")
    meant = [
        record
        for record in places
        if isinstance(record.entry, AttemptUnknown | AttemptUnresolved)
        and record.entry.cause == report.outcome.cause
        and record.row.attempt == report.attempt
    ]
    if True in report.answers and not meant:
        evidence.broken(
            "P9",
            f"a report on attempt {report.attempt} of the {report.operation} of {report.step} moved another one, or nothing",
        )


def _judge_budget(evidence: Evidence, each: Instance, operation: str) -> None:
    started = evidence.records(each.key, operation, "attempt_started")
    if not started:
        return
    allowed = each.operation(operation)["retry"]["max_attempts"]
    cut_off = sum(
        isinstance(record.entry, AttemptUnknown) and record.entry.cause.code == "COORDINATOR_LOST"
        for record in evidence.records(each.key, operation, "attempt_unknown")
    )
    held = len(evidence.records(each.key, operation, "attempt_held"))
    if len(started) > allowed + cut_off + held:
        evidence.broken("P12", f"the {operation} of {each.key} was attempted {len(started)} times")


def _judge_limits(evidence: Evidence) -> None:
    """At most so many operations of a saga, and items of a loop, are under way at once; what came first may be tried again."""
    limit = evidence.spec.get("max_parallel")
    course = Course(evidence)
    is_open: set[tuple[str, str]] = set()
    for record in evidence.log:
        row = record.row
        place = (row.step or "", row.operation or "")
        if row.type == "attempt_started":
            is_first = not any(
                earlier.sequence < record.sequence
                for earlier in evidence.records(*place, "attempt_started", "attempt_pending")
            )
            if limit and is_first and len(is_open) >= limit:
                evidence.broken("P11", f"entry {record.sequence}: {len(is_open)} operations are under way")
            is_open.add(place)
        elif row.type in _ENDS_OF_ATTEMPTS:
            is_open.discard(place)
        elif row.type == "saga_failed":
            is_open = {place for place in is_open if _is_in_flight(evidence, place, record.sequence)}
        if row.type in ("attempt_started", "wait_started") and row.operation == ACTION:
            _judge_loop_limits(evidence, course, record)


def _is_in_flight(evidence: Evidence, place: tuple[str, str], by: int) -> bool:
    """Whether the last that was said of it before is that an attempt began; between attempts it is given up at the turn."""
    said = [
        record
        for record in evidence.records(
            *place, "attempt_started", "attempt_unknown", "attempt_held", *_ENDS_OF_ATTEMPTS
        )
        if record.sequence < by
    ]
    return said[-1].row.type == "attempt_started"


def _judge_loop_limits(evidence: Evidence, course: Course, record: Record) -> None:
    assert record.row.step is not None
    each = evidence.plan.instances.get(record.row.step)
    for around in each.chain[1:] if each else ():
        owner = around.run.owner
        assert owner is not None
        limit = owner.spec["for_each"].get("max_parallel") if owner.kind == "for_each" else None
        if limit is None:
            continue
        under_way = [
            run
            for run in owner.runs
            if run is not around.run
            and any(
                earlier.sequence < record.sequence and (earlier.row.step or "").startswith(_prefix(run))
                for earlier in evidence.log
            )
            and max((course.over_at(inner) for inner in run.instances.values()), default=0.0) > record.at
        ]
        if len(under_way) >= limit:
            evidence.broken(
                "P11", f"entry {record.sequence}: {len(under_way)} other items of {owner.key} are under way"
            )


def _prefix(run: Run) -> str:
    assert run.owner is not None
    return f"{run.owner.key}[{run.index}]."


# Times.


def _judge_times(evidence: Evidence) -> None:
    """P10: nothing is done before its time by the database's clock, and nothing long after its deadline."""
    deadline_at = evidence.first.deadline_at
    definition_deadline = evidence.spec.get("deadline")
    limits = [float(definition_deadline[:-1])] if definition_deadline else []
    if evidence.start is not None:
        if evidence.start.deadline_seconds is not None:
            limits.append(evidence.start.deadline_seconds)
        if (deadline_at is None) != (not limits):
            evidence.broken("P10", f"the deadline is {deadline_at}, the limits are {limits}")
    started_at = evidence.log[0].row.recorded_at
    if deadline_at is not None and limits and deadline_at > started_at + min(limits) + TOLERANCE_SECONDS:
        evidence.broken("P10", "the deadline is later than what was asked for")
    _judge_deadline(evidence, deadline_at)
    _judge_pauses(evidence)
    _judge_step_deadlines(evidence)


def committed_before(evidence: Evidence, record: Record) -> float:
    """When what came before was committed: decisions on a saga are made one after the other, and so not before that."""
    return max(
        (
            earlier.row.recorded_at
            for earlier in evidence.log
            if earlier.row.recorded_at < record.row.recorded_at
        ),
        default=0.0,
    )


def _judge_deadline(evidence: Evidence, deadline_at: float | None) -> None:
    """Decisions on a saga are made one after the other: one whose predecessor was committed late is late itself."""
    pivot = evidence.plan.pivot
    if deadline_at is None:
        return
    committed_at = 0.0
    for earlier, record in zip(evidence.log, evidence.log[1:], strict=False):
        row, now = record.row, record.row.recorded_at + TOLERANCE_SECONDS
        if earlier.row.recorded_at < row.recorded_at:
            committed_at = earlier.row.recorded_at
        if row.type == "attempt_started" and row.step == pivot:
            return
        is_call = row.type == "attempt_started" and row.operation == ACTION
        if is_call and committed_at > deadline_at + CLOCK_BEHIND_SECONDS:
            evidence.broken("P10", f"entry {record.sequence}: {row.step} was called after the deadline")
        match record.entry:
            case SagaFailed(cause=cause) if cause.code == "DEADLINE" and deadline_at > now:
                evidence.broken("P10", f"the deadline {deadline_at} was raised at {now}")
            case _:
                pass


def _judge_pauses(evidence: Evidence) -> None:
    due: dict[tuple[str, str], float] = {}
    given_up: dict[tuple[str, str], float] = {}
    settled: dict[str, float] = {}
    for record in evidence.log:
        row, now = record.row, record.row.recorded_at + TOLERANCE_SECONDS
        place = (row.step or "", row.operation or "")
        if row.type == "attempt_started":
            if due.pop(place, 0.0) > now:
                evidence.broken("P10", f"entry {record.sequence}: {place} was retried before its time")
            if row.operation == COMPENSATION and settled.get(place[0], 0.0) > now:
                evidence.broken("P4", f"entry {record.sequence}: {place[0]} was undone before it had settled")
        if isinstance(record.entry, AttemptUnknown):
            due[place] = record.entry.retry_at
        if isinstance(record.entry, AttemptPending) and record.entry.pending_until is not None:
            given_up[place] = record.entry.pending_until
        if (
            isinstance(record.entry, AttemptUnknown | AttemptUnresolved)
            and record.entry.cause.code in ("PENDING_TIMEOUT", "STEP_DEADLINE")
            and given_up.get(place, 0.0) > now
        ):
            evidence.broken("P10", f"entry {record.sequence}: {place} was given up before its time")
        settles_at = getattr(record.entry, "settles_at", None)
        if settles_at is not None and row.operation == ACTION:
            settled[place[0]] = max(settled.get(place[0], 0.0), settles_at)


def _judge_step_deadlines(evidence: Evidence) -> None:
    for each in evidence.plan.operations:
        started = evidence.records(each.key, ACTION, "attempt_started")
        if not started or "deadline" not in each.spec:
            continue
        first = started[0].entry
        assert isinstance(first, AttemptStarted)
        seconds = float(each.spec["deadline"][:-1])
        if first.deadline_at is None or first.deadline_at > started[0].row.recorded_at + seconds + 0.01:
            evidence.broken("P10", f"the deadline of {each.key} is {first.deadline_at}")
            continue
        for record in started[1:]:
            if committed_before(evidence, record) > first.deadline_at + CLOCK_BEHIND_SECONDS:
                evidence.broken("P10", f"{each.key} was attempted after its deadline")
