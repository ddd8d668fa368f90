"""Finds smells: parts of a definition that are allowed, and yet are seldom what the author wants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from saga_coordinator.advice.sources import Written, written_steps
from saga_coordinator.advice.words import duration, longest_seconds
from saga_coordinator.saga.definition.model import (
    Approval,
    AwaitEvent,
    Block,
    Definition,
    Delay,
    ForEach,
    OnFailure,
    Operation,
    Step,
    Switch,
    all_steps,
)
from saga_coordinator.saga.expressions.calculation import Calculation
from saga_coordinator.saga.expressions.expression import Expression, Selection
from saga_coordinator.saga.words.errors import ExpressionError
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import OutcomeKind

ATTEMPTS_FEW = 3
"""The fewest attempts without a smell. A restart of the participant is enough to use up fewer attempts."""

_REPEATED = frozenset(
    {"add", "append", "credit", "debit", "decrement", "deduct", "enqueue", "increment", "push", "send"}
)
_READING = frozenset(
    {
        "check",
        "fetch",
        "find",
        "get",
        "list",
        "lookup",
        "query",
        "quote",
        "read",
        "search",
        "validate",
        "verify",
    }
)
_IN_DOUBT = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL", "DATA_LOSS"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class Smell(NamedTuple):
    """A smell. `path` is the place where it was written; `mend` says what to do about it."""

    rule: str
    path: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.mend} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class _Subject:
    """The step that a rule looks at, and what the rule may know of it."""

    definition: Definition
    block: Block
    step: Step
    written: Written
    has_default_timeout: bool

    @property
    def is_late(self) -> bool:
        """Tells whether there is no way back once the step runs."""
        return self.step.is_pivot or self.definition.is_after_pivot(self.step.name)

    def calls(self) -> Iterator[tuple[Operation, OperationKind, Written]]:
        """The calls of the step to participants, without child sagas, and where each was written."""
        for operation, kind in (
            (self.step.action, OperationKind.ACTION),
            (self.step.compensation, OperationKind.COMPENSATION),
        ):
            if isinstance(operation, Operation) and not operation.is_child:
                yield operation, kind, self.written.field(str(kind))


def lint(definition: Definition, source: Any) -> list[Smell]:
    """All smells of a valid definition, in the order of its steps. `source` is the JSON form that the definition was parsed
    from.
    """
    written = written_steps(source)
    has_timeout = Written("", source).field("defaults").field("timeout").is_given
    return [
        smell
        for block, step in _with_blocks(definition.block)
        for rule in RULES.values()
        for smell in rule(_Subject(definition, block, step, written[step.name], has_timeout))
    ]


def _with_blocks(block: Block) -> Iterator[tuple[Block, Step]]:
    for step in block.steps:
        yield block, step
        for inner in step.blocks:
            yield from _with_blocks(inner)


# The rules. Each is named after what it finds.


def _default_timeout(subject: _Subject) -> Iterator[Smell]:
    for operation, kind, written in subject.calls():
        if not (subject.has_default_timeout or written.field("timeout").is_given):
            yield Smell(
                "default-timeout",
                written.path,
                f"the {kind} may take {duration(operation.timeout_seconds)}, and nobody chose that timeout",
                "give the call a `timeout`, or give one in `defaults`",
            )


def _attempts_outlast_deadline(subject: _Subject) -> Iterator[Smell]:
    if not isinstance(subject.step.action, Operation) or subject.step.action.is_child:
        return
    longest = longest_seconds(subject.step.action)
    limits = [("step", subject.step.deadline_seconds)]
    if not subject.is_late:
        limits.append(("saga", subject.definition.deadline_seconds))
    for whose, limit in limits:
        if limit is not None and longest > limit:
            yield Smell(
                "attempts-outlast-deadline",
                subject.written.field("action").path,
                f"its {subject.step.action.retry.max_attempts} attempts can take {duration(longest)} with their pauses, and "
                f"the {whose}'s deadline is {duration(limit)}: the last ones will never be made",
                "lower `timeout`, `max_attempts` or the backoff, or allow more time",
            )


def _wait_outlasts_deadline(subject: _Subject) -> Iterator[Smell]:
    limit = subject.definition.deadline_seconds
    match subject.step.action:
        case Delay(seconds=seconds) | AwaitEvent(timeout_seconds=seconds) | Approval(timeout_seconds=seconds):
            if limit is not None and seconds is not None and seconds >= limit and not subject.is_late:
                yield Smell(
                    "wait-outlasts-deadline",
                    subject.written.path,
                    f"it may wait for {duration(seconds)}, and the saga's deadline is {duration(limit)}: that passes first",
                    "allow the saga more time, or wait for less",
                )
        case _:
            pass


def _wait_without_end(subject: _Subject) -> Iterator[Smell]:
    match subject.step.action:
        case AwaitEvent(timeout_seconds=None) | Approval(timeout_seconds=None):
            if subject.definition.deadline_seconds is None or subject.is_late:
                why = (
                    "the saga has no deadline"
                    if not subject.is_late
                    else "after the pivot the saga's deadline does not count"
                )
                yield Smell(
                    "wait-without-end",
                    subject.written.path,
                    f"it waits for ever if nothing comes, because it has no timeout and {why}",
                    "give it a `timeout`, and say with `on_timeout` what happens then",
                )
        case _:
            pass


def _output_may_be_null(subject: _Subject) -> Iterator[Smell]:
    undo = subject.step.compensation
    if undo is None or undo.is_child or undo.input is None:
        return
    expressions = undo.input.expressions
    if not any(_reads_output(each) for each in expressions) or any(
        _is_aware_of_null(each) for each in expressions
    ):
        return
    if all(_reads_output(each) for each in expressions):
        yield Smell(
            "output-may-be-null",
            subject.written.field("compensation").field("input").path,
            "its whole input comes from `output`, which is null if the outcome of the action is unknown: then the input does not "
            "say what to undo",
            "add something that the action was given, such as an id from `input`, or let the participant find the action by "
            f"its idempotency key, `SAGA_ID/{subject.step.name}/action`",
        )


def _reads_output(expression: Expression) -> bool:
    return any(reference.root == "output" for reference in expression.references)


def _is_aware_of_null(expression: Expression) -> bool:
    return "null" in expression.source or "has(" in expression.source


def _repeated_by_retries(subject: _Subject) -> Iterator[Smell]:
    for operation, kind, written in subject.calls():
        # If the compensation has the same method as the action, the method's name does not describe it.
        is_named = operation is subject.step.action or operation.method != _method(subject.step.action)
        verb = _verb(operation.method) if is_named else ""
        if verb in _REPEATED and operation.retry.max_attempts > 1:
            yield Smell(
                "repeated-by-retries",
                written.path,
                f"`{operation.method}` is called up to {operation.retry.max_attempts} times, and its name suggests that "
                "every call "
                "has another effect",
                f"make sure that {operation.participant} does it once per idempotency key; if it cannot, set "
                f"`retry: {{max_attempts: 1}}`, so that an unknown outcome of this {kind} is not repeated",
            )


def _compensated_though_reading(subject: _Subject) -> Iterator[Smell]:
    action = subject.step.action
    if (
        isinstance(action, Operation)
        and subject.step.compensation is not None
        and _verb(action.method) in _READING
    ):
        yield Smell(
            "compensated-though-reading",
            subject.written.field("compensation").path,
            f"`{action.method}` looks as if it changed nothing, but it has a compensation",
            "if it changes nothing, mark the step `read_only` and drop the compensation",
        )


def _method(action: object) -> str:
    return action.method if isinstance(action, Operation) else ""


def _verb(method: str) -> str:
    """The first word of a method's name: `shop.v1.Stock/AddItem` -> `add`."""
    found = _WORD.search(method.rpartition("/")[2].rpartition(".")[2])
    return found.group().lower() if found else ""


