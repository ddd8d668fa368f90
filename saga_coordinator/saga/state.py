"""A saga's state, and the tables that say how each entry moves it.

`fold` is the only way to a state: it applies the entries of the log one by one (P7). What may follow what is data:
`SAGA_TRANSITIONS` and `STEP_TRANSITIONS`. A pair that has no row is a defect and raises `ImpossibleTransition`.
`docs/state_machine.md` is drawn from the same tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any

from saga_coordinator.saga.definition import Definition, Step
from saga_coordinator.saga.entries import (
    AttemptEntry,
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    Entry,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    SagaAdopted,
    SagaCompensated,
    SagaCompleted,
    SagaFailed,
    SagaParked,
    SagaStarted,
    entry_type,
)
from saga_coordinator.saga.errors import ImpossibleTransition
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import Cause


class SagaStatus(StrEnum):
    """Where a saga stands. Only COMPLETED is success (P13)."""

    RUNNING = "RUNNING"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    ABANDONED = "ABANDONED"


ENDS = frozenset({SagaStatus.COMPLETED, SagaStatus.COMPENSATED, SagaStatus.ABANDONED})
SETTLED = ENDS | {SagaStatus.NEEDS_ATTENTION}
"""Statuses in which nothing moves by itself."""


class StepStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"


class EffectKnown(IntEnum):
    """What is known of an action's effect. It only grows."""

    NONE = 1
    POSSIBLE = 2
    CERTAIN = 3


_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION

SAGA_TRANSITIONS: Mapping[tuple[SagaStatus | None, type[Entry]], SagaStatus] = {
    (None, SagaStarted): SagaStatus.RUNNING,
    (SagaStatus.RUNNING, SagaAdopted): SagaStatus.RUNNING,
    (SagaStatus.RUNNING, SagaFailed): SagaStatus.COMPENSATING,
    (SagaStatus.RUNNING, SagaCompleted): SagaStatus.COMPLETED,
    (SagaStatus.RUNNING, SagaParked): SagaStatus.NEEDS_ATTENTION,
    (SagaStatus.COMPENSATING, SagaAdopted): SagaStatus.COMPENSATING,
    (SagaStatus.COMPENSATING, SagaCompensated): SagaStatus.COMPENSATED,
    (SagaStatus.COMPENSATING, SagaParked): SagaStatus.NEEDS_ATTENTION,
}
"""Entries about the saga as a whole: (status before, entry) -> status after."""

OPERATION_ALLOWED: Mapping[SagaStatus, frozenset[OperationKind]] = {
    SagaStatus.RUNNING: frozenset({_ACTION}),
    SagaStatus.COMPENSATING: frozenset({_COMPENSATION}),
}
"""Which operations may be started in which status. Attempts that are in flight at the turn may still end after it."""

STEP_TRANSITIONS: Mapping[tuple[StepStatus, OperationKind, type[AttemptEntry]], StepStatus] = {
    (StepStatus.PENDING, _ACTION, AttemptStarted): StepStatus.RUNNING,
    (StepStatus.PENDING, _ACTION, InputInvalid): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptStarted): StepStatus.RUNNING,
    (StepStatus.RUNNING, _ACTION, InputInvalid): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptSucceeded): StepStatus.SUCCEEDED,
    (StepStatus.RUNNING, _ACTION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptUnknown): StepStatus.RUNNING,
    (StepStatus.RUNNING, _ACTION, AttemptUnresolved): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptPending): StepStatus.WAITING,
    (StepStatus.WAITING, _ACTION, AttemptSucceeded): StepStatus.SUCCEEDED,
    (StepStatus.WAITING, _ACTION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.WAITING, _ACTION, AttemptUnknown): StepStatus.RUNNING,
    (StepStatus.WAITING, _ACTION, AttemptUnresolved): StepStatus.FAILED,
    (StepStatus.SUCCEEDED, _COMPENSATION, AttemptStarted): StepStatus.COMPENSATING,
    (StepStatus.SUCCEEDED, _COMPENSATION, InputInvalid): StepStatus.FAILED,
    (StepStatus.FAILED, _COMPENSATION, AttemptStarted): StepStatus.COMPENSATING,
    (StepStatus.FAILED, _COMPENSATION, InputInvalid): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptStarted): StepStatus.COMPENSATING,
    (StepStatus.COMPENSATING, _COMPENSATION, InputInvalid): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptSucceeded): StepStatus.COMPENSATED,
    (StepStatus.COMPENSATING, _COMPENSATION, NothingToUndo): StepStatus.COMPENSATED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptUnknown): StepStatus.COMPENSATING,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptUnresolved): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptPending): StepStatus.WAITING,
    (StepStatus.WAITING, _COMPENSATION, AttemptSucceeded): StepStatus.COMPENSATED,
    (StepStatus.WAITING, _COMPENSATION, NothingToUndo): StepStatus.COMPENSATED,
    (StepStatus.WAITING, _COMPENSATION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.WAITING, _COMPENSATION, AttemptUnknown): StepStatus.COMPENSATING,
    (StepStatus.WAITING, _COMPENSATION, AttemptUnresolved): StepStatus.FAILED,
} | {
    # A late outcome moves nothing, whatever the step's status.
    (status, operation, OutcomeLate): status
    for status in StepStatus
    for operation in OperationKind
    if status is not StepStatus.PENDING
}
"""Entries about one operation: (step status before, operation, entry) -> step status after."""

