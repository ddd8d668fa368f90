"""How it ended: all or compensated, and what the guarded participants' books say (P1, P2, P13)."""

from __future__ import annotations

from proof.plan import Instance
from proof.simulation.course import Course
from proof.simulation.directory import GUARDED
from proof.simulation.evidence import ACTION, COMPENSATION, FINAL, LATE_REFUSAL, Evidence
from proof.simulation.history import Entry
from saga_coordinator.saga.machine.entries import OutcomeLate
from saga_coordinator.saga.machine.transitions import SagaStatus

_FOREVER = float("inf")
_SAID = {
    "saga_completed": SagaStatus.COMPLETED,
    "saga_compensated": SagaStatus.COMPENSATED,
    "saga_parked": SagaStatus.NEEDS_ATTENTION,
}


def judge_end(evidence: Evidence) -> None:
    """P1, P2 and P13, by what participants told and by their books."""
    row = evidence.row
    if row.owner is not None or row.wake_at is not None:
        if not evidence.is_stalled:
            evidence.broken("P1", f"it never settled: {row.status}, owner {row.owner}, wake_at {row.wake_at}")
        return
    finals = [record.row.type for record in evidence.log if record.row.type in FINAL]
    if _SAID[finals[-1]] is not row.status:
        evidence.broken("P13", f"it is shown as {row.status}, and its log ended with {finals[-1]}")
    if row.status is SagaStatus.COMPLETED:
        _judge_completed(evidence)
    for each in evidence.plan.operations:
        book = evidence.history.books.get((evidence.saga_id, each.key)) if _is_guarded(each) else None
        if book is not None and (book.applied > 1 or book.undone > 1):
            evidence.broken(
                "P5", f"{each.key} took effect {book.applied} times, was undone {book.undone} times"
            )
        match row.status:
            case SagaStatus.COMPLETED:
                _judge_done(evidence, each, book)
            case SagaStatus.COMPENSATED:
                _judge_compensated(evidence, each, book)
            case SagaStatus.NEEDS_ATTENTION:
                _judge_parked(evidence, each, book)
            case _:
                evidence.broken("P1", f"it stands at {row.status}")


def _is_guarded(each: Instance) -> bool:
    return each.is_call and each.operation(ACTION)["participant"] in GUARDED


def _is_refused(evidence: Evidence, each: Instance) -> bool:
    """Whether a refusal of the step counts as an effect, and it was refused: at once, or in a report that came late."""
    return bool(each.spec.get("compensate_on_refusal")) and (
        bool(evidence.records(each.key, ACTION, "attempt_refused"))
        or any(
            isinstance(late.entry, OutcomeLate) and late.entry.outcome == LATE_REFUSAL
            for late in evidence.records(each.key, ACTION, "outcome_late")
        )
    )


def _judge_completed(evidence: Evidence) -> None:
    """Every step of the saga was over when it was said to be done."""
    course = Course(evidence)
    for each in evidence.plan.root.instances.values():
        if course.over_at(each) > evidence.ended_at:
            evidence.broken("P2", f"COMPLETED, but {each.key} was not over")


def _judge_done(evidence: Evidence, each: Instance, book: Entry | None) -> None:
    if evidence.calls(each.key, COMPENSATION):
        evidence.broken("P2", f"COMPLETED, but {each.key} was compensated")
    was_needed = each.on_failure != "continue" and bool(evidence.calls(each.key, ACTION))
    if _is_guarded(each) and was_needed and (book is None or book.applied != 1 or book.undone):
        evidence.broken("P2", f"COMPLETED, but the book of {each.key} says {book}")


def _judge_compensated(evidence: Evidence, each: Instance, book: Entry | None) -> None:
    if not each.has_effect:
        return
    if evidence.may_have_effect(each, evidence.ended_at) or _is_refused(evidence, each):
        if not each.has_undo:
            evidence.broken("P2", f"COMPENSATED, but {each.key} may have taken effect and cannot be undone")
        elif not evidence.is_undone(each, _FOREVER):
            evidence.broken("P2", f"COMPENSATED, but nobody said that {each.key} was undone")
    if book is not None and book.applied != book.undone:
        evidence.broken("P2", f"COMPENSATED, but the book of {each.key} says {book}")


def _judge_parked(evidence: Evidence, each: Instance, book: Entry | None) -> None:
    is_listed = each.key in evidence.row.remaining
    # A refusal that is reported later takes an effect off the list; what contradicts a refusal does not put one on it.
    may_stand = each.has_effect and all(
        evidence.may_have_effect(each, by) for by in (evidence.ended_at, _FOREVER)
    )
    is_undone = each.has_undo and evidence.is_undone(each, _FOREVER)
    if may_stand and not is_undone and not is_listed:
        evidence.broken("P2", f"NEEDS_ATTENTION, but the effect of {each.key} is not listed as remaining")
    if is_listed and not evidence.was_intended(each.key) and not _is_refused(evidence, each):
        evidence.broken("P2", f"NEEDS_ATTENTION lists {each.key}, which had no effect")
    if is_listed and evidence.records(each.key, COMPENSATION, "attempt_succeeded", "nothing_to_undo"):
        evidence.broken("P2", f"NEEDS_ATTENTION lists {each.key}, which was undone")
    if book is not None and book.applied > book.undone and not is_listed and each.has_effect:
        evidence.broken("P2", f"NEEDS_ATTENTION does not list {each.key}, whose book says {book}")
