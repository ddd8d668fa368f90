"""What went over the wire: keys, intents, leases, order, and never both operations at once (P3 to P6, P8)."""

from __future__ import annotations

from typing import Any

from simulation.database import EPOCH
from simulation.evidence import ACTION, COMPENSATION, Evidence
from simulation.history import Call

_TOLERANCE_SECONDS = 0.001
"""Clocks of coordinators run up to one part in ten thousand fast or slow, over a lease's three seconds."""


def judge_calls(evidence: Evidence) -> None:
    """P3, P4, P5, P6 and the lease."""
    _judge_keys(evidence)
    for call in evidence.all_calls():
        _judge_intent(evidence, call)
    for step in evidence.definition.steps:
        for call in evidence.calls(step.name, ACTION):
            _judge_forward(evidence, call)
        for call in evidence.calls(step.name, COMPENSATION):
            _judge_backward(evidence, call)
        _judge_inputs(evidence, step.name, ACTION)
        _judge_inputs(evidence, step.name, COMPENSATION)


def _judge_keys(evidence: Evidence) -> None:
    used: dict[str, tuple[str, str]] = {}
    for call in evidence.all_calls():
        operation = (call.step, call.operation)
        if used.setdefault(call.key, operation) != operation:
            evidence.broken("P5", f"{operation} and {used[call.key]} share the key {call.key}")
    for step in evidence.definition.steps:
        for kind in (ACTION, COMPENSATION):
            calls = evidence.calls(step.name, kind)
            keys = {call.key for call in calls}
            if len(keys) > 1:
                evidence.broken("P5", f"the {kind} of {step.name} was called with {sorted(keys)}")
            attempts = [call.attempt for call in calls]
            if len(set(attempts)) < len(attempts):
                evidence.broken("P8", f"an attempt of the {kind} of {step.name} was made twice: {attempts}")


def _judge_intent(evidence: Evidence, call: Call) -> None:
    name = f"attempt {call.attempt} of the {call.operation} of {call.step}"
    if call.intent_by is None:
        evidence.broken("P6", f"{name} was made before it was committed")
    elif call.intent_by != call.node:
        evidence.broken("P8", f"{name} was decided by {call.intent_by} and made by {call.node}")
    if call.lease_until + _TOLERANCE_SECONDS < EPOCH + call.sent_at:
        evidence.broken("P8", f"{name} was made by {call.node} at {call.sent_at:.3f} without a lease")


def _judge_forward(evidence: Evidence, call: Call) -> None:
    for other in evidence.definition.step(call.step).after:
        if not evidence.has_succeeded(other, ACTION, call.sent_at):
            evidence.broken("P2", f"the action of {call.step} was called before {other} had succeeded")
    for other_step in evidence.definition.steps:
        for undoing in evidence.calls(other_step.name, COMPENSATION):
            if undoing.intent_at < call.intent_at:
                evidence.broken("P3", f"the action of {call.step} was decided after the saga had turned")


def _judge_backward(evidence: Evidence, call: Call) -> None:
    definition = evidence.definition
    for name in (call.step, *sorted(definition.dependents[call.step])):
        is_decided = name != call.step and any(
            record.at <= call.sent_at
            for record in evidence.records(
                name, ACTION, "attempt_refused", "attempt_succeeded", "outcome_late"
            )
        )
        for action in evidence.calls(name, ACTION):
            is_in_flight = action.sent_at <= call.sent_at < action.over_at - _TOLERANCE_SECONDS
            if is_in_flight and not is_decided:
                evidence.broken(
                    "P4",
                    f"{call.step} was compensated at {call.sent_at:.3f} while attempt {action.attempt} of {name}, made at "
                    f"{action.sent_at:.3f}, was in flight until {action.over_at:.3f}",
                )
            if action.sent_at > call.sent_at:
                evidence.broken("P4", f"the action of {name} was called after {call.step} was compensated")
    for name in sorted(definition.dependents[call.step]):
        step = definition.step(name)
        if (
            step.compensation is not None
            and evidence.may_have_effect(name, call.sent_at)
            and not evidence.is_undone(step, call.sent_at)
        ):
            evidence.broken("P3", f"{call.step} was compensated at {call.sent_at:.3f} before {name} was")
    pivot = definition.pivot
    if pivot is not None and evidence.may_have_effect(pivot.name, call.sent_at):
        evidence.broken("P2", f"{call.step} was compensated though the pivot {pivot.name} may have succeeded")


def _judge_inputs(evidence: Evidence, step: str, operation: str) -> None:
    calls = evidence.calls(step, operation)
    if not calls:
        return
    for call in calls[1:]:
        if call.input != calls[0].input:
            evidence.broken("P5", f"attempts of the {operation} of {step} carried different inputs")
    expected = _expected_input(evidence, step, operation)
    if calls[0].input != expected:
        evidence.broken("P5", f"the {operation} of {step} was given {calls[0].input}, not {expected}")


def _expected_input(evidence: Evidence, step: str, operation: str) -> dict[str, Any]:
    spec = next(each for each in evidence.spec["steps"] if each["name"] == step)
    return {
        name: _value(evidence, step, operation, source) for name, source in spec[operation]["input"].items()
    }


def _value(evidence: Evidence, step: str, operation: str, source: str) -> Any:
    match source[2:-1].split("."):
        case ("input", name):
            assert evidence.start is not None
            return evidence.start.input.get(name)
        case ("steps", name, "output", "ref"):
            return f"{evidence.saga_id}:{name}"
        case ("failure", "code"):
            failed = next(record.row for record in evidence.log if record.row.type == "saga_failed")
            return failed.entry().cause.code  # type: ignore[union-attr]
        case ("output", "ref"):
            first = evidence.records(step, operation, "attempt_started")[0]
            is_known = evidence.is_success_recorded(step, first.sequence)
            return f"{evidence.saga_id}:{step}" if is_known else None
        case _:
            raise AssertionError(source)
