"""What went over the wire: keys, intents, leases, order, and never both operations at once (P3 to P6, P8)."""

from __future__ import annotations

from typing import Any

import orjson

from proof.definitions import SAID, SAYS
from proof.plan import Instance
from proof.simulation.course import Course
from proof.simulation.database import EPOCH
from proof.simulation.evidence import ACTION, COMPENSATION, Evidence
from proof.simulation.history import Call
from proof.simulation.participants import output_of

_TOLERANCE_SECONDS = 0.001
"""Clocks of coordinators run up to one part in ten thousand fast or slow, over a lease's three seconds."""


def judge_calls(evidence: Evidence) -> None:
    """P3, P4, P5, P6 and the lease."""
    _judge_keys(evidence)
    for call in evidence.all_calls():
        _judge_intent(evidence, call)
    course = Course(evidence)
    for each in evidence.plan.operations:
        for call in evidence.calls(each.key, ACTION):
            _judge_forward(evidence, course, each, call)
        for call in evidence.calls(each.key, COMPENSATION):
            _judge_backward(evidence, each, call)
        if each.is_call:
            _judge_inputs(evidence, each, ACTION)
            _judge_inputs(evidence, each, COMPENSATION)


def _judge_keys(evidence: Evidence) -> None:
    used: dict[str, tuple[str, str]] = {}
    for call in evidence.all_calls():
        operation = (call.step, call.operation)
        if used.setdefault(call.key, operation) != operation:
            evidence.broken("P5", f"{operation} and {used[call.key]} share the key {call.key}")
    for each in evidence.plan.calls:
        for kind in (ACTION, COMPENSATION):
            calls = evidence.calls(each.key, kind)
            keys = {call.key for call in calls}
            if len(keys) > 1:
                evidence.broken("P5", f"the {kind} of {each.key} was called with {sorted(keys)}")
            attempts = [call.attempt for call in calls]
            if len(set(attempts)) < len(attempts):
                evidence.broken("P8", f"an attempt of the {kind} of {each.key} was made twice: {attempts}")


def _judge_intent(evidence: Evidence, call: Call) -> None:
    name = f"attempt {call.attempt} of the {call.operation} of {call.step}"
    if call.intent_by is None:
        evidence.broken("P6", f"{name} was made before it was committed")
    elif call.intent_by != call.node:
        evidence.broken("P8", f"{name} was decided by {call.intent_by} and made by {call.node}")
    if call.lease_until + _TOLERANCE_SECONDS < EPOCH + call.asked_at:
        evidence.broken("P8", f"{name} was begun by {call.node} at {call.asked_at:.3f} without a lease")
    if call.sent_at > call.over_by + _TOLERANCE_SECONDS:
        evidence.broken(
            "P4", f"{name} was made at {call.sent_at:.3f}, and was to be over at {call.over_by:.3f}"
        )


def _judge_forward(evidence: Evidence, course: Course, each: Instance, call: Call) -> None:
    ready_at = course.may_start_at(each)
    if ready_at > call.sent_at:
        evidence.broken(
            "P2",
            f"the action of {each.key} was called at {call.sent_at:.3f}, not to be before {ready_at:.3f}",
        )
    for other in evidence.plan.operations:
        for undoing in evidence.calls(other.key, COMPENSATION):
            if undoing.intent_at < call.intent_at:
                evidence.broken("P3", f"the action of {each.key} was decided after the saga had turned")


def _judge_backward(evidence: Evidence, each: Instance, call: Call) -> None:
    later = evidence.plan.later(each.key)
    for other in (each, *later):
        is_decided = other is not each and any(
            record.at <= call.sent_at
            for record in evidence.records(
                other.key, ACTION, "attempt_refused", "attempt_succeeded", "outcome_late"
            )
        )
        for action in evidence.calls(other.key, ACTION):
            is_in_flight = action.sent_at <= call.sent_at < action.over_at - _TOLERANCE_SECONDS
            if is_in_flight and not is_decided:
                evidence.broken(
                    "P4",
                    f"{call.step} was compensated at {call.sent_at:.3f} while attempt {action.attempt} of {other.key}, made "
                    f"at {action.sent_at:.3f}, was in flight until {action.over_at:.3f}",
                )
            if action.sent_at > call.sent_at:
                evidence.broken(
                    "P4", f"the action of {other.key} was called after {call.step} was compensated"
                )
    for other in later:
        if (
            other.has_undo
            and evidence.may_have_effect(other, call.sent_at)
            and not evidence.is_undone(other, call.sent_at)
            and not evidence.is_undo_given_up(other, call.sent_at)
        ):
            evidence.broken("P3", f"{call.step} was compensated at {call.sent_at:.3f} before {other.key} was")
    pivot = evidence.plan.pivot
    if pivot is not None and evidence.may_have_effect(evidence.plan.instances[pivot], call.sent_at):
        evidence.broken("P2", f"{call.step} was compensated though the pivot {pivot} may have succeeded")


def _judge_inputs(evidence: Evidence, each: Instance, operation: str) -> None:
    calls = evidence.calls(each.key, operation)
    if not calls:
        return
    for call in calls[1:]:
        if orjson.dumps(call.input) != orjson.dumps(calls[0].input):
            evidence.broken("P5", f"attempts of the {operation} of {each.key} carried different inputs")
    template = each.operation(operation).get("input")
    expected: Any = evidence.plan.given
    if template is not None:
        expected = {name: _value(evidence, each, operation, source) for name, source in template.items()}
    elif operation == COMPENSATION:
        expected = output_of(evidence.saga_id, each.key) if _is_output_known(evidence, each) else None
    if calls[0].input != expected:
        evidence.broken("P5", f"the {operation} of {each.key} was given {calls[0].input}, not {expected}")


def _value(evidence: Evidence, each: Instance, operation: str, source: str) -> Any:
    if source == SAID:
        return SAYS
    match source[2:-1].split("."):
        case ("input", name):
            return evidence.plan.given.get(name)
        case ("item" | "index" | "number" as name,):
            return each.run.variables[name]
        case ("steps", name, "output", "ref"):
            other = evidence.plan.visible(each.key, name).key
            child = evidence.children.get(other)
            return f"{evidence.saga_id}:{other}" if child is None else child.saga_id
        case ("failure", "code"):
            cause = evidence.turned()
            return cause and cause.code
        case ("output", "ref"):
            return f"{evidence.saga_id}:{each.key}" if _is_output_known(evidence, each) else None
        case _:
            raise AssertionError(source)


def _is_output_known(evidence: Evidence, each: Instance) -> bool:
    """Whether the action's output was known when its compensation was first attempted."""
    first = evidence.records(each.key, COMPENSATION, "attempt_started")[0]
    return evidence.is_success_recorded(each.key, first.sequence)
