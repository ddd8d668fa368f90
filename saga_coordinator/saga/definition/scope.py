"""Checks which names an expression may read at its place, before the expression is ever evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saga_coordinator.saga.expressions.expression import Expression
from saga_coordinator.saga.expressions.reference import Reference
from saga_coordinator.saga.words.nearest import did_you_mean

ROOTS = ("input", "steps", "saga", "output", "failure", "item", "index", "number", "previous", "event")
"""All names that expressions can read at some place."""


@dataclass(frozen=True, slots=True)
class InScope:
    """The names that expressions may read at one place of a definition."""

    roots: frozenset[str]
    """The readable names: some of `ROOTS`, and the names that loops give their items."""
    steps: Mapping[str, str | None]
    """All steps by name. The value is None if the step is sure to have ended; else it says why the step may not be read (`which
    ...`).
    """


def check_expression(expression: Expression, in_scope: InScope) -> str | None:
    """The fault of the first reference that could never be followed, and how to mend it; None if there is no such reference."""
    for reference in expression.references:
        if problem := _problem(reference, in_scope):
            return problem
    return None


def _problem(reference: Reference, in_scope: InScope) -> str | None:
    if reference.root not in in_scope.roots:
        known = ", ".join(
            sorted(in_scope.roots, key=lambda root: ROOTS.index(root) if root in ROOTS else len(ROOTS))
        )
        return f"refers to `{reference.root}`; in scope here: {known}"
    match reference.root:
        case "saga":
            return _check_saga(reference)
        case "failure":
            return _check_failure(reference)
        case "steps":
            return _check_steps(reference, in_scope.steps)
        case _:
            return None


def _check_saga(reference: Reference) -> str | None:
    match reference.selectors:
        case ("id",) | ("labels",) | ("labels", str()):
            return None
        case _:
            return f"reads `{reference}`; it must be `saga.id`, `saga.labels` or `saga.labels.NAME`"


def _check_failure(reference: Reference) -> str | None:
    match reference.selectors:
        case () | ("code" | "message" | "step",):
            return None
        case _:
            return f"reads `{reference}`; it must be `failure`, `failure.code`, `failure.message` or `failure.step`"


def _check_steps(reference: Reference, steps: Mapping[str, str | None]) -> str | None:
    match reference.selectors:
        case (
            (str() as name, "output", *_)
            | (str() as name, "status" | "failure")
            | (str() as name, "failure", "code" | "message")
        ):
            if name not in steps:
                meant = did_you_mean(name, steps)
                return f"refers to a step that does not exist, `{name}`; there are: {', '.join(steps)}{meant}"
            reason = steps[name]
            return f"refers to `{name}`, {reason}" if reason else None
        case _:
            return (
                f"reads `{reference}`; it must have the form `steps.NAME.output...`, `steps.NAME.status` "
                "or `steps.NAME.failure.code`"
            )
