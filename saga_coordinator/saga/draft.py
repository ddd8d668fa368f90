"""A decision in the making, and the two things written into it from everywhere: an attempt begins, an attempt ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from saga_coordinator.saga.definition import Definition, Step
from saga_coordinator.saga.effects import Invoke
from saga_coordinator.saga.entries import (
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    Entry,
    InputInvalid,
    NothingToUndo,
)
from saga_coordinator.saga.errors import ExpressionError
from saga_coordinator.saga.identity import OperationKind, idempotency_key
from saga_coordinator.saga.outcome import (
    Cause,
    CauseCode,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    clip,
)
from saga_coordinator.saga.state import OPERATION_ALLOWED, UNTOUCHED, EffectKnown, SagaState, StepState, apply

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


class Draft:
    """The state moves with each entry recorded, so what is decided next builds on what was decided before."""

    __slots__ = (
        "definition",
        "entries",
        "invocations",
        "is_applied",
        "jitter",
        "may_call",
        "now",
        "refusal",
        "state",
    )

    def __init__(
        self, definition: Definition, state: SagaState, now: float, jitter: float, *, may_call: bool
    ) -> None:
        self.definition = definition
        self.state = state
        self.now = now
        self.jitter = jitter
        self.may_call = may_call
        self.entries: list[Entry] = []
        self.invocations: list[Invoke] = []
        self.refusal: str | None = None
        self.is_applied = True

    def record(self, entry: Entry) -> None:
        self.state = apply(self.state.saga_id, self.state, entry)
        self.entries.append(entry)

    def steps(self) -> Iterator[tuple[Step, StepState]]:
        """Each step, in the definition's order, with its state at the moment it is reached."""
        for step in self.definition.steps:
            yield step, self.state.steps.get(step.name, UNTOUCHED)

    def attempt(self, step: Step, kind: OperationKind) -> None:
        """Records the intent to call and prepares the call; or that the input cannot be computed."""
        state = self.state.step(step.name)
        number = state.attempts(kind) + 1
        operation = step.operation(kind)
        try:
            rendered = self._render(step, state, kind)
        except ExpressionError as error:
            cause = Cause(CauseCode.INPUT_INVALID, clip(str(error)))
            self.record(InputInvalid(step.name, kind, number, cause))
            return
        self.record(AttemptStarted(step.name, kind, number))
        self.invocations.append(
            Invoke(
                saga_id=self.state.saga_id,
                step=step.name,
                operation=kind,
                attempt=number,
                idempotency_key=idempotency_key(self.state.saga_id, step.name, kind),
                participant=operation.participant,
                method=operation.method,
                input=rendered,
                timeout_seconds=operation.timeout_seconds,
                failure=self.state.failure if kind is _COMPENSATION else None,
                headers=self.state.headers,
            )
        )

    def _render(self, step: Step, state: StepState, kind: OperationKind) -> Any:
        template = step.operation(kind).input
        saga = self.state
        if template is None:
            return saga.input if kind is _ACTION else state.output
        scope: dict[str, Any] = {
            "input": saga.input,
            "steps": {name: {"output": other.output} for name, other in saga.steps.items()},
            "saga": {"id": saga.saga_id, "labels": saga.labels},
        }
        if kind is _COMPENSATION:
            failure = saga.failure
            scope["output"] = state.output
            scope["failure"] = failure and {
                "code": failure.code,
                "message": failure.message,
                "step": failure.step,
            }
        return template.render(scope)

    def settle(self, name: str, outcome: Outcome, *, is_call_over: bool = True) -> None:
        """Records what became of the step's present operation, which is open.

        `is_call_over` is false when a report was faster than the call: that call may be in flight until its timeout (P4).
        """
        state = self.state.step(name)
        kind, number = state.operation, state.attempt
        operation = self.definition.step(name).operation(kind)
        settles_at = None if is_call_over else self.now + operation.timeout_seconds
        may_go_on = kind in OPERATION_ALLOWED.get(self.state.status, ())
        match outcome:
            case Succeeded(output):
                self.record(AttemptSucceeded(name, kind, number, output, settles_at))
            case Refused(cause) if kind is _COMPENSATION and is_undone(state, outcome):
                self.record(NothingToUndo(name, kind, number, cause))
            case Refused(cause):
                self.record(AttemptRefused(name, kind, number, cause, settles_at))
            case Pending() if may_go_on:
                pending_until = self.now + operation.pending_timeout_seconds
                self.record(AttemptPending(name, kind, number, pending_until))
            case Pending():
                cause = Cause(
                    CauseCode.PENDING, "accepted after the saga had turned: its outcome is not awaited"
                )
                self.record(AttemptUnresolved(name, kind, number, cause))
            case Unknown(cause, retry_after_seconds):
                failures = state.failures + 1
                if may_go_on and failures < operation.retry.max_attempts:
                    backoff = operation.retry.backoff_seconds(failures, self.jitter)
                    delay = max(backoff, retry_after_seconds)
                    self.record(AttemptUnknown(name, kind, number, cause, delay, self.now + delay))
                else:
                    self.record(AttemptUnresolved(name, kind, number, cause))


def is_undone(step: StepState, outcome: Outcome) -> bool:
    """Whether a compensation that ended so leaves nothing: it succeeded, or there was nothing to undo and none was certain."""
    match outcome:
        case Succeeded():
            return True
        case Refused(cause):
            return cause.code == "NOT_FOUND" and step.effect < EffectKnown.CERTAIN
        case _:
            return False
