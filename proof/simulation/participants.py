"""What services do once a request has reached them, over whatever way.

Guarded participants keep what `saga.v1.ParticipantService` asks for: one effect per key, nothing to undo is no error, and an
action that arrives after its compensation is refused. Unguarded ones answer anything, each time anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proof.simulation.database import SimulatedDatabase
from proof.simulation.directory import GUARDED
from proof.simulation.history import AttemptKey, Beat, Entry, History, Report
from proof.simulation.loop import SimulatedLoop
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    Cause,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    outcome_of_failure,
)

_BEATS_FOR_SECONDS = 40.0
GAVE_UP, STRAY = "GAVE_UP", "STRAY"
"""What is reported of an attempt that was accepted and then given up, and of one that somebody is mistaken about."""


@dataclass(slots=True)
class Weather:
    """How often things go wrong, as probabilities of one request or task."""

    request_lost: float = 0.0
    reply_lost: float = 0.0
    repeated: float = 0.0
    slow: float = 0.0
    very_late: float = 0.0
    broken: float = 0.0
    fails_before: float = 0.0
    fails_after: float = 0.0
    pending: float = 0.0
    never_reported: float = 0.0
    heart_stops: float = 0.0
    gives_up: float = 0.0
    misreported: float = 0.0
    refuses: float = 0.0
    refuses_to_undo: float = 0.0
    forgets: float = 0.0
    task_returned: float = 0.0
    task_slow: float = 0.0
    task_told_twice: float = 0.0
    task_made_up: float = 0.0
    forward_lost: float = 0.0


@dataclass(slots=True)
class Memory:
    """What a participant remembers of one idempotency key. `done_at` is set while the work is pending."""

    answer: Outcome | None = None
    done_at: float | None = None


@dataclass(slots=True)
class SimulatedParticipants:
    """All services. `tell` reports an outcome to the coordinators, `beat` a sign of life.

    `sick` are those that answer UNAVAILABLE, `mute` nothing.
    """

    loop: SimulatedLoop
    dice: random.Random
    database: SimulatedDatabase
    history: History
    weather: Weather
    tell: Callable[[Report], None]
    beat: Callable[[AttemptKey, Beat], None]
    sick: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    deliveries: int = 0
    """Requests, tasks and reports that are still on their way."""
    _memories: dict[str, Memory] = field(default_factory=dict)

    def perform(self, invoke: Invoke) -> Outcome:
        """A request or a task has arrived."""
        if invoke.participant in self.sick:
            self.history.faults["participant_sick"] += 1
            return outcome_of_failure("UNAVAILABLE", "no backend is healthy")
        if invoke.is_poll:
            return self._look_up(invoke)
        self.history.performed.add(attempt_of(invoke))
        return self._guarded(invoke) if invoke.participant in GUARDED else self._unguarded(invoke)

    def _look_up(self, invoke: Invoke) -> Outcome:
        """What became of an operation that was accepted before."""
        memory = self._memories.get(invoke.idempotency_key)
        if memory is None:
            return outcome_of_failure("NOT_FOUND", "nothing is known of that key")
        return Pending() if memory.answer is None else memory.answer

    # Guarded participants.

    def _guarded(self, invoke: Invoke) -> Outcome:
        memory = self._memories.setdefault(invoke.idempotency_key, Memory())
        if memory.answer is not None:
            return memory.answer
        if memory.done_at is not None:
            return Pending()
        is_action = invoke.operation is OperationKind.ACTION
        entry = self.history.books.setdefault((invoke.saga_id, invoke.step), Entry())
        if is_action and entry.is_tombstone:
            memory.answer = _refusal("the action was compensated before it arrived")
            return memory.answer
        if self.happens("fails_before"):
            return outcome_of_failure("INTERNAL", "a bug")
        if not is_action and entry.applied and self._may_forget(invoke):
            entry.lied = True
            memory.answer = outcome_of_failure("NOT_FOUND", "no such record")
            return memory.answer
        if self.happens("refuses" if is_action else "refuses_to_undo"):
            memory.answer = _refusal("the rules forbid it")
            return memory.answer
        if self.happens("pending"):
            return self._accept(invoke, memory, entry)
        memory.answer = self._do(invoke, entry)
        if self.happens("fails_after"):
            return outcome_of_failure("UNKNOWN", "a bug after the deed")
        return memory.answer

    def _may_forget(self, invoke: Invoke) -> bool:
        """A participant that lost its data says NOT_FOUND to undoing what the log knows to be done."""
        return any(
            row.step == invoke.step
            and row.operation == "action"
            and (
                row.type == "attempt_succeeded" or (row.type == "outcome_late" and b"SUCCEEDED" in row.facts)
            )
            for row in self.database.logs[invoke.saga_id]
        ) and self.happens("forgets")

    def _accept(self, invoke: Invoke, memory: Memory, entry: Entry) -> Outcome:
        draw = self.dice.random
        self._misreport(invoke)
        if self.happens("never_reported"):
            memory.done_at = float("inf")
            self._begin_to_beat(invoke, self.loop.now + _BEATS_FOR_SECONDS)
            return Pending()
        delay = 0.02 * draw() if draw() < 0.3 else 12 * draw() ** 2
        memory.done_at = self.loop.now + delay
        self._begin_to_beat(invoke, memory.done_at)
        if self.happens("gives_up"):
            self._report_in(
                0.1 + delay * draw(), invoke, Unknown(Cause(GAVE_UP, "somebody else will have to"))
            )
        self.deliveries += 1
        self.loop.later(delay, self._work, invoke, memory, entry)
        return Pending()

    def _work(self, invoke: Invoke, memory: Memory, entry: Entry) -> None:
        self.deliveries -= 1
        is_action = invoke.operation is OperationKind.ACTION
        if is_action and entry.is_tombstone:
            memory.answer = _refusal("compensated before it was done")
        elif is_action and self.happens("refuses"):
            memory.answer = _refusal("on reflection, no")
        else:
            memory.answer = self._do(invoke, entry)
        self._report(invoke, memory.answer)

    def _do(self, invoke: Invoke, entry: Entry) -> Outcome:
        if invoke.operation is OperationKind.ACTION:
            entry.applied += 1
            entry.applied_at = self.loop.now
            return Succeeded(output_of(invoke.saga_id, invoke.step))
        entry.undone_at = self.loop.now
        if entry.applied > entry.undone:
            entry.undone += 1
            return Succeeded(None)
        entry.is_tombstone = True
        if self.dice.random() < 0.5:
            return Succeeded(None)
        return outcome_of_failure("NOT_FOUND", "nothing to undo")

    def happens(self, what: str) -> bool:
        """Whether something goes wrong this time."""
        rate: float = getattr(self.weather, what)
        if rate and self.dice.random() < rate:
            self.history.faults[what] += 1
            return True
        return False

    # What comes later.

    def _begin_to_beat(self, invoke: Invoke, until: float) -> None:
        """Signs of life until the work is done, if the definition asks for any."""
        definition = self.database.definitions[self.database.sagas[invoke.saga_id].definition].definition
        timeout = definition.step(invoke.step).operation(invoke.operation).heartbeat_seconds
        if timeout is None:
            return
        if self.happens("heart_stops"):
            until = self.loop.now + timeout * self.dice.random()
        self.deliveries += 1
        self._beat_in(timeout * self.dice.uniform(0.1, 0.7), invoke, timeout, until)

    def _beat_in(self, delay: float, invoke: Invoke, timeout: float, until: float) -> None:
        if self.loop.now + delay > until:
            self.deliveries -= 1
        else:
            self.loop.later(delay, self._beat, invoke, timeout, until)

    def _beat(self, invoke: Invoke, timeout: float, until: float) -> None:
        beat = Beat(invoke.attempt, self.loop.now)
        place = (invoke.saga_id, invoke.step, str(invoke.operation))
        self.history.beats.setdefault(place, []).append(beat)
        self.history.met["heartbeat"] += 1
        self.beat(attempt_of(invoke), beat)
        self._beat_in(timeout * self.dice.uniform(0.3, 0.8), invoke, timeout, until)

    def _misreport(self, invoke: Invoke) -> None:
        """Somebody is mistaken about which attempt it was that they do not know the end of."""
        if self.happens("misreported"):
            attempt = max(1, invoke.attempt + self.dice.choice((-2, -1, 1, 2)))
            if attempt == invoke.attempt:
                attempt += 1
            outcome = Unknown(Cause(STRAY, "it is not known what became of it"))
            self._report_in(3 * self.dice.random(), invoke, outcome, attempt)

    def _report_in(self, delay: float, invoke: Invoke, outcome: Outcome, attempt: int | None = None) -> None:
        self.deliveries += 1
        self.loop.later(delay, self._deliver_report, invoke, outcome, attempt)

    def _deliver_report(self, invoke: Invoke, outcome: Outcome, attempt: int | None) -> None:
        self.deliveries -= 1
        self._report(invoke, outcome, invoke.attempt if attempt is None else attempt)

    def report(self, invoke: Invoke, outcome: Outcome) -> None:
        """Tells what became of it, by the token that came with it."""
        self._report(invoke, outcome, invoke.attempt)

    def _report(self, invoke: Invoke, outcome: Outcome, attempt: int | None = None) -> None:
        if attempt is None:
            attempt = invoke.attempt if self.dice.random() < 0.5 else 0
        report = self.told(invoke, outcome, attempt)
        self.tell(report)
        if self.dice.random() < 0.25:
            self.history.faults["report_repeated"] += 1
            self.deliveries += 1
            self.loop.later(10 * self.dice.random() ** 2, self._repeat, report)

    def told(self, invoke: Invoke, outcome: Outcome, attempt: int = 0) -> Report:
        """Takes down that an outcome is being told."""
        place = (invoke.saga_id, invoke.step, str(invoke.operation))
        report = Report(*place, outcome, self.loop.now, attempt)
        self.history.reports.setdefault(place, []).append(report)
        return report

    def _repeat(self, report: Report) -> None:
        self.deliveries -= 1
        self.tell(report)

    # Unguarded participants.

    def _unguarded(self, invoke: Invoke) -> Outcome:
        is_action = invoke.operation is OperationKind.ACTION
        if self.happens("fails_before") or self.happens("fails_after"):
            return outcome_of_failure("INTERNAL", "a bug")
        if self.happens("refuses" if is_action else "refuses_to_undo"):
            return _refusal("not now")
        if not is_action and self.happens("forgets"):
            return outcome_of_failure("NOT_FOUND", "never heard of it")
        outcome = Succeeded(output_of(invoke.saga_id, invoke.step) if is_action else None)
        if self.happens("pending"):
            if self.happens("never_reported"):
                return Pending()
            self.deliveries += 1
            later = _refusal("thought better of it") if self.dice.random() < 0.2 else outcome
            self.loop.later(8 * self.dice.random() ** 2, self._report_unguarded, invoke, later)
            return Pending()
        if is_action and self.dice.random() < self.weather.pending:  # out of the blue
            self.deliveries += 1
            later = _refusal("a contradiction") if self.dice.random() < 0.5 else outcome
            self.loop.later(4 * self.dice.random() ** 2, self._report_unguarded, invoke, later)
        return outcome

    def _report_unguarded(self, invoke: Invoke, outcome: Outcome) -> None:
        self.deliveries -= 1
        self._report(invoke, outcome)


def output_of(saga_id: str, step: str) -> dict[str, Any]:
    """What an action returns, whichever participant performs it."""
    return {"ref": f"{saga_id}:{step}", "items": [step]}


def _refusal(why: str) -> Refused:
    return Refused(Cause("FAILED_PRECONDITION", why))


def attempt_of(invoke: Invoke) -> AttemptKey:
    """Which attempt a call is."""
    return invoke.saga_id, invoke.step, str(invoke.operation), invoke.attempt
