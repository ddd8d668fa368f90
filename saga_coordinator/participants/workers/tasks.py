"""An attempt as a task of a worker, and a worker's outcome as ours: `saga.v1.Task` and `saga.v1.TaskOutcome`."""

from __future__ import annotations

import re
from datetime import timedelta

from google.protobuf import struct_pb2

from saga_coordinator.participants.calls.contract import invalid_reply
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task, TaskOutcome
from saga_coordinator.saga.machine.decide import Invoke
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import (
    Cause,
    Held,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    clip,
)
from saga_coordinator.saga.words.token import token_of
from saga_coordinator.wire.not_before import duration_asked
from saga_coordinator.wire.payload import PayloadError, fill, payload_of

RETURNED_SECONDS = 0.1
"""After how long a task that a worker gave back is tried again: its last words may still be on their way."""

_KINDS = {
    OperationKind.ACTION: saga_pb2.OPERATION_KIND_ACTION,
    OperationKind.COMPENSATION: saga_pb2.OPERATION_KIND_COMPENSATION,
}
_CAUSE_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def task_of(call: Invoke) -> Task:
    """The attempt as a worker sees it; `task_id` and `timeout` are left to whoever hands it out.

    Raises:
        PayloadError: the input cannot be sent.
    """
    task = Task(
        idempotency_key=call.idempotency_key,
        saga_id=call.saga_id,
        step=call.step,
        operation=_KINDS[call.operation],
        method=call.method,
        attempt=call.attempt,
        token=token_of(call.saga_id, call.step, call.operation, call.attempt),
    )
    if call.headers:
        task.headers.update(call.headers)
    if call.operation is OperationKind.COMPENSATION:
        task.action_idempotency_key = idempotency_key(call.saga_id, call.step, OperationKind.ACTION)
        if call.failure is not None:
            failure = task.failure
            failure.code = call.failure.code
            failure.message = call.failure.message
            failure.step = call.failure.step
            failure.requested_by = call.failure.requested_by
    fill(task.input, call.input)
    return task


def operation_of(task: Task) -> OperationKind:
    """Which of its step's two operations a task is an attempt of."""
    is_action = task.operation == saga_pb2.OPERATION_KIND_ACTION
    return OperationKind.ACTION if is_action else OperationKind.COMPENSATION


class OutcomeNotTaken(SagaError):
    """An outcome that says nothing, or what cannot be kept. It leaves open what happened: `as_outcome`."""

    @property
    def as_outcome(self) -> Unknown:
        return invalid_reply(f"the outcome was not taken: {self}")


def outcome_of(message: TaskOutcome, payload_bytes_max: int) -> Outcome:
    """What a worker says became of a task. Raises OutcomeNotTaken."""
    match message.WhichOneof("outcome"):
        case "success":
            return _succeeded(message.success.output, "success.output", payload_bytes_max)
        case "succeeded":
            return _succeeded(message.succeeded, "succeeded", payload_bytes_max)
        case "refused":
            pause = duration_asked(message.retry_after)
            return Refused(_cause(message.refused, "FAILED_PRECONDITION"), retry_after_seconds=pause)
        case "unknown":
            return Unknown(_cause(message.unknown, "UNKNOWN"), duration_asked(message.retry_after))
        case "pending":
            return Pending()
        case "returned":
            cause = Cause("UNAVAILABLE", "the worker gave the task back unbegun")
            return Held(cause, RETURNED_SECONDS, was_given=True)
        case _:
            raise OutcomeNotTaken(
                "outcome: is required, one of success, refused, unknown, pending and returned. A task that took effect without "
                "an output is `success` with nothing in it; `succeeded` with a null is no outcome at all in many languages"
            )


def _succeeded(value: struct_pb2.Value, path: str, payload_bytes_max: int) -> Succeeded:
    try:
        return Succeeded(payload_of(value, payload_bytes_max))
    except PayloadError as error:
        raise OutcomeNotTaken(str(error.below(path))) from None


def outcome_message(outcome: Outcome) -> TaskOutcome:
    """What `outcome_of` reads as `outcome`. Raises PayloadError, though never for what that has read."""
    message = TaskOutcome()
    match outcome:
        case Succeeded(
            output
        ):  # coordinators of an earlier version know no `success`; a null is written out here
            fill(message.succeeded, output)
        case Refused(cause, retry_after_seconds=seconds):
            message.refused.CopyFrom(_cause_message(cause))
            _fill_pause(message, seconds)
        case Unknown(cause, seconds):
            message.unknown.CopyFrom(_cause_message(cause))
            _fill_pause(message, seconds)
        case Pending():
            message.pending.SetInParent()
        case Held():
            message.returned.SetInParent()
    return message


def _fill_pause(message: TaskOutcome, seconds: float) -> None:
    if seconds:
        message.retry_after.FromTimedelta(timedelta(seconds=seconds))


def _cause(cause: saga_pb2.Cause, default_code: str) -> Cause:
    """A code that is none is replaced rather than refused: what became of the task counts for more than how it was put."""
    return Cause(cause.code if _CAUSE_CODE.fullmatch(cause.code) else default_code, clip(cause.message))


def _cause_message(cause: Cause) -> saga_pb2.Cause:
    return saga_pb2.Cause(code=cause.code, message=cause.message)
