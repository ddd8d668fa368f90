"""Makes answers on which conditions go other ways than on the first answers, and answers that lack what may be lacking."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from saga_coordinator.rehearsal.answers import (
    ABSENT,
    TRIES_MAX,
    UNSET,
    Answers,
    Shape,
    Site,
    Solver,
    candidates_of,
)
from saga_coordinator.rehearsal.ways import Way, wanted_of
from saga_coordinator.saga.expressions.calculation import Calculation
from saga_coordinator.saga.expressions.expression import Expression
from saga_coordinator.saga.expressions.reference import Reference
from saga_coordinator.saga.expressions.rewrite import BindingKind
from saga_coordinator.saga.expressions.syntax import Call, Constant, Name, walk
from saga_coordinator.saga.words.errors import ExpressionError

_PLAIN: tuple[Any, ...] = (0, 1, "", "other", [])
_COMPARISONS = ("_==_", "_!=_")


def answers_for(answers: Answers, way: Way) -> Answers | None:
    """Answers on which the condition goes that way, as similar to the given answers as possible; None if no such answers are
    found.

    Values change within their type, so that other expressions can still read them. Null and absence are tried only if the
    condition itself asks about them.
    """
    wanted = wanted_of(answers.definition, way)
    other = _copied(answers)
    solver = Solver(other)
    sites = [_site(solver, expression) for expression, _ in wanted]
    checks = [(site, value) for site, (_, value) in zip(sites, wanted, strict=True)]
    shapes = _shapes(solver, sites)
    for trial in itertools.islice(_trials(shapes, sites, solver), TRIES_MAX):
        for shape, value in trial:
            shape.forced = value
        if _is_allowed(answers, other) and all(_goes(solver, site, value) for site, value in checks):
            return other
        for shape, _ in trial:
            shape.forced = UNSET
    return None


def lacking(answers: Answers) -> Iterator[tuple[str, Answers]]:
    """Yields answers that lack one thing each, with words for it: a value that some expression asks about by `has()` is left
    out, or a value that some expression compares with null is null.
    """
    told: set[str] = set()
    for number, site in enumerate(Solver(answers).sites):
        for reference, value in _doubted(site.expression):
            what = f"without `{reference}`" if value is ABSENT else f"with `{reference}` null"
            if what in told:
                continue
            told.add(what)
            other = _copied(answers)
            solver = Solver(other)
            shape = solver.resolve(reference, solver.sites[number])
            if shape is None or shape.is_final:
                continue
            shape.forced = value
            if _is_allowed(answers, other):
                yield what, other


def _copied(answers: Answers) -> Answers:
    saga_input, outputs = copy.deepcopy((answers.input, answers.outputs))
    return Answers(answers.definition, saga_input, outputs)


def _site(solver: Solver, expression: Expression) -> Site:
    return next(site for site in solver.sites if site.expression is expression)


def _shapes(solver: Solver, sites: Iterable[Site]) -> list[Shape]:
    """The shapes that the expressions read and that may be made up."""
    found = [solver.resolve(reference, site) for site in sites for reference in site.expression.references]
    return [shape for shape in dict.fromkeys(found) if shape is not None and not shape.is_final]


_Trial = Sequence[tuple[Shape, Any]]


def _trials(shapes: Sequence[Shape], sites: Sequence[Site], solver: Solver) -> Iterator[_Trial]:
    """The changes to try: one value, then the values that can be null or absent, then all values at once."""
    written = [value for site in sites for value in candidates_of(site.expression)]
    others = [[(shape, value) for value in _like(shape.value(), written)] for shape in shapes]
    yield from ([each] for choices in others for each in choices)
    for site in sites:
        for reference, value in _doubted(site.expression):
            shape = solver.resolve(reference, site)
            if shape is not None and not shape.is_final:
                yield [(shape, value)]
    yield from itertools.product(*(choices for choices in others if choices))


def _like(value: Any, written: Sequence[Any]) -> list[Any]:
    """Other values of the same type."""
    if isinstance(value, bool):
        return [not value]
    kind = next((kind for kind in (int | float, str, list) if isinstance(value, kind)), None)
    if kind is None:
        return []
    return [
        other
        for other in (*written, *_PLAIN)
        if isinstance(other, kind) and not isinstance(other, bool) and other != value
    ]


def _doubted(expression: Expression) -> Iterator[tuple[Reference, Any]]:
    """The values that the expression asks about by `has()`, each with ABSENT, and the values that it compares with null, each
    with null.
    """
    if not isinstance(expression, Calculation):
        return
    names = {binding.name: binding.reference for binding in expression.bindings}
    for binding in expression.bindings:
        if binding.kind is BindingKind.PRESENCE:
            yield binding.reference, ABSENT
    for node in walk(expression.tree):
        match node:
            case Call(function, (Name(name), Constant(None)) | (Constant(None), Name(name))):
                if function in _COMPARISONS and name in names:
                    yield names[name], None
            case _:
                pass


def _is_allowed(before: Answers, now: Answers) -> bool:
    """Tells whether the input fits its schema. If the first input does not fit either, every input is allowed."""
    schema = before.definition.input_schema
    return schema is None or not schema.faults(now.input.value()) or bool(schema.faults(before.input.value()))


def _goes(solver: Solver, site: Site, wanted: bool) -> bool:
    try:
        return site.expression.evaluate(solver.scope(site)) is wanted
    except ExpressionError:
        return False
