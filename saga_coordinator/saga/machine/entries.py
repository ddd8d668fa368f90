"""The facts a saga's log consists of: a closed union, appended and never changed (P7).

Instants are seconds since the epoch by the database's clock (P10). An entry's stored form is its type's name, the step,
operation and attempt it concerns, and a JSON body with the rest; `encode` and `decode` are the only places that know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, TypeGuard

from saga_coordinator.saga.machine.act_entries import SAGA_ACTS, STEP_ACTS, SagaAct, StepAct
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause


@immutable
class Parent:
    """The step of another saga that runs this saga as its child. `depth` counts the sagas above: 1 for a child, 2 for its
    child.
    """

    saga_id: str
    step: str
    depth: int


@immutable
class SagaStarted:
    """Always the first entry. `deadline_at` is None where there is no deadline.

    `headers` is the context of the start, such as `traceparent`: every call of the saga carries it, from any coordinator.
    `parent` is set for the child of another saga.
    """

    definition: str
    version: int
    input: Any = None
    labels: Mapping[str, str] = field(default_factory=dict)
    deadline_at: float | None = None
    headers: Mapping[str, str] | None = None
    parent: Parent | None = None


@immutable
class SagaAdopted:
    """A coordinator took the saga over from a coordinator whose lease had ended, or found that it owns a saga that it had lost
    track of.

    Because it is an entry, it takes the sequence at which the previous owner, if it still lives, would append next (P8).
    `workers` names the participants whose attempts are tasks, if any attempt was in flight. A worker may still be working at
    its task, whatever became of the previous owner.
    """

    previous_owner: str
    workers: tuple[str, ...] | None = None


@immutable
class AttemptStarted:
    """The intent to call; committed before the call is made (P6).

    `deadline_at`, in the first attempt of an action, is when the step's own deadline for all of them passes.
    """

    step: str
    operation: OperationKind
    attempt: int
    deadline_at: float | None = None


@immutable
class AttemptSucceeded:
    """The attempt succeeded: it took effect.

    `settles_at` is set when a report came before the call had ended: until that instant the call may still be in flight (P4).
    `event_id` names the event that ended a wait. That event ends no other wait.
    """

    step: str
    operation: OperationKind
    attempt: int
    output: Any = None
    settles_at: float | None = None
    event_id: str | None = None


@immutable
class AttemptRefused:
    """The participant decided no: this attempt had no effect. `settles_at` has the meaning that it has in `AttemptSucceeded`.

    `settles_doubt` is True if the refused attempt was PENDING and was the only attempt that had left a doubt; else None.
    """

    step: str
    operation: OperationKind
    attempt: int
    cause: Cause
    settles_at: float | None = None
    settles_doubt: bool | None = None


@immutable
class AttemptUnknown:
    """The attempt may have taken effect; the operation is tried again at `retry_at`, after the drawn delay.

    `settles_at` is set when another coordinator made the attempt: until that instant it may still be in flight (P4). `was_sent`
    is False if nothing was sent, so that this attempt cannot have had an effect; else None.
    """

    step: str
    operation: OperationKind
    attempt: int
    cause: Cause
    retry_delay_seconds: float
    retry_at: float
    settles_at: float | None = None
    was_sent: bool | None = None


@immutable
class AttemptUnresolved:
    """The attempt may have taken effect, and the operation is not tried again: the budget is spent, or the saga has turned.

    `was_sent` has the meaning that it has in `AttemptUnknown`.
    """

    step: str
    operation: OperationKind
    attempt: int
    cause: Cause
    settles_at: float | None = None
    was_sent: bool | None = None


@immutable
class AttemptPending:
    """The participant accepted the operation and reports its outcome later; without a report before `pending_until` the outcome
    is unknown. At `poll_at` the participant is asked again.

    Without a heartbeat before `heartbeat_until` the outcome is unknown, too. Each recorded heartbeat and each poll appends
    another AttemptPending.
    """

    step: str
    operation: OperationKind
    attempt: int
    pending_until: float | None = None
    poll_at: float | None = None
    heartbeat_until: float | None = None
    details: str | None = None


@immutable
class AttemptHeld:
    """The attempt was not made, because there was no room for it or the participant is given a rest; from `retry_at` on, the
    coordinator looks for room.

    It does not count as an attempt. It is written once, however long the attempt is held. `is_given_back` is set if the next
    attempt has this attempt's number again. It is None if the number is used up, as in logs of version 0.1.0.
    """

    step: str
    operation: OperationKind
    attempt: int
    cause: Cause
    retry_delay_seconds: float
    retry_at: float
    is_given_back: bool | None = None


@immutable
class NothingToUndo:
    """The participant knows of no effect to compensate, and no effect was certain: the compensation is done
    (docs/concepts.md).
    """

    step: str
    operation: OperationKind
    attempt: int
    cause: Cause


@immutable
class InputInvalid:
    """The operation's input could not be computed, so it was not attempted."""

    step: str
    operation: OperationKind
    attempt: int
    cause: Cause


