"""Parses the canonical JSON form of a definition into a `Definition`, or finds all its faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saga_coordinator.saga.definition.bounds import check_size
from saga_coordinator.saga.definition.checking import check_scopes
from saga_coordinator.saga.definition.model import (
    Action,
    Block,
    Case,
    Definition,
    Delay,
    ForEach,
    OnFailure,
    Operation,
    Repeat,
    Step,
    Switch,
    dependencies,
)
from saga_coordinator.saga.definition.parsing_actions import (
    DEADLINE_SECONDS_MAX,
    Defaults,
    read_approval,
    read_await_event,
    read_child,
    read_condition,
    read_defaults,
    read_delay,
    read_labels,
    read_on_failure,
    read_operation,
    read_payload,
    read_recovery,
)
from saga_coordinator.saga.definition.scope import ROOTS
from saga_coordinator.saga.expressions.expression import Expression, parse_expression
from saga_coordinator.saga.schema.input_schema import compile_schema
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition
from saga_coordinator.saga.words.json_object import JsonObject
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.saga.words.names import NAME, STEP_NAME
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.saga.words.outcome import clip
from saga_coordinator.saga.words.work import TooMuchWork, budget

PASSES_MAX = 1000
PARALLEL_MAX = 10_000
FAULTS_MAX = 100
"""The most faults that are listed. Nobody mends more at once, and an answer has to fit into a gRPC message."""

_CEL_WORDS = """
    true false null in as break const continue else for function if import let loop package namespace return var void while
