"""Those whom sagas wait for: systems that publish events, early, late and twice, and people who decide."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from proof.definitions import APPROVERS, EVENTS
from proof.simulation.database import SimulatedDatabase
from proof.simulation.history import Approval, Asking, History, Publication, Signal
from proof.simulation.loop import SimulatedLoop
from proof.simulation.workload import Clients
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.awaited import Published
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.saga.definition.model import Approval as ApprovalAction
from saga_coordinator.saga.machine.inputs import ApprovalDecided, Asked, EventArrived
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import AlreadyExists, NotPossibleNow, Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.records import Event

_LOOKS_EVERY_SECONDS = 2.0
_PATIENCES = (0.2, 1.0, 3.0, 10.0, 45.0)
"""How long somebody may leave a saga waiting, in seconds; then again and again until it has what it waits for."""
_AGAIN_SECONDS = 15.0


@dataclass(slots=True)
class _Wait:
    """A step that waits, and when somebody will do something about it."""

    event: str | None
    correlation: str | None
    act_at: float


@dataclass(slots=True)
class _Seen:
    """What is known of a saga's log up to `length`."""

    length: int = 0
    waits: dict[str, _Wait] = field(default_factory=dict)


class Visitors:
    """`asking` counts with that of the clients, whose way of asking they share."""

    def __init__(
        self,
        loop: SimulatedLoop,
        dice: random.Random,
        database: SimulatedDatabase,
        history: History,
        clients: Clients,
    ) -> None:
        self._loop = loop
        self._dice = dice
        self._database = database
        self._history = history
        self._clients = clients
        self._seen: dict[str, _Seen] = {}
        self._events = 0
        loop.later(_LOOKS_EVERY_SECONDS, self._look_around)

    # Of their own accord.

    def come(self, order: str, at: float) -> None:
        """Events about an order, around the time `at` when its saga starts."""
        dice = self._dice
        for name in EVENTS:
            for _ in range(dice.choice((0, 0, 1, 1, 3))):
                delay = max(0.0, at + dice.uniform(-2, 6))
                self._clients.asking += 1
                self._loop.later(delay, self._publish_later, name, order)

    def _publish_later(self, name: str, correlation: str) -> None:
        self._clients.asking -= 1
        self._publish_new(name, correlation)

    def _publish_new(self, name: str, correlation: str) -> None:
        self._events += 1
        content = (name, correlation, {"number": self._events})
        keep_seconds = self._dice.choice((None, None, None, 0.0, 2.0, 20.0))
        publication = Publication(f"event-{self._events}", content, keep_seconds)
        self._history.published[publication.event_id] = publication
        self._publish(publication)
        if self._dice.random() < 0.2:
            self._history.faults["event_repeated"] += 1
            self._clients.asking += 1
            self._loop.later(8 * self._dice.random() ** 2, self._publish_again, publication)

    def _publish_again(self, publication: Publication) -> None:
        self._clients.asking -= 1
        self._publish(publication)

    def _publish(self, publication: Publication) -> None:
        name, correlation, payload = publication.content
        event = Event(publication.event_id, name, correlation, payload, publication.keep_seconds)
        asking = Asking(self._loop.now)
        publication.askings.append(asking)
        is_patient = self._dice.random() < 0.9

        def answered(answer: Any) -> bool:
            match answer:
                case Published(sagas=sagas):
                    asking.sagas = sagas
                    asking.answered_at = self._loop.now
                    asking.is_over = True
                    self._maybe_contradict(publication)
                case Unavailable() | None:
                    return is_patient
                case _:
                    self._clients.surprise("publish", answer)
            return False

        async def ask(coordinator: Coordinator) -> Published:
            return await coordinator.publish(DEFAULT_NAMESPACE, event)

        self._clients.ask(ask, answered, patience=25.0)

    def _maybe_contradict(self, publication: Publication) -> None:
        """Says something else under an identity that was used before: that must be refused."""
        if self._dice.random() > 0.03:
            return
        self._history.faults["event_contradicted"] += 1
        name, correlation, _ = publication.content
        event = Event(publication.event_id, name, correlation, {"number": -1})

        def answered(answer: Any) -> bool:
            if not isinstance(answer, AlreadyExists | Unavailable | None):
                self._clients.surprise("publish", answer)
            return False

        async def ask(coordinator: Coordinator) -> Published:
            return await coordinator.publish(DEFAULT_NAMESPACE, event)

        self._clients.ask(ask, answered)

    # Where somebody is waited for.

    def _look_around(self) -> None:
        database, now = self._database, self._loop.now
        for saga_id, row in database.sagas.items():
            seen = self._seen.setdefault(saga_id, _Seen())
            log = database.logs[saga_id]
            for entry in log[seen.length :]:
                if entry.type == "wait_started":
                    body = entry.stored().body
                    act_at = now + self._dice.choice(_PATIENCES)
                    seen.waits[entry.step or ""] = _Wait(body.get("event"), body.get("correlation"), act_at)
                elif entry.operation == "action" and entry.type in ("attempt_succeeded", "attempt_refused"):
                    seen.waits.pop(entry.step or "", None)
            seen.length = len(log)
            if row.status is not SagaStatus.RUNNING:
                continue  # a parked saga may go on, and then waits as before
            for step, wait in seen.waits.items():
                if wait.act_at <= now:
                    wait.act_at = now + _AGAIN_SECONDS
                    self._visit(saga_id, row.definition, step, wait)
        self._loop.later(_LOOKS_EVERY_SECONDS, self._look_around)

    def _visit(self, saga_id: str, definition: str, step: str, wait: _Wait) -> None:
        action = self._database.definitions[definition].definition.step(step).action
        if isinstance(action, ApprovalAction):
            for _ in range(self._dice.choice((1, 1, 1, 2))):
                self._decide(saga_id, step)
        elif wait.event is not None:
            if wait.correlation is not None and self._dice.random() < 0.6:
                self._publish_new(wait.event, wait.correlation)
            else:
                self._signal(saga_id, wait.event, wait.correlation)

    def _signal(self, saga_id: str, name: str, correlation: str | None) -> None:
        self._events += 1
        if correlation is None or self._dice.random() < 0.5:
            correlation = ""
        content = (name, correlation, {"number": self._events})
        for _ in range(self._dice.choice((1, 1, 1, 2))):
            signal = Signal(f"signal-{self._events}", content, self._loop.now)
            self._history.signals.setdefault(saga_id, []).append(signal)
            self._tell(saga_id, signal)

    def _tell(self, saga_id: str, signal: Signal) -> None:
        event = EventArrived(signal.event_id, *signal.content)
        self._ask_of(signal, "signal", saga_id, event)

    def _decide(self, saga_id: str, step: str) -> None:
        dice = self._dice
        by = "eve" if dice.random() < 0.15 else dice.choice(APPROVERS)
        approval = Approval(step, by, dice.random() < 0.75, self._loop.now)
        self._history.approvals.setdefault(saga_id, []).append(approval)
        self._history.faults["approved" if approval.is_approved else "rejected"] += 1
        self._ask_of(
            approval,
            "decide_approval",
            saga_id,
            ApprovalDecided(step, approval.is_approved, by, "so be it"),
        )

    def _ask_of(self, said: Signal | Approval, what: str, saga_id: str, asked: Asked) -> None:
        def answered(answer: Any) -> bool:
            match answer:
                case Answered():
                    said.answer = answer.is_applied
                case NotPossibleNow():
                    said.is_refused = True
                case Unavailable() | None:
                    return True
                case _:
                    self._clients.surprise(what, answer)
            said.answered_at = self._loop.now
            return False

        self._clients.ask(lambda coordinator: coordinator.ask(saga_id, asked), answered, patience=25.0)