_EFFECT_AFTER: Mapping[type[AttemptEntry], EffectKnown] = {
    AttemptSucceeded: EffectKnown.CERTAIN,
    AttemptUnknown: EffectKnown.POSSIBLE,
    AttemptUnresolved: EffectKnown.POSSIBLE,
    AttemptPending: EffectKnown.POSSIBLE,
}


@dataclass(frozen=True, slots=True)
class StepState:
    """`operation` is the one that `attempt` and `failures` count: the action until a compensation is started.

    Instants are seconds since the epoch. `retry_at`: the next attempt is due. `settles_at`: an attempt made by a coordinator
    that is gone cannot be in flight beyond this. `pending_until`: an outcome must be reported before.
    """

    status: StepStatus = StepStatus.PENDING
    effect: EffectKnown = EffectKnown.NONE
    operation: OperationKind = _ACTION
    attempt: int = 0
    failures: int = 0
    is_in_flight: bool = False
    is_refused: bool = False
    is_output_known: bool = False
    output: Any = None
    cause: Cause | None = None
    retry_at: float | None = None
    settles_at: float | None = None
    pending_until: float | None = None


UNTOUCHED = StepState()


@dataclass(frozen=True, slots=True)
class SagaState:
    """The fold of a saga's log. `sequence` is the number of entries folded; steps never touched are absent from `steps`."""

    saga_id: str
    status: SagaStatus
    definition: str
    version: int
    input: Any
    labels: Mapping[str, str]
    deadline_at: float | None
    sequence: int = 1
    steps: Mapping[str, StepState] = field(default_factory=dict)
    failure: Cause | None = None
    remaining: tuple[str, ...] = ()
    late: frozenset[tuple[str, OperationKind, str]] = frozenset()

    def step(self, name: str) -> StepState:
        """The step's state, also when nothing has happened to it yet."""
        return self.steps.get(name, UNTOUCHED)


def fold(saga_id: str, entries: Iterable[Entry]) -> SagaState:
    """The state that a log leads to.

    Raises:
        ImpossibleTransition: the log is empty, or holds an entry that the tables do not allow there.
    """
    state: SagaState | None = None
    for entry in entries:
        state = apply(saga_id, state, entry)
    if state is None:
        raise ImpossibleTransition(f"saga {saga_id} has an empty log")
    return state


def apply(saga_id: str, state: SagaState | None, entry: Entry) -> SagaState:
    """The state after one more entry. `state` is None before the first."""
    if state is None:
        if not isinstance(entry, SagaStarted):
            raise ImpossibleTransition(
                f"saga {saga_id}: a log begins with saga_started, not {entry_type(entry)}"
            )
        status = SAGA_TRANSITIONS[None, SagaStarted]
        return SagaState(
            saga_id, status, entry.definition, entry.version, entry.input, entry.labels, entry.deadline_at
        )
    match entry:
        case (
            SagaStarted() | SagaAdopted() | SagaFailed() | SagaCompleted() | SagaCompensated() | SagaParked()
        ):
            return _apply_to_saga(state, entry)
        case _:
            return _apply_to_step(state, entry)


def _apply_to_saga(state: SagaState, entry: Entry) -> SagaState:
    status = SAGA_TRANSITIONS.get((state.status, type(entry)))
    if status is None:
        raise ImpossibleTransition(
            f"saga {state.saga_id}: {entry_type(entry)} cannot follow in {state.status}"
        )
    sequence = state.sequence + 1
    match entry:
        case SagaFailed():
            return replace(
                state, sequence=sequence, status=status, failure=entry.cause, steps=_turn(state.steps)
            )
        case SagaParked():
            failure = state.failure or entry.cause
            return replace(
                state, sequence=sequence, status=status, failure=failure, remaining=entry.remaining
            )
        case _:
            return replace(state, sequence=sequence, status=status)


