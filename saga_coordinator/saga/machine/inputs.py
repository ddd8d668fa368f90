"""What can happen to a saga: the inputs of `decide`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from saga_coordinator.saga.machine.entries import Parent
from saga_coordinator.saga.words.canonical import canonical
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause, Outcome, Succeeded


@immutable
class StartRequested:
    """Only this comes when there is no state yet. `deadline_seconds` is the starter's, if shorter than the definition's."""

    saga_id: str
    version: int
    input: Any
    labels: Mapping[str, str]
    deadline_seconds: float | None = None
    headers: Mapping[str, str] | None = None
    parent: Parent | None = None
    recalled_for: Cause | None = None
    """Set for a child that is to be undone before it was ever started: it starts and turns at once, so that a start that comes
    late finds it so."""


@immutable
class AttemptEnded:
    """A call that this coordinator made has ended."""

    step: str
    operation: OperationKind
    attempt: int
    outcome: Outcome


@immutable
class OutcomeReported:
    """A participant reported how an operation ended that it had accepted; `attempt` is 0 where it did not say of which one."""

    step: str
    operation: OperationKind
    outcome: Outcome
    attempt: int = 0


@immutable
class HeartbeatReceived:
    """A participant is still at an operation that it had accepted; `attempt` as in `OutcomeReported`."""

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
    """Something of this saga is due at `now`; the state says what."""


@immutable
class EventArrived:
    """Something happened elsewhere. An empty correlation is that of an event sent to this very saga."""

    event_id: str
    name: str
    correlation: str = ""
    payload: Any = None


@immutable
class ApprovalDecided:
    """A person said yes or no to a waiting step."""

    step: str
    is_approved: bool
    decided_by: str
    comment: str = ""


@immutable
class RecallAsked:
    """The saga that this one is a step of failed: undo what was done, even if this one has completed."""

    cause: Cause


@immutable
class CancelAsked:
    """A person or a service wants the saga undone."""

    reason: str
    requested_by: str = ""


@immutable
class OwnershipGained:
    """This coordinator drives the saga from now on. `previous_owner` is set when its lease had ended before it let go.

    `workers`: the participants whose attempts are tasks. Who has one may still be at it, whatever became of the coordinator that
    handed it out, so nobody else gets it before its time is over (P8).
    """

    previous_owner: str | None = None
    workers: frozenset[str] = frozenset()


Asked = OutcomeReported | HeartbeatReceived | EventArrived | ApprovalDecided | CancelAsked | RecallAsked
"""What a person or a service asks of a saga, through whichever coordinator."""

Input = StartRequested | AttemptEnded | TimerFired | RoomFound | OwnershipGained | Asked

ASKED: Mapping[str, type[Asked]] = {
    "report": OutcomeReported,
    "heartbeat": HeartbeatReceived,
    "event": EventArrived,
    "approval": ApprovalDecided,
    "cancel": CancelAsked,
    "recall": RecallAsked,
}
"""The names under which coordinators ask one another. A name that has been released stays."""


def canonical_input(happened: Input) -> Input:
    """The same with its payload in canonical form, and what a start carries beside it in the same order of keys.

    Raises:
        NotCanonical: the payload has no such form.
    """
    fields = _PAYLOADS.get(type(happened))
    if fields is None:
        return happened
    changes: dict[str, Any] = {}
    for name in fields:
        value = getattr(happened, name)
        form = _canonical_outcome(value) if name == "outcome" else canonical(value)
        if form is not value:
            changes[name] = form
    changed: Input = replace(cast("Any", happened), **changes) if changes else happened
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
}
"""Where there is one. The other inputs say nothing that is kept as JSON."""
