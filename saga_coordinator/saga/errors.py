"""The error tree. A message says what is wrong, where, and what to do next.

    SagaError
    ├── InvalidRequest          the caller's request cannot be carried out as it stands: lists every fault
    │   └── InvalidDefinition
    ├── NotFound                no such saga, definition or version
    ├── AlreadyExists           the start key belongs to a different request
    ├── NotPossibleNow          the saga's state forbids it
    ├── Unavailable             the store or the coordinator cannot serve this now; repeat later
    │   └── Overloaded          more is waiting than may wait
    ├── QuotaReached            there is no room for more of its kind: take something away first
    ├── OwnershipLost           another coordinator wrote to this saga: drop it (P8)
    ├── ImpossibleTransition    an entry that the transition table does not allow: a defect, never a user's mistake
    └── ExpressionError         an expression could not be evaluated on the data it met

The gRPC status of each is a table in `api/status.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: `path` says where (`steps[2].action.input`), `description` what and how to mend it."""

    path: str
    description: str

    def __str__(self) -> str:
        return f"{self.path}: {self.description}" if self.path else self.description


class SagaError(Exception):
    """Whatever this program refuses or fails to do, on purpose."""


class InvalidRequest(SagaError):
    """The request has faults; all of them are in `faults`."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))

    @classmethod
    def at(cls, path: str, description: str) -> InvalidRequest:
        """A request with a single fault."""
        return cls([Fault(path, description)])


class InvalidDefinition(InvalidRequest):
    """A definition with faults."""


class NotFound(SagaError):
    """What the request names does not exist."""


class AlreadyExists(SagaError):
    """The start key was used by a different request (P9)."""


class NotPossibleNow(SagaError):
    """The saga's present state forbids what was asked."""


class Unavailable(SagaError):
    """Cannot be served now; repeating later is safe and may succeed."""

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class Overloaded(Unavailable):
    """More is waiting than may wait; repeat later."""


class QuotaReached(SagaError):
    """As many, or as large, as there may be; the message says of what, and the limit."""


class OwnershipLost(SagaError):
    """Another coordinator has written to this saga; this one must forget it (P8)."""


class ImpossibleTransition(SagaError):
    """The transition table has no row for this entry in this state."""


class ExpressionError(SagaError):
    """An expression met data that it cannot be evaluated on."""
