"""The tables of transitions: they say which entry may come in which status. `docs/state_machine.md` is drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from saga_coordinator.saga.machine.act_entries import (
    FoundDone,
    FoundNotDone,
    FoundUndone,
    OperationRetried,
    OperationSkipped,
    SagaAbandoned,
    SagaPaused,
    SagaResumed,
)
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    BlockClosed,
    BlockOpened,
    Entry,
    EventReceived,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    SagaAdopted,
    SagaCompensated,
    SagaCompleted,
    SagaFailed,
    SagaParked,
    SagaRecalled,
    SagaStarted,
    SagaUnparked,
    StepEntry,
    StepFailed,
    StepSkipped,
    UndoUnparked,
    WaitStarted,
)
from saga_coordinator.saga.words.identity import OperationKind


class SagaStatus(StrEnum):
    """The status of a saga. Only COMPLETED is success (P13)."""

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


_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION

SAGA_TRANSITIONS: Mapping[tuple[SagaStatus | None, type[Entry]], SagaStatus] = {
    (None, SagaStarted): SagaStatus.RUNNING,
    (SagaStatus.RUNNING, SagaAdopted): SagaStatus.RUNNING,
    (SagaStatus.RUNNING, EventReceived): SagaStatus.RUNNING,
    (SagaStatus.RUNNING, SagaFailed): SagaStatus.COMPENSATING,
    (SagaStatus.RUNNING, SagaCompleted): SagaStatus.COMPLETED,
    (SagaStatus.RUNNING, SagaParked): SagaStatus.NEEDS_ATTENTION,
    (SagaStatus.COMPENSATING, SagaAdopted): SagaStatus.COMPENSATING,
    (SagaStatus.COMPENSATING, EventReceived): SagaStatus.COMPENSATING,
    (SagaStatus.COMPENSATING, SagaCompensated): SagaStatus.COMPENSATED,
    (SagaStatus.COMPENSATING, SagaParked): SagaStatus.NEEDS_ATTENTION,
    (SagaStatus.COMPLETED, SagaRecalled): SagaStatus.COMPENSATING,
    (SagaStatus.NEEDS_ATTENTION, SagaUnparked): SagaStatus.RUNNING,
    (SagaStatus.NEEDS_ATTENTION, UndoUnparked): SagaStatus.COMPENSATING,
    (SagaStatus.RUNNING, SagaPaused): SagaStatus.RUNNING,
    (SagaStatus.RUNNING, SagaResumed): SagaStatus.RUNNING,
    (SagaStatus.RUNNING, SagaAbandoned): SagaStatus.ABANDONED,
    (SagaStatus.COMPENSATING, SagaPaused): SagaStatus.COMPENSATING,
    (SagaStatus.COMPENSATING, SagaResumed): SagaStatus.COMPENSATING,
    (SagaStatus.COMPENSATING, SagaAbandoned): SagaStatus.ABANDONED,
    (SagaStatus.NEEDS_ATTENTION, SagaResumed): SagaStatus.NEEDS_ATTENTION,
    (SagaStatus.NEEDS_ATTENTION, SagaAbandoned): SagaStatus.ABANDONED,
}
"""Entries about the saga as a whole: (status before, entry) -> status after.