def _never_runs(subject: _Subject) -> Iterator[Smell]:
    if _constant(subject.step.when) is False:
        yield Smell(
            "never-runs",
            subject.written.field("when").path,
            f"`{subject.step.when and subject.step.when.source}` never holds, so the step is always skipped",
            "remove the step, or say when it runs",
        )
    if not isinstance(subject.step.action, Switch):
        return
    switch = subject.written.field("switch")
    paths = [*(case.path for case in switch.field("cases").items()), switch.field("otherwise").path]
    taken: str | None = None
    for path, case in zip(paths, subject.step.action.cases, strict=False):
        value = True if case.when is None else _constant(case.when)
        where = switch.field("otherwise").path if case.when is None else path
        if taken is not None:
            yield Smell(
                "never-runs", where, f"{taken} always holds, so this is never reached", "remove one of them"
            )
        elif value is False:
            yield Smell("never-runs", where, "its condition never holds", "remove it, or say when it runs")
        if value is True and case.when is not None and taken is None:
            taken = path


def _constant(expression: Expression | None) -> bool | None:
    """The value of a condition that reads nothing; None if the condition depends on something."""
    if expression is None or expression.references:
        return None
    try:
        value = expression.evaluate({})
    except ExpressionError:
        return None
    return value if isinstance(value, bool) else None


def _skipped_output_read(subject: _Subject) -> Iterator[Smell]:
    may_be_skipped = {other.name: other for other in subject.block.steps if _may_be_skipped(other)}
    for expression in _own_expressions(subject.step):
        for reference in expression.references:
            match reference.root, reference.selectors:
                case "steps", (str() as name, "output", _, *_) if name in may_be_skipped:
                    if not _is_guarded(subject.step, expression, may_be_skipped[name]):
                        yield Smell(
                            "skipped-output-read",
                            subject.written.path,
                            f"`{reference}` cannot be read if `{name}` is skipped, because its output is null then",
                            f"give this step a `when` that holds only if `{name}` ran, such as "
                            f"`steps.{name}.status == 'SUCCEEDED'`, or ask for the status in the expression",
                        )
                case _:
                    pass


