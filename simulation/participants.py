"""Services behind a network that loses, repeats, delays and reorders.

Guarded participants keep what `saga.v1.ParticipantService` asks for: one effect per key, nothing to undo is no error, and an
action that arrives after its compensation is refused. Unguarded ones answer anything, each time anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from saga_coordinator.saga.decide import Invoke
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import (
    Cause,
    Held,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    outcome_of_failure,
)
from simulation.database import SimulatedDatabase
from simulation.history import Call, Entry, History, Report
from simulation.loop import SimulatedLoop, node_of_context

GUARDED = ("ledger", "stock", "courier")
UNGUARDED = ("legacy", "oracle")
NAMES = frozenset(GUARDED + UNGUARDED)


@dataclass(slots=True)
class Weather:
    """How often things go wrong, as probabilities of one request."""

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
    refuses: float = 0.0
    refuses_to_undo: float = 0.0
    forgets: float = 0.0
    holds: float = 0.0


@dataclass(slots=True)
class Memory:
    """What a participant remembers of one idempotency key. `done_at` is set while the work is pending."""

    answer: Outcome | None = None
    done_at: float | None = None


@dataclass(slots=True)
class Participants:
    """All services. `tell` reports an outcome to the coordinators; `sick` are those that answer UNAVAILABLE, `mute` nothing."""

    loop: SimulatedLoop
    dice: random.Random
    database: SimulatedDatabase
    history: History
    weather: Weather
    tell: Callable[[Report], None]
    sick: set[str] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)
    on_sent: Callable[[str], None] = lambda node: None
    deliveries: int = 0
    """Requests and reports that are still on their way."""
    _memories: dict[str, Memory] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        return NAMES

    # The wire.

    async def invoke(self, invoke: Invoke) -> Outcome:
        node = node_of_context()
        if self._happens("holds"):
            self.history.held.add((invoke.saga_id, invoke.step, str(invoke.operation), invoke.attempt))
            return Held(Cause("RESOURCE_EXHAUSTED", "no room"), self.dice.choice((0.05, 0.5, 3.0)))
        answered: asyncio.Future[Outcome] = self.loop.create_future()
        call = self._sent(invoke, node.id)
        self.loop.later(invoke.timeout_seconds, self._time_out, answered)
        self._send(invoke, answered)
        self.on_sent(node.id)
        try:
            call.outcome = await answered
        except asyncio.CancelledError:
            call.was_cut_off = True
            raise
        finally:
            call.answered_at = self.loop.now
        return call.outcome

    def _sent(self, invoke: Invoke, node: str) -> Call:
        database = self.database
        intent_by, intent_at = None, 0.0
        for row in reversed(database.logs.get(invoke.saga_id, ())):
            if (row.type, row.step, row.operation, row.attempt) == (
                "attempt_started",
                invoke.step,
                invoke.operation,
                invoke.attempt,
            ):
                intent_by, intent_at = row.recorded_by, row.recorded_at
                break
        call = Call(
            invoke.saga_id,
            invoke.step,
            str(invoke.operation),
            invoke.attempt,
            invoke.idempotency_key,
            invoke.input,
            node,
            self.loop.now,
            invoke.timeout_seconds,
            database.leases.get(node, 0.0),
            intent_by,
            intent_at,
        )
        self.history.calls.setdefault((call.saga_id, call.step, call.operation), []).append(call)
        return call

    def _send(self, invoke: Invoke, answered: asyncio.Future[Outcome]) -> None:
        weather, draw, faults = self.weather, self.dice.random, self.history.faults
        delay = 0.0005 + 0.004 * draw()
        if draw() < weather.slow:
            faults["request_slow"] += 1
            delay += 2.5 * draw() * invoke.timeout_seconds
        fate = draw()
        if fate < weather.request_lost:
            faults["request_lost"] += 1
            return
        if (fate := fate - weather.request_lost) < weather.broken:
            faults["connection_broken"] += 1
            self.loop.later(delay, _answer, answered, outcome_of_failure("UNAVAILABLE", "connection reset"))
            if draw() < 0.5:
                return
        if (fate := fate - weather.broken) < weather.very_late:
            faults["request_very_late"] += 1
            delay += 30 * draw()
        self._deliver_in(delay, invoke, answered)
        if draw() < weather.repeated:
            faults["request_repeated"] += 1
            self._deliver_in(delay + 8 * draw() ** 3, invoke, None)

    def _deliver_in(self, delay: float, invoke: Invoke, answered: asyncio.Future[Outcome] | None) -> None:
        self.deliveries += 1
        self.loop.later(delay, self._deliver, invoke, answered)

    def _deliver(self, invoke: Invoke, answered: asyncio.Future[Outcome] | None) -> None:
        self.deliveries -= 1
        faults, draw = self.history.faults, self.dice.random
        if invoke.participant in self.mute:
            faults["participant_mute"] += 1
            return
        if invoke.participant in self.sick:
            faults["participant_sick"] += 1
            answer: Outcome = outcome_of_failure("UNAVAILABLE", "no backend is healthy")
        elif invoke.participant in GUARDED:
            answer = self._guarded(invoke)
        else:
            answer = self._unguarded(invoke)
        if answered is None:
            return
        if draw() < self.weather.reply_lost:
            faults["reply_lost"] += 1
            return
        self.loop.later(0.0005 + 0.002 * draw(), _answer, answered, answer)

    @staticmethod
    def _time_out(answered: asyncio.Future[Outcome]) -> None:
        if not answered.done():
            _answer(answered, outcome_of_failure("DEADLINE_EXCEEDED", "no answer in time"))

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
        if self._happens("fails_before"):
            return outcome_of_failure("INTERNAL", "a bug")
        if not is_action and entry.applied and self._may_forget(invoke):
            entry.lied = True
            memory.answer = outcome_of_failure("NOT_FOUND", "no such record")
            return memory.answer
        if self._happens("refuses" if is_action else "refuses_to_undo"):
            memory.answer = _refusal("the rules forbid it")
            return memory.answer
        if self._happens("pending"):
            return self._accept(invoke, memory, entry)
        memory.answer = self._do(invoke, entry)
        if self._happens("fails_after"):
            return outcome_of_failure("UNKNOWN", "a bug after the deed")
        return memory.answer

    def _may_forget(self, invoke: Invoke) -> bool:
        """A participant that lost its data says NOT_FOUND to undoing what the log knows to be done."""
        return any(
            row.step == invoke.step
            and row.operation == "action"
            and (row.type == "attempt_succeeded" or (row.type == "outcome_late" and b"SUCCEEDED" in row.body))
            for row in self.database.logs[invoke.saga_id]
        ) and self._happens("forgets")

    def _accept(self, invoke: Invoke, memory: Memory, entry: Entry) -> Outcome:
        draw = self.dice.random
        if self._happens("never_reported"):
            memory.done_at = float("inf")
            return Pending()
        delay = 0.02 * draw() if draw() < 0.3 else 12 * draw() ** 2
        memory.done_at = self.loop.now + delay
        self.deliveries += 1
        self.loop.later(delay, self._work, invoke, memory, entry)
        return Pending()

    def _work(self, invoke: Invoke, memory: Memory, entry: Entry) -> None:
        self.deliveries -= 1
        is_action = invoke.operation is OperationKind.ACTION
        if is_action and entry.is_tombstone:
            memory.answer = _refusal("compensated before it was done")
        elif is_action and self._happens("refuses"):
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

    def _happens(self, what: str) -> bool:
        rate: float = getattr(self.weather, what)
        if rate and self.dice.random() < rate:
            self.history.faults[what] += 1
            return True
        return False

    def _report(self, invoke: Invoke, outcome: Outcome) -> None:
        report = Report(invoke.saga_id, invoke.step, str(invoke.operation), outcome, self.loop.now)
        self.history.reports.setdefault((invoke.saga_id, invoke.step, str(invoke.operation)), []).append(
            report
        )
        self.tell(report)
        if self.dice.random() < 0.25:
            self.history.faults["report_repeated"] += 1
            self.deliveries += 1
            self.loop.later(10 * self.dice.random() ** 2, self._repeat, report)

    def _repeat(self, report: Report) -> None:
        self.deliveries -= 1
        self.tell(report)

    # Unguarded participants.

    def _unguarded(self, invoke: Invoke) -> Outcome:
        is_action = invoke.operation is OperationKind.ACTION
        if self._happens("fails_before") or self._happens("fails_after"):
            return outcome_of_failure("INTERNAL", "a bug")
        if self._happens("refuses" if is_action else "refuses_to_undo"):
            return _refusal("not now")
        if not is_action and self._happens("forgets"):
            return outcome_of_failure("NOT_FOUND", "never heard of it")
        outcome = Succeeded(output_of(invoke.saga_id, invoke.step) if is_action else None)
        if self._happens("pending"):
            if self._happens("never_reported"):
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


def _answer(answered: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answered.done():
        answered.set_result(outcome)


__all__ = ["GUARDED", "NAMES", "UNGUARDED", "Memory", "Participants", "Unknown", "Weather", "output_of"]
