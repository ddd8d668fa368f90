"""Sagas of sagas: a child runs once and at its parent's wish, and goes back with it (P1, P2, P5, P6)."""

from __future__ import annotations

from collections.abc import Mapping

from proof.simulation.evidence import ACTION, COMPENSATION, Evidence
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus


def judge_family(evidence: Evidence, evidences: Mapping[str, Evidence]) -> None:
    """What a saga was to its parent, and its children to it."""
    if evidence.parent is not None:
        _judge_birth(evidence, evidences[evidence.parent.saga_id])
    for each in evidence.plan.operations:
        child = evidence.children.get(each.key) if each.is_child else None
        if child is None:
            continue
        if child.row.status not in SETTLED and not child.is_stalled:
            evidence.broken("P1", f"it has settled or waits, and its child {child.saga_id} runs")
        if evidence.row.status is SagaStatus.COMPLETED and child.recalled_at < float("inf"):
            evidence.broken("P2", f"COMPLETED, but its child {child.saga_id} was undone")
        if evidence.row.status is SagaStatus.COMPENSATED and each.has_undo:
            if child.row.status is not SagaStatus.COMPENSATED:
                evidence.broken(
                    "P2", f"COMPENSATED, but its child {child.saga_id} is {child.row.status.value}"
                )
            if any(
                call.operation == ACTION and call.sent_at > evidence.ended_at for call in child.all_calls()
            ):
                evidence.broken("P2", f"its child {child.saga_id} acted after it had ended")
    for step in evidence.children:
        running = evidence.plan.instances.get(step)
        if running is None or not running.is_child:
            evidence.broken("P12", f"{step} ran a child, and is no step that does")


def _judge_birth(child: Evidence, parent: Evidence) -> None:
    assert child.parent is not None
    step, born_at = child.parent.step, child.log[0].at
    operation = COMPENSATION if child.is_tombstone else ACTION
    intents = parent.records(step, operation, "attempt_started")
    if not intents or intents[0].at > born_at:
        child.broken("P6", f"it was started before {step} of {parent.saga_id} was committed")
    wishes = parent.records(step, COMPENSATION, "attempt_started")
    if child.recalled_at < float("inf") and (not wishes or wishes[0].at > child.recalled_at):
        child.broken("P6", f"it was recalled before that was committed by {parent.saga_id}")
    if not child.is_tombstone and child.first.input != parent.first.input:
        child.broken("P5", f"it was given {child.first.input}, not {parent.first.input}")
    if child.is_tombstone and any(True for _ in child.all_calls()):
        child.broken("P2", "it acted, though it was undone before it was started")
    depth = 1 if parent.parent is None else parent.parent.depth + 1
    if child.parent.depth != depth:
        child.broken("P12", f"its depth is {child.parent.depth}, not {depth}")
