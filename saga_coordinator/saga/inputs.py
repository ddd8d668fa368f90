"""What can happen to a saga: the inputs of `decide`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import Outcome


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Only this comes when there is no state yet. `deadline_seconds` is the starter's, if shorter than the definition's."""

    saga_id: str
    version: int
    input: Any
    labels: Mapping[str, str]
    deadline_seconds: float | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """A call that this coordinator made has ended."""

    step: str
    operation: OperationKind
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutcomeReported:
    """A participant reported how an operation ended that it had accepted."""

    step: str
    operation: OperationKind
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class TimerFired:
    """Something of this saga is due at `now`; the state says what."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    reason: str
    requested_by: str = ""


@dataclass(frozen=True, slots=True)
class OwnershipGained:
    """This coordinator drives the saga from now on. `previous_owner` is set when its lease had ended before it let go."""

    previous_owner: str | None = None


Input = StartRequested | AttemptEnded | OutcomeReported | TimerFired | CancelAsked | OwnershipGained