"""
_RESERVED_VARIABLES = frozenset((*ROOTS, *_CEL_WORDS.split())) - {"item"}
_ACTIONS = ("action", "delay", "until", "await_event", "approval", "saga", "switch", "for_each", "repeat")


def parse_definition(source: Any, limits: Limits = DEFAULT_LIMITS) -> Definition:
    """Parses the canonical JSON form.

    Raises:
        InvalidDefinition: with every fault found, up to `FAULTS_MAX`: path, what, and how to mend it.
    """
    check_size(source, limits)
    faults: list[Fault] = []
    definition = None
    try:
        with budget(limits.work):
            definition = _definition(JsonObject(source, "", faults), limits)
    except TooMuchWork as error:
        faults.append(
            Fault(
                "",
                f"{error} to check: its expressions and schemas are too many; split it into child sagas",
            )
        )
    if faults or definition is None:
        raise InvalidDefinition(_presentable(faults))
    return definition


def _presentable(faults: list[Fault]) -> list[Fault]:
    """The faults, each listed once: at most `FAULTS_MAX` of them, and then a fault with the number of the others. Their texts
    can be stored and sent, whatever the definition contained.
    """
    once = list(dict.fromkeys(faults))
    shown = [Fault(clip(fault.path), clip(fault.description)) for fault in once[:FAULTS_MAX]]
    if len(once) > FAULTS_MAX:
        shown.append(Fault("", f"has {len(once) - FAULTS_MAX} more faults; mend these first"))
    return shown


@dataclass(slots=True)
class _Surroundings:
    """The surroundings of a block: the definition's defaults and limits, which the block's steps need.

    `is_late` tells whether the steps run after the pivot. It is None if that cannot be told, because the order is faulty. `names`
    collects the names of all steps of the definition.
    """

    defaults: Defaults
    limits: Limits
    names: set[str] = field(default_factory=set)
    is_late: bool | None = False
    depth: int = 0


def _definition(source: JsonObject, limits: Limits) -> Definition | None:
    name = source.name("name", NAME, "the definition")
    description = source.text("description")
    deadline_seconds = source.seconds("deadline", None, DEADLINE_SECONDS_MAX)
    max_parallel = source.whole("max_parallel", 0, 1, PARALLEL_MAX)
    output = read_payload(source, "output")
    labels = read_labels(source.map("labels"))
    raw_schema = source.raw("input_schema")
    schema = None if raw_schema is None else compile_schema(raw_schema, "input_schema", source.faults)
    surroundings = _Surroundings(read_defaults(source.object("defaults")), limits)
    steps = _steps(source, surroundings)
    source.finish()
    if len(surroundings.names) > limits.steps:
        source.fault(
            "steps",
            f"has {len(surroundings.names)} steps with those in blocks; a definition has at most {limits.steps}",
        )
    if not steps:
        return None
    definition = Definition(
        name, Block(steps, output), description, deadline_seconds, max_parallel, labels, schema, limits
    )
    check_scopes(definition, source.faults)
    return definition


def _steps(source: JsonObject, surroundings: _Surroundings) -> tuple[Step, ...]:
    """The `steps` of a definition or a block. Empty if they are so faulty that nothing can be checked in them."""
    raw_steps = source.each("steps")
    if not 1 <= len(raw_steps) <= surroundings.limits.steps:
        source.fault("steps", f"has {len(raw_steps)} steps; there must be 1 to {surroundings.limits.steps}")
        return ()
    objects = [
        JsonObject(raw, f"{source.at('steps')}[{index}]", source.faults)
        for index, raw in enumerate(raw_steps)
    ]
    names = [step.name("name", STEP_NAME, "the step") for step in objects]
    after = _order(objects, names, surroundings.names)
    closed = dependencies(after) if after is not None else None
    pivots = [name for step, name in zip(objects, names, strict=True) if step.flag("pivot")]
    if surroundings.depth and pivots:
        source.fault(
            "steps", f"has a pivot (`{pivots[0]}`) inside a block; only a step of the saga itself can be one"
        )
    steps = tuple(
        _step(
            step,
            name,
            after[name] if after else (),
            replace(surroundings, is_late=surroundings.is_late or _is_late(name, pivots, closed)),
        )
        for step, name in zip(objects, names, strict=True)
    )
    if closed:
        _check_pivot(source, pivots, closed)
    return steps


def _is_late(name: str, pivots: list[str], closed: Mapping[str, frozenset[str]] | None) -> bool | None:
    """Tells whether the step comes after the pivot. None if that is not known, because the order is faulty."""
    if not pivots:
        return False
    return None if closed is None else any(pivot in closed[name] for pivot in pivots)


def _order(steps: list[JsonObject], names: list[str], taken: set[str]) -> dict[str, tuple[str, ...]] | None:
    """Each step's direct dependencies; None if they are faulty. Adds the steps' names to `taken`."""
    faults_before = len(steps[0].faults)
    after: dict[str, tuple[str, ...]] = {}
    for step, name in zip(steps, names, strict=True):
        if name and name in taken:
            step.fault("name", f"`{name}` is the name of an earlier step too; step names are unique")
        taken.add(name)
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
    if len(wanted) > len(names):
        step.fault("after", f"lists {len(wanted)} steps; there are {len(names)}")
        return ()
    known: list[str] = []
    for position, other in enumerate(wanted):
        if not isinstance(other, str):
            step.fault(f"after[{position}]", "must be the name of a step")
        elif other not in names:
            there = f"there are: {', '.join(names)}{did_you_mean(other, names)}"
            step.fault(f"after[{position}]", f"no step is named `{other[:80]}`; {there}")
        elif other == name:
            step.fault(f"after[{position}]", "a step cannot come after itself")
        elif other in known:
            step.fault(f"after[{position}]", f"`{other}` is listed twice")
        else:
            known.append(other)
    return tuple(known)


def _cycle(after: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The names along a cycle, with the first name repeated at the end; None if there is no cycle."""
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


