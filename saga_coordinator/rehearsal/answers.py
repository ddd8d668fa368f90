"""Makes up plausible values that a definition reads and the user has not given: the saga's input, and the outputs of its steps.

The expressions tell which fields there must be. The types of the fields are found by trial: values are assigned until every
expression can be evaluated, conditions hold and lists are lists, so that as much as possible of the saga runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

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
    step_name,
)
from saga_coordinator.saga.expressions.calculation import Calculation
from saga_coordinator.saga.expressions.condition import evaluate_instant
from saga_coordinator.saga.expressions.expression import Expression, Selection, Template
from saga_coordinator.saga.expressions.reference import Reference
from saga_coordinator.saga.expressions.syntax import Constant, Select, walk
from saga_coordinator.saga.words.errors import ExpressionError

TRIES_MAX = 1500
"""The most assignments that are tried for one expression."""
ITEMS = 2
"""Items of a made-up list."""

_INSTANT = "2026-01-01T01:00:00Z"
_NUMBERED = ("amount", "total", "count", "qty", "quantity", "price", "cents", "number", "size", "age", "sum")
_FLAGGED = ("is_", "has_", "can_", "should_")


class _Nothing(Enum):
    """Marks for the absence of a value. They are members of an enumeration, so a copy of a mark is the mark itself."""

    UNSET = "unset"
    ABSENT = "absent"


UNSET: Any = _Nothing.UNSET
ABSENT: Any = _Nothing.ABSENT
"""The value of `Shape.forced` for a field that is left out."""


class Wanted(Enum):
    """The kinds of result that an expression must have."""

    ANY = "any"
    TRUE = "true"
    LIST = "list"
    INSTANT = "instant"


@dataclass(frozen=True, slots=True)
class Site:
    """An expression and its place: the loops around it, and the step whose compensation has it, if any."""

    expression: Expression
    wanted: Wanted
    loops: tuple[Step, ...]
    undone: Step | None = None


@dataclass(eq=False)
class Shape:
    """The shape of a value. The value was given by the user, or is made up from the fields and items that expressions read of
    it.
    """

    name: str
    given: Any = UNSET
    is_final: bool = False
    """True if the user gave the value. Nothing is added to it, so that a missing field shows."""
    fields: dict[str, Shape] = field(default_factory=dict)
    items: Shape | None = None
    guess: Any = UNSET
    forced: Any = UNSET
    """The value in one variant of the answers, whatever expressions read of it."""

    def at(self, selectors: Sequence[str | int]) -> Shape:
        """The shape of what is selected, made if need be."""
        shape = self
        for selector in selectors:
            shape = shape._item() if isinstance(selector, int) else shape._field(selector)
        return shape

    def _field(self, name: str) -> Shape:
        if name not in self.fields:
            inner = self.given.get(name, UNSET) if isinstance(self.given, Mapping) else UNSET
            self.fields[name] = Shape(name, inner, self.is_final)
        return self.fields[name]

    def _item(self) -> Shape:
        if self.items is None:
            first = self.given[0] if isinstance(self.given, list) and self.given else UNSET
            self.items = Shape(self.name.removesuffix("s"), first, self.is_final)
        return self.items

    def become_list(self) -> None:
        self._item()

    @property
    def is_free(self) -> bool:
        """Tells whether any value may be made up for this shape."""
        return self.given is UNSET and not self.is_final and not self.fields and self.items is None

    def value(self) -> Any:
        """The value, or a made-up value that fits."""
        if self.forced is not UNSET:
            return self.forced
        if self.given is not UNSET:
            if isinstance(self.given, Mapping) and not self.is_final:
                return self._with_fields(self.given)
            return self.given
        if self.is_final:
            return None
        if self.items is not None and not self.fields:
            return [_nth(self.items.value(), number) for number in range(1, ITEMS + 1)]
        if self.fields:
            return self._with_fields({})
        return _first_guess(self.name) if self.guess is UNSET else self.guess

    def _with_fields(self, others: Mapping[str, Any]) -> dict[str, Any]:
        found = {**others, **{name: shape.value() for name, shape in self.fields.items()}}
        return {name: value for name, value in found.items() if value is not ABSENT}


def _nth(value: Any, number: int) -> Any:
    """The value with a number in its texts, so that the items of a list can be told apart."""
    match value:
        case str() if not value.startswith("20"):
            return f"{value}-{number}"
        case dict():
            return {
                name: _nth(each, number) if isinstance(each, str) else each for name, each in value.items()
            }
        case _:
            return value


def _first_guess(name: str) -> Any:
    if name.startswith(_FLAGGED):
        return True
    if any(word in _NUMBERED for word in name.lower().split("_")):
        return 100
    return name


@dataclass
class Answers:
    """The saga's input and what each step returns, as far as given, else made up. `unsolved` are expressions that fit no try."""

    definition: Definition
    input: Shape
    outputs: dict[str, Shape]
    unsolved: list[str] = field(default_factory=list)

    def output(self, key: str) -> Any:
        """The output of the action, or of the event, of an instance."""
        return self.outputs[step_name(key)].value()