A parked saga goes on in the status in which it was parked, and in no other.
"""

OPERATION_ALLOWED: Mapping[SagaStatus, frozenset[OperationKind]] = {
    SagaStatus.RUNNING: frozenset({_ACTION}),
    SagaStatus.COMPENSATING: frozenset({_COMPENSATION}),
}
"""The operations that may be started in each status. Attempts that are in flight at the turn may still end after it."""

STEP_TRANSITIONS: Mapping[tuple[StepStatus, OperationKind, type[StepEntry]], StepStatus] = {
    (StepStatus.PENDING, _ACTION, AttemptStarted): StepStatus.RUNNING,
    (StepStatus.PENDING, _ACTION, InputInvalid): StepStatus.FAILED,
    (StepStatus.PENDING, _ACTION, StepSkipped): StepStatus.SKIPPED,
    (StepStatus.PENDING, _ACTION, StepFailed): StepStatus.FAILED,
    (StepStatus.PENDING, _ACTION, WaitStarted): StepStatus.WAITING,
    (StepStatus.PENDING, _ACTION, BlockOpened): StepStatus.RUNNING,
    (StepStatus.RUNNING, _ACTION, BlockOpened): StepStatus.RUNNING,
    (StepStatus.RUNNING, _ACTION, BlockClosed): StepStatus.SUCCEEDED,
    (StepStatus.RUNNING, _ACTION, StepFailed): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptStarted): StepStatus.RUNNING,
    (StepStatus.RUNNING, _ACTION, StepSkipped): StepStatus.SKIPPED,
    (StepStatus.RUNNING, _ACTION, AttemptHeld): StepStatus.RUNNING,
    (StepStatus.RUNNING, _ACTION, InputInvalid): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptSucceeded): StepStatus.SUCCEEDED,
    (StepStatus.RUNNING, _ACTION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptUnknown): StepStatus.RUNNING,
    (StepStatus.RUNNING, _ACTION, AttemptUnresolved): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, AttemptPending): StepStatus.WAITING,
    (StepStatus.WAITING, _ACTION, AttemptPending): StepStatus.WAITING,
    (StepStatus.WAITING, _ACTION, AttemptSucceeded): StepStatus.SUCCEEDED,
    (StepStatus.WAITING, _ACTION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.WAITING, _ACTION, AttemptUnknown): StepStatus.RUNNING,
    (StepStatus.WAITING, _ACTION, AttemptUnresolved): StepStatus.FAILED,
    (StepStatus.SUCCEEDED, _COMPENSATION, AttemptStarted): StepStatus.COMPENSATING,
    (StepStatus.SUCCEEDED, _COMPENSATION, InputInvalid): StepStatus.FAILED,
    (StepStatus.FAILED, _COMPENSATION, AttemptStarted): StepStatus.COMPENSATING,
    (StepStatus.FAILED, _COMPENSATION, InputInvalid): StepStatus.FAILED,
    (StepStatus.FAILED, _COMPENSATION, AttemptSucceeded): StepStatus.COMPENSATED,
    (StepStatus.FAILED, _COMPENSATION, NothingToUndo): StepStatus.COMPENSATED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptStarted): StepStatus.COMPENSATING,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptHeld): StepStatus.COMPENSATING,
    (StepStatus.COMPENSATING, _COMPENSATION, InputInvalid): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptSucceeded): StepStatus.COMPENSATED,
    (StepStatus.COMPENSATING, _COMPENSATION, NothingToUndo): StepStatus.COMPENSATED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptUnknown): StepStatus.COMPENSATING,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptUnresolved): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _COMPENSATION, AttemptPending): StepStatus.WAITING,
    (StepStatus.WAITING, _COMPENSATION, AttemptPending): StepStatus.WAITING,
    (StepStatus.WAITING, _COMPENSATION, AttemptSucceeded): StepStatus.COMPENSATED,
    (StepStatus.WAITING, _COMPENSATION, NothingToUndo): StepStatus.COMPENSATED,
    (StepStatus.WAITING, _COMPENSATION, AttemptRefused): StepStatus.FAILED,
    (StepStatus.WAITING, _COMPENSATION, AttemptUnknown): StepStatus.COMPENSATING,
    (StepStatus.WAITING, _COMPENSATION, AttemptUnresolved): StepStatus.FAILED,
    # Outcomes that come after the operation was decided. The first comes only before the turn, for a failure that holds up the
    # saga.
    (StepStatus.FAILED, _ACTION, AttemptSucceeded): StepStatus.SUCCEEDED,
    (StepStatus.SUCCEEDED, _ACTION, OutcomeLate): StepStatus.SUCCEEDED,
    (StepStatus.FAILED, _ACTION, OutcomeLate): StepStatus.FAILED,
    (StepStatus.COMPENSATING, _ACTION, OutcomeLate): StepStatus.COMPENSATING,
    (StepStatus.WAITING, _ACTION, OutcomeLate): StepStatus.WAITING,
    (StepStatus.COMPENSATED, _ACTION, OutcomeLate): StepStatus.COMPENSATED,
    (StepStatus.FAILED, _COMPENSATION, OutcomeLate): StepStatus.FAILED,
    (StepStatus.COMPENSATED, _COMPENSATION, OutcomeLate): StepStatus.COMPENSATED,
    # Acts of people. Nothing of the step is in flight then.
    (StepStatus.RUNNING, _ACTION, OperationRetried): StepStatus.RUNNING,
    (StepStatus.FAILED, _ACTION, OperationRetried): StepStatus.RUNNING,
    (StepStatus.COMPENSATING, _COMPENSATION, OperationRetried): StepStatus.COMPENSATING,
    (StepStatus.FAILED, _COMPENSATION, OperationRetried): StepStatus.COMPENSATING,
    (StepStatus.PENDING, _ACTION, OperationSkipped): StepStatus.PENDING,
    (StepStatus.FAILED, _ACTION, OperationSkipped): StepStatus.SKIPPED,
    (StepStatus.FAILED, _COMPENSATION, OperationSkipped): StepStatus.FAILED,
    (StepStatus.RUNNING, _ACTION, FoundDone): StepStatus.SUCCEEDED,
    (StepStatus.WAITING, _ACTION, FoundDone): StepStatus.SUCCEEDED,
    (StepStatus.FAILED, _ACTION, FoundDone): StepStatus.SUCCEEDED,
    (StepStatus.RUNNING, _ACTION, FoundNotDone): StepStatus.FAILED,
    (StepStatus.WAITING, _ACTION, FoundNotDone): StepStatus.FAILED,
    (StepStatus.FAILED, _ACTION, FoundNotDone): StepStatus.FAILED,
    (StepStatus.SUCCEEDED, _COMPENSATION, FoundUndone): StepStatus.COMPENSATED,
    (StepStatus.FAILED, _COMPENSATION, FoundUndone): StepStatus.COMPENSATED,
    (StepStatus.COMPENSATING, _COMPENSATION, FoundUndone): StepStatus.COMPENSATED,
    (StepStatus.WAITING, _COMPENSATION, FoundUndone): StepStatus.COMPENSATED,
    (StepStatus.SKIPPED, _COMPENSATION, FoundUndone): StepStatus.COMPENSATED,
    # A skipped action may have had an effect, so it can be undone like any other.
    (StepStatus.SKIPPED, _ACTION, OutcomeLate): StepStatus.SKIPPED,
    (StepStatus.SKIPPED, _COMPENSATION, AttemptStarted): StepStatus.COMPENSATING,
    (StepStatus.SKIPPED, _COMPENSATION, InputInvalid): StepStatus.FAILED,
}
"""Entries about one operation: (step status before, operation, entry) -> step status after.

Only AttemptStarted, InputInvalid and OutcomeLate may be about an operation that is not the step's present operation. The first
two are allowed only where `OPERATION_ALLOWED` has that operation for the saga's status.
"""
