"""The ways that the conditions of a definition can go: lists them, finds those that a rehearsal went, and makes a condition go
one way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

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
from saga_coordinator.saga.expressions.expression import Expression, parse_expression
from saga_coordinator.saga.machine.entries import (
    AttemptStarted,
    BlockClosed,
    BlockOpened,
    Entry,
    InputInvalid,
    StepFailed,
    StepSkipped,
    WaitStarted,
)
from saga_coordinator.saga.words.outcome import Cause, CauseCode

PASSES_MAX = 3
"""The number of passes of a loop whose `until` is assumed never to hold."""

_CONSTANT = {True: parse_expression("true"), False: parse_expression("false")}


class WayKind(StrEnum):
    """The kinds of ways that a step's condition can go."""

    RUN = "`when` is true"
    SKIPPED = "`when` is false"
    CASE = "a case is taken"
    NO_CASE = "no case is taken"
    DONE = "`until` is true"
    NOT_DONE = "`until` is false"


class Way(NamedTuple):
    """A way that a condition of a step can go. `case` counts from 0 and is only set for a CASE."""

    step: str
    kind: WayKind
    case: int = -1

    def __str__(self) -> str:
        match self.kind:
            case WayKind.CASE:
                return f"case {self.case + 1} of `{self.step}` is taken"
            case WayKind.NO_CASE:
                return f"no case of `{self.step}` is taken"
            case _:
                field, _, value = self.kind.partition(" ")
                return f"{field} of `{self.step}` {value}"


def ways(definition: Definition) -> Iterator[Way]:
    """All ways that conditions can go, in the order of the steps."""
    for step in all_steps(definition.block):
        if step.when is not None:
            yield Way(step.name, WayKind.RUN)
            yield Way(step.name, WayKind.SKIPPED)
        match step.action:
            case Switch(cases):
                yield from (Way(step.name, WayKind.CASE, index) for index in range(len(cases)))
                if cases[-1].when is not None:
                    yield Way(step.name, WayKind.NO_CASE)
            case Repeat():
                yield Way(step.name, WayKind.DONE)
                yield Way(step.name, WayKind.NOT_DONE)
            case _:
                pass


def wanted_of(definition: Definition, way: Way) -> list[tuple[Expression, bool]]:
    """The results that conditions must have for that way, in the order in which the conditions are evaluated."""
    step = definition.step(way.step)
    match way.kind, step.action:
        case WayKind.CASE | WayKind.NO_CASE, Switch(cases):
            before = cases if way.kind is WayKind.NO_CASE else cases[: way.case + 1]
            return [
                (case.when, index == way.case) for index, case in enumerate(before) if case.when is not None
            ]
        case WayKind.DONE | WayKind.NOT_DONE, Repeat(until=until):
            return [(until, way.kind is WayKind.DONE)]
        case _:
            assert step.when is not None, f"step {way.step} has no condition"
            return [(step.when, way.kind is WayKind.RUN)]


def gone(definition: Definition, log: Sequence[Entry], aim: Way | None = None) -> Iterator[Way]:
    """The ways that the conditions went in a saga with that log. `aim` is the way that its answers were made for, if any."""
    opened: set[str] = set()
    for entry in log:
        match entry:
            case StepSkipped(key):
                yield from _skipped(definition.step(key), aim)
            case BlockOpened(key, branch=int() as branch):
                yield Way(step_name(key), WayKind.CASE, branch)
            case BlockOpened(key) if key in opened:
                yield Way(step_name(key), WayKind.NOT_DONE)
            case BlockOpened(key):
                opened.add(key)
            case BlockClosed(key) if isinstance(definition.step(key).action, Repeat):
                yield Way(step_name(key), WayKind.DONE)
            case StepFailed(key, Cause(code=CauseCode.PASSES_SPENT)):
                yield Way(step_name(key), WayKind.NOT_DONE)
            case _:
                pass
        if (
            isinstance(entry, AttemptStarted | WaitStarted | BlockOpened | InputInvalid)
            and definition.step(entry.step).when is not None
        ):
            yield Way(step_name(entry.step), WayKind.RUN)


def _skipped(step: Step, aim: Way | None) -> Iterator[Way]:
    found = [Way(step.name, WayKind.SKIPPED)] if step.when is not None else []
    match step.action:
        case Switch(cases) if cases[-1].when is not None:
            found.append(Way(step.name, WayKind.NO_CASE))
        case _:
            pass
    # If a switch has a condition of its own, the log does not tell which of the two skipped it.
    yield from found if len(found) == 1 else [way for way in found if way == aim]


def assumed(definition: Definition, way: Way) -> Definition:
    """The definition in which the condition always goes that way, whatever it reads."""
    constants = {id(expression): _CONSTANT[value] for expression, value in wanted_of(definition, way)}
    return replace(definition, block=_with(definition.block, constants))


def shortened(definition: Definition, way: Way) -> Definition:
    """The definition with few passes of the loop that is not to be done."""
    if way.kind is not WayKind.NOT_DONE:
        return definition
    return replace(definition, block=_with(definition.block, {}, way.step))


def _with(block: Block, constants: dict[int, Expression], short: str = "") -> Block:
    return Block(tuple(_step_with(step, constants, short) for step in block.steps), block.output)


def _step_with(step: Step, constants: dict[int, Expression], short: str) -> Step:
    step = replace(step, when=constants.get(id(step.when), step.when))
    match step.action:
        case Switch(cases):
            changed = (
                Case(constants.get(id(case.when), case.when), _with(case.block, constants, short))
                for case in cases
            )
            return replace(step, action=Switch(tuple(changed)))
        case ForEach() as loop:
            return replace(step, action=replace(loop, block=_with(loop.block, constants, short)))
        case Repeat() as loop:
            until = constants.get(id(loop.until), loop.until)
            passes = min(loop.max_passes, PASSES_MAX) if step.name == short else loop.max_passes
            block = _with(loop.block, constants, short)
            return replace(step, action=replace(loop, until=until, block=block, max_passes=passes))
        case _:
            return step