def _step(source: JsonObject, name: str, after: tuple[str, ...], surroundings: _Surroundings) -> Step:
    is_pivot, is_read_only = source.flag("pivot"), source.flag("read_only")
    is_irreversible, compensate_on_refusal = source.flag("irreversible"), source.flag("compensate_on_refusal")
    when = read_condition(source, "when")
    deadline_seconds = source.seconds("deadline", None, DEADLINE_SECONDS_MAX)
    is_forward = read_recovery(source, default=surroundings.defaults.is_forward)
    on_failure = read_on_failure(source)
    is_stubborn = bool(surroundings.is_late) or is_pivot or is_forward
    use = source.text("use")
    if use and not _is_expanded(source):
        source.fault(
            "use",
            f"only a coordinator knows `{use[:200]}`, because the participant has declared it; let a coordinator check "
            "this definition (saga-coordinator definition validate --live FILE), or register it and give this command what "
            "`saga-coordinator definition get NAME` prints",
        )
        return Step(name, after, Delay(0.0, None), is_read_only=True)
    raw_compensation = source.object("compensation")
    given = [kind for kind in _ACTIONS if source.raw(kind) is not None]
    if len(given) > 1:
        source.fault(given[1], f"cannot stand beside `{given[0]}`; a step does one thing")
    kind = given[0] if given else ""
    action, undo, said = _action(source, name, kind, surroundings, is_stubborn=is_stubborn)
    _check_fit(source, kind or "action", is_call=isinstance(action, Operation))
    excuses = [
        excuse
        for excuse, holds in (
            ("is the pivot", is_pivot),
            ("is read_only", is_read_only),
            ("is irreversible", is_irreversible),
            ("comes after the pivot", surroundings.is_late),
        )
        if holds
    ]
    if raw_compensation is None and undo is not None:
        compensation, is_undo_optional = None if excuses else undo, False
    else:
        if kind not in ("", "action"):
            excuses.append("calls nobody itself")
        compensation, is_undo_optional = _compensation(
            source, name, raw_compensation, surroundings, excuses, is_declared=bool(use)
        )
    source.finish()
    if compensate_on_refusal and compensation is None:
        source.fault("compensate_on_refusal", "needs a compensation")
    return Step(
        name,
        after,
        action,
        compensation,
        is_pivot,
        is_read_only or not isinstance(action, Operation),
        is_irreversible,
        compensate_on_refusal,
        when,
        deadline_seconds,
        said or on_failure or (OnFailure.PAUSE if is_forward else OnFailure.COMPENSATE),
        is_undo_optional,
    )


def _compensation(
    source: JsonObject,
    name: str,
    raw: JsonObject | None,
    surroundings: _Surroundings,
    excuses: list[str],
    *,
    is_declared: bool,
) -> tuple[Operation | None, bool]:
    """The compensation that the step itself gives, and whether the way back goes on if it fails.

    `excuses` say why there is nothing to compensate; a step without any needs a compensation. One that a participant has
    declared, for all who use the step, is left out where there is an excuse.
    """
    if raw is None:
        if not excuses and surroundings.is_late is not None:
            source.fault(
                "compensation",
                "is missing: say what undoes the action, or mark the step read_only or irreversible",
            )
        return None, False
    is_undo_optional = _goes_on(raw)
    retry = surroundings.defaults.retry_of_compensation()
    compensation = read_operation(raw, name, surroundings.defaults, retry)
    if excuses and is_declared:
        return None, False
    for excuse in excuses:
        source.fault(
            "compensation", f"would never be called, because the step {excuse}; remove one of the two"
        )
    return compensation, is_undo_optional


def _is_expanded(source: JsonObject) -> bool:
    """Tells whether a step with `use` already has the call that was declared."""
    action = source.raw("action")
    return isinstance(action, Mapping) and bool(action.get("participant"))


def _check_fit(source: JsonObject, kind: str, *, is_call: bool) -> None:
    """Finds fields that mean nothing for this kind of step."""
    if source.text("on_failure") and kind in ("action", "switch", "for_each", "repeat"):
        source.fault(
            "on_failure", f"belongs {'in the action' if kind == 'action' else 'in the steps of the block'}"
        )
    if is_call:
        return
    if source.raw("deadline") is not None:
        source.fault("deadline", "is for steps with an action or a child saga; waits have a timeout")
    for flag in ("pivot", "read_only", "irreversible"):
        if source.flag(flag):
            source.fault(
                flag,
                f"is for a step with an action or a child saga, and this one has `{kind}`; mark the step that calls",
            )


def _goes_on(compensation: JsonObject) -> bool:
    word = compensation.text("on_failure")
    if word not in ("", "park", "continue"):
        compensation.fault("on_failure", f"is `{word[:80]}`; for a compensation it must be park or continue")
    return word == "continue"


