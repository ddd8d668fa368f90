"""Variants of a definition in which conditions are assumed to hold, so that steps are rehearsed that the given input does not
lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from saga_coordinator.saga.definition.model import (
    Block,
    Case,
    Definition,
    ForEach,
    Repeat,
    Step,
    Switch,
    all_steps,
    step_name,
)
from saga_coordinator.saga.expressions.expression import parse_expression

Reach = Callable[[Definition], frozenset[str]]
"""A function that gives the keys of the instances that a saga of the definition comes to if nothing goes wrong."""

_TRUE, _FALSE = parse_expression("true"), parse_expression("false")


@dataclass(frozen=True, slots=True)
class Variant:
    """A definition in which conditions are assumed to hold, as `name` says; empty for the definition as it is.

    `new_steps` are the steps that no earlier variant comes to.
    """

    definition: Definition
    name: str
    new_steps: frozenset[str]


def variants(
    definition: Definition, reach: Reach, *, is_forcing: bool
) -> tuple[list[Variant], tuple[str, ...]]:
    """The variants, and the steps that no variant comes to. The first variant is the definition as it is; with `is_forcing`,
    variants follow that come to the other steps.
    """
    reached = {step_name(key) for key in reach(definition)}
    found = [Variant(definition, "", frozenset(reached))]
    missing = [step.name for step in all_steps(definition.block) if step.name not in reached]
    if not is_forcing:
        return found, tuple(missing)
    hopeless: list[str] = []
    while missing:
        wanted = missing[0]
        forced = _forced(definition, wanted)
        new = {step_name(key) for key in reach(forced)} & set(missing)
        if wanted in new:
            found.append(Variant(forced, f"assuming that `{wanted}` runs", frozenset(new)))
            missing = [name for name in missing if name not in new]
        else:
            hopeless.append(missing.pop(0))
    return found, tuple(hopeless)


def _forced(definition: Definition, wanted: str) -> Definition:
    """The definition in which every condition on the way to that step holds."""
    return replace(definition, block=_forced_block(definition.block, wanted))


def _forced_block(block: Block, wanted: str) -> Block:
    return Block(tuple(_forced_step(step, wanted) for step in block.steps), block.output)


def _forced_step(step: Step, wanted: str) -> Step:
    if step.name == wanted:
        return replace(step, when=None)
    if wanted not in {inner.name for block in step.blocks for inner in all_steps(block)}:
        return _hurried(step)
    match step.action:
        case Switch(cases):
            return replace(step, when=None, action=Switch(tuple(_forced_cases(cases, wanted))))
        case ForEach() | Repeat() as loop:
            inner = _hurried(step).action
            assert isinstance(inner, ForEach | Repeat)
            return replace(step, when=None, action=replace(inner, block=_forced_block(loop.block, wanted)))
        case _:
            raise AssertionError(f"step {step.name} has no blocks")


def _hurried(step: Step) -> Step:
    """Makes a loop that would never end on made-up values end after its first pass."""
    if isinstance(step.action, Repeat):
        return replace(step, action=replace(step.action, until=_TRUE))
    return step


def _forced_cases(cases: tuple[Case, ...], wanted: str) -> Iterator[Case]:
    is_found = False
    for case in cases:
        is_it = wanted in {step.name for step in all_steps(case.block)}
        is_found |= is_it
        condition = _TRUE if is_it else case.when if is_found else _FALSE
        yield Case(condition, _forced_block(case.block, wanted))
