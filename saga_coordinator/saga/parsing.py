"""From the canonical JSON form of a definition to a `Definition`, or to the list of all its faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from saga_coordinator.saga.definition import Definition, Operation, Step, dependencies
from saga_coordinator.saga.errors import Fault, InvalidDefinition
from saga_coordinator.saga.expression import Template, compile_template
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.json_object import JsonObject, is_finite, text_problem
from saga_coordinator.saga.outcome import clip
from saga_coordinator.saga.retry import RetryPolicy
from saga_coordinator.saga.scope import InScope, check_expression

STEPS_MAX = 200
NESTING_MAX = 16
TIMEOUT_SECONDS_MAX = 3600.0
DEADLINE_SECONDS_MAX = 10 * 366 * 86400.0
ATTEMPTS_MAX = 1000
FAULTS_MAX = 100
"""Nobody mends more at once, and an answer has to fit into what gRPC carries."""

DEFAULT_TIMEOUT_SECONDS = 10.0
DEFAULT_PENDING_TIMEOUT_SECONDS = 86400.0
DEFAULT_ACTION_ATTEMPTS = 5
DEFAULT_STUBBORN_ATTEMPTS = 10
"""For compensations and for steps after the pivot: there is no other way left than through."""

_DEFINITION_NAME = re.compile(r"[a-z][A-Za-z0-9_.-]{0,99}")
_STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_PARTICIPANT_NAME = re.compile(r"[a-z][A-Za-z0-9_.-]{0,99}")
_FULL_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*")


def parse_definition(source: Any) -> Definition:
    """Parses the canonical JSON form.

    Raises:
        InvalidDefinition: with every fault found, up to `FAULTS_MAX`: path, what, and how to mend it.
    """
    faults: list[Fault] = []
    definition = _definition(JsonObject(source, "", faults), faults)
    if faults or definition is None:
        raise InvalidDefinition(_presentable(faults))
    return definition


def _presentable(faults: list[Fault]) -> list[Fault]:
    """Each fault once, fit to be stored and sent whatever the definition contained, and not without number."""
    once = list(dict.fromkeys(faults))
    shown = [Fault(clip(fault.path), clip(fault.description)) for fault in once[:FAULTS_MAX]]
    if len(once) > FAULTS_MAX:
        shown.append(Fault("", f"has {len(once) - FAULTS_MAX} more faults; mend these first"))
    return shown


def _definition(source: JsonObject, faults: list[Fault]) -> Definition | None:
    name = source.name("name", _DEFINITION_NAME, "the definition")
    description = source.text("description")
    deadline_seconds = source.seconds("deadline", None, DEADLINE_SECONDS_MAX)
    raw_steps = source.each("steps")
    source.finish()
    if not 1 <= len(raw_steps) <= STEPS_MAX:
        source.fault("steps", f"has {len(raw_steps)} steps; a definition has 1 to {STEPS_MAX}")
        return None
    objects = [JsonObject(raw, f"steps[{index}]", faults) for index, raw in enumerate(raw_steps)]
    names = [step.name("name", _STEP_NAME, "the step") for step in objects]
    after = _order(objects, names)
    closed = dependencies(after) if after is not None else None
    pivots = [step_name for step, step_name in zip(objects, names, strict=True) if step.flag("pivot")]
    steps = tuple(
        _step(
            step,
            step_name,
            after[step_name] if after else (),
            is_late=_is_late(step_name, pivots, closed),
        )
        for step, step_name in zip(objects, names, strict=True)
    )
    if closed:
        _check_pivot(source, pivots, closed)
    _check_references(steps, closed, faults)
    return Definition(name, steps, description, deadline_seconds)


def _is_late(name: str, pivots: list[str], closed: Mapping[str, frozenset[str]] | None) -> bool | None:
    """Whether the step comes after the pivot; None when nobody can tell, because the order is faulty."""
    if not pivots:
        return False
    return None if closed is None else any(pivot in closed[name] for pivot in pivots)


def _order(steps: list[JsonObject], names: list[str]) -> dict[str, tuple[str, ...]] | None:
    """Each step's direct dependencies; None when they are faulty."""
    faults_before = len(steps[0].faults)
    after: dict[str, tuple[str, ...]] = {}
    for step, name in zip(steps, names, strict=True):
        if name and name in after:
            step.fault("name", f"`{name}` is the name of an earlier step too; step names are unique")
        after[name] = _after(step, name, names)
    if len(steps[0].faults) > faults_before or len(after) < len(names):
        return None
    if not any(after.values()):
        return {name: tuple(names[index - 1 : index]) for index, name in enumerate(names)}
    if cycle := _cycle(after):
        steps[names.index(cycle[0])].fault("after", f"is a cycle: {' after '.join(cycle)}")
        return None
    return after


