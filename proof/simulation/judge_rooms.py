"""Held attempts, tasks of workers, limits and signs of life (P8, P10, P11, P12)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from proof.plan import Instance
from proof.simulation.database import EPOCH
from proof.simulation.evidence import ACTION, COMPENSATION, Evidence, Record
from proof.simulation.history import Call, History
from proof.simulation.judge_log import CLOCK_BEHIND_SECONDS, TOLERANCE_SECONDS
from proof.violation import Violation
from saga_coordinator.saga.machine.entries import AttemptHeld, AttemptUnknown, AttemptUnresolved

_SETTLED_SECONDS = 5.0
"""So long after the last fault every coordinator has renewed its lease without trouble, and knows what time it is."""
_HELD_IN_CALM_SECONDS = 120.0
"""When everything works, whatever is held finds room within this, however many wait for it."""
_NEVER = float("inf")


def judge_rooms(history: History) -> Iterator[Violation]:
    """For all sagas together: what was held was not made, a task goes to one worker, and nobody gets more than they take."""
    made = {(*place, call.attempt): call for place, calls in history.calls.items() for call in calls}
    for key in history.held:
        saga_id, step, operation, attempt = key
        if key in history.performed or key in made:
            what = f"attempt {attempt} of the {operation} of {step} was made, and told to be held"
            yield Violation("P12", saga_id, what)
    for (saga_id, step, operation, attempt), handed in history.handed.items():
        if len(handed) > 1:
            what = (
                f"attempt {attempt} of the {operation} of {step} was handed out {len(handed)} times: {handed}"
            )
            yield Violation("P8", saga_id, what)
    for calls in history.calls.values():
        yield from _handed_on(history, calls)
    for saga_id, what in history.crowded:
        yield Violation("P11", saga_id, what)


def _handed_on(history: History, calls: list[Call]) -> Iterator[Violation]:
    """While a worker may be at a task, whoever drives the saga by then, the next attempt is not made."""
    for call, following in pairwise(calls):
        is_early = following.sent_at + TOLERANCE_SECONDS < call.sent_at + call.timeout_seconds
        if is_early and _is_at_it(history, call, following.sent_at):
            what = f"the {call.operation} of {call.step} was attempted again at {following.sent_at:.3f}, and a worker had it"
            yield Violation("P8", call.saga_id, what)


def _is_at_it(history: History, call: Call, at: float) -> bool:
    """Whether a worker has the task, as far as anybody can know: it has told nothing yet, and not taken its leave."""
    attempt = (call.saga_id, call.step, call.operation, call.attempt)
    handed = history.handed.get(attempt, ())
    return history.answered.get(attempt, _NEVER) > at and any(
        each.at <= at and each.stream not in history.left for each in handed
    )


def judge_holds(evidence: Evidence, calm_at: float) -> None:
    """P10: what is held is made once somebody was told that there is room, not before, and not long after its time."""
    held: dict[tuple[str, str], Record] = {}
    for record in evidence.log:
        place = (record.row.step or "", record.row.operation or "")
        if record.row.type in ("saga_failed", "saga_parked"):
            held.clear()
        elif record.row.type == "attempt_held":
            held[place] = record
        elif record.row.type in ("attempt_started", "step_failed") and place in held:
            _judge_hold(evidence, held.pop(place), record, calm_at)


def _judge_hold(evidence: Evidence, held: Record, record: Record, calm_at: float) -> None:
    assert isinstance(held.entry, AttemptHeld)
    due_at = held.entry.retry_at - EPOCH
    place = (evidence.saga_id, held.entry.step, str(held.entry.operation))
    if record.at > max(due_at, calm_at) + _HELD_IN_CALM_SECONDS:
        evidence.broken("P10", f"entry {record.sequence}: {place[1:]} was held since {held.at:.3f}")
    found = evidence.history.rooms.get(place, ())
    if record.row.type == "attempt_started" and not any(held.at <= at <= record.at for at in found):
        evidence.broken("P10", f"entry {record.sequence}: {place[1:]} was held, and nobody had found room")


def judge_beats(evidence: Evidence, calm_at: float) -> None:
    """P10: who was told that its outcome is awaited is not given up before it has been silent for as long as it may be."""
    for each in evidence.plan.calls:
        for operation in (ACTION, COMPENSATION):
            _judge_silence(evidence, each, operation, calm_at)


def _judge_silence(evidence: Evidence, each: Instance, operation: str, calm_at: float) -> None:
    for record in evidence.records(each.key, operation, "attempt_unknown", "attempt_unresolved"):
        entry = record.entry
        assert isinstance(entry, AttemptUnknown | AttemptUnresolved)
        if entry.cause.code != "HEARTBEAT_TIMEOUT":
            continue
        silence = float(each.operation(operation)["heartbeat_timeout"][:-1])
        is_calm = record.at > calm_at + _SETTLED_SECONDS
        tolerance = TOLERANCE_SECONDS if is_calm else CLOCK_BEHIND_SECONDS
        beats = evidence.history.beats.get((evidence.saga_id, each.key, operation), ())
        heard = [
            beat.asked_at
            for beat in beats
            if beat.is_awaited and beat.attempt == record.row.attempt and beat.answered_at <= record.at
        ]
        if heard and max(heard) + silence > record.at + tolerance:
            evidence.broken(
                "P10",
                f"the {operation} of {each.key} was given up at {record.at:.3f}, and heard of at {max(heard):.3f}",
            )