def make_answers(
    definition: Definition,
    *,
    given_input: Any = None,
    sketch: Any = None,
    outputs: Mapping[str, Any] | None = None,
) -> Answers:
    """Answers for everything that the definition reads.

    Args:
        given_input: the input; when it is given, nothing is added to it.
        sketch: an input to begin with, to which what is read is added.
        outputs: what steps return, by name; nothing is added to these.
    """
    if given_input is not None:
        saga_input = Shape("input", given_input, is_final=True)
    else:
        saga_input = Shape("input", UNSET if sketch is None else sketch)
        if sketch is None:
            saga_input.fields = {}
    shapes = {
        step.name: Shape(step.name, outputs[step.name], is_final=True)
        if outputs and step.name in outputs
        else Shape(step.name)
        for step in all_steps(definition.block)
    }
    for step in all_steps(definition.block):
        if isinstance(step.action, Approval):
            shapes[step.name] = Shape(step.name, {"approved": True, "decided_by": "someone", "comment": ""})
        elif isinstance(step.action, Delay):
            shapes[step.name] = Shape(step.name, None, is_final=True)
    answers = Answers(definition, saga_input, shapes)
    Solver(answers).solve()
    return answers


class Solver:
    """Finds values for the shapes of `answers`. `sites` are all expressions of the definition."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.sites = list(_sites(answers.definition))

    def solve(self) -> None:
        for site in self.sites:
            for reference in site.expression.references:
                self.resolve(reference, site)
        for site in sorted(self.sites, key=lambda site: site.wanted is not Wanted.LIST):
            if site.wanted is Wanted.LIST and isinstance(site.expression, Selection):
                shape = self.resolve(site.expression.references[0], site)
                if shape is not None and shape.is_free:
                    shape.become_list()
        order = (Wanted.LIST, Wanted.TRUE, Wanted.INSTANT, Wanted.ANY)
        for site in sorted(self.sites, key=lambda site: order.index(site.wanted)):
            if isinstance(site.expression, Calculation) or site.wanted is not Wanted.ANY:
                self._fit(site)
        if self._answers.input.is_free:
            self._answers.input.guess = {}

    def resolve(self, reference: Reference, site: Site) -> Shape | None:
        """The shape that the reference leads to; None for what is not made up."""
        answers, selectors = self._answers, reference.selectors
        if reference.root == "input":
            return answers.input.at(selectors)
        if reference.root == "output" and site.undone is not None:
            return answers.outputs[site.undone.name].at(selectors)
        if reference.root == "steps" and len(selectors) >= 2 and selectors[1] == "output":
            shape = self._output(str(selectors[0]))
            return shape and shape.at(selectors[2:])
        for loop in reversed(site.loops):
            if isinstance(loop.action, ForEach) and loop.action.name == reference.root:
                shape = self._list_of(loop, site)
                return shape and shape.at((0, *selectors))
        return None

    def _output(self, name: str) -> Shape | None:
        """The output of the step of that name; None if the core computes the output from a template."""
        step = self._answers.definition.step(name)
        match step.action:
            case Switch(cases):
                return self._block_output(cases[0].block)
            case Repeat(block=block):
                return self._block_output(block)
            case ForEach():
                return None
            case _:
                return self._answers.outputs[name]

    def _block_output(self, block: Block) -> Shape | None:
        return self._output(block.steps[-1].name) if block.output is None else None

    def _list_of(self, loop: Step, site: Site) -> Shape | None:
        """The shape of the list that the loop goes over, if the loop reads it from one place."""
        assert isinstance(loop.action, ForEach)
        around = Site(loop.action.items, Wanted.LIST, site.loops[: site.loops.index(loop)])
        for reference in loop.action.items.references:
            if shape := self.resolve(reference, around):
                return shape
        return None

    def _fit(self, site: Site) -> None:
        """Assigns values to the free shapes so that the expression has the wanted result, if there is such an assignment."""
        shapes = [self.resolve(reference, site) for reference in site.expression.references]
        free = [shape for shape in dict.fromkeys(shapes) if shape is not None and shape.is_free]
        free += [leaf for shape in shapes if shape is not None and shape.items for leaf in _leaves(shape)]
        free = [shape for shape in dict.fromkeys(free) if shape.guess is UNSET]
        if self._is_fit(site, site.wanted):
            for shape in free:
                shape.guess = shape.value()
            return
        candidates = candidates_of(site.expression)
        is_evaluable = None
        for tried in itertools.islice(itertools.product(candidates, repeat=len(free)), TRIES_MAX):
            for shape, value in zip(free, tried, strict=True):
                shape.guess = value
            if self._is_fit(site, site.wanted):
                return
            if is_evaluable is None and self._is_fit(site, Wanted.ANY) and site.wanted is Wanted.TRUE:
                is_evaluable = tried
        for shape, value in zip(free, is_evaluable or [UNSET] * len(free), strict=True):
            shape.guess = value
        if is_evaluable is None and free:
            self._answers.unsolved.append(site.expression.source)

    def _is_fit(self, site: Site, wanted: Wanted) -> bool:
        try:
            result = site.expression.evaluate(self.scope(site))
            if wanted is Wanted.INSTANT:
                evaluate_instant(site.expression, self.scope(site))
        except ExpressionError:
            return False
        if wanted is Wanted.LIST:
            return isinstance(result, list) and bool(result)
        return wanted is not Wanted.TRUE or result is True

    def scope(self, site: Site) -> dict[str, Any]:
        """The values that the expression reads at its place."""
        answers = self._answers
        scope: dict[str, Any] = {
            "input": answers.input.value(),
            "steps": {
                step.name: {"output": self._value(step.name), "status": "SUCCEEDED", "failure": None}
                for step in all_steps(answers.definition.block)
            },
            "saga": {"id": "rehearsal", "labels": {}},
            "failure": {"code": "FAILED_PRECONDITION", "message": "refused", "step": ""},
            "index": 0,
            "number": 1,
            "previous": None,
        }
        if site.undone is not None:
            scope["output"] = answers.outputs[site.undone.name].value()
        for loop in site.loops:
            if isinstance(loop.action, ForEach):
                try:
                    found = loop.action.items.evaluate(scope)
                except ExpressionError:
                    found = None
                scope[loop.action.name] = found[0] if isinstance(found, list) and found else None
        return scope

    def _value(self, name: str) -> Any:
        step = self._answers.definition.step(name)
        if isinstance(step.action, ForEach):
            inner = self._block_output(step.action.block)
            return [inner and inner.value()] * ITEMS
        shape = self._output(name)
        return shape and shape.value()


def _leaves(shape: Shape) -> Iterator[Shape]:
    if shape.is_free:
        yield shape
    for inner in (*shape.fields.values(), *([shape.items] if shape.items else [])):
        yield from _leaves(inner)


def candidates_of(expression: Expression) -> list[Any]:
    """Values to try, beginning with the values that the expression compares with."""
    found: list[Any] = []
    names: list[str] = []
    for node in walk(expression.tree) if isinstance(expression, Calculation) else ():
        match node:
            case Constant(bool()) | Constant(None):
                pass
            case Constant(int() | float() as number):
                found += [number, number + 1, number - 1]
            case Constant(str() as text) if text:
                found += [text]
            case Select(field=name):
                names.append(name)
            case _:
                pass
    objects = (
        [[dict.fromkeys(names, value)] * ITEMS for value in (*found, 100, "text", True)] if names else []
    )
    found += [True, 100, "text", _INSTANT, ["one", "two"], [1, 2], *objects, False, {}, []]
    unique: list[Any] = []
    for value in found:
        if not any(value == other and type(value) is type(other) for other in unique):
            unique.append(value)
    return unique


# The places of expressions.


def _sites(definition: Definition) -> Iterator[Site]:
    for template in definition.labels.values():
        yield from _of_template(template, ())
    yield from _of_block(definition.block, ())


def _of_block(block: Block, loops: tuple[Step, ...]) -> Iterator[Site]:
    for step in block.steps:
        yield from _of_step(step, loops)
    yield from _of_template(block.output, loops)


def _of_step(step: Step, loops: tuple[Step, ...]) -> Iterator[Site]:
    yield from _of_expression(step.when, Wanted.TRUE, loops)
    if step.compensation is not None:
        yield from _of_template(step.compensation.input, loops, step)
    match step.action:
        case Operation(input=template):
            yield from _of_template(template, loops)
        case Delay(until=until):
            yield from _of_expression(until, Wanted.INSTANT, loops)
        case AwaitEvent(correlation=correlation):
            yield from _of_template(correlation, loops)
        case Approval(shows=shows):
            yield from _of_template(shows, loops)
        case Switch(cases):
            for case in cases:
                yield from _of_expression(case.when, Wanted.TRUE, loops)
                yield from _of_block(case.block, loops)
        case ForEach(items, block):
            yield from _of_expression(items, Wanted.LIST, loops)
            yield from _of_block(block, (*loops, step))
        case Repeat(until, block):
            yield from _of_block(block, (*loops, step))
            yield from _of_expression(until, Wanted.TRUE, (*loops, step))


def _of_expression(expression: Expression | None, wanted: Wanted, loops: tuple[Step, ...]) -> Iterator[Site]:
    if expression is not None:
        yield Site(expression, wanted, loops)


def _of_template(
    template: Template | None, loops: tuple[Step, ...], undone: Step | None = None
) -> Iterator[Site]:
    for expression in template.expressions if template else ():
        yield Site(expression, Wanted.ANY, loops, undone)
