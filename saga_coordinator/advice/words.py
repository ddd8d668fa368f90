"""Describes a definition's policies in words: how long each step may take, what its failures mean, and what undoes it."""

from __future__ import annotations

from collections.abc import Iterator

from saga_coordinator.advice.text import block_label, block_parts
from saga_coordinator.saga.definition.model import (
    Approval,
    AwaitEvent,
    Block,
    Definition,
    Delay,
    OnFailure,
    Operation,
    Step,
)
from saga_coordinator.saga.words.outcome import REFUSING_STATUSES, OutcomeKind
from saga_coordinator.saga.words.retry import RetryPolicy

_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
_PAUSES_SHOWN = 6


def in_words(definition: Definition) -> Iterator[str]:
    """The whole definition in words: first the saga, then each step. Steps in blocks are indented."""
    if definition.description:
        yield definition.description.strip()
        yield ""
    yield from _of_saga(definition)
    yield from _of_block(definition, definition.block, "")


def _of_saga(definition: Definition) -> Iterator[str]:
    pivot = definition.pivot
    if definition.deadline_seconds is not None:
        until = f" before `{pivot.name}` is attempted" if pivot else ""
        yield f"Deadline: {duration(definition.deadline_seconds)}; when it passes{until}, the saga is compensated."
    else:
        yield "Deadline: none, unless the starter sets one."
    if pivot is not None:
        yield f"Pivot: once `{pivot.name}` is attempted, the saga cannot be cancelled; once it succeeded, it only goes forward."
    else:
        yield "Pivot: none; the saga can go back until it has completed."
    refusing = ", ".join(sorted(REFUSING_STATUSES))
    yield f"Refused means {refusing}; unknown means any other error, or no answer in time."
    if definition.max_parallel:
        yield f"At most {definition.max_parallel} calls at once."


def _of_block(definition: Definition, block: Block, indent: str) -> Iterator[str]:
    for step in block.steps:
        yield ""
        yield f"{indent}{step.name}{_marks(step)}"
        for line in _of_step(definition, block, step):
            yield f"{indent}  {line}"
        for heading, inner in block_parts(step):
            if heading:
                yield f"{indent}  {heading}"
            yield from _of_block(definition, inner, f"{indent}    ")


def _marks(step: Step) -> str:
    marks = [
        word
        for word, holds in (
            ("pivot", step.is_pivot),
            ("read-only", step.is_read_only and isinstance(step.action, Operation)),
            ("irreversible", step.is_irreversible),
        )
        if holds
    ]
    return f" ({', '.join(marks)})" if marks else ""


def _of_step(definition: Definition, block: Block, step: Step) -> Iterator[str]:
    if step.after:
        yield f"starts after: {', '.join(step.after)}"
    if step.when is not None:
        yield f"only when {step.when.source}; else it is skipped"
    match step.action:
        case Operation() as operation:
            yield from _of_call(definition, step, operation)
        case Delay(seconds, until):
            yield f"waits for {duration(seconds or 0)}" if until is None else f"waits until {until.source}"
        case AwaitEvent() | Approval() as wait:
            yield from _of_wait(definition, step, wait)
        case _:
            yield f"block: {block_label(step)}"
    yield from _of_undoing(definition, step)


def _of_call(definition: Definition, step: Step, operation: Operation) -> Iterator[str]:
    if operation.is_child:
        yield (
            f"runs the saga {operation.method}; if that saga is compensated, the step is refused; if this saga is undone, that "
            "saga is undone, too"
        )
    else:
        yield f"calls {operation.participant}, {operation.method}"
        yield f"time: {_times(operation)}"
        if operation.pending_timeout_seconds is not None:
            yield f"if it answers PENDING: the outcome must be reported within {duration(operation.pending_timeout_seconds)}"
    if step.deadline_seconds is not None:
        yield f"time for all attempts: {duration(step.deadline_seconds)}; after that, the step has failed"
    for kind in OutcomeKind:
        if own := sorted(status for status, meant in operation.outcomes.items() if meant is kind):
            yield f"here these count as {kind}: {', '.join(own)}"
    yield f"refused: {_when_refused(definition, step)}"
    if not operation.is_child:
        yield f"unknown: {_when_unknown(definition, step, operation)}"


def _times(operation: Operation) -> str:
    retry, timeout = operation.retry, operation.timeout_seconds
    if retry.max_attempts == 1:
        return f"{duration(timeout)}, one attempt"
    longest = longest_seconds(operation)
    return (
        f"{duration(timeout)} for each attempt, {retry.max_attempts} attempts with "
        f"{'pauses of' if retry.pauses else 'random pauses of up to'} {_pauses(retry)}; "
        f"{duration(longest)} in all at most"
    )


