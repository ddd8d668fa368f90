"""Finds references of a definition that could never be followed. It checks every expression against the names that are in scope
at its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from saga_coordinator.saga.definition.model import (
    Approval,
    AwaitEvent,
    Block,
    Definition,
    Delay,
    ForEach,
    Operation,
    Repeat,
    Step,
    Switch,
    all_steps,
)
from saga_coordinator.saga.definition.scope import InScope, check_expression
from saga_coordinator.saga.expressions.condition import (
    Evaluate,
    evaluate_any,
    evaluate_condition,
    evaluate_instant,
    evaluate_list,
)
from saga_coordinator.saga.expressions.constant import constant_problem
from saga_coordinator.saga.expressions.expression import Expression, Template
from saga_coordinator.saga.words.errors import Fault

_EVERYWHERE = frozenset({"input", "steps", "saga"})
_IN_COMPENSATION = frozenset({"output", "failure"})


@dataclass(frozen=True, slots=True)
class _Site:
    """The place of an expression, and the names that it can read there."""

    path: str
    expression: Expression
    in_scope: InScope
    evaluate: Evaluate = evaluate_any


def check_scopes(definition: Definition, faults: list[Fault]) -> None:
    """Adds a fault for each reference to a name that is not in scope, or to a step that is not sure to have ended."""
    names = {
        step.name: "which runs in a block; read the output of the step whose block that is"
        for step in all_steps(definition.block)
    }
    at_start = InScope(frozenset({"input", "saga"}), {})
    sites = [
        _Site(f"labels.{name}", expression, at_start)
        for name, template in definition.labels.items()
        for expression in template.expressions
    ]
    sites += _block_sites(definition.block, "", _EVERYWHERE, names)
    limit = definition.limits.expression_characters
    for site in sites:
        if len(site.expression.source) > limit:
            faults.append(Fault(site.path, f"has an expression of more than {limit} characters"))
        if problem := check_expression(site.expression, site.in_scope):
            faults.append(Fault(site.path, f"${{{site.expression.source}}} {problem}"))
        elif definition.limits.has_sound_constants and (
            failing := constant_problem(site.expression, site.evaluate)
        ):
            faults.append(Fault(site.path, failing))


def _block_sites(
    block: Block, path: str, roots: frozenset[str], around: Mapping[str, str | None]
) -> Iterator[_Site]:
    """Yields every expression of a block. `around` says for each step of the definition why the block cannot read it, or None
    if it can.
    """
    names = [step.name for step in block.steps]
    is_ordered = len(names) == 1 or any(
        step.after for step in block.steps
    )  # else the order has faults of its own
    for index, step in enumerate(block.steps):
        ended = block.dependencies[step.name]
        unsure = f"which is not sure to have ended before `{step.name}` starts"
        readable = {**around, **{name: None if name in ended or not is_ordered else unsure for name in names}}
        yield from _step_sites(step, f"{path}steps[{index}]", roots, readable)
    yield from _template_sites(
        block.output, f"{path}output", InScope(roots, {**around, **dict.fromkeys(names)})
    )


def _step_sites(
    step: Step, path: str, roots: frozenset[str], readable: Mapping[str, str | None]
) -> Iterator[_Site]:
    here = InScope(roots, readable)
    yield from _expression_sites(step.when, f"{path}.when", here, evaluate_condition)
    if step.compensation is not None:
        there = InScope(roots | _IN_COMPENSATION, readable)
        yield from _template_sites(step.compensation.input, f"{path}.compensation.input", there)
        yield from _status_sites(step.compensation, f"{path}.compensation", there)
    match step.action:
        case Operation(input=template) as operation:
            name = "saga" if operation.is_child else "action"
            yield from _template_sites(template, f"{path}.{name}.input", here)
            yield from _status_sites(operation, f"{path}.{name}", here)
        case Delay(until=until):
            yield from _expression_sites(until, f"{path}.until", here, evaluate_instant)
        case AwaitEvent(correlation=correlation):
            yield from _template_sites(correlation, f"{path}.await_event.correlation", here)
        case Approval(shows=shows):
            yield from _template_sites(shows, f"{path}.approval.show", here)
        case Switch(cases):
            for index, case in enumerate(cases):
                at = f"{path}.switch.otherwise." if case.when is None else f"{path}.switch.cases[{index}]."
                yield from _expression_sites(case.when, f"{at}when", here, evaluate_condition)
                yield from _block_sites(case.block, at, roots, readable)
        case ForEach(items, block, _, name):
            yield from _expression_sites(items, f"{path}.for_each.items", here, evaluate_list)
            yield from _block_sites(block, f"{path}.for_each.", roots | {name, "index"}, readable)
        case Repeat(until, block):
            inner = roots | {"number", "previous"}
            inside = {**readable, **dict.fromkeys(each.name for each in block.steps)}
            until_scope = InScope(inner, inside)
            yield from _expression_sites(until, f"{path}.repeat.until", until_scope, evaluate_condition)
            yield from _block_sites(block, f"{path}.repeat.", inner, readable)


def _status_sites(operation: Operation, path: str, in_scope: InScope) -> Iterator[_Site]:
    if operation.status is not None:
        yield from _template_sites(operation.status.input, f"{path}.status.input", in_scope)


def _expression_sites(
    expression: Expression | None, path: str, in_scope: InScope, evaluate: Evaluate
) -> Iterator[_Site]:
    if expression is not None:
        yield _Site(path, expression, in_scope, evaluate)


def _template_sites(template: Template | None, path: str, in_scope: InScope) -> Iterator[_Site]:
    for expression in template.expressions if template else ():
        yield _Site(path, expression, in_scope)
