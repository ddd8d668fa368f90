"""The network to services that are called: it loses, repeats, delays and reorders. And a coordinator's room for participants.

The room is the one that serves (`participants.calls`), gates, bulkheads, breakers and workers included, but for the call itself.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proof.simulation.database import SimulatedDatabase
from proof.simulation.directory import WORKERS
from proof.simulation.history import AttemptKey, Call, History
from proof.simulation.loop import Node, SimulatedLoop, node_of_context
from proof.simulation.participants import SimulatedParticipants, attempt_of
from saga_coordinator.participants import attempts as calls
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.saga.machine.effects import Invoke, LookForRoom
from saga_coordinator.saga.words.outcome import Held, Outcome, is_decisive_status, outcome_of_failure

PAYLOAD_BYTES_MAX = 1 << 20
_MOMENT_SECONDS = 0.1
"""A call that had been let through goes on."""


@dataclass(slots=True)
class Wire:
    """All requests of all coordinators. `on_sent` is told which coordinator has just sent something."""

    loop: SimulatedLoop
    dice: random.Random
    database: SimulatedDatabase
    history: History
    participants: SimulatedParticipants
    on_sent: Callable[[str], None] = lambda node: None
    asked: dict[AttemptKey, tuple[Invoke, Call]] = field(default_factory=dict)
    """Attempts that an engine asked for, made or not."""
    questions: dict[AttemptKey, Invoke] = field(default_factory=dict)
    """The same of questions about pending attempts."""

    def ask(self, invoke: Invoke, node: str) -> Call:
        """Takes down that an engine has asked for an attempt."""
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
            0.0,
            invoke.timeout_seconds,
            database.leases.get(node, 0.0),
            intent_by,
            intent_at,
            asked_at=self.loop.now,
            over_by=self.loop.now + invoke.timeout_seconds,
        )
        key = attempt_of(invoke)
        if (
            key not in self.history.performed
        ):  # an attempt that was held is not over: it is made under the same number
            self.history.held.discard(key)
        self.asked[key] = (invoke, call)
        return call

    def sent(self, call: Call, timeout_seconds: float) -> None:
        """Takes down that an attempt is being made: a request, or a task, has left its coordinator."""
        call.sent_at = self.loop.now
        call.timeout_seconds = timeout_seconds
        made = self.history.calls.setdefault((call.saga_id, call.step, call.operation), [])
        if not any(
            each is call for each in made
        ):  # forwarded in vain, it is handed out by its own coordinator
            made.append(call)

    async def invoke(self, invoke: Invoke) -> Outcome:
        """Sends a request and waits for the answer, for as long as it may take."""
        answered: asyncio.Future[Outcome] = self.loop.create_future()
        if not invoke.is_poll:
            self.sent(self.asked[attempt_of(invoke)][1], invoke.timeout_seconds)
        self.loop.later(max(0.0, invoke.timeout_seconds), self._time_out, answered)
        self._send(invoke, answered)
        self.on_sent(node_of_context().id)
        return await answered

    def _send(self, invoke: Invoke, answered: asyncio.Future[Outcome]) -> None:
        weather, draw, faults = self.participants.weather, self.dice.random, self.history.faults
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
        self.participants.deliveries += 1
        self.loop.later(delay, self._deliver, invoke, answered)

    def _deliver(self, invoke: Invoke, answered: asyncio.Future[Outcome] | None) -> None:
        self.participants.deliveries -= 1
        faults, draw = self.history.faults, self.dice.random
        if invoke.participant in self.participants.mute:
            faults["participant_mute"] += 1
            return
        answer = self.participants.perform(invoke)
        if answered is None:
            return
        if draw() < self.participants.weather.reply_lost:
            faults["reply_lost"] += 1
            return
        self.loop.later(0.0005 + 0.002 * draw(), _answer, answered, answer)

    @staticmethod
    def _time_out(answered: asyncio.Future[Outcome]) -> None:
        if not answered.done():
            _answer(answered, outcome_of_failure("DEADLINE_EXCEEDED", "no answer in time"))


class Room(calls.Attempts):
    """A coordinator's, as shipped; only the way to those that are called is simulated."""

    def __init__(self, node: Node, directory: Directory, workers: Workers, wire: Wire) -> None:
        super().__init__(directory, payload_bytes_max=PAYLOAD_BYTES_MAX, workers=workers)
        self._node = node
        self._wire = wire
        self._limits: dict[str, float] = {}
        self._in_flight: Counter[str] = Counter()
        self._forbidden: dict[str, float] = {}
        """Who is not to be called, and since when."""
        self.replace(directory)

    def replace(self, directory: Directory) -> None:
        super().replace(directory)
        for name, participant in directory.participants.items():  # what was begun under wider limits goes on
            now = participant.limits.concurrency
            self._limits[name] = max(self._limits.get(name, 0.0), float("inf") if now is None else now)

    def force(self, forced: Mapping[str, Forced]) -> None:
        """As operators want the breakers."""
        self.gates.force(forced)
        now = self._wire.loop.now
        self._forbidden = {
            name: self._forbidden.get(name, now) for name, how in forced.items() if how is Forced.OPEN
        }

    async def invoke(self, call: Invoke) -> Outcome:
        if call.is_poll:
            return await self._inquire(call)
        wire = self._wire
        asked = wire.ask(call, self._node.id)
        try:
            outcome = await super().invoke(call)
        except asyncio.CancelledError:
            asked.was_cut_off = True
            raise
        finally:
            asked.answered_at = wire.loop.now
        if isinstance(outcome, Held):
            self._is_held(call, asked, outcome)
        else:
            asked.outcome = outcome
            asked.is_lost = self._is_lost(attempt_of(call))
        return outcome

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        held = await super().look_for_room(wanted)
        if held is None:
            place = (wanted.saga_id, wanted.step, str(wanted.operation))
            self._wire.history.rooms.setdefault(place, []).append(self._wire.loop.now)
        return held

    def _is_lost(self, attempt: AttemptKey) -> bool:
        history = self._wire.history
        handed = history.handed.get(attempt, ())
        return attempt not in history.answered and any(each.stream not in history.left for each in handed)

    async def _inquire(self, call: Invoke) -> Outcome:
        self._wire.history.met["asked_about_pending"] += 1
        self._wire.questions[attempt_of(call)] = call
        outcome = await super().invoke(call)
        if is_decisive_status(outcome):
            self._wire.participants.told(call, outcome)
        return outcome

    def _is_held(self, call: Invoke, asked: Call, held: Held) -> None:
        """It was not made; what a worker gave back was not begun, at least."""
        history = self._wire.history
        history.held.add(attempt_of(call))
        history.was_held.add(attempt_of(call))
        is_back = call.participant in WORKERS and held.cause.code == "UNAVAILABLE"
        history.met["held_for_a_worker" if is_back else f"held_{held.cause.code.lower()}"] += 1
        made = history.calls.get((call.saga_id, call.step, str(call.operation)), [])
        if asked in made and call.participant in WORKERS:
            made.remove(asked)

    async def _attempt(self, call: Invoke) -> Outcome:
        name, crowded = call.participant, self._wire.history.crowded
        self._in_flight[name] += 1
        if self._in_flight[name] > self._limits[name]:
            crowded.append((call.saga_id, f"{name} takes {self._limits[name]} calls, and got one more"))
        if self._forbidden.get(name, float("inf")) + _MOMENT_SECONDS < self._wire.loop.now:
            crowded.append((call.saga_id, f"{name} was called, and an operator had it left alone"))
        try:
            return await (super()._attempt(call) if name in WORKERS else self._wire.invoke(call))
        finally:
            self._in_flight[name] -= 1


def _answer(answered: asyncio.Future[Any], outcome: Outcome) -> None:
    if not answered.done():
        answered.set_result(outcome)
