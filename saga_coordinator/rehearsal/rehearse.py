"""Runs a saga on simulated time: with the real core, and without store, network or waiting.

`Rehearsal` does in memory what the engine does with a decision. To make a call, it asks the `Surroundings` for the reply. To
wait, it skips to the instant at which something is due. So it shows what `decide` does.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.expressions.expression import as_text
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, GoOn, Invoke, LookForEvent, SetTimer
from saga_coordinator.saga.machine.entries import AttemptPending, Entry, WaitStarted
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    EventArrived,
    Input,
    OutcomeReported,
    OwnershipGained,
    StartRequested,
    TimerFired,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.saga.words.outcome import Cause, Outcome, Unknown, reclassified

STARTS_AT = 1_767_225_600.0
"""The instant at which rehearsals begin by default: 2026-01-01T00:00:00Z, in seconds since the epoch."""
DECISIONS_MAX = 100_000
CALL_SECONDS = 0.01
"""The seconds that a call takes if there is no reason for it to take longer."""
_JITTER = 0.5
_POLLS_IN_VAIN_MAX = 20


class EndlessRehearsal(SagaError):
    """The saga took more decisions than its author can have meant."""


class Soon(NamedTuple):
    """An input that will reach the saga after `after_seconds`."""

    after_seconds: float
    given: Input


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a call. If `outcome` is None, the coordinator that made the call goes down and never hears the outcome.

    `later` counts from when the call was made.
    """

    outcome: Outcome | None
    after_seconds: float = CALL_SECONDS
    later: Sequence[Soon] = ()


@dataclass(slots=True)
class Call:
    """A call that was made, and the answer that it will give. `is_lost` means that nobody hears the answer. `ended_at` is
    when the call is certainly over: when it answers, or else when its time is up.
    """

    invoke: Invoke
    started_at: float
    ended_at: float
    told: Outcome | None = None
    is_lost: bool = False
    is_over: bool = False

    @property
    def step(self) -> str:
        """The key of the step's instance."""
        return self.invoke.step

    @property
    def is_action(self) -> bool:
        return self.invoke.operation is OperationKind.ACTION

    @property
    def name(self) -> str:
        """`charge`, or `undo charge`."""
        return self.step if self.is_action else f"undo {self.step}"


class Report(NamedTuple):
    """An outcome that a participant reported by itself."""

    at: float
    step: str
    operation: OperationKind
    outcome: Outcome


class Surroundings(Protocol):
    """The surroundings of a saga: participants, people and publishers."""

    def answer(self, invoke: Invoke, now: float) -> Reply:
        """The reply to a call that is made now."""
        ...

    def await_outside(self, wait: WaitStarted, now: float) -> Sequence[Soon]:
        """The inputs from outside that are known now, while the saga waits for time, an event or a person."""
        ...


