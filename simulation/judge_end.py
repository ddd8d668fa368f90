"""How it ended: all or compensated, and what the guarded participants' books say (P1, P2)."""

from __future__ import annotations

from saga_coordinator.saga.definition import Step
from saga_coordinator.saga.state import SagaStatus
from simulation.evidence import ACTION, COMPENSATION, Evidence
from simulation.history import Entry
from simulation.participants import GUARDED

_FOREVER = float("inf")


def judge_end(evidence: Evidence) -> None:
    """P1 and P2, by what participants told and by their books."""
    row = evidence.row
    if row.owner is not None or row.wake_at is not None:
        evidence.broken("P1", f"it never settled: {row.status}, owner {row.owner}, wake_at {row.wake_at}")
        return
    for step in evidence.definition.steps:
        book = evidence.history.books.get((evidence.saga_id, step.name)) if _is_guarded(step) else None
        if book is not None and (book.applied > 1 or book.undone > 1):
            evidence.broken(
                "P5", f"{step.name} took effect {book.applied} times, was undone {book.undone} times"
            )
        match row.status:
            case SagaStatus.COMPLETED:
                _judge_completed(evidence, step, book)
            case SagaStatus.COMPENSATED:
                _judge_compensated(evidence, step, book)
            case SagaStatus.NEEDS_ATTENTION:
                _judge_parked(evidence, step, book)
            case _:
                evidence.broken("P1", f"it stands at {row.status}")


def _is_guarded(step: Step) -> bool:
    return step.action.participant in GUARDED


def _is_refused(evidence: Evidence, step: Step) -> bool:
    return step.compensate_on_refusal and bool(evidence.records(step.name, ACTION, "attempt_refused"))


def _judge_completed(evidence: Evidence, step: Step, book: Entry | None) -> None:
    if not evidence.has_succeeded(step.name, ACTION, _FOREVER):
        evidence.broken("P2", f"COMPLETED, but nobody said that {step.name} had succeeded")
    if evidence.calls(step.name, COMPENSATION):
        evidence.broken("P2", f"COMPLETED, but {step.name} was compensated")
    if _is_guarded(step) and (book is None or book.applied != 1 or book.undone):
        evidence.broken("P2", f"COMPLETED, but the book of {step.name} says {book}")


def _judge_compensated(evidence: Evidence, step: Step, book: Entry | None) -> None:
    if step.is_read_only:
        return
    if evidence.may_have_effect(step.name, evidence.ended_at) or _is_refused(evidence, step):
        if step.compensation is None:
            evidence.broken("P2", f"COMPENSATED, but {step.name} may have taken effect and cannot be undone")
        elif not evidence.is_undone(step, _FOREVER):
            evidence.broken("P2", f"COMPENSATED, but nobody said that {step.name} was undone")
    if book is not None and book.applied != book.undone:
        evidence.broken("P2", f"COMPENSATED, but the book of {step.name} says {book}")


def _judge_parked(evidence: Evidence, step: Step, book: Entry | None) -> None:
    is_listed = step.name in evidence.row.remaining
    # A refusal that is reported later takes an effect off the list; what contradicts a refusal does not put one on it.
    may_stand = not step.is_read_only and all(
        evidence.may_have_effect(step.name, by) for by in (evidence.ended_at, _FOREVER)
    )
    is_undone = step.compensation is not None and evidence.is_undone(step, _FOREVER)
    if may_stand and not is_undone and not is_listed:
        evidence.broken("P2", f"NEEDS_ATTENTION, but the effect of {step.name} is not listed as remaining")
    if is_listed and not evidence.was_intended(step.name) and not _is_refused(evidence, step):
        evidence.broken("P2", f"NEEDS_ATTENTION lists {step.name}, which had no effect")
    if is_listed and evidence.records(step.name, COMPENSATION, "attempt_succeeded", "nothing_to_undo"):
        evidence.broken("P2", f"NEEDS_ATTENTION lists {step.name}, which was undone")
    if book is not None and book.applied > book.undone and not is_listed and not step.is_read_only:
        evidence.broken("P2", f"NEEDS_ATTENTION does not list {step.name}, whose book says {book}")
