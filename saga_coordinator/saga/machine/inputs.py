"""The inputs of `decide`: everything that can happen to a saga, and everything that people and services can ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, cast

from saga_coordinator.saga.machine.entries import Parent
from saga_coordinator.saga.words.act import Act
from saga_coordinator.saga.words.canonical import canonical
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause, Outcome, Succeeded


@immutable
class StartRequested:
    """Begins a saga; no other input comes without a state before it. `deadline_seconds` is what the starter asks for: it counts
    if it is shorter than the definition's deadline."""

    saga_id: str
    version: int
    input: Any
    labels: Mapping[str, str]
    deadline_seconds: float | None = None
    headers: Mapping[str, str] | None = None
    parent: Parent | None = None
    recalled_for: Cause | None = None
    """Set for a child that is undone before it was ever started. The child starts and turns at once, so that a late start finds
    it turned."""


@immutable
class AttemptEnded:
    """A call that this coordinator made has ended."""

    step: str
    operation: OperationKind
    attempt: int
    outcome: Outcome


@immutable
class OutcomeReported:
    """A participant reports the outcome of an operation that it had accepted. `attempt` is 0 if the report names no attempt."""

    step: str
    operation: OperationKind
    outcome: Outcome
    attempt: int = 0


@immutable
class HeartbeatReceived:
    """A participant is still working at an operation that it had accepted. `attempt` is 0 if the heartbeat names no attempt."""

    step: str
    operation: OperationKind
    attempt: int = 0
    details: str = ""


@immutable
class RoomFound:
    """A held attempt of that operation may be made by now."""

    step: str
    operation: OperationKind


@immutable
class TimerFired:
    """Something in this saga is due. The state says what it is."""


@immutable
class EventArrived:
    """An event that a step may wait for. The correlation is empty if the event was sent to this saga alone."""

    event_id: str
    name: str
    correlation: str = ""
    payload: Any = None


@immutable
class ApprovalDecided:
    """A person says yes or no to a step that waits for approval. `act` is recorded with what is decided."""

    step: str
    is_approved: bool
    decided_by: str
    comment: str = ""
    act: Act | None = None


@immutable
class RecallAsked:
    """The parent saga failed: this child is to be undone, even if it has completed."""

    cause: Cause


@immutable
class CancelAsked:
    """A person or a service wants the saga undone. `act` as in `ApprovalDecided`."""

    reason: str
    requested_by: str = ""
    act: Act | None = None


class Finding(StrEnum):
    """What a person found out about an operation."""

    DONE = "DONE"
    """The action took effect."""
    NOT_DONE = "NOT_DONE"
    """The action never took effect."""
    UNDONE = "UNDONE"
    """The action's effect has been undone."""


@immutable
class PauseAsked:
    """A person holds the saga: nothing begins until it is resumed."""

    act: Act


@immutable
class ResumeAsked:
    """A person lets a paused saga go on."""

    act: Act


@immutable
class RetryAsked:
    """A person has an operation attempted again: the present operation of that instance, or of each instance that holds up the
    saga, if `step` is empty.
    """

    step: str
    act: Act


@immutable
class SkipAsked:
    """A person lets the saga go on as if the step's present operation had ended. A skipped action has `output`."""

    step: str
    output: Any
    act: Act


@immutable
class ResolveAsked:
    """A person says what became of the step's operation. `output` is what the action returned, if it was DONE."""

    step: str
    finding: Finding
    output: Any
    act: Act


@immutable
class AbandonAsked:
    """A person ends the saga with the effects that remain."""

    act: Act


@immutable
class OwnershipGained:
    """This coordinator drives the saga from now on. `previous_owner` is set if the previous owner lost the saga without
    releasing it.

    `workers` are the participants whose attempts are tasks. A worker may still be working at its task, whatever became of the
    coordinator that gave it the task. So nobody else gets the task before its time is over (P8).
    """

    previous_owner: str | None = None
    workers: frozenset[str] = frozenset()


PersonAsked = PauseAsked | ResumeAsked | RetryAsked | SkipAsked | ResolveAsked | AbandonAsked
"""The requests that only a person makes. Each has an act, which is recorded with what is decided."""

Asked = (
    OutcomeReported
    | HeartbeatReceived
    | EventArrived
    | ApprovalDecided
    | CancelAsked
    | RecallAsked
    | PersonAsked
)
"""The requests that a person or a service can make to a saga, through any coordinator."""

Input = StartRequested | AttemptEnded | TimerFired | RoomFound | OwnershipGained | Asked

ASKED: Mapping[str, type[Asked]] = {
    "report": OutcomeReported,
    "heartbeat": HeartbeatReceived,
    "event": EventArrived,
    "approval": ApprovalDecided,
    "cancel": CancelAsked,
    "recall": RecallAsked,
    "pause": PauseAsked,
    "resume": ResumeAsked,
    "retry": RetryAsked,
    "skip": SkipAsked,
    "resolve": ResolveAsked,
    "abandon": AbandonAsked,
}
"""The names of the requests in the mail between coordinators. A name never changes once it has been released."""


def canonical_input(given: Input) -> Input:
    """The input with its payload in canonical form. The labels and headers of a start get the canonical order of keys too.

    Raises:
        NotCanonical: the payload has no such form.
    """
    fields = _PAYLOADS.get(type(given))
    if fields is None:
        return given
    changes: dict[str, Any] = {}
    for name in fields:
        value = getattr(given, name)
        form = _canonical_outcome(value) if name == "outcome" else canonical(value)
        if form is not value:
            changes[name] = form
    changed: Input = replace(cast("Any", given), **changes) if changes else given
    return changed


def _canonical_outcome(outcome: Outcome) -> Outcome:
    if type(outcome) is not Succeeded:
        return outcome
    output = canonical(outcome.output)
    return outcome if output is outcome.output else Succeeded(output)


_PAYLOADS: Mapping[type[Input], tuple[str, ...]] = {
    StartRequested: ("input", "labels", "headers"),
    AttemptEnded: ("outcome",),
    OutcomeReported: ("outcome",),
    EventArrived: ("payload",),
    SkipAsked: ("output",),
    ResolveAsked: ("output",),
}
"""The fields of each input that hold payloads. The other inputs hold nothing that is kept as JSON."""