def _pauses(retry: RetryPolicy) -> str:
    pauses = [duration(retry.backoff_seconds(n, 1.0)) for n in range(1, retry.max_attempts)]
    if len(pauses) > _PAUSES_SHOWN:
        return f"{', '.join(pauses[:_PAUSES_SHOWN])}, ... {pauses[-1]}"
    return ", ".join(pauses)


def longest_seconds(operation: Operation) -> float:
    """The longest time, in seconds, that all attempts can take together: each attempt runs into its timeout, and every pause is
    the longest possible.
    """
    retry = operation.retry
    pauses = sum(retry.backoff_seconds(n, 1.0) for n in range(1, retry.max_attempts))
    return retry.max_attempts * operation.timeout_seconds + pauses


def _when_refused(definition: Definition, step: Step) -> str:
    own = "it is not undone" if not step.compensate_on_refusal else "it is compensated in any case"
    failed = _when_failed(definition, step)
    return f"no other attempt; {failed}" if step.is_read_only else f"no other attempt; {own}; {failed}"


def _when_unknown(definition: Definition, step: Step, operation: Operation) -> str:
    again = "another attempt, with the same key" if operation.retry.max_attempts > 1 else "no other attempt"
    if operation.retry.max_attempts > 1 and operation.retry.retry_on:
        again += f", but only after {', '.join(sorted(operation.retry.retry_on))}"
    if step.is_pivot:
        return f"{again}; after the last attempt NEEDS_ATTENTION: nobody knows whether there is a way back"
    own = "it is undone, too, because it may have happened; " if step.compensation is not None else ""
    if step.is_irreversible:
        own = "its effect is listed, because it may have happened; "
    return f"{again}; after the last one {own}{_when_failed(definition, step)}"


def _when_failed(definition: Definition, step: Step) -> str:
    if definition.is_after_pivot(step.name):
        return "the saga is NEEDS_ATTENTION, because it cannot go back any more"
    match step.on_failure:
        case OnFailure.PAUSE:
            return "the saga is NEEDS_ATTENTION: a person decides"
        case OnFailure.CONTINUE:
            return "the saga goes on without it"
        case OnFailure.COMPENSATE:
            return "the saga is compensated"


def _of_wait(definition: Definition, step: Step, wait: AwaitEvent | Approval) -> Iterator[str]:
    if isinstance(wait, AwaitEvent):
        about = f" about {wait.correlation.source}" if wait.correlation else ", sent to this saga"
        yield f"waits for the event {wait.event}{about}"
        if wait.look_back_seconds:
            yield f"counts: also an event that came up to {duration(wait.look_back_seconds)} before the saga's start"
    else:
        who = ", ".join(wait.approvers) or "anybody who may call the service"
        yield f"waits for a decision of: {who}; rejected: {_when_failed(definition, step)}"
    if wait.timeout_seconds is None:
        limit = "the saga's deadline" if definition.deadline_seconds is not None else "nothing"
        yield f"time: limited by {limit}"
    else:
        then = "goes on with null" if wait.goes_on else f"refused; {_when_failed(definition, step)}"
        yield f"time: {duration(wait.timeout_seconds)}; then {then}"


def _of_undoing(definition: Definition, step: Step) -> Iterator[str]:
    undo = step.compensation
    if undo is None:
        if isinstance(step.action, Operation) and (why := _why_not_undone(definition, step)):
            yield f"undone by: nothing, {why}"
        return
    if undo.is_child:
        yield "undone by: undoing that saga from its log"
        return
    payload = (
        "what the action returned (null if that was never known)"
        if undo.input is None
        else "the input written for it"
    )
    yield f"undone by: {undo.participant}, {undo.method}, with {payload}"
    yield f"  time: {_times(undo)}"
    onward = (
        "the steps before it are undone all the same"
        if step.is_undo_optional
        else "no step before it is undone"
    )
    yield (
        f"  refused, or unknown to the end: NEEDS_ATTENTION with its effect listed, and {onward}; "
        "NOT_FOUND counts as undone if the effect was only possible"
    )


def _why_not_undone(definition: Definition, step: Step) -> str:
    if step.is_pivot:
        return "there is no way back after it"
    if definition.is_after_pivot(step.name):
        return "it comes after the pivot"
    if step.is_read_only:
        return "it changes nothing"
    return "its effect stays, and a saga that fails after it is NEEDS_ATTENTION"


def duration(seconds: float) -> str:
    """`90 s`, `0.1 s`, `15 min`, `24 h`, `30 d`: in the largest unit that leaves no rest."""
    for size, unit in _UNITS:
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{round(seconds, 3):g} s"