def _action(
    source: JsonObject, name: str, kind: str, surroundings: _Surroundings, *, is_stubborn: bool
) -> tuple[Action, Operation | None, OnFailure | None]:
    """The action of the step, and its compensation and its `on_failure` if the step gives them."""
    if kind in ("delay", "until"):
        return read_delay(source), None, None
    inner = source.object(kind) if kind else None
    if inner is None:
        if not kind:
            source.fault("action", f"is required: what the step does; or one of {', '.join(_ACTIONS[1:])}")
        inner, kind = JsonObject({"participant": "unknown"}, source.at("action"), source.faults), "action"
    match kind:
        case "saga":
            action, undo = read_child(inner, surroundings.defaults)
            return action, undo, None
        case "await_event":
            return read_await_event(inner), None, None
        case "approval":
            return read_approval(inner), None, None
        case "switch":
            return _switch(inner, _deeper(inner, surroundings)), None, None
        case "for_each":
            return _for_each(inner, _deeper(inner, surroundings)), None, None
        case "repeat":
            return _repeat(inner, _deeper(inner, surroundings)), None, None
        case _:
            retry = surroundings.defaults.retry_of_action(is_stubborn=is_stubborn)
            said = read_on_failure(inner)
            return read_operation(inner, name, surroundings.defaults, retry), None, said


# Blocks.


def _deeper(source: JsonObject, surroundings: _Surroundings) -> _Surroundings:
    if surroundings.depth >= surroundings.limits.block_nesting:
        source.fault(
            "steps",
            f"is nested deeper than {surroundings.limits.block_nesting} blocks; make the inner part a saga of its own",
        )
    return replace(surroundings, depth=surroundings.depth + 1)


def _block(source: JsonObject, surroundings: _Surroundings) -> Block:
    if surroundings.depth > surroundings.limits.block_nesting:
        source.raw("steps")
        source.raw("output")
        return Block(())
    return Block(_steps(source, surroundings), read_payload(source, "output"))


def _switch(source: JsonObject, surroundings: _Surroundings) -> Switch:
    raw_cases, otherwise = source.each("cases"), source.object("otherwise")
    source.finish()
    if not 1 <= len(raw_cases) <= surroundings.limits.steps:
        source.fault("cases", f"has {len(raw_cases)} cases; there must be 1 to {surroundings.limits.steps}")
    cases: list[Case] = []
    for index, raw in enumerate(raw_cases[: surroundings.limits.steps]):
        case = JsonObject(raw, f"{source.at('cases')}[{index}]", source.faults)
        when = _required(case, "when", "a condition; what is done when no case holds goes into `otherwise`")
        cases.append(Case(when, _block(case, surroundings)))
        case.finish()
    if otherwise is not None:
        cases.append(Case(None, _block(otherwise, surroundings)))
        otherwise.finish()
    return Switch(tuple(cases))


def _for_each(source: JsonObject, surroundings: _Surroundings) -> ForEach:
    items = _required(source, "items", "a list, as in `input.lines`")
    name = source.text("as", "item") or "item"
    if not STEP_NAME.fullmatch(name) or name in _RESERVED_VARIABLES:
        source.fault(
            "as",
            f"`{name[:80]}` cannot name the item; it must match {STEP_NAME.pattern} and mean nothing else in expressions",
        )
    max_parallel = source.whole("max_parallel", 0, 1, PARALLEL_MAX)
    block = _block(source, surroundings)
    source.finish()
    return ForEach(items, block, max_parallel, name)


def _repeat(source: JsonObject, surroundings: _Surroundings) -> Repeat:
    until = _required(source, "until", "a condition, as in `steps.check.output.done`")
    if source.raw("max_passes") in (None, 0):
        source.fault("max_passes", f"is required: 1 to {PASSES_MAX}")
    max_passes = source.whole("max_passes", 1, 1, PASSES_MAX)
    block = _block(source, surroundings)
    source.finish()
    return Repeat(until, block, max_passes)


def _required(source: JsonObject, name: str, what: str) -> Expression:
    if source.raw(name) in (None, ""):
        source.fault(name, f"is required: an expression for {what}")
    # A faulty or missing expression has its fault already, so the stand-in must not add another fault.
    return read_condition(source, name) or parse_expression("input")


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