@immutable
class OutcomeLate:
    """An outcome that came after the operation was decided: kept for the story, moves nothing.

    It still adds to what is known of the effect: a late success makes the effect certain. Before the compensation has started,
    it also gives the compensation the action's output. `outcome` is SUCCEEDED or REFUSED; UNKNOWN or PENDING would add nothing.
    `settles_doubt` has the meaning that it has in `AttemptRefused`. With it, `is_passed` is set if the saga had gone on without
    the action: then the step keeps the cause that the steps after it were told (P5).
    """

    step: str
    operation: OperationKind
    attempt: int
    outcome: str
    output: Any = None
    cause: Cause | None = None
    settles_doubt: bool | None = None
    is_passed: bool | None = None


@immutable
class StepSkipped:
    """The step was skipped: its condition did not hold, or no branch's condition held."""

    step: str
    operation: ClassVar[OperationKind] = OperationKind.ACTION
    attempt: ClassVar[int] = 0


@immutable
class StepFailed:
    """The step failed without an attempt: because of an expression, a limit, or a condition that was never reached."""

    step: str
    cause: Cause
    operation: ClassVar[OperationKind] = OperationKind.ACTION
    attempt: ClassVar[int] = 0


@immutable
class WaitStarted:
    """The step waits until `until`, or for ever if that is None, unless an event or a person ends the wait earlier. `event` is
    set if it waits for an event.
    """

    step: str
    until: float | None = None
    event: str | None = None
    correlation: str | None = None
    shown: Any = None
    operation: ClassVar[OperationKind] = OperationKind.ACTION
    attempt: ClassVar[int] = 1


@immutable
class BlockOpened:
    """A block of steps begins: once for each of the `items`, or as the `branch` of that index, or as one more pass after the
    `previous` pass.
    """

    step: str
    items: tuple[Any, ...] | None = None
    branch: int | None = None
    previous: Any = None
    operation: ClassVar[OperationKind] = OperationKind.ACTION
    attempt: ClassVar[int] = 0


@immutable
class BlockClosed:
    """All steps of the block, for every item and in the last pass, are done."""

    step: str
    output: Any = None
    operation: ClassVar[OperationKind] = OperationKind.ACTION
    attempt: ClassVar[int] = 0


@immutable
class EventReceived:
    """An event reached the saga; it is kept until a wait for it takes it. An identity counts once."""

    event_id: str
    name: str
    correlation: str = ""
    payload: Any = None


@immutable
class SagaFailed:
    """The turn: no action starts any more, and what took effect is undone."""

    cause: Cause


@immutable
class SagaCompleted:
    """Every step took effect. `output_problem` says why the output could not be computed; the saga has completed nevertheless."""

    output: Any = None
    output_problem: str | None = None


@immutable
class SagaRecalled:
    """A completed child goes back, because the saga that it is a step of failed."""

    cause: Cause


@immutable
class SagaCompensated:
    """Every effect was undone; nothing remains."""


@immutable
class SagaParked:
    """The saga needs a person. `remaining` names the steps whose effect stands or may stand."""

    cause: Cause
    remaining: tuple[str, ...]


@immutable
class SagaUnparked:
    """The saga, which was parked on its way forward, goes on by itself: late evidence removed the reason for parking it."""


@immutable
class UndoUnparked:
    """The saga, which was parked on its way back, goes on undoing by itself: late evidence removed the reason for parking
    it.
    """


StepEntry = (
    AttemptStarted
    | AttemptSucceeded
    | AttemptRefused
    | AttemptUnknown
    | AttemptUnresolved
    | AttemptPending
    | AttemptHeld
    | NothingToUndo
    | InputInvalid
    | OutcomeLate
    | StepSkipped
    | StepFailed
    | WaitStarted
    | BlockOpened
    | BlockClosed
    | StepAct
)
SagaEntry = (
    SagaStarted
    | SagaAdopted
    | EventReceived
    | SagaFailed
    | SagaRecalled
    | SagaCompleted
    | SagaCompensated
    | SagaParked
    | SagaUnparked
    | UndoUnparked
    | SagaAct
)
Entry = SagaEntry | StepEntry

ENTRY_TYPES: tuple[type[Entry], ...] = (
    SagaStarted,
    SagaAdopted,
    AttemptStarted,
    AttemptSucceeded,
    AttemptRefused,
    AttemptUnknown,
    AttemptUnresolved,
    AttemptPending,
    AttemptHeld,
    NothingToUndo,
    InputInvalid,
    OutcomeLate,
    StepSkipped,
    StepFailed,
    WaitStarted,
    BlockOpened,
    BlockClosed,
    EventReceived,
    SagaFailed,
    SagaRecalled,
    SagaCompleted,
    SagaCompensated,
    SagaParked,
    SagaUnparked,
    UndoUnparked,
    *STEP_ACTS,
    *SAGA_ACTS,
)


STEP_TYPES = frozenset(kind for kind in ENTRY_TYPES if hasattr(kind, "attempt"))


def is_about_step(entry: Entry) -> TypeGuard[StepEntry]:
    """Tells whether the entry is about one step and not about the saga as a whole."""
    return type(entry) in STEP_TYPES
