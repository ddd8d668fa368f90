"""From the canonical JSON form of a definition to a `Definition`, or to the list of all its faults."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from saga_coordinator.saga.definition import Definition, Operation, Step, dependencies
from saga_coordinator.saga.errors import Fault, InvalidDefinition
from saga_coordinator.saga.expression import Expression, Template, compile_template
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import TEXT_BYTES_MAX
from saga_coordinator.saga.retry import RetryPolicy

STEPS_MAX = 200
NESTING_MAX = 16
TIMEOUT_SECONDS_MAX = 3600.0
DEADLINE_SECONDS_MAX = 10 * 366 * 86400.0
ATTEMPTS_MAX = 1000

DEFAULT_TIMEOUT_SECONDS = 10.0
DEFAULT_PENDING_TIMEOUT_SECONDS = 86400.0
DEFAULT_ACTION_ATTEMPTS = 5
DEFAULT_STUBBORN_ATTEMPTS = 10
"""For compensations and for steps after the pivot: there is no other way left than through."""

_DEFINITION_NAME = re.compile(r"[a-z][A-Za-z0-9_.-]{0,99}")
_STEP_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_PARTICIPANT_NAME = re.compile(r"[a-z][A-Za-z0-9_.-]{0,99}")
_DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s")
_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def parse_definition(source: Any) -> Definition:
    """Parses the canonical JSON form.

    Raises:
        InvalidDefinition: with every fault found: path, what, and how to mend it.
    """
    faults: list[Fault] = []
    definition = _definition(_Object(source, "", faults), faults)
    if faults or definition is None:
        raise InvalidDefinition(faults)
    return definition


class _Object:
    """A JSON object being read field by field; what was not read by `finish` is an unknown field."""

    def __init__(self, source: Any, path: str, faults: list[Fault]) -> None:
        self.path = path
        self.faults = faults
        self._fields: dict[str, Any] = {}
        self._known: list[str] = []
        if isinstance(source, Mapping):
            self._fields = {
                _CAMEL_HUMP.sub(lambda hump: "_" + hump[1].lower(), str(k)): v for k, v in source.items()
            }
        else:
            self.fault("", "must be an object")

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path and name else self.path or name

    def fault(self, name: str, description: str) -> None:
        self.faults.append(Fault(self.at(name), description))

    def raw(self, name: str) -> Any:
        self._known.append(name)
        return self._fields.get(name)

    def text(self, name: str, default: str = "") -> str:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fault(name, "must be a string")
            return default
        if "\0" in value or len(value.encode("utf-8", "replace")) > TEXT_BYTES_MAX:
            self.fault(name, f"must not contain NUL and be at most {TEXT_BYTES_MAX} bytes")
            return default
        return value

    def name(self, name: str, pattern: re.Pattern[str], what: str) -> str:
        value = self.text(name)
        if not value:
            self.fault(name, f"is required: the name of {what}")
        elif not pattern.fullmatch(value):
            self.fault(name, f"`{value[:80]}` is not a name: it must match {pattern.pattern}")
        return value

    def flag(self, name: str) -> bool:
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            self.fault(name, "must be true or false")
        return value is True

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        value = self.raw(name)
        if value is None or value == 0:  # zero is how the contract says unset
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fault(name, "must be a number")
        elif not minimum <= value <= maximum:
            self.fault(name, f"is {value:g}; it must be between {minimum:g} and {maximum:g}")
        else:
            return float(value)
        return default

    def whole(self, name: str, default: int, minimum: int, maximum: int) -> int:
        value = self.number(name, default, minimum, maximum)
        if value != int(value):
            self.fault(name, "must be a whole number")
        return int(value)

    def seconds(self, name: str, default: float | None, maximum: float) -> float | None:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str) or not _DURATION.fullmatch(value):
            self.fault(name, 'must be a duration in seconds such as "2s" or "0.25s"')
        elif not 0.001 <= float(value[:-1]) <= maximum:
            self.fault(name, f'is {value}; it must be between "0.001s" and "{maximum:g}s"')
        else:
            return float(value[:-1])
        return default

    def each(self, name: str) -> list[Any]:
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fault(name, "must be a list")
            return []
        return value

    def object(self, name: str) -> _Object | None:
        value = self.raw(name)
        return None if value is None else _Object(value, self.at(name), self.faults)

    def finish(self) -> None:
        for name in self._fields:
            if name not in self._known:
                self.fault(name, f"unknown field; known here: {', '.join(sorted(self._known))}")


def _definition(source: _Object, faults: list[Fault]) -> Definition | None:
    name = source.name("name", _DEFINITION_NAME, "the definition")
    description = source.text("description")
    deadline_seconds = source.seconds("deadline", None, DEADLINE_SECONDS_MAX)
    raw_steps = source.each("steps")
    source.finish()
    if not 1 <= len(raw_steps) <= STEPS_MAX:
        source.fault("steps", f"has {len(raw_steps)} steps; a definition has 1 to {STEPS_MAX}")
        return None
    objects = [_Object(raw, f"steps[{index}]", faults) for index, raw in enumerate(raw_steps)]
    names = [step.name("name", _STEP_NAME, "the step") for step in objects]
    after = _order(objects, names)
    closed = dependencies(after or dict.fromkeys(names, ()))
    pivots = [step_name for step, step_name in zip(objects, names, strict=True) if step.flag("pivot")]
    steps = tuple(
        _step(
            step,
            step_name,
            after.get(step_name, ()),
            is_late=any(pivot in closed[step_name] for pivot in pivots),
        )
        for step, step_name in zip(objects, names, strict=True)
    )
    if after:
        _check_pivot(source, pivots, closed)
        _check_references(steps, closed, faults)
    return Definition(name, steps, description, deadline_seconds)


def _order(steps: list[_Object], names: list[str]) -> dict[str, tuple[str, ...]]:
    """Each step's direct dependencies; empty when they cannot be followed."""
    faults_before = len(steps[0].faults)
    after: dict[str, tuple[str, ...]] = {}
    for step, name in zip(steps, names, strict=True):
        wanted = step.each("after")
        if name in after:
            step.fault("name", f"`{name}` is the name of an earlier step too; step names are unique")
        for position, other in enumerate(wanted):
            if not isinstance(other, str) or other not in names:
                step.fault(f"after[{position}]", f"no step is named `{other}`; there are: {', '.join(names)}")
            elif other == name:
                step.fault(f"after[{position}]", "a step cannot come after itself")
            elif other in wanted[:position]:
                step.fault(f"after[{position}]", f"`{other}` is listed twice")
        after[name] = tuple(other for other in wanted if isinstance(other, str) and other in names)
    if len(steps[0].faults) > faults_before:
        return {}
    if not any(after.values()):
        return {name: tuple(names[index - 1 : index]) for index, name in enumerate(names)}
    if cycle := _cycle(after):
        steps[names.index(cycle[0])].fault("after", f"is a cycle: {' after '.join(cycle)}")
        return {}
    return after


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


