"""Attempts of operations: the intent to call a participant, and the call that the intent stands for.

Every call of one operation has the same idempotency key and the same input (P5), so all of them are made by `call`.
"""

from __future__ import annotations

from typing import Any

from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import AttemptStarted, InputInvalid
from saga_coordinator.saga.machine.place import Node
from saga_coordinator.saga.words.errors import ExpressionError
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import Cause, CauseCode, clip

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


def start_attempt(draft: Draft, node: Node, kind: OperationKind) -> None:
    """Records the intent to call and prepares the call, or records that the input cannot be computed."""
    key, step = node.key, node.step
    state = draft.state.step(key)
    number = state.attempts(kind) + 1
    try:
        prepared = call(draft, node, kind, number)
    except ExpressionError as error:
        cause = Cause(CauseCode.INPUT_INVALID, clip(str(error)))
        draft.record(InputInvalid(key, kind, number, cause))
        return
    deadline_at = None
    if kind is _ACTION and step.deadline_seconds is not None and state.deadline_at is None:
        deadline_at = draft.now + step.deadline_seconds
    draft.record(AttemptStarted(key, kind, number, deadline_at))
    draft.invocations.append(prepared)


def call(draft: Draft, node: Node, kind: OperationKind, number: int) -> Invoke:
    """The call of the attempt with that number. Raises ExpressionError if its input cannot be computed."""
    operation = node.step.operation(kind)
    saga = draft.state
    return Invoke(
        saga_id=saga.saga_id,
        step=node.key,
        operation=kind,
        attempt=number,
        idempotency_key=idempotency_key(saga.saga_id, node.key, kind),
        participant=operation.participant,
        method=operation.method,
        input=_input(draft, node, kind),
        # The timeout is never cut to a near deadline: an attempt in flight is awaited, not cut off.
        timeout_seconds=operation.timeout_seconds,
        failure=saga.failure if kind is _COMPENSATION else None,
        headers=saga.headers,
        deadline_at=saga.deadline_at,
        depth=saga.parent.depth + 1 if saga.parent else 1,
    )


def _input(draft: Draft, node: Node, kind: OperationKind) -> Any:
    template = node.step.operation(kind).input
    if template is None:
        return draft.state.input if kind is _ACTION else draft.state.step(node.key).output
    return draft.computed(template.render(variables(draft, node, kind)), "the input")


def variables(draft: Draft, node: Node, kind: OperationKind) -> dict[str, Any]:
    """The variables that the input of that operation can refer to."""
    found = draft.scope(node.place)
    if kind is _COMPENSATION:
        failure = draft.state.failure
        found["output"] = draft.state.step(node.key).output
        found["failure"] = failure and {
            "code": failure.code,
            "message": failure.message,
            "step": failure.step,
        }
    return found