def _turn(steps: Mapping[str, StepState]) -> dict[str, StepState]:
    """At the turn, actions that are between attempts or await a report are given up; those in flight are left to settle."""
    return {
        name: replace(step, status=StepStatus.FAILED, retry_at=None, pending_until=None)
        if step.status in {StepStatus.RUNNING, StepStatus.WAITING} and not step.is_in_flight
        else step
        for name, step in steps.items()
    }


def _apply_to_step(state: SagaState, entry: AttemptEntry) -> SagaState:
    before = state.step(entry.step)
    status = STEP_TRANSITIONS.get((before.status, entry.operation, type(entry)))
    is_start = isinstance(entry, AttemptStarted | InputInvalid)
    if status is None or (is_start and entry.operation not in OPERATION_ALLOWED.get(state.status, ())):
        raise ImpossibleTransition(
            f"saga {state.saga_id}: {entry_type(entry)} of {entry.operation} {entry.step!r} cannot follow while the saga is "
            f"{state.status} and the step {before.status}"
        )
    after = _late(before, entry) if isinstance(entry, OutcomeLate) else _moved(before, status, entry)
    late = state.late
    if isinstance(entry, OutcomeLate):
        late |= {(entry.step, entry.operation, entry.outcome)}
    return replace(state, sequence=state.sequence + 1, steps={**state.steps, entry.step: after}, late=late)


def _late(step: StepState, entry: OutcomeLate) -> StepState:
    is_in_time_for_undo = step.operation is _ACTION and entry.operation is _ACTION
    if entry.outcome == "SUCCEEDED" and is_in_time_for_undo:
        return replace(step, effect=EffectKnown.CERTAIN, output=entry.output, is_output_known=True)
    return step


def _moved(step: StepState, status: StepStatus, entry: AttemptEntry) -> StepState:
    effect = step.effect
    if entry.operation is _ACTION:
        effect = max(effect, _EFFECT_AFTER.get(type(entry), EffectKnown.NONE))
    is_first_of_compensation = entry.operation is not step.operation
    step = replace(
        step,
        status=status,
        effect=effect,
        operation=entry.operation,
        attempt=entry.attempt,
        failures=0 if is_first_of_compensation else step.failures,
        is_in_flight=isinstance(entry, AttemptStarted),
        retry_at=None,
        pending_until=None,
    )
    match entry:
        case AttemptSucceeded() if entry.operation is _ACTION:
            return replace(step, output=entry.output, is_output_known=True, cause=None)
        case AttemptUnknown():
            counted = (
                entry.settles_at is None
            )  # an attempt cut off by a crash says nothing about the participant
            return replace(
                step,
                cause=entry.cause,
                retry_at=entry.retry_at,
                failures=step.failures + counted,
                settles_at=_later(step.settles_at, entry.settles_at),
            )
        case AttemptUnresolved():
            return replace(step, cause=entry.cause, settles_at=_later(step.settles_at, entry.settles_at))
        case AttemptRefused() if entry.operation is _ACTION:
            return replace(step, cause=entry.cause, is_refused=True)
        case AttemptRefused() | InputInvalid() | NothingToUndo():
            return replace(step, cause=entry.cause)
        case AttemptPending():
            return replace(step, pending_until=entry.pending_until)
        case _:
            return step


def _later(first: float | None, second: float | None) -> float | None:
    return second if first is None else first if second is None else max(first, second)


def needs_compensation(step: Step, state: StepState) -> bool:
    """Whether the step's action has, or may have, an effect that its compensation has not undone yet."""
    if step.compensation is None or state.status is StepStatus.COMPENSATED:
        return False
    return state.effect > EffectKnown.NONE or (step.compensate_on_refusal and state.is_refused)


def has_standing_effect(step: Step, state: StepState) -> bool:
    """Whether an effect of the step stands or may stand: what a parked saga lists (P2)."""
    if step.is_read_only or state.status is StepStatus.COMPENSATED:
        return False
    return state.effect > EffectKnown.NONE or needs_compensation(step, state)


def remaining_effects(definition: Definition, state: SagaState) -> tuple[str, ...]:
    """Names of the steps whose effect stands or may stand, in the definition's order."""
    return tuple(step.name for step in definition.steps if has_standing_effect(step, state.step(step.name)))
