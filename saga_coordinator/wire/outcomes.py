"""Converts outcomes between `saga.v1.TaskOutcome` or `saga.v1.ReportOutcomeRequest` and the value that decisions take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import struct_pb2

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import ReportOutcomeRequest
from saga_coordinator.pb.saga.v1.worker_service_pb2 import TaskOutcome
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.outcome import (
    Cause,
    CauseCode,
    Held,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    clip,
)
from saga_coordinator.wire.causes import cause_message, told_cause
from saga_coordinator.wire.not_before import duration_asked
from saga_coordinator.wire.payload import PayloadError, fill, payload_of
from saga_coordinator.wire.times import duration_of

RETURNED_SECONDS = 0.1
"""After how long a task that a worker gave back is tried again: its last words may still be on their way."""

ReadPayload = Callable[[str, struct_pb2.Value], Any]
"""Reads the payload that a message has at a path."""

ReadCause = Callable[[str, saga_pb2.Cause, str], Cause]
"""Reads the cause that a message has at a path; the last argument is the code of a cause that has none."""


class OutcomeNotTaken(SagaError):
    """An outcome that says nothing, or that cannot be kept. `as_outcome` says that it leaves open what happened."""

    @property
    def as_outcome(self) -> Unknown:
        return invalid_reply(f"the outcome was not taken: {self}")


def invalid_reply(message: str) -> Unknown:
    """The outcome when the participant answered OK with a reply that cannot be kept."""
    return Unknown(Cause(CauseCode.REPLY_INVALID, clip(message)))


def no_reply() -> Unknown:
    """The outcome when the participant answered OK and sent no message."""
    return invalid_reply(
        "status OK came without a reply, which is no outcome: answer with a message, which may be empty"
    )


def told_outcome(
    message: TaskOutcome | ReportOutcomeRequest, read_payload: ReadPayload, read_cause: ReadCause
) -> Succeeded | Refused | Unknown | None:
    """The outcome that a participant tells of an attempt that has ended; None if the message tells none."""
    match message.WhichOneof("outcome"):
        case "success":
            return Succeeded(read_payload("success.output", message.success.output))
        case "succeeded":
            return Succeeded(read_payload("succeeded", message.succeeded))
        case "refused":
            cause = read_cause("refused", message.refused, "FAILED_PRECONDITION")
            return Refused(cause, retry_after_seconds=duration_asked(message.retry_after))
        case "unknown":
            cause = read_cause("unknown", message.unknown, "UNKNOWN")
            return Unknown(cause, duration_asked(message.retry_after))
        case _:
            return None


def outcome_of(message: TaskOutcome, payload_bytes_max: int) -> Outcome:
    """The outcome that a worker tells of a task. Raises OutcomeNotTaken."""

    def read_payload(path: str, value: struct_pb2.Value) -> Any:
        try:
            return payload_of(value, payload_bytes_max)
        except PayloadError as error:
            raise OutcomeNotTaken(str(error.below(path))) from None

    told = told_outcome(message, read_payload, lambda _, cause, default: told_cause(cause, default))
    if told is not None:
        return told
    match message.WhichOneof("outcome"):
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


def write_outcome(message: TaskOutcome, outcome: Outcome) -> None:
    """Writes into an empty message what `outcome_of` reads as `outcome`: a message put into another is copied, which takes long.

    Raises PayloadError, but never for an outcome that was read.
    """
    match outcome:
        case Succeeded(output):
            # Coordinators of an earlier version do not know `success`; a null is written out here.
            fill(message.succeeded, output)
        case Refused(cause, retry_after_seconds=seconds):
            message.refused.CopyFrom(cause_message(cause))
            _fill_pause(message, seconds)
        case Unknown(cause, seconds):
            message.unknown.CopyFrom(cause_message(cause))
            _fill_pause(message, seconds)
        case Pending():
            message.pending.SetInParent()
        case Held():
            message.returned.SetInParent()


def _fill_pause(message: TaskOutcome, seconds: float) -> None:
    if seconds:
        message.retry_after.CopyFrom(duration_of(seconds))
