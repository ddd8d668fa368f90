"""A small world for one saga: a shell that does what decisions ask for, the network to participants, and virtual time.

It drives the real core the way the engine does (decide, commit, act) and shares no code with either. Chance decides the rest:
calls are slow, answers are lost, events come early, late or never, and the coordinator crashes and is cancelled.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from proof.core.foreseen import Foreseen
from proof.core.habits import Habits
from proof.core.participants import Participants
from proof.definitions import APPROVERS
from proof.plan import Instance
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine import decide as core
from saga_coordinator.saga.machine.effects import (
    Decision,
    Finish,
    GoOn,
    Invoke,
    LookForEvent,
    LookForRoom,
    SetTimer,
)
from saga_coordinator.saga.machine.entries import Entry, WaitStarted
from saga_coordinator.saga.machine.inputs import (
    ApprovalDecided,
    AttemptEnded,
    CancelAsked,
    EventArrived,
    HeartbeatReceived,
    Input,
    OutcomeReported,
    OwnershipGained,
    RecallAsked,
    RoomFound,
    StartRequested,
    TimerFired,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome, Succeeded, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
BEGIN = 1_000.0
MADE_UP = {"ref": "made up"}
"""The output of what was never called."""
DECISIONS_MAX = 3000
"""More than any finite story needs: reached only by a loop."""


@dataclass(eq=False)
class Call:
    """One attempt as the network sees it. `ends_at` is when the caller stops waiting, whatever the participant does."""

    invoke: Invoke
    started_at: float
    ends_at: float
    answer: Outcome
    is_lost: bool = False
    """The coordinator that made it has crashed: it may still arrive, but nobody hears the answer."""


@dataclass
class Witness:
    """Is told everything that can be seen from outside the core; raises when it sees what must not be."""

    def decided(
        self, before: SagaState | None, happened: Input, decision: Decision, *, may_call: bool
    ) -> None: ...

    def called(self, call: Call) -> None: ...


@dataclass
class World:
    random: Random
    source: dict[str, Any]
    given: dict[str, Any]
    witness: Witness
    now: float = BEGIN
    state: SagaState | None = None
    log: list[Entry] = field(default_factory=list)
    open_calls: set[Call] = field(default_factory=set)
    timer_at: float | None = None
    is_down: bool = False
    crashes: int = 0
    decisions: int = 0
    flaps: float = 0.0
    """How likely a coordinator that makes a call is lost with it, whatever the habits are."""

    def __post_init__(self) -> None:
        self.definition = parse_definition(self.source)
        self.habits = Habits.draw(self.random)
        self.foreseen = Foreseen(self.source, self.given)
        self.participants = Participants(
            self.foreseen.calls, self.random, self.habits, self.later, self._deliver
        )
        self.looking: dict[tuple[str, OperationKind], LookForRoom] = {}
        self._published: list[EventArrived] = []
        self._events = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = 0
        self._down_reports: list[Input] = []

    # Time.

    def at(self, instant: float, act: Callable[[], None]) -> None:
        self._ticket += 1
        heapq.heappush(self._queue, (instant, self._ticket, act))

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

    def run(self) -> None:
        """Plays the whole story, and then lets everything that is still under way arrive."""
        if self.random.random() < self.habits.cancel:
            self.at(BEGIN + self.random.uniform(0, 15), self.cancel)
        self._plan_events()
        seconds = self.random.choice([None, None, None, 2.0, 12.0])
        recalled_for = Cause("PARENT_FAILED", "too late") if self.random.random() < 0.01 else None
        self.decide(StartRequested("saga", 1, self.given, {}, seconds, recalled_for=recalled_for))
        for _ in range(self.random.choice([0, 0, 1, 3])):
            self.at(BEGIN + self.random.uniform(0, 40), self.bother)
        if self.random.random() < 0.3:
            self.at(BEGIN + self.random.uniform(0, 60), self.recall)
        while self._queue:
            self.now, _, act = heapq.heappop(self._queue)
            act()
        assert self.state is not None
        assert self.state.status in SETTLED, f"stuck: {self.state}"

    # The shell.

    def decide(self, happened: Input, *, may_call: bool = True) -> None:
        self.decisions += 1
        assert self.decisions <= DECISIONS_MAX, f"does not come to an end: {self.state}"
        match happened:
            case AttemptEnded(step, operation=OperationKind.ACTION, outcome=Succeeded()):
                self.participants.told_success.add(step)
            case OutcomeReported(step, OperationKind.ACTION, Succeeded(output)) if output != MADE_UP:
                self.participants.told_success.add(step)
            case _:
                pass
        before, jitter = self.state, self.random.choice([0.0, 0.5, self.random.random()])
        decision = core.decide(self.definition, before, happened, self.now, jitter, may_call=may_call)
        if self.decisions % 8 == 0:
            frozen = before and copy.deepcopy(replace(before))  # without what was worked out from it
            again = core.decide(self.definition, before, happened, self.now, jitter, may_call=may_call)
            assert again == decision, "the same arguments lead to another decision"
            assert before == frozen, "decide has changed its arguments"
        self.log += decision.entries
        self.state = decision.state
        self.witness.decided(before, happened, decision, may_call=may_call)
        self._act(decision)
        if not may_call and decision.state.status not in SETTLED:
            self.later(0.1, lambda: None if self.is_down else self.decide(TimerFired()))
        elif self.flaps and any(isinstance(effect, Invoke) for effect in decision.effects):
            if self.random.random() < self.flaps:
                self.at(self.now, self.crash)
        elif self.random.random() < self.habits.crash / 4 and self.crashes < 3 and not self.is_down:
            self.later(self.random.choice([0.0, self.random.uniform(0, 3)]), self.crash)

    def _act(self, decision: Decision) -> None:
        self.timer_at = None
        for effect in decision.effects:
            match effect:
                case Invoke():
                    self._invoke(effect)
                case SetTimer(due_at):
                    assert due_at > self.now, "a timer for what is due already fires forever"
                    self.timer_at = due_at
                    slack = self.random.choice([0.0, 0.0, self.random.uniform(0, 2)])
                    self.at(due_at + slack, lambda: self._fire(due_at))
                case LookForEvent(_, name, correlation):
                    self.later(
                        self.random.choice([0.0, self.random.uniform(0, 2)]),
                        lambda: self._look(name, correlation),
                    )
                case GoOn():
                    self.at(self.now, self._go_on)
                case LookForRoom():
                    self._look_for_room(effect)
                case Finish():
                    pass
        for entry in decision.entries:
            if isinstance(entry, WaitStarted):
                self._begin_wait(self.foreseen.leaves[entry.step])

    def _go_on(self) -> None:
        if not self.is_down:
            self.decide(TimerFired(), may_call=self.random.random() > 0.05)

    def _fire(self, due_at: float) -> None:
        if self.timer_at == due_at and not self.is_down:
            self.decide(TimerFired(), may_call=self.random.random() > 0.05)

    def crash(self) -> None:
        """The coordinator dies: its calls go on without it, its timers do not. Another one takes over, later."""
        if self.is_down:
            return
        self.is_down, self.timer_at = True, None
        self.looking.clear()
        self.crashes += 1
        for call in self.open_calls:
            call.is_lost = True
        self.open_calls.clear()
        self.later(self.random.choice([0.0, self.random.uniform(0, 8)]), self._adopt)

    def _adopt(self) -> None:
        self.is_down = False
        self.decide(OwnershipGained(f"coordinator-{self.crashes}"), may_call=self.random.random() > 0.1)
        for report in self._down_reports:
            self.decide(report)
        self._down_reports.clear()

    def cancel(self) -> None:
        if self.is_down:
            self.later(1, self.cancel)
        else:
            self.decide(CancelAsked("changed my mind", "anna"))

    def bother(self) -> None:
        """Something that nobody asked for, at any time, also after the end."""
        if self.is_down:
            return
        step = self.random.choice([*self.foreseen.leaves, "nowhere"])
        kind = self.random.choice([ACTION, COMPENSATION])
        choices: list[Input] = [
            TimerFired(),
            RoomFound(step, kind),
            CancelAsked("by mistake"),
            EventArrived("made up", self.random.choice(["paid", "stolen"]), "elsewhere"),
            ApprovalDecided(step, self.random.random() < 0.5, "mallory"),
            HeartbeatReceived(step, kind),
        ]
        if not self.state or not self.state.step(step).attempts(kind):
            choices.append(OutcomeReported(step, kind, Succeeded(MADE_UP)))
        self.decide(self.random.choice(choices))

    def recall(self) -> None:
        """The saga that this one is a step of has failed."""
        if self.is_down:
            self.later(1, self.recall)
        else:
            self.decide(RecallAsked(Cause("PARENT_FAILED", "the parent turned")))

    # Events and people.

    def _plan_events(self) -> None:
        """One event for each wait, at any time, also before it begins; and some that are nobody's."""
        for leaf in self.foreseen.leaves.values():
            if "await_event" in leaf.spec:
                event = self._event(leaf)
                is_published = event.correlation != "" and self.random.random() < 0.5
                self.at(
                    BEGIN + self.random.uniform(0, 25),
                    lambda event=event, is_published=is_published: (  # type: ignore[misc]
                        self._publish(event) if is_published else self._deliver(event)
                    ),
                )
                if self.random.random() < 0.3:
                    other = EventArrived(f"other-{self._events}", event.name, "elsewhere", "not yours")
                    self.at(BEGIN + self.random.uniform(0, 25), lambda other=other: self._deliver(other))  # type: ignore[misc]

    def _event(self, leaf: Instance) -> EventArrived:
        self._events += 1
        correlation = self.foreseen.correlation(leaf.key) if self.random.random() < 0.7 else ""
        return EventArrived(
            f"event-{self._events}", leaf.spec["await_event"]["event"], correlation, {"id": self._events}
        )

    def _publish(self, event: EventArrived) -> None:
        """Kept for those that look for it; told to those that wait already."""
        self._published.append(event)
        assert self.state is not None
        waits = [step.wait for step in self.state.steps.values() if step.wait is not None and step.is_open]
        if any((wait.event, wait.correlation) == (event.name, event.correlation) for wait in waits):
            self._deliver(event)

    def _look_for_room(self, wanted: LookForRoom) -> None:
        """It is looked from then on, and there is room sooner or later."""
        operation = wanted.step, wanted.operation
        self.looking[operation] = wanted

        def look() -> None:
            if self.looking.get(operation) is not wanted:
                return
            if self.random.random() < 0.5:
                self.later(self.random.uniform(0, 4), look)
            else:
                del self.looking[operation]
                self.decide(RoomFound(*operation), may_call=self.random.random() > 0.03)

        self.at(max(self.now, wanted.due_at) + self.random.choice([0.0, self.random.uniform(0, 4)]), look)

    def _look(self, name: str, correlation: str) -> None:
        """The first one that the saga has not got yet; it looks again if more steps wait for the like of it."""
        for event in self._published:
            is_meant = (event.name, event.correlation) == (name, correlation)
            if is_meant and self.state and event.event_id not in self.state.event_ids:
                self._deliver(event)
                return

    def _begin_wait(self, leaf: Instance) -> None:
        if "await_event" in leaf.spec:
            self.later(self.random.uniform(10, 30), lambda: self._top_up(leaf))
        elif "approval" in leaf.spec:
            for _ in range(self.random.choice([1, 1, 2])):
                self.later(self.random.uniform(0, 12), lambda: self._decide_approval(leaf))
            self.later(
                self.random.uniform(0, 12),
                lambda: (
                    self._deliver(ApprovalDecided(leaf.key, self.random.random() < 0.5, "mallory"))
                    if leaf.spec["approval"].get("approvers")
                    else None
                ),
            )

    def _decide_approval(self, leaf: Instance) -> None:
        is_approved = self.random.random() >= self.habits.refuse
        self._deliver(ApprovalDecided(leaf.key, is_approved, self.random.choice(APPROVERS)))

    def _top_up(self, leaf: Instance) -> None:
        """Sends what the wait needs if another one has taken its event."""
        assert self.state is not None
        if self.state.step(leaf.key).is_open:
            self._deliver(self._event(leaf))

    # Calls.

    def _invoke(self, invoke: Invoke) -> None:
        latency = self.random.uniform(0, 0.5)
        if self.random.random() < self.habits.slow:
            latency = self.random.uniform(0, 3 * invoke.timeout_seconds)
        arrives_at = self.now + latency * self.random.random()
        answered_at = self.now + latency
        deadline = self.now + invoke.timeout_seconds
        call = Call(invoke, self.now, min(answered_at, deadline), Unknown(Cause("DEADLINE_EXCEEDED", "slow")))
        self.open_calls.add(call)
        self.witness.called(call)
        is_heard = answered_at <= deadline
        chance = self.random.random()
        if not invoke.is_poll and self.random.random() < self.habits.hold:
            call.ends_at = self.now
            delay = self.random.choice([0.1, self.random.uniform(0, 3)])
            call.answer = Held(Cause("HELD", "no room"), delay, was_given=self.random.random() < 0.3)
        elif chance < self.habits.unknown / 2:
            # It never arrives; sometimes it is known that it was not even sent.
            was_sent = chance >= self.habits.unknown / 8
            call.answer = Unknown(Cause("UNAVAILABLE", "connection refused"), was_sent=was_sent)
        else:
            is_answer_lost = chance < self.habits.unknown
            self.at(arrives_at, lambda: self._arrive(call, is_heard=is_heard and not is_answer_lost))
        self.at(call.ends_at, lambda: self._end(call))

    def _end(self, call: Call) -> None:
        key = (call.invoke.step, call.invoke.operation, call.invoke.attempt)
        if not call.is_lost:
            self.open_calls.remove(call)
            self.decide(AttemptEnded(*key, call.answer), may_call=self.random.random() > 0.03)

    def _arrive(self, call: Call, *, is_heard: bool) -> None:
        answer = self.participants.work(call.invoke)
        if is_heard:
            call.answer = answer
        else:
            call.answer = Unknown(Cause("INTERNAL", "the answer was lost"))

    def _deliver(self, told: Input) -> None:
        if self.is_down:
            self._down_reports.append(told)
        else:
            self.decide(told, may_call=self.random.random() > 0.03)
