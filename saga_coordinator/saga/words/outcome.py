"""The outcomes of an attempt, and the meaning of each gRPC status (docs/concepts.md)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from saga_coordinator.saga.words.immutable import immutable

TEXT_BYTES_MAX = 4096
"""The longest text of a participant or a caller that is kept. Longer text is cut, and the cut is marked."""


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
    ABANDONED = "ABANDONED"
    NEVER_DONE = "NEVER_DONE"


@immutable
class Cause:
    """The cause of a failure. `step` and `requested_by` are empty where they mean nothing."""

    code: str
    message: str
    step: str = ""
    requested_by: str = ""

    def __post_init__(self) -> None:
        # Inputs are computed from the code, and a payload holds no members of an enum.
        if type(self.code) is not str:
            object.__setattr__(self, "code", str(self.code))


@immutable
class Succeeded:
    """The attempt took effect. The effect is CERTAIN."""

    output: Any = None


@immutable
class Refused:
    """The participant decided no; this attempt had no effect. `is_explicit`: the participant said so itself, not only by a gRPC
    status.

    `retry_after_seconds` counts if a definition takes the status for UNKNOWN.
    """

    cause: Cause
    is_explicit: bool = False
    retry_after_seconds: float = 0.0


@immutable
class Unknown:
    """The attempt may have taken effect. The effect is POSSIBLE, unless the attempt never `was_sent`.

    `retry_after_seconds`: the participant asked for no further attempt within this time. `is_explicit` has the meaning that it
    has in `Refused`.
    """

    cause: Cause
    retry_after_seconds: float = 0.0
    is_explicit: bool = False
    was_sent: bool = True


@immutable
class Pending:
    """The participant accepted the operation and will report its outcome later. The effect is POSSIBLE."""


@immutable
class Held:
    """The attempt was not made, because there was no room for it or the participant is given a rest. The coordinator looks
    again after the delay. It does not count as an attempt.

    `was_given`: a worker may have had the task and given it back unbegun, so the attempt's number is used up.
    """

    cause: Cause
    delay_seconds: float
    was_given: bool = False


Outcome = Succeeded | Refused | Unknown | Pending | Held


class OutcomeKind(StrEnum):
    """The outcomes that a definition may give to a gRPC status."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    UNKNOWN = "unknown"


REFUSING_STATUSES = frozenset(
    {"FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "OUT_OF_RANGE"}
)
"""The gRPC statuses by which a participant says no. Every other status except OK leaves open whether the attempt took
effect.
"""


_DECISIVE_REFUSALS = frozenset({"FAILED_PRECONDITION", "OK"})
"""The statuses by which a status method decides the operation. A refusal by trailer comes with OK."""


def outcome_of_failure(status: str, message: str, retry_after_seconds: float = 0.0) -> Refused | Unknown:
    """The outcome of a call that ended with the gRPC status named `status` (never OK)."""
    cause = Cause(status, clip(message))
    if status in REFUSING_STATUSES:
        return Refused(cause, retry_after_seconds=retry_after_seconds)
    return Unknown(cause, retry_after_seconds)


def is_decisive_status(outcome: Outcome) -> bool:
    """Tells whether the status with which a status method failed decides the operation. Other statuses may be about the poll
    itself.
    """
    return isinstance(outcome, Succeeded) or (
        isinstance(outcome, Refused) and outcome.cause.code in _DECISIVE_REFUSALS
    )


def is_end_of_child(outcome: Outcome) -> bool:
    """Tells whether a step that runs a child has heard how the child ended. What is left of an abandoned child is UNKNOWN, and
    stays so; any other UNKNOWN is about the question itself.
    """
    match outcome:
        case Succeeded() | Refused():
            return True
        case Unknown(cause):
            return cause.code == CauseCode.CHILD_FAILED
        case _:
            return False


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
