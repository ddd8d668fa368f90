"""Converts causes between `saga.v1.Cause` and the value in logs and decisions."""

from __future__ import annotations

import re

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.saga.words.outcome import Cause, clip

CAUSE_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
"""What the code of a cause looks like: the name of a gRPC status, or one of the coordinator's own."""


def cause_message(cause: Cause) -> saga_pb2.Cause:
    """The message of a cause."""
    return saga_pb2.Cause(
        code=cause.code, message=cause.message, step=cause.step, requested_by=cause.requested_by
    )


def told_cause(told: saga_pb2.Cause, default_code: str) -> Cause:
    """The cause that a participant tells; a long message is cut.

    A code that does not look like one is replaced by `default_code` and not refused: what became of the task counts for more than
    how the participant put it.
    """
    return Cause(told.code if CAUSE_CODE.fullmatch(told.code) else default_code, clip(told.message))
