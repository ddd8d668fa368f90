"""The ways in which a call can fail. A fake raises them, or a test gives them to a run as `faults`.

Failing
├── Refused        the participant decided no; nothing happened
├── Unavailable    an error that leaves open whether it happened
├── NoAnswer       nothing comes until the attempt's timeout
└── Pending        accepted; the outcome is reported later, or never
"""

from __future__ import annotations

import math
from typing import Any

from saga_coordinator.rehearsal.rehearse import CALL_SECONDS, Reply, Soon
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.inputs import OutcomeReported
from saga_coordinator.saga.words import outcome as outcomes
from saga_coordinator.saga.words.outcome import REFUSING_STATUSES, Cause

_NEVER: Any = object()


class Failing(Exception):
    """The failure of an attempt. `happened` means that the attempt took effect nevertheless, so the fake is called first."""

    happened = False

    def reply(self, invoke: Invoke) -> Reply:
        """The reply to the call."""
        raise NotImplementedError


class Refused(Failing):
    """A refusal: the participant says no, the step fails, and its compensation is not called.

    `status` is the gRPC status. It has to be a status by which a participant refuses, unless the definition's `outcomes` say
    otherwise.
    """

    def __init__(self, message: str = "refused", *, status: str = "FAILED_PRECONDITION") -> None:
        super().__init__(message)
        self.status = status

    def reply(self, invoke: Invoke) -> Reply:
        return Reply(outcomes.outcome_of_failure(self.status, str(self)))


class Unavailable(Failing):
    """An error that leaves open whether the attempt took effect. The attempt is repeated with the same key."""

    def __init__(
        self, message: str = "unavailable", *, status: str = "UNAVAILABLE", happened: bool = False
    ) -> None:
        super().__init__(message)
        if status in REFUSING_STATUSES:
            raise ValueError(f"{status} is an answer, not a doubt: raise Refused(..., status={status!r})")
        self.status = status
        self.happened = happened

    def reply(self, invoke: Invoke) -> Reply:
        return Reply(outcomes.Unknown(Cause(self.status, str(self))))


class NoAnswer(Failing):
    """No answer comes until the attempt's timeout."""

    def __init__(self, *, happened: bool = False) -> None:
        super().__init__("no answer")
        self.happened = happened

    def reply(self, invoke: Invoke) -> Reply:
        return Reply(outcomes.Succeeded(), math.inf)


class Pending(Failing):
    """The participant accepts the operation, and reports its outcome after `after_seconds`. `report` is an output or a
    `Refused`; without it no report ever comes.
    """

    def __init__(self, report: Any = _NEVER, *, after_seconds: float = 60.0) -> None:
        super().__init__("pending")
        self.report = report
        self.after_seconds = after_seconds

    def reply(self, invoke: Invoke) -> Reply:
        if self.report is _NEVER or invoke.is_poll:
            return Reply(outcomes.Pending())
        outcome = reported_outcome(self.report)
        later = Soon(
            CALL_SECONDS + self.after_seconds, OutcomeReported(invoke.step, invoke.operation, outcome)
        )
        return Reply(outcomes.Pending(), later=(later,))


def reported_outcome(report: Any) -> outcomes.Outcome:
    """The outcome that a participant reports: the output of a success, a `Refused`, or an `Unavailable`."""
    match report:
        case Refused() | Unavailable():
            cause = Cause(report.status, str(report))
            return outcomes.Refused(cause) if isinstance(report, Refused) else outcomes.Unknown(cause)
        case Failing():
            raise ValueError(
                f"{type(report).__name__} cannot be reported: report an output, Refused or Unavailable"
            )
        case _:
            return outcomes.Succeeded(report)
