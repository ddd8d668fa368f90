"""The gates before all participants: each attempt passes that of its participant, or is held there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import structlog

from saga_coordinator.participants.calls.breaker import BreakerState, Forced
from saga_coordinator.participants.calls.bulkhead import (
    QUEUE_SECONDS,
    Bulkhead,
    BulkheadStatus,
    Permit,
)
from saga_coordinator.participants.calls.queue import Waiting
from saga_coordinator.participants.calls.record import failure_of
from saga_coordinator.participants.calls.room_news import RoomNews
from saga_coordinator.participants.calls.spell import Spell
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.limits import ParticipantLimits
from saga_coordinator.saga.machine.effects import Invoke, LookForRoom
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Held, Outcome, Pending, Refused, Succeeded, Unknown

Attempt = Callable[[Invoke], Awaitable[Outcome]]
_Operation = tuple[str, str, OperationKind]

KEPT_SECONDS = 5.0
"""How long room that was found for a held attempt is kept for it: until its start is committed, unless the database is slow."""

_SHOWN_CHARACTERS_MAX = 300

_log = structlog.get_logger(__name__)


class Gate:
    """The gate of one participant: its bulkhead, with a clock, and a future for each queued call."""

    def __init__(self, name: str, limits: ParticipantLimits, on_room: Callable[[str], None]) -> None:
        self._name = name
        self._on_room = on_room
        self._answers: dict[Waiting, asyncio.Future[Permit | Held]] = {}
        self._kept: dict[_Operation, tuple[Permit, asyncio.TimerHandle]] = {}
        self._loop = asyncio.get_running_loop()
        self._bulkhead = Bulkhead(name, limits, random.random)
        self._alarm: asyncio.TimerHandle | None = None
        self._state = BreakerState.CLOSED
        self._spell = Spell()

    async def pass_through(self, call: Invoke, attempt: Attempt) -> Outcome:
        """Makes the attempt as soon as it may be made, and ends it `call.timeout_seconds` from now. Returns Held without room."""
        now = self._loop.time()
        patience = min(QUEUE_SECONDS, call.timeout_seconds / 4)
        is_compensation = call.operation is OperationKind.COMPENSATION
        answer: Permit | Waiting | Held
        if kept := self._take_kept((call.saga_id, call.step, call.operation)):
            kept.began_at = now
            # Meanwhile the participant may have been given a rest.
            answer = self._not_made(kept) if self._bulkhead.state is BreakerState.OPEN else kept
        else:
            answer = self._bulkhead.ask(now, patience, is_compensation=is_compensation)
        if isinstance(answer, Waiting):
            answer = await self._wait(answer, patience)
            # The saga counts from when the attempt began, so the call has only the time that the wait left (P4).
            left = call.timeout_seconds - (self._loop.time() - now)
            if isinstance(answer, Permit) and left < call.timeout_seconds / 2:
                # The process stood still, so another coordinator may drive the saga by now.
                answer = self._not_made(answer)
            call = replace(call, timeout_seconds=left)
        if isinstance(answer, Held):
            return answer
        outcome: Outcome | None = None
        try:
            outcome = await attempt(call)
        finally:
            self._bulkhead.ended(answer, outcome, self._loop.time())
            self._look()
        self._tell_spell(outcome)
        return outcome

    def keep_room(self, wanted: LookForRoom) -> Held | None:
        """Keeps a place for an attempt that was held; returns Held if there is no place yet."""
        self.give_room_back(wanted)
        now = self._loop.time()
        is_compensation = wanted.operation is OperationKind.COMPENSATION
        answer = self._bulkhead.ask(now, 0.0, is_compensation=is_compensation)
        if isinstance(answer, Waiting):
            self._bulkhead.withdraw(answer)
            answer = self._bulkhead.hold(now)
        if isinstance(answer, Held):
            return answer
        alarm = self._loop.call_later(KEPT_SECONDS, self.give_room_back, wanted)
        self._kept[wanted.saga_id, wanted.step, wanted.operation] = answer, alarm
        return None

    def give_room_back(self, wanted: LookForRoom) -> None:
        """Frees the place that was kept for an attempt; does nothing if no place is kept."""
        permit = self._take_kept((wanted.saga_id, wanted.step, wanted.operation))
        if permit is not None:
            self._bulkhead.ended(permit, None, self._loop.time())
            self._look()

    def _take_kept(self, operation: _Operation) -> Permit | None:
        permit, alarm = self._kept.pop(operation, (None, None))
        if alarm is not None:
            alarm.cancel()
        return permit

    def change(self, limits: ParticipantLimits, *, is_moved: bool) -> None:
        """Uses other limits from now on."""
        self._bulkhead.change(limits, is_moved=is_moved)
        self._look()

    def force(self, forced: Forced) -> None:
        """Forces the breaker as an operator wants it."""
        self._bulkhead.force(forced, self._loop.time())
        self._look()

    def status(self) -> BulkheadStatus:
        return self._bulkhead.status(self._loop.time())

    async def _wait(self, waiting: Waiting, patience_seconds: float) -> Permit | Held:
        answer: asyncio.Future[Permit | Held] = self._loop.create_future()
        self._answers[waiting] = answer
        alarm = self._loop.call_later(patience_seconds, self._hold, waiting)
        self._look()
        try:
            return await answer
        except asyncio.CancelledError:
            self._bulkhead.withdraw(waiting)
            if not answer.cancelled() and answer.done() and isinstance(permit := answer.result(), Permit):
                self._bulkhead.ended(permit, None, self._loop.time())
                self._look()
            raise
        finally:
            alarm.cancel()
            self._answers.pop(waiting, None)

    def _answer(self, waiting: Waiting, result: Permit | Held) -> None:
        """Tells a queued call what its turn has brought."""
        answer = self._answers.pop(waiting, None)
        if answer is not None and not answer.done():
            answer.set_result(result)
        elif isinstance(result, Permit):  # the call has been cancelled at this very moment
            self._bulkhead.ended(result, None, self._loop.time())

    def _not_made(self, permit: Permit) -> Held:
        """Gives back a permit that came too late to be used."""
        now = self._loop.time()
        self._bulkhead.ended(permit, None, now)
        self._look()
        return self._bulkhead.hold(now)

    def _hold(self, waiting: Waiting) -> None:
        if waiting.is_open:
            self._bulkhead.withdraw(waiting)
            self._answer(waiting, self._bulkhead.hold(self._loop.time()))

    def _look(self) -> None:
        """Admits or holds each queued call whose turn has come, and sets the alarm for the next turn."""
        now = self._loop.time()
        for waiting, answer in self._bulkhead.turns(now):
            self._answer(waiting, answer)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        seconds = self._bulkhead.next_turn_seconds(now)
        if seconds is not None:
            self._alarm = self._loop.call_later(seconds, self._look)
        if self._bulkhead.state is not self._state:
            self._state = self._bulkhead.state
            self._tell()
            if self._state is not BreakerState.OPEN:
                self._on_room(self._name)

    def _tell_spell(self, outcome: Outcome) -> None:
        """Logs one line when the participant begins to fail, and one when it is well again."""
        now = self._loop.time()
        match outcome:
            case Held():
                return
            case Unknown():
                cause = failure_of(outcome)
                if cause is not None and (failing := self._spell.failed(now)) is not None:
                    _log.warning(
                        "participant_failing",
                        participant=self._name,
                        attempts=failing.attempts,
                        seconds=round(failing.seconds, 3),
                        code=cause.code,
                        message=cause.message[:_SHOWN_CHARACTERS_MAX],
                    )
            case Succeeded() | Refused() | Pending():
                if (recovered := self._spell.answered(now)) is not None:
                    _log.info(
                        "participant_recovered",
                        participant=self._name,
                        attempts=recovered.attempts,
                        seconds=round(recovered.seconds, 3),
                    )

    def _tell(self) -> None:
        status = self.status()
        level = _log.info if self._state is BreakerState.CLOSED else _log.warning
        level(
            "breaker_changed",
            participant=self._name,
            state=self._state.value,
            is_forced=status.forced is not Forced.AUTOMATIC,
            rest_seconds=round(status.rest_left_seconds, 3),
            last_failure=status.last_failure.code if status.last_failure else "",
        )


class Gates:
    """The gates of all participants that have been called. Used from one event loop."""

    def __init__(self, directory: Directory, news: RoomNews) -> None:
        """Tells `news` of each participant whose breaker has stopped being open."""
        self._directory = directory
        self._news = news
        self._gates: dict[str, Gate] = {}
        self._forced: dict[str, Forced] = {}

    def of(self, name: str) -> Gate | None:
        """The gate of a participant; None where the directory knows none."""
        return self._gates.get(name) or self._build(name)

    def replace(self, directory: Directory) -> None:
        """Uses the limits in `directory` from now on. Forgets absent participants, whose calls in flight end by themselves."""
        before, self._directory = self._directory, directory
        for name in tuple(self._gates):
            self._refit(name, before)

    def change(self, directory: Directory, name: str) -> None:
        """Does what `replace` does, for a `directory` that differs in that participant only."""
        before, self._directory = self._directory, directory
        if name in self._gates:
            self._refit(name, before)

    def _refit(self, name: str, before: Directory) -> None:
        was, participant = before.get(name), self._directory.get(name)
        if participant is None:
            del self._gates[name]
            return
        is_moved = was is None or _address(was) != _address(participant)
        self._gates[name].change(participant.limits, is_moved=is_moved)

    def force(self, forced: Mapping[str, Forced]) -> None:
        """Applies what operators have decided. A participant that is not named has no decision."""
        for name in sorted({*self._forced, *forced}):
            if (gate := self._gates.get(name)) is not None:
                gate.force(forced.get(name, Forced.AUTOMATIC))
        self._forced = dict(forced)

    def _build(self, name: str) -> Gate | None:
        participant = self._directory.get(name)
        if participant is None:
            return None
        gate = self._gates[name] = Gate(name, participant.limits, self._news.tell)
        if (forced := self._forced.get(name)) is not None:
            gate.force(forced)
        return gate


def _address(participant: Participant) -> tuple[object, ...]:
    return participant.target, participant.tls, participant.is_worker
