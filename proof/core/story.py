"""One saga told step by step: each method is one input, at a time that the test moves."""

from __future__ import annotations

from typing import Any

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, Invoke, SetTimer
from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    CancelAsked,
    Input,
    OutcomeReported,
    OwnershipGained,
    StartRequested,
    TimerFired,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.stored_entry import entry_type
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Outcome, Pending, Refused, Succeeded, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION

NO = Refused(Cause("FAILED_PRECONDITION", "no"))
NOT_FOUND = Refused(Cause("NOT_FOUND", "never heard of it"))
MAYBE = Unknown(Cause("UNAVAILABLE", "connection reset"))
PENDING = Pending()


def ok(output: Any = None) -> Succeeded:
    return Succeeded(output)


class Story:
    def __init__(
        self, definition: Definition, *, deadline_seconds: float | None = None, payload: Any = None
    ) -> None:
        self.definition = definition
        self.now = 0.0
        self.jitter = 1.0
        self.log: list[Entry] = []
        self.last = decide(
            definition, None, StartRequested("saga", 1, payload, {}, deadline_seconds), self.now, self.jitter
        )
        self.log += self.last.entries

    @property
    def state(self) -> SagaState:
        return self.last.state

    @property
    def status(self) -> SagaStatus:
        return self.last.state.status

    def step(self, name: str) -> StepState:
        return self.state.step(name)

    @property
    def calls(self) -> list[str]:
        """What the last decision calls: `charge action 1`."""
        return [f"{e.step} {e.operation} {e.attempt}" for e in self.last.effects if isinstance(e, Invoke)]

    @property
    def inputs(self) -> list[Any]:
        return [effect.input for effect in self.last.effects if isinstance(effect, Invoke)]

    @property
    def timer(self) -> float | None:
        return next((effect.due_at for effect in self.last.effects if isinstance(effect, SetTimer)), None)

    @property
    def recorded(self) -> list[str]:
        """Types of the last decision's entries."""
        return [entry_type(entry) for entry in self.last.entries]

    def happens(self, happened: Input, *, may_call: bool = True) -> Decision:
        self.last = decide(self.definition, self.state, happened, self.now, self.jitter, may_call=may_call)
        self.log += self.last.entries
        return self.last

    def ends(
        self,
        step: str,
        outcome: Outcome,
        kind: OperationKind | None = None,
        *,
        attempt: int | None = None,
        may_call: bool = True,
    ) -> Decision:
        """The call in flight ends; or the one of `kind` and `attempt`, if named."""
        state = self.step(step)
        ended = AttemptEnded(step, kind or state.operation, attempt or state.attempt, outcome)
        return self.happens(ended, may_call=may_call)

    def reported(self, step: str, outcome: Outcome, kind: OperationKind = ACTION) -> Decision:
        return self.happens(OutcomeReported(step, kind, outcome))

    def timer_fires(self, *, at: float | None = None) -> Decision:
        due_at = self.timer if at is None else at
        assert due_at is not None, "no timer is set"
        self.now = due_at
        return self.happens(TimerFired())

    def cancelled(self) -> Decision:
        return self.happens(CancelAsked("changed my mind", "anna"))

    def adopted(self, previous_owner: str | None = "coordinator-1", *, may_call: bool = True) -> Decision:
        return self.happens(OwnershipGained(previous_owner), may_call=may_call)
