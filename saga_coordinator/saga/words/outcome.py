"""What an attempt told us, and what a gRPC status means (docs/concepts.md)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from saga_coordinator.saga.words.immutable import immutable

TEXT_BYTES_MAX = 4096
"""Longest text of a participant or a caller that is kept; longer text is cut with a mark."""


class CauseCode(StrEnum):
    """The coordinator's own causes; the others are names of gRPC statuses."""

    CANCELLED = "CANCELLED"
    DEADLINE = "DEADLINE"
    COORDINATOR_LOST = "COORDINATOR_LOST"
    NO_PROGRESS = "NO_PROGRESS"
    INPUT_INVALID = "INPUT_INVALID"
    PENDING = "PENDING"
    PENDING_TIMEOUT = "PENDING_TIMEOUT"
    HEARTBEAT_TIMEOUT = "HEARTBEAT_TIMEOUT"
    REPLY_INVALID = "REPLY_INVALID"
    NO_SUCH_PARTICIPANT = "NO_SUCH_PARTICIPANT"
    NO_SUCH_METHOD = "NO_SUCH_METHOD"
    NO_DESCRIPTORS = "NO_DESCRIPTORS"
    IRREVERSIBLE = "IRREVERSIBLE"
    EXPRESSION_INVALID = "EXPRESSION_INVALID"
    STEP_DEADLINE = "STEP_DEADLINE"
    EVENT_TIMEOUT = "EVENT_TIMEOUT"
    APPROVAL_TIMEOUT = "APPROVAL_TIMEOUT"
    REJECTED = "REJECTED"
    PASSES_SPENT = "PASSES_SPENT"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    CHILD_FAILED = "CHILD_FAILED"
    PARENT_FAILED = "PARENT_FAILED"
    PARTICIPANT_BUSY = "PARTICIPANT_BUSY"
    RATE_LIMITED = "RATE_LIMITED"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"


@immutable
class Cause:
    """Why something did not succeed. `step` and `requested_by` are empty where they mean nothing."""

    code: str
    message: str
    step: str = ""
    requested_by: str = ""

    def __post_init__(self) -> None:
        # Inputs are computed from it, and a payload holds no members of an enum.
        if type(self.code) is not str:
            object.__setattr__(self, "code", str(self.code))


@immutable
class Succeeded:
    """It took effect; effect CERTAIN."""

    output: Any = None


@immutable
class Refused:
    """The participant decided no; this attempt had no effect. `is_explicit`: it said so in words that no status can mean.

    `retry_after_seconds` counts where a definition takes the status for UNKNOWN.
    """

    cause: Cause
    is_explicit: bool = False
    retry_after_seconds: float = 0.0


@immutable
class Unknown:
    """It may have happened; effect POSSIBLE, unless it never `was_sent`.

    `retry_after_seconds`: the participant asked to be left alone for so long. `is_explicit` as in `Refused`.
    """

    cause: Cause
    retry_after_seconds: float = 0.0
    is_explicit: bool = False
    was_sent: bool = True


@immutable
class Pending:
    """Accepted; the outcome will be reported later. Effect POSSIBLE."""


@immutable
class Held:
    """Not attempted, for want of room or because the participant is given a rest: look again after the delay. Burns nothing.

    `was_given`: a worker may have had it and given it back unbegun, so that the attempt's number is taken.
    """

    cause: Cause
    delay_seconds: float
    was_given: bool = False


Outcome = Succeeded | Refused | Unknown | Pending | Held


class OutcomeKind(StrEnum):
    """What a definition may say that a gRPC status means."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    UNKNOWN = "unknown"


REFUSING_STATUSES = frozenset(
    {"FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "OUT_OF_RANGE"}
)
"""gRPC statuses by which a participant says no. Every other one but OK leaves open whether it happened."""


_DECISIVE_REFUSALS = frozenset({"FAILED_PRECONDITION", "OK"})
"""Of a status method; OK is what a refusal by trailer has."""


def outcome_of_failure(status: str, message: str, retry_after_seconds: float = 0.0) -> Refused | Unknown:
    """The outcome of a call that ended with the gRPC status named `status` (never OK)."""
    cause = Cause(status, clip(message))
    if status in REFUSING_STATUSES:
        return Refused(cause, retry_after_seconds=retry_after_seconds)
    return Unknown(cause, retry_after_seconds)


def is_decisive_status(outcome: Outcome) -> bool:
    """Whether the answer of a status method decides the operation; others may be about the question itself."""
    return isinstance(outcome, Succeeded) or (
        isinstance(outcome, Refused) and outcome.cause.code in _DECISIVE_REFUSALS
    )


def reclassified(outcome: Outcome, outcomes: Mapping[str, OutcomeKind]) -> Outcome:
    """The outcome under a definition's own table of statuses, which has precedence over the default table, but not over an
    outcome that the participant named itself.
    """
    if not outcomes or not isinstance(outcome, Refused | Unknown) or outcome.is_explicit:
        return outcome
    match outcomes.get(outcome.cause.code):
        case OutcomeKind.SUCCEEDED:
            return Succeeded()
        case OutcomeKind.REFUSED:
            return Refused(outcome.cause)
        case OutcomeKind.UNKNOWN:
            return (
                outcome
                if isinstance(outcome, Unknown)
                else Unknown(outcome.cause, outcome.retry_after_seconds)
            )
        case None:
            return outcome


def clip(text: str) -> str:
    """`text` fit to be stored: NULs and lone surrogates replaced, at most `TEXT_BYTES_MAX` bytes of UTF-8, a cut marked."""
    text = text.replace("\0", "\ufffd")
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= TEXT_BYTES_MAX:
        return encoded.decode()
    mark = f"... [cut, {len(encoded)} bytes in all]"
    kept = encoded[: TEXT_BYTES_MAX - len(mark)]
    return kept.decode("utf-8", "ignore") + mark