def _after(step: JsonObject, name: str, names: list[str]) -> tuple[str, ...]:
    wanted = step.each("after")
    if len(wanted) > STEPS_MAX:
        step.fault("after", f"lists {len(wanted)} steps; a definition has {STEPS_MAX} at most")
        return ()
    known: list[str] = []
    for position, other in enumerate(wanted):
        if not isinstance(other, str):
            step.fault(f"after[{position}]", "must be the name of a step")
        elif other not in names:
            step.fault(
                f"after[{position}]", f"no step is named `{other[:80]}`; there are: {', '.join(names)}"
            )
        elif other == name:
            step.fault(f"after[{position}]", "a step cannot come after itself")
        elif other in known:
            step.fault(f"after[{position}]", f"`{other}` is listed twice")
        else:
            known.append(other)
    return tuple(known)


def _cycle(after: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The names along one cycle, its first repeated at the end; None when there is none."""
    remaining = dict(after)
    while free := [
        name for name, others in remaining.items() if not any(other in remaining for other in others)
    ]:
        for name in free:
            del remaining[name]
    if not remaining:
        return None
    walk = [next(iter(remaining))]
    while walk[-1] not in walk[:-1]:
        walk.append(next(other for other in remaining[walk[-1]] if other in remaining))
    return walk[walk.index(walk[-1]) :]


def _step(source: JsonObject, name: str, after: tuple[str, ...], *, is_late: bool | None) -> Step:
    is_pivot, is_read_only = source.flag("pivot"), source.flag("read_only")
    is_irreversible, compensate_on_refusal = source.flag("irreversible"), source.flag("compensate_on_refusal")
    raw_action, raw_compensation = source.object("action"), source.object("compensation")
    source.finish()
    if raw_action is None:
        source.fault("action", "is required: what the step does")
        raw_action = JsonObject({"participant": "unknown"}, source.at("action"), source.faults)
    is_stubborn = is_late or is_pivot
    action = _operation(
        raw_action, name, DEFAULT_STUBBORN_ATTEMPTS if is_stubborn else DEFAULT_ACTION_ATTEMPTS
    )
    compensation = None
    excuses = [
        excuse
        for excuse, holds in (
            ("is the pivot", is_pivot),
            ("is read_only", is_read_only),
            ("is irreversible", is_irreversible),
            ("comes after the pivot", is_late),
        )
        if holds
    ]
    if raw_compensation is not None:
        compensation = _operation(raw_compensation, name, DEFAULT_STUBBORN_ATTEMPTS)
        for excuse in excuses:
            source.fault(
                "compensation", f"would never be called, because the step {excuse}; remove one of the two"
            )
    elif not excuses and is_late is not None:
        source.fault(
            "compensation",
            "is missing: say what undoes the action, or mark the step read_only or irreversible",
        )
    if compensate_on_refusal and compensation is None:
        source.fault("compensate_on_refusal", "needs a compensation")
    return Step(
        name, after, action, compensation, is_pivot, is_read_only, is_irreversible, compensate_on_refusal
    )


def _operation(source: JsonObject, step: str, default_attempts: int) -> Operation:
    participant = source.name("participant", _PARTICIPANT_NAME, "the participant that performs it")
    method = source.text("method", step) or step
    if len(method) > 200:
        source.fault("method", "must be at most 200 characters")
    if "/" in method and not _FULL_METHOD.fullmatch(method):
        source.fault(
            "method",
            f"`{method}` is no full gRPC method name: write `package.Service/Method` to have that method called, or a name "
            "without a slash to have saga.v1.ParticipantService perform it",
        )
    raw_input = source.raw("input")
    template: Template | None = None
    if raw_input is not None:
        if problem := _payload_problem(raw_input):
            source.fault("input", problem)
        else:
            template = compile_template(raw_input, source.at("input"), source.faults)
    timeout = source.seconds("timeout", DEFAULT_TIMEOUT_SECONDS, TIMEOUT_SECONDS_MAX)
    pending = source.seconds("pending_timeout", DEFAULT_PENDING_TIMEOUT_SECONDS, DEADLINE_SECONDS_MAX)
    retry = _retry(source.object("retry"), default_attempts)
    source.finish()
    assert timeout is not None
    assert pending is not None
    return Operation(participant, method, template, timeout, pending, retry)


def _retry(source: JsonObject | None, default_attempts: int) -> RetryPolicy:
    policy = RetryPolicy(default_attempts)
    if source is None:
        return policy
    max_attempts = source.whole("max_attempts", default_attempts, 1, ATTEMPTS_MAX)
    initial = source.seconds("initial_backoff", policy.initial_backoff_seconds, TIMEOUT_SECONDS_MAX)
    multiplier = source.number("multiplier", policy.multiplier, 1, 100)
    maximum = source.seconds("max_backoff", None, DEADLINE_SECONDS_MAX)
    source.finish()
    assert initial is not None
    if maximum is None:
        maximum = max(policy.max_backoff_seconds, initial)
    elif maximum < initial:
        source.fault("max_backoff", f"is {maximum:g} s, less than initial_backoff ({initial:g} s)")
    return RetryPolicy(max_attempts, initial, multiplier, maximum)


def _payload_problem(payload: Any) -> str | None:
    level, nesting = [payload], 0
    while level:
        nesting += 1
        if nesting > NESTING_MAX:
            return f"is nested deeper than {NESTING_MAX} levels"
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below += [*node, *node.values()]
                if odd := [key for key in node if not isinstance(key, str)]:
                    return f"has a key that is not a string ({str(odd[0])[:80]}); put it in quotes"
            elif isinstance(node, list):
                below += node
            elif isinstance(node, str):
                if problem := text_problem(node):
                    return problem
            elif isinstance(node, int | float):
                if not is_finite(node):
                    return "must not contain NaN, infinite numbers or whole numbers that no double can hold"
            elif node is not None:
                what = f"{type(node).__name__} {str(node)[:80]}"
                return f"has a value that JSON does not know ({what}); put it in quotes"
        level = below
    return None


def _check_pivot(source: JsonObject, pivots: list[str], closed: Mapping[str, frozenset[str]]) -> None:
    if len(pivots) > 1:
        source.fault(
            "steps", f"has several pivots ({', '.join(pivots)}); a saga has one point of no return at most"
        )
    for pivot in pivots[:1]:
        for name in closed:
            if name != pivot and name not in closed[pivot] and pivot not in closed[name]:
                source.fault(
                    "steps",
                    f"`{name}` may run beside the pivot `{pivot}`; put it before or after, so that it is clear whether it can "
                    "still be undone",
                )


def _check_references(
    steps: tuple[Step, ...], closed: Mapping[str, frozenset[str]] | None, faults: list[Fault]
) -> None:
    """Finds references that could never be followed. `closed`: all dependencies of each step; None when the order is faulty."""
    names = [step.name for step in steps]
    for index, step in enumerate(steps):
        certain = closed[step.name] if closed else frozenset(names)
        unsure = f"which is not sure to have ended before `{step.name}` starts"
        ended = {name: None if name in certain else unsure for name in names}
        for kind in OperationKind:
            if kind is OperationKind.COMPENSATION and step.compensation is None:
                continue
            in_scope = InScope(_ROOTS[kind], ended)
            template = step.operation(kind).input
            faults.extend(
                Fault(f"steps[{index}].{kind}.input", f"${{{expression.source}}} {problem}")
                for expression in (template.expressions if template else ())
                if (problem := check_expression(expression, in_scope))
            )


_ROOTS = {
    OperationKind.ACTION: frozenset({"input", "steps", "saga"}),
    OperationKind.COMPENSATION: frozenset({"input", "steps", "saga", "output", "failure"}),
}