def _step(source: _Object, name: str, after: tuple[str, ...], *, is_late: bool) -> Step:
    is_pivot, is_read_only = source.flag("pivot"), source.flag("read_only")
    is_irreversible, compensate_on_refusal = source.flag("irreversible"), source.flag("compensate_on_refusal")
    raw_action, raw_compensation = source.object("action"), source.object("compensation")
    source.finish()
    if raw_action is None:
        source.fault("action", "is required: what the step does")
        raw_action = _Object({"participant": "unknown"}, source.at("action"), source.faults)
    stubborn = is_late or is_pivot
    action = _operation(raw_action, name, DEFAULT_STUBBORN_ATTEMPTS if stubborn else DEFAULT_ACTION_ATTEMPTS)
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
    elif not excuses:
        source.fault(
            "compensation",
            "is missing: say what undoes the action, or mark the step read_only or irreversible",
        )
    if compensate_on_refusal and compensation is None:
        source.fault("compensate_on_refusal", "needs a compensation")
    return Step(
        name, after, action, compensation, is_pivot, is_read_only, is_irreversible, compensate_on_refusal
    )


def _operation(source: _Object, step: str, default_attempts: int) -> Operation:
    participant = source.name("participant", _PARTICIPANT_NAME, "the participant that performs it")
    method = source.text("method", step) or step
    if len(method) > 200:
        source.fault("method", "must be at most 200 characters")
    if "/" in method:
        source.fault(
            "method",
            f"`{method}` looks like a full gRPC method name; give the name that the participant's "
            "saga.v1.ParticipantService knows the operation by, without a slash",
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


def _retry(source: _Object | None, default_attempts: int) -> RetryPolicy:
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
            elif isinstance(node, list):
                below += node
            elif isinstance(node, str):
                if "\0" in node:
                    return "must not contain NUL characters"
            elif isinstance(node, float):
                if not math.isfinite(node):
                    return "must not contain NaN or infinite numbers"
            elif node is not None and not isinstance(node, bool | int):
                return f"has a value that JSON does not know ({type(node).__name__} {node}); put it in quotes"
        level = below
    return None


def _check_pivot(source: _Object, pivots: list[str], closed: Mapping[str, frozenset[str]]) -> None:
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
    steps: tuple[Step, ...], closed: Mapping[str, frozenset[str]], faults: list[Fault]
) -> None:
    for index, step in enumerate(steps):
        for kind in OperationKind:
            if kind is OperationKind.COMPENSATION and step.compensation is None:
                continue
            template = step.operation(kind).input
            faults.extend(
                Fault(f"steps[{index}].{kind}.input", f"${{{expression.source}}} {problem}")
                for expression in (template.expressions if template else ())
                if (problem := _problem(expression, step, kind, closed))
            )


def _problem(
    expression: Expression, step: Step, kind: OperationKind, closed: Mapping[str, frozenset[str]]
) -> str | None:
    checks: dict[str, Callable[[], str | None]] = {
        "input": lambda: None,
        "saga": lambda: _check_saga(expression),
        "steps": lambda: _check_steps(expression, step, closed),
    }
    if kind is OperationKind.COMPENSATION:
        checks |= {"output": lambda: None, "failure": lambda: None}
    if expression.root not in checks:
        return f"refers to `{expression.root}`; in scope here: {', '.join(checks)}"
    return checks[expression.root]()


def _check_saga(expression: Expression) -> str | None:
    if expression.selectors[:1] in {("id",), ("labels",)}:
        return None
    return "must be `saga.id` or `saga.labels...`"


def _check_steps(expression: Expression, step: Step, closed: Mapping[str, frozenset[str]]) -> str | None:
    match expression.selectors:
        case (str() as name, "output", *_):
            if name not in closed:
                return f"refers to a step that does not exist; there are: {', '.join(closed)}"
            if name not in closed[step.name]:
                return f"refers to `{name}`, which is not sure to have ended before `{step.name}` starts"
            return None
        case _:
            return "must have the form `steps.NAME.output...`"