@dataclass
class Rehearsal:
    """The rehearsal of one saga, from its start. `calls`, `reports` and `log` grow in the order of what happened.

    Raises EndlessRehearsal from whatever moves it, when it has taken more than `DECISIONS_MAX` decisions.
    """

    definition: Definition
    surroundings: Surroundings
    saga_id: str = "rehearsal"
    now: float = STARTS_AT
    calls: list[Call] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    _state: SagaState | None = None
    _timer: float | None = None
    _agenda: list[tuple[float, int, Input | Call]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _published: list[tuple[EventArrived, float]] = field(default_factory=list)
    _decisions: int = 0
    _polls_in_vain: int = 0

    @property
    def state(self) -> SagaState:
        """The saga's present state. The saga must have been started."""
        assert self._state is not None, "the rehearsal has not been started"
        return self._state

    @property
    def is_settled(self) -> bool:
        """Tells whether the saga no longer moves by itself."""
        return self.state.status in SETTLED

    def start(
        self,
        saga_input: Any,
        labels: Mapping[str, str] | None = None,
        deadline_seconds: float | None = None,
    ) -> Decision:
        """Starts the saga. Raises ExpressionError if a label of the definition cannot be computed."""
        scope = {"input": saga_input, "saga": {"id": self.saga_id, "labels": dict(labels or {})}}
        own = {
            name: as_text(template.render(scope), scope) for name, template in self.definition.labels.items()
        }
        return self._decide(
            StartRequested(self.saga_id, 1, saga_input, {**own, **(labels or {})}, deadline_seconds)
        )

    @classmethod
    def resumed(
        cls, definition: Definition, surroundings: Surroundings, state: SagaState, now: float
    ) -> Rehearsal:
        """A rehearsal that goes on from a state that was reached elsewhere. The attempts that are in flight there never end by
        themselves.
        """
        return cls(definition, surroundings, state.saga_id, now, _state=state)

    @property
    def is_anything_scheduled(self) -> bool:
        """Tells whether the end of a call, or something from outside, is sure to come."""
        return bool(self._agenda)

    def hear(self, given: Input) -> Decision:
        """Gives the saga an input now."""
        return self._decide(given)

    def publish(self, event: EventArrived, keep_seconds: float = EVENT_KEPT_SECONDS) -> Decision | None:
        """Publishes an event. It reaches this saga if the saga waits for the event's correlation, or begins to within
        `keep_seconds`.
        """
        self._published.append((event, self.now + keep_seconds))
        if self._is_awaited(event.name, event.correlation):
            return self._decide(event)
        return None

    def _is_awaited(self, name: str, correlation: str) -> bool:
        return any(
            step.is_open
            and step.wait is not None
            and (step.wait.event, step.wait.correlation) == (name, correlation)
            for step in self.state.steps.values()
        )

    def next_at(self) -> float | None:
        """The instant at which the next thing happens by itself. None if nothing does, or if only the same poll is repeated for
        ever.
        """
        if self._asks_for_ever():
            return None
        instants = [self._agenda[0][0]] if self._agenda else []
        if self._timer is not None:
            instants.append(self._timer)
        return min(instants, default=None)

    def _asks_for_ever(self) -> bool:
        if self._polls_in_vain < _POLLS_IN_VAIN_MAX or self._agenda:
            return False
        steps = self.state.steps.values()
        ends = [
            instant
            for step in steps
            for instant in (step.retry_at, step.pending_until)
            if instant is not None
        ]
        if self.state.deadline_at is not None and self.state.status is SagaStatus.RUNNING:
            ends.append(self.state.deadline_at)
        return not any(instant > self.now for instant in ends)

    def move(self) -> Decision | None:
        """Skips to the next thing that happens by itself and lets it happen. None when there was nothing to decide."""
        at = self.next_at()
        assert at is not None, "nothing more happens by itself"
        self.now = max(self.now, at)
        if self._agenda and self._agenda[0][0] <= at:
            _, _, due = heapq.heappop(self._agenda)
            return self._end(due) if isinstance(due, Call) else self._decide(due)
        self._timer = None
        return self._decide(TimerFired())

    def run(self, until: float | None = None) -> None:
        """Lets everything happen that happens by itself. If `until` is given, it stops at that instant, and the time is then
        `until`.
        """
        while (at := self.next_at()) is not None and (until is None or at <= until):
            self.move()
        if until is not None:
            self.now = max(self.now, until)

    def _end(self, call: Call) -> Decision | None:
        if call.is_lost:
            return None
        invoke = call.invoke
        call.is_over = True
        assert call.told is not None
        return self._decide(AttemptEnded(invoke.step, invoke.operation, invoke.attempt, call.told))

    def _decide(self, given: Input) -> Decision:
        self._decisions += 1
        if self._decisions > DECISIONS_MAX:
            raise EndlessRehearsal(
                f"the saga had taken {DECISIONS_MAX} decisions and was not over; is a number of attempts or passes meant so?"
            )
        match given:
            case OwnershipGained(previous_owner=str()):
                self._lose_calls()
            case OutcomeReported(step, operation, outcome):
                self.reports.append(Report(self.now, step, operation, outcome))
            case _:
                pass
        decision = decide(self.definition, self._state, given, self.now, _JITTER)
        self._state = decision.state
        self.log += decision.entries
        self._timer = None
        if decision.entries and not all(isinstance(entry, AttemptPending) for entry in decision.entries):
            self._polls_in_vain = 0
        self._perform(decision)
        return decision

    def _perform(self, decision: Decision) -> None:
        for effect in decision.effects:
            match effect:
                case Invoke():
                    self._call(effect)
                case SetTimer(due_at):
                    self._timer = due_at
                case LookForEvent(event=name, correlation=correlation):
                    self._deliver(name, correlation)
                case GoOn():
                    self._schedule([Soon(0.0, TimerFired())])
                case _:
                    pass
        for entry in decision.entries:
            if isinstance(entry, WaitStarted):
                self._schedule(self.surroundings.await_outside(entry, self.now))

    def _lose_calls(self) -> None:
        """Plays a crash of the coordinator: nobody hears the answers to its calls, and they may be in flight until their time
        is up.
        """
        for call in self.calls:
            if not call.is_over:
                call.is_over = True
                call.is_lost, call.told = True, None
                call.ended_at = call.started_at + call.invoke.timeout_seconds

    def _call(self, invoke: Invoke) -> None:
        self._polls_in_vain += invoke.is_poll
        reply = self.surroundings.answer(invoke, self.now)
        seconds, outcome = reply.after_seconds, reply.outcome
        if outcome is not None and seconds > invoke.timeout_seconds:
            seconds = invoke.timeout_seconds
            outcome = Unknown(Cause("DEADLINE_EXCEEDED", f"no answer within {seconds:g} s"))
        if outcome is None:
            seconds = invoke.timeout_seconds
        call = Call(invoke, self.now, self.now + seconds, outcome, is_lost=outcome is None)
        self.calls.append(call)
        if outcome is not None:
            heapq.heappush(self._agenda, (call.ended_at, next(self._numbers), call))
        self._schedule(reply.later)

    def _schedule(self, later: Sequence[Soon]) -> None:
        for soon in later:
            heapq.heappush(self._agenda, (self.now + soon.after_seconds, next(self._numbers), soon.given))

    def _deliver(self, name: str, correlation: str) -> None:
        known = self.state.event_ids
        self._schedule(
            [
                Soon(0.0, event)
                for event, kept_until in self._published
                if (event.name, event.correlation) == (name, correlation)
                and event.event_id not in known
                and self.now < kept_until
            ]
        )


def heard(definition: Definition, call: Call) -> Outcome | None:
    """The outcome of a call by the definition's table of statuses; None if the coordinator did not hear the outcome."""
    step = definition.step(call.step)
    operation = step.operation(call.invoke.operation)
    return call.told and reclassified(call.told, operation.outcomes)


def is_stuck(rehearsal: Rehearsal) -> bool:
    """Tells whether the saga is not over and will never move unless something happens from outside."""
    return not rehearsal.is_settled and rehearsal.next_at() is None
