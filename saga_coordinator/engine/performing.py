"""Performs effects: makes calls, sets timers, and asks questions on behalf of a saga.

The result of an effect is an input, which is posted back to the saga.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

import structlog

from saga_coordinator.engine.grace import give_time
from saga_coordinator.engine.held import HeldStep
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.pace import Pace
from saga_coordinator.engine.ports import Performers
from saga_coordinator.engine.runs import Run, Runs
from saga_coordinator.lifecycle import Background
from saga_coordinator.saga.definition.model import CHILD_PARTICIPANT
from saga_coordinator.saga.machine.effects import GoOn, Invoke, LookForEvent, LookForRoom, SetTimer
from saga_coordinator.saga.machine.inputs import AttemptEnded, Input, OutcomeReported, RoomFound, TimerFired
from saga_coordinator.saga.words.outcome import (
    Cause,
    Held,
    Outcome,
    Unknown,
    clip,
    is_decisive_status,
    is_end_of_child,
)

LOOKS_AT_ONCE = 256
"""The number of sagas that look for room at once when a participant may have some. Other sagas hardly notice so few."""

LOOK_AFTER_FAILURE_SECONDS = 5.0

Performed = Invoke | LookForEvent | LookForRoom | SetTimer | GoOn

_Question = Callable[[], Coroutine[Any, Any, Input | None]]

_log = structlog.get_logger(__name__)


class Mover(Protocol):
    """Takes the inputs that result from effects."""

    def post(self, run: Run, given: Input) -> None:
        """Advances the saga by an input soon, in a task of its own."""

    async def advance(self, run: Run, given: Input) -> None:
        """Advances the saga by an input, in the caller's task."""

    def give_up(self, run: Run, error: Exception) -> None:
        """Lets go of a saga that cannot go on here."""


class Performing:
    """Performs the effects of all sagas in memory."""

    def __init__(self, performers: Performers, runs: Runs, lease: Lease, mover: Mover) -> None:
        self._performers = performers
        self._runs = runs
        self._lease = lease
        self._mover = mover
        self._calls = Background()
        self._pace = Pace()

    def perform(self, run: Run, effect: Performed) -> None:
        """Begins an effect. Its result is posted to the saga."""
        match effect:
            case Invoke(is_poll=True):
                self._inquire(run, partial(self._poll, run, effect))
            case Invoke():
                self._pace.begin(partial(self._begin_call, run, effect))
            case LookForEvent():
                self._inquire(run, partial(self._look_for_event, run, effect))
            case LookForRoom():
                held = run.held.begin_look(effect.step)
                self._inquire(run, partial(self._look_for_room, run, held))
            case SetTimer(due_at):
                delay = max(0.0, due_at - self._lease.now())
                run.set_timer(
                    asyncio.get_running_loop().call_later(delay, self._mover.post, run, TimerFired())
                )
            case GoOn():
                run.set_timer(asyncio.get_running_loop().call_soon(self._mover.post, run, TimerFired()))

    def look_again(self, participant: str) -> None:
        """Makes the sagas in memory that wait for room at the participant look for it at once, because there may be some."""
        woken = 0
        for run in self._runs:
            if run.held.look_now(participant):
                self._mover.post(run, TimerFired())
                woken += 1
            if woken >= LOOKS_AT_ONCE:
                return

    async def finish(self, grace_seconds: float) -> None:
        """Gives calls in flight their time, then cuts off those that remain. Their outcomes are then unknown."""
        self._pace.begin_all()
        await give_time(self._calls_ended, grace_seconds, self._lease)
        await self._calls.stop(None)

    async def _calls_ended(self, seconds: float) -> bool:
        await self._calls.finish(seconds)
        return not len(self._calls)

    # Attempts.

    def _begin_call(self, run: Run, call: Invoke) -> None:
        self._calls.spawn("call", self._call(run, call))

    async def _call(self, run: Run, call: Invoke) -> None:
        """Makes one attempt, only while the lease lasts, and advances the saga by its outcome."""
        if not self._lease.may_act:
            await self._lease.wait_until_valid()
        step = run.state.step(call.step)
        is_awaited = (step.operation, step.attempt) == (call.operation, call.attempt) and step.is_in_flight
        # A report may have been faster, and what it settled may be undone by now (P4).
        if run.is_dropped or not is_awaited:
            return
        outcome = await self._invoke(call)
        if not run.is_dropped:
            await self._mover.advance(run, AttemptEnded(call.step, call.operation, call.attempt, outcome))

    async def _invoke(self, call: Invoke) -> Outcome:
        try:
            return await self._performers.invoke(call)
        except Exception as error:  # noqa: BLE001 - a defect; but without an outcome the saga would wait for ever
            _log.exception("call_failed", saga_id=call.saga_id, step=call.step, attempt=call.attempt)
            return Unknown(Cause("INTERNAL", clip(f"the call could not be made: {error!r}")))

    # Questions.

    def _inquire(self, run: Run, question: _Question) -> None:
        """Asks something on behalf of the saga, which stays in memory until it has heard the answer."""
        run.begin_inquiry()
        self._pace.begin(partial(self._begin_inquiry, run, question))

    def _begin_inquiry(self, run: Run, question: _Question) -> None:
        self._calls.spawn("inquiry", self._post_answer(run, question()))

    async def _post_answer(self, run: Run, question: Coroutine[Any, Any, Input | None]) -> None:
        try:
            answer = await question
        finally:
            run.end_inquiry()
        if not run.is_dropped:  # without an answer, the saga may at least be let go again
            self._mover.post(run, answer or TimerFired())

    async def _poll(self, run: Run, call: Invoke) -> Input | None:
        """Asks again about an operation that was accepted before. Only a decisive answer says anything new."""
        outcome = await self._invoke(call)
        is_child = call.participant == CHILD_PARTICIPANT
        is_told = is_end_of_child(outcome) if is_child else is_decisive_status(outcome)
        return OutcomeReported(call.step, call.operation, outcome, call.attempt) if is_told else None

    async def _look_for_event(self, run: Run, wanted: LookForEvent) -> Input | None:
        """Looks for an event that came before the saga began to wait for it."""
        try:
            return await self._performers.look_for_event(wanted)
        except Exception as error:  # noqa: BLE001 - left as it is, the saga would wait for what is there already
            _log.warning("event_not_looked_for", saga_id=run.saga_id, reason=str(error))
            self._mover.give_up(run, error)
            return None

    async def _look_for_room(self, run: Run, held: HeldStep) -> Input | None:
        """Asks whether the attempt of a held step may be made by now. If not, the step looks again later."""
        wanted = held.wanted
        try:
            answer = await self._performers.look_for_room(wanted)
        except Exception as error:  # noqa: BLE001 - a defect; but without an answer the saga would wait for ever
            _log.exception("room_not_looked_for", saga_id=run.saga_id, step=wanted.step)
            answer = Held(Cause("INTERNAL", clip(f"{error!r}")), LOOK_AFTER_FAILURE_SECONDS)
        look_again_at = None if answer is None else self._lease.now() + answer.delay_seconds
        is_current = run.held.end_look(held, look_again_at=look_again_at)
        return RoomFound(wanted.step, wanted.operation) if is_current and answer is None else None
