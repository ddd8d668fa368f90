"""The error tree. A message says what is wrong, where, and what to do next.

    SagaError
    ├── InvalidRequest          the caller's request cannot be carried out as it stands: lists every fault
    │   └── InvalidDefinition
    ├── NotFound                no such saga, definition or version
    ├── AlreadyExists           a start key, or the identity of an event, belongs to something else
    ├── NotPossibleNow          the saga's state forbids it
    │   └── NotAllowed          whoever asks may not decide this
    ├── Unavailable             the store or the coordinator cannot serve this now; repeat later
    │   └── Overloaded          more is waiting than may wait
    ├── QuotaReached            there is no room for more of its kind: take something away first
    ├── OwnershipLost           another coordinator wrote to this saga: drop it (P8)
    ├── ImpossibleTransition    an entry that the transition table does not allow: a defect, never a user's mistake
    └── ExpressionError         an expression could not be evaluated on the data it met

A table in `api/status.py` gives the gRPC status of each class. Each error has a `reason`, by which programs tell errors of one
class apart. Either the class has one reason for all its errors, or the code that raises the error names the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from saga_coordinator.saga.words.reasons import Reason


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in a request. `path` says where the fault is (`steps[2].action.input`), `description` what is wrong and how to
    mend it.
    """

    path: str
    description: str
    line: int = 0
    """The line of the fault in the text that the request gave, counted from 1; 0 if it is not known, or if the request gave no
    text.
    """

    @property
    def told(self) -> str:
        """The description, with the line."""
        return f"line {self.line}: {self.description}" if self.line else self.description

    def __str__(self) -> str:
        return f"{self.path}: {self.told}" if self.path else self.told

    def inside(self, field: str) -> Fault:
        """This fault, with a path that begins at the message whose `field` holds the faulty part."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        return replace(self, path=f"{field}{joint}{self.path}")


@dataclass(frozen=True, slots=True)
class Resource:
    """The resource that a request is about: `type` is the name of its message, `name` its key."""

    type: str
    name: str


class SagaError(Exception):
    """An error that this program raises on purpose, because it refuses a request or cannot serve it."""

    reason: Reason = Reason.INTERNAL
    about: dict[str, str]
    """Identities that the calling program may need next: `saga_id`, `step`, `definition`, `participant`, ..."""

    def __init__(self, message: str, **about: str) -> None:
        self.about = about
        super().__init__(message)


class _WithReason(SagaError):
    """A class whose errors have different reasons. The code that raises an error names its reason."""

    def __init__(self, reason: Reason, message: str, **about: str) -> None:
        self.reason = reason
        super().__init__(message, **about)


class InvalidRequest(SagaError):
    """The request has faults; all of them are in `faults`."""

    reason = Reason.INVALID_REQUEST

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))

    @classmethod
    def at(cls, path: str, description: str) -> InvalidRequest:
        """An error for a request with a single fault."""
        return cls([Fault(path, description)])


class InvalidDefinition(InvalidRequest):
    """A definition with faults."""

    reason = Reason.INVALID_DEFINITION

    def inside(self, field: str) -> InvalidDefinition:
        """This error, with paths that begin at the request whose `field` holds the definition."""
        return InvalidDefinition([fault.inside(field) for fault in self.faults])


class NotFound(_WithReason):
    """The thing that the request names does not exist."""


class AlreadyExists(_WithReason):
    """The thing that should be new exists already, and differs (P9). `resource` is the existing thing with that key."""

    def __init__(self, reason: Reason, message: str, resource: Resource, **about: str) -> None:
        self.resource = resource
        super().__init__(reason, message, **about)


class NotPossibleNow(_WithReason):
    """The saga's present state forbids what was asked."""


class NotAllowed(NotPossibleNow):
    """The caller may not decide this."""


class Unavailable(_WithReason):
    """The request cannot be served now; repeating it later is safe and may succeed."""

    retry_after_seconds = 1.0


class Overloaded(Unavailable):
    """More requests are waiting than may wait; repeat the request later."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.OVERLOADED, message)


class QuotaReached(SagaError):
    """A quota of a number or of a size is used up. The message says of what, and gives the limit."""

    reason = Reason.QUOTA_REACHED


class OwnershipLost(SagaError):
    """Another coordinator has written to this saga; this one must forget it (P8)."""

    reason = Reason.OWNERSHIP_LOST


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a saga's state forbids what was asked of it."""

    reason: Reason
    message: str

    def __str__(self) -> str:
        return self.message

    def error(self, **about: str) -> NotPossibleNow:
        """The error that tells the caller of the refusal."""
        kind = NotAllowed if self.reason is Reason.NOT_AN_APPROVER else NotPossibleNow
        return kind(self.reason, self.message, **about)


class ImpossibleTransition(SagaError):
    """The transition table has no row for this entry in this state."""


class ExpressionError(SagaError):
    """An expression met data that it cannot be evaluated on."""
