"""Parts of expressions that read nothing: whether they fail is known when the definition is registered."""

from __future__ import annotations

from collections.abc import Iterator

from saga_coordinator.exact import NotKept, check_whole
from saga_coordinator.saga.expressions.calculation import Calculation, failure_of_constants
from saga_coordinator.saga.expressions.condition import Evaluate
from saga_coordinator.saga.expressions.cost import work
from saga_coordinator.saga.expressions.expression import Expression
from saga_coordinator.saga.expressions.rewrite import TIME_METHODS, TYPES
from saga_coordinator.saga.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Name,
    Node,
    Select,
    children,
    walk,
)
from saga_coordinator.saga.words.errors import ExpressionError
from saga_coordinator.saga.words.work import spend

_PART_PRICE = 150
_WORK_PER_UNIT = 33
"""The number of units of an expression's work in one unit of the work of checking."""

_NOTHING: frozenset[str] = frozenset()


def constant_problem(expression: Expression, evaluate: Evaluate) -> str | None:
    """The problem of the first constant part that always fails, or whose number is not the number written; None if there is no
    such part.

    `evaluate` is the function that evaluates the expression at its place. A part counts even if its result may not be needed,
    because nobody writes a part that is meant to fail.
    """
    if not isinstance(expression, Calculation):
        return None
    for literal in walk(expression.tree):
        if isinstance(literal, Constant) and isinstance(literal.value, int):
            try:
                check_whole(literal.value)
            except NotKept as error:
                return f"${{{expression.source}}}: {error}"
    for part in (*_constant_parts(expression.tree), *_trials(expression.tree)):
        spend(_PART_PRICE + work(part, {}) // _WORK_PER_UNIT)
        if (reason := failure_of_constants(part)) is not None:
            return f"${{{expression.source}}} has a part that fails whatever it reads: {reason}"
    if expression.bindings:
        return None
    try:
        evaluate(expression, {})
    except ExpressionError as error:
        return f"fails always: {error}"
    return None


def _constant_parts(tree: Node) -> list[Node]:
    """The largest parts that read nothing and compute something."""
    found: list[Node] = []
    if not _reads(tree, found):
        found = [tree]
    return [part for part in found if any(isinstance(each, _COMPUTES) for each in walk(part))]


_COMPUTES = (Call, Select, Comprehension)


def _trials(tree: Node) -> Iterator[Node]:
    """Calls whose target is read but whose arguments are constant, with a target that takes every argument that is sound."""
    for node in walk(tree):
        match node:
            case Call("matches", (*_, Constant() as pattern)):
                yield Call("matches", (pattern,), Constant(""))
            case Call(function, (Constant() as zone,), target) if target and function in TIME_METHODS:
                yield Call(function, (zone,), Call("timestamp", (Constant("2000-01-01T00:00:00Z"),)))


def _reads(node: Node, found: list[Node]) -> frozenset[str]:
    """The variables in the node that it does not bring itself; adds to `found` the constant parts of what reads any."""
    if isinstance(node, Name):
        return _NOTHING if node.name in TYPES else frozenset({node.name})
    below = children(node)
    inside = [_reads(child, found) for child in below]
    if isinstance(node, Comprehension):
        own = {node.variable, node.accumulator}
        everything = inside[0] | inside[1] | (_NOTHING.union(*inside[2:]) - own)
    else:
        everything = _NOTHING.union(*inside)
    if everything:
        found.extend(child for child, names in zip(below, inside, strict=True) if not names)
    return everything
