"""How the calls of one participant have gone: what they told last, and how long they take."""

from __future__ import annotations

from saga_coordinator.saga.words.outcome import Cause, CauseCode, Outcome, Unknown

_SMOOTHING = 0.05

_NOT_ITS_FAULT = frozenset({CauseCode.NO_SUCH_METHOD, CauseCode.NO_DESCRIPTORS})
"""A definition that names a method wrongly says nothing about whether the participant is well."""


class CallRecord:
    """What the ended calls of one participant tell. Instants are monotonic seconds, 0 where there is none."""

    __slots__ = ("call_seconds", "last_failure", "last_failure_at", "last_outcome", "last_outcome_at")

    def __init__(self) -> None:
        self.call_seconds = 0.0
        """How long a call takes, smoothed; 0 as long as nothing is known."""
        self.last_outcome: Outcome | None = None
        self.last_outcome_at = self.last_failure_at = 0.0
        self.last_failure: Cause | None = None

    def ended(self, outcome: Outcome, seconds: float, now: float) -> bool:
        """Notes how a call has ended after so many seconds; tells whether that was a failure of the participant."""
        self.last_outcome, self.last_outcome_at = outcome, now
        before = self.call_seconds
        self.call_seconds = before + _SMOOTHING * (seconds - before) if before else seconds
        failure = failure_of(outcome)
        if failure is None:
            return False
        self.last_failure, self.last_failure_at = failure, now
        return True


def failure_of(outcome: Outcome) -> Cause | None:
    """The reason why an attempt's outcome shows that the participant is not well; None if it shows nothing of the kind."""
    if isinstance(outcome, Unknown) and outcome.cause.code not in _NOT_ITS_FAULT:
        return outcome.cause
    return None