def _may_be_skipped(step: Step) -> bool:
    match step.action:
        case Switch(cases) if cases[-1].when is not None:
            return True
        case _:
            return step.when is not None


def _own_expressions(step: Step) -> Iterator[Expression]:
    templates = [step.compensation.input] if step.compensation else []
    match step.action:
        case Operation(input=template) | AwaitEvent(correlation=template) | Approval(shows=template):
            templates.append(template)
        case Delay(until=Calculation() | Selection() as expression) | ForEach(items=expression):
            yield expression
        case Switch(cases):
            yield from (case.when for case in cases if case.when is not None)
        case _:
            pass
    if step.when is not None:
        yield step.when
    for template in templates:
        yield from template.expressions if template else ()


def _is_guarded(step: Step, expression: Expression, other: Step) -> bool:
    """Tells whether the expression first asks if the other step ran, as far as its syntax shows."""
    asked = f"steps.{other.name}."
    if _is_aware_of_null(expression) or f"{asked}status" in expression.source:
        return True
    if step.when is None or step.when is expression:
        return False
    return asked in step.when.source or (other.when is not None and other.when.source in step.when.source)


def _irreversible_too_early(subject: _Subject) -> Iterator[Smell]:
    if not subject.step.is_irreversible or subject.is_late:
        return
    outermost = subject.block is subject.definition.block
    later = [
        other.name
        for other in subject.block.steps
        if subject.step.name in subject.block.dependencies[other.name]
        and _can_turn(subject.definition, other)
    ]
    if not later:
        return
    if subject.definition.pivot is None and outermost:
        mend = f"make `{subject.step.name}` the `pivot`, so that the steps after it are retried forward, or move it to the end"
    else:
        mend = "move it after the steps that can fail, best after the pivot"
    yield Smell(
        "irreversible-too-early",
        subject.written.path,
        f"it cannot be undone, and the saga can still fail after it, in {', '.join(later)}: then it is NEEDS_ATTENTION",
        mend,
    )


def _can_turn(definition: Definition, step: Step) -> bool:
    """Tells whether a failure of the step, or of a step in its blocks, makes the saga compensate."""
    if definition.is_after_pivot(step.name):
        return False
    inner = [each for block in step.blocks for each in all_steps(block)]
    return any(
        each.on_failure is OnFailure.COMPENSATE and not each.blocks and not isinstance(each.action, Delay)
        for each in (step, *inner)
    )


def _for_each_without_limit(subject: _Subject) -> Iterator[Smell]:
    match subject.step.action:
        case ForEach(items=items, max_parallel=0) if items.references and not subject.definition.max_parallel:
            yield Smell(
                "for-each-without-limit",
                subject.written.field("for_each").path,
                f"`{items.source}` may have up to 1,000 items, and the calls for all of them are made at once",
                "set `max_parallel` to what the participants can bear",
            )
        case _:
            pass


def _gives_up_early(subject: _Subject) -> Iterator[Smell]:
    for operation, kind, written in subject.calls():
        is_undo = kind is OperationKind.COMPENSATION
        if (
            is_undo or subject.definition.is_after_pivot(subject.step.name)
        ) and operation.retry.max_attempts < ATTEMPTS_FEW:
            count = operation.retry.max_attempts
            yield Smell(
                "gives-up-early",
                written.path,
                f"after {count} attempt{'s' if count > 1 else ''} a person is needed, because there is no other way on; "
                "a restart of "
                f"{operation.participant} is enough for that",
                "allow more attempts, over some minutes",
            )


def _doubt_taken_for_no(subject: _Subject) -> Iterator[Smell]:
    for operation, _, written in subject.calls():
        doubtful = sorted(
            status
            for status, kind in operation.outcomes.items()
            if kind is OutcomeKind.REFUSED and status in _IN_DOUBT
        )
        if doubtful:
            yield Smell(
                "doubt-taken-for-no",
                written.field("outcomes").path,
                f"{', '.join(doubtful)} can also come from the network after the participant has done its work; taken as "
                "refused, that effect is never undone",
                "leave it unknown, or let the participant refuse with another status",
            )


_Rule = Callable[[_Subject], Iterator[Smell]]

RULES: Mapping[str, _Rule] = {
    "default-timeout": _default_timeout,
    "attempts-outlast-deadline": _attempts_outlast_deadline,
    "wait-outlasts-deadline": _wait_outlasts_deadline,
    "wait-without-end": _wait_without_end,
    "output-may-be-null": _output_may_be_null,
    "repeated-by-retries": _repeated_by_retries,
    "compensated-though-reading": _compensated_though_reading,
    "never-runs": _never_runs,
    "skipped-output-read": _skipped_output_read,
    "irreversible-too-early": _irreversible_too_early,
    "for-each-without-limit": _for_each_without_limit,
    "gives-up-early": _gives_up_early,
    "doubt-taken-for-no": _doubt_taken_for_no,
}
"""All rules by name."""
