"""A preview of undoing a running saga: the calls, in stages that each run at once, and the effects that would remain."""

from __future__ import annotations

from dataclasses import dataclass, replace

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, GoOn, Invoke, SetTimer
from saga_coordinator.saga.machine.entries import Entry, InputInvalid
from saga_coordinator.saga.machine.inputs import AttemptEnded, CancelAsked, Input, OutcomeReported, TimerFired
from saga_coordinator.saga.machine.place import remaining_effects
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Succeeded, Unknown

DECISIONS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Uncomputable:
    """A compensation that could not be called, because its input cannot be computed from what is known now."""

    step: str
    problem: str


@dataclass(frozen=True, slots=True)
class Preview:
    """The compensation of the saga if it failed now.

    `stages` holds the compensations in order. The compensations of one stage run at once, and each waits only for the steps
    that it has to wait for. `in_flight` holds the keys of actions that would be awaited first; they are assumed to end with an
    unknown outcome. `remaining` holds the keys of the steps whose effect would stand. `status` is the status in which the saga
    would end. `refusal` says why there is no way back. Then only `status` and `remaining` are filled, with their present
    values.
    """

    status: SagaStatus
    stages: tuple[tuple[Invoke, ...], ...] = ()
    in_flight: tuple[str, ...] = ()
    uncomputable: tuple[Uncomputable, ...] = ()
    remaining: tuple[str, ...] = ()
    refusal: str | None = None


def preview_compensation(definition: Definition, state: SagaState, now: float) -> Preview:
    """Works out what the core would do if the saga failed at `now` (seconds since the epoch) and every compensation succeeded.

    Actions in flight are assumed to end unknown: they may have taken effect, so they would be compensated. For a saga that is
    compensating already, the preview shows the compensations that are left. The payloads are computed from what is known now; a
    late outcome can still add to them.
    """
    if state.status in SETTLED:
        return _refused(
            definition, state, f"the saga is {state.status}: it undoes nothing by itself any more"
        )
    in_flight = tuple(
        key
        for key, step in state.steps.items()
        if step.is_in_flight and step.operation is OperationKind.ACTION
    )
    # A paused saga would be resumed first. What goes with the state is left to whoever drives the saga.
    foresight = _Foresight(definition, replace(state, hold=None), now)
    if state.status is SagaStatus.RUNNING:
        decision = foresight.hear(CancelAsked("preview"))
        if isinstance(decision.answer, Refusal):
            return _refused(definition, state, decision.answer.message)
    foresight.end_what_is_in_flight()
    foresight.undo()
    problems = [entry for entry in foresight.entries if isinstance(entry, InputInvalid)]
    return Preview(
        status=foresight.state.status,
        stages=tuple(foresight.stages),
        in_flight=in_flight,
        uncomputable=tuple(Uncomputable(entry.step, entry.cause.message) for entry in problems),
        remaining=foresight.state.remaining,
    )


def _refused(definition: Definition, state: SagaState, why: str) -> Preview:
    return Preview(state.status, remaining=remaining_effects(definition, state), refusal=why)


class _Foresight:
    """Runs ahead on the real core. Calls are collected and then answered stage by stage."""

    def __init__(self, definition: Definition, state: SagaState, now: float) -> None:
        self.state = state
        self.entries: list[Entry] = []
        self.stages: list[tuple[Invoke, ...]] = []
        self._definition = definition
        self._now = now
        self._due_at: float | None = None
        self._ready: list[Invoke] = []
        self._decisions = 0

    def hear(self, given: Input) -> Decision:
        self._decisions += 1
        assert self._decisions <= DECISIONS_MAX, f"saga {self.state.saga_id} would never be undone"
        decision = self._decide(given)
        later = decision
        while GoOn() in later.effects:
            later = self._decide(TimerFired())
        return decision

    def _decide(self, given: Input) -> Decision:
        decision = decide(self._definition, self.state, given, self._now, 0.0)
        self.state = decision.state
        self.entries += decision.entries
        self._due_at = None
        for effect in decision.effects:
            if isinstance(effect, Invoke):
                self._ready.append(effect)
            elif isinstance(effect, SetTimer):
                self._due_at = effect.due_at
        return decision

    def end_what_is_in_flight(self) -> None:
        """Ends what is in flight: actions end unknown, and compensations succeed, even if they were accepted and not yet
        reported.
        """
        cause = Cause(CauseCode.CANCELLED, "assumed: nobody knows what became of it")
        for key, step in tuple(self.state.steps.items()):
            is_action = step.operation is OperationKind.ACTION
            if step.is_in_flight:
                outcome = Unknown(cause) if is_action else Succeeded()
                self.hear(AttemptEnded(key, step.operation, step.attempt, outcome))
            elif step.is_waiting_for_report and not is_action:
                self.hear(OutcomeReported(key, step.operation, Succeeded()))

    def undo(self) -> None:
        if not self._ready and self.state.status not in SETTLED:
            self._skip()
        while self._ready:
            stage, self._ready = tuple(self._ready), []
            self.stages.append(stage)
            for call in stage:
                self.hear(AttemptEnded(call.step, call.operation, call.attempt, Succeeded()))
            if not self._ready:
                self._skip()

    def _skip(self) -> None:
        """Skips the time for which a compensation is held back, because an attempt may still be in flight unseen (P4)."""
        while not self._ready and self._due_at is not None:
            self._now = max(self._now, self._due_at)
            self.hear(TimerFired())
