"""Performs what was decided: calls participants, sets timers, lets go of sagas that sleep or have ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from saga_coordinator.engine.advance import ASKING, Advance, Advanced, Look, Run
from saga_coordinator.engine.grace import give_time
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.pace import Pace
from saga_coordinator.engine.ports import Caller
from saga_coordinator.engine.telling import Telling
from saga_coordinator.lifecycle import Background
from saga_coordinator.saga.definition.model import CHILD_PARTICIPANT
from saga_coordinator.saga.machine.decide import (
    AttemptEnded,
    Decision,
    EventArrived,
    Finish,
    GoOn,
    Input,
    Invoke,
    LookForEvent,
    LookForRoom,
    OutcomeReported,
    OwnershipGained,
    RoomFound,
    SetTimer,
    TimerFired,
)
from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.errors import OwnershipLost, Unavailable
from saga_coordinator.saga.words.outcome import (
    Cause,
    Held,
    Outcome,
    Refused,
    Succeeded,
    Unknown,
    clip,
    is_decisive_status,
)

LOOKS_AT_ONCE = 256
LOOK_AFTER_FAILURE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Drive:
    """The sagas in this coordinator's memory, each moved by one task at a time."""

    def __init__(self, advance: Advance, caller: Caller, lease: Lease) -> None:
        self._advance = advance
        self._caller = caller
        self._lease = lease
        self.look_for_event: Callable[[LookForEvent], Awaitable[EventArrived | None]] = _no_events
        self.workers: Callable[[], frozenset[str]] = frozenset
        """The participants whose attempts are tasks of workers."""
        self.on_settled: Callable[[Run], None] = lambda run: None
        """Is told of each saga that has ended here or needs attention."""
        self.telling = Telling()
        self._calls = Background()
        self._pace = Pace()
        self._moves = Background()
        self.runs: dict[str, Run] = {}
        self.sagas_of: Counter[str] = Counter()
        self.stuck: list[str] = []
        self.on_lost: Callable[[], None] = lambda: None
        """Is told when another writer won a saga: the row may name us all the same."""

    def take(self, run: Run, advanced: Advanced) -> None:
        """Keeps a saga that this coordinator has just started, and does what follows from its start."""
        if run.saga_id not in self.runs:  # else its row was claimed before the answer to its start came in
            self._keep(run)
            self._perform(run, advanced)

    def adopt(self, run: Run, previous_owner: str | None) -> asyncio.Future[Decision] | None:
        """Keeps a saga that this coordinator has just claimed, and goes on where its log stands; returns what is decided then.

        A claim takes what nobody drives, so a run of the same saga from before is out of date.
        """
        if before := self.runs.get(run.saga_id):
            self.drop(before)
        self._keep(run)
        if run.state.status in SETTLED:
            self._moves.spawn("rest", self._put_to_rest(run))
            return None
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        decided.add_done_callback(_heard)
        self._has_happened(run, OwnershipGained(previous_owner, self.workers()), decided)
        return decided

    def _keep(self, run: Run) -> None:
        self.runs[run.saga_id] = run
        self.sagas_of[run.definition.name] += 1

    def happened(self, run: Run, happened: Input) -> None:
        """Has the saga advanced by an input, soon."""
        self._has_happened(run, happened, None)

    def _has_happened(self, run: Run, happened: Input, decided: asyncio.Future[Decision] | None) -> None:
        run.inbox.append((happened, decided))
        if not run.is_advancing:
            run.is_advancing = True
            self._moves.spawn("move", self._move(run))

    async def ask(self, run: Run, happened: Input) -> Decision:
        """Advances the saga by an input; returns the decision, committed.

        Raises:
            OwnershipLost: the saga is not this coordinator's any more: look for it again.
            Unavailable: this coordinator is stopping while the database is away.
        """
        if not self._lease.may_act:
            await self._lease.wait_until_valid()
        if run.is_dropped:
            raise OwnershipLost(f"saga {run.saga_id} was let go")
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        run.inbox.append((happened, decided))
        if not run.is_advancing:
            run.is_advancing = True
            self._moves.spawn("move", self._move(run))
        return await decided

    def drop(self, run: Run) -> None:
        """Forgets a saga. Calls of it that are under way end unheard."""
        run.is_dropped = True
        run.tell_watchers()
        if run.timer is not None:
            run.timer.cancel()
        if self.runs.get(run.saga_id) is run:
            del self.runs[run.saga_id]
            self.sagas_of[run.definition.name] -= 1
        if run.settled is not None and not run.settled.done():
            run.settled.set_result(run.state.status in SETTLED)
        _tell_dropped(run, [decided for _, decided in run.inbox])
        run.inbox.clear()

    async def finish_calls(self, grace_seconds: float) -> None:
        """Gives calls in flight their time, then cuts off those that remain; what they meant is then unknown."""
        self._pace.begin_all()
        await give_time(self._calls_ended, grace_seconds, self._lease)
        await self._calls.stop(None)

    async def _calls_ended(self, seconds: float) -> bool:
        await self._calls.finish(seconds)
        return not len(self._calls)

    async def finish_moves(self) -> None:
        """Returns once everything that has happened so far is committed."""
        await self._moves.finish()

    async def _move(self, run: Run) -> None:
        """Advances until the inbox is empty. Only one of these runs for a saga at a time."""
        while run.inbox and not run.is_dropped:
            batch = tuple(run.inbox)
            run.inbox.clear()
            before = run.state.status
            try:
                advanced = await self._advance.advance(run, [happened for happened, _ in batch])
            except Exception as error:  # noqa: BLE001 - one saga's trouble is not another's
                self._give_up(run, error, [decided for _, decided in batch])
                return
            run.tell_watchers()
            self.telling.moved(run, before)
            is_owner = self._lease.may_act
            taken = len(advanced.decisions)
            _put_back(run, batch[taken:])
            for (_, decided), decision in zip(batch[:taken], advanced.decisions, strict=True):
                if decided is None or decided.done():
                    continue
                if decision.entries or is_owner:
                    decided.set_result(decision)
                else:  # nothing was written, so nothing has proved that this state is not an old one
                    decided.set_exception(OwnershipLost(f"saga {run.saga_id} may have been taken"))
            if not run.is_dropped:
                self._perform(run, advanced)
        run.is_advancing = False

    def _give_up(self, run: Run, error: Exception, asked: Sequence[asyncio.Future[Decision] | None]) -> None:
        match error:
            case OwnershipLost():
                _log.info("ownership_lost", saga_id=run.saga_id, reason=str(error))
                self.on_lost()
            case Unavailable():
                _log.warning("saga_left_to_others", saga_id=run.saga_id, reason=str(error))
            case _:
                # A defect, or data that cannot be stored: keep it from the others, and have it tried again later.
                _log.exception("saga_stuck", saga_id=run.saga_id, exc_info=error)
                self.stuck.append(run.saga_id)
        for decided in asked:
            if decided is not None and not decided.done():
                decided.set_exception(error)
        self.drop(run)

    async def _put_to_rest(self, run: Run) -> None:
        try:
            await self._advance.put_to_rest(run)
        except (OwnershipLost, Unavailable) as error:
            _log.info("not_put_to_rest", saga_id=run.saga_id, reason=str(error))
            self.on_lost()
        except Exception:  # noqa: BLE001 - such as a commit that was refused: have it tried again later
            _log.exception("saga_stuck", saga_id=run.saga_id)
            self.stuck.append(run.saga_id)
        self.drop(run)

    def _perform(self, run: Run, advanced: Advanced) -> None:
        if advanced.is_asleep:
            self.drop(run)
            return
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        for effect in advanced.effects:
            match effect:
                case Invoke(is_poll=True):
                    self._inquire(run, partial(self._poll, run, effect))
                case Invoke():
                    self._pace.begin(partial(self._begin_call, run, effect))
                case LookForEvent():
                    self._inquire(run, partial(self._look, run, effect))
                case LookForRoom():
                    look = run.looks[effect.step]
                    look.due_at = ASKING
                    self._inquire(run, partial(self._look_for_room, run, look))
                case SetTimer(due_at):
                    delay = max(0.0, due_at - self._lease.now())
                    run.timer = asyncio.get_running_loop().call_later(delay, self.happened, run, TimerFired())
                case GoOn():
                    run.timer = asyncio.get_running_loop().call_soon(self.happened, run, TimerFired())
                case Finish(status):
                    self.telling.ended(run, status)
                    self.on_settled(run)
                    self.drop(run)

    async def _call(self, run: Run, call: Invoke) -> None:
        """One attempt, made only while the lease lasts; what came of it goes the same way as everything that happens."""
        if not self._lease.may_act:
            await self._lease.wait_until_valid()
        step = run.state.step(call.step)
        is_awaited = (step.operation, step.attempt) == (call.operation, call.attempt) and step.is_in_flight
        if (
            run.is_dropped or not is_awaited
        ):  # a report may have been faster, and what it settled may be undone by now (P4)
            return
        outcome = await self._invoke(call)
        if not run.is_dropped:
            run.inbox.append((AttemptEnded(call.step, call.operation, call.attempt, outcome), None))
            if not run.is_advancing:
                run.is_advancing = True
                await self._move(run)

    def _begin_call(self, run: Run, call: Invoke) -> None:
        self._calls.spawn("call", self._call(run, call))

    def _inquire(self, run: Run, question: Callable[[], Coroutine[Any, Any, Input | None]]) -> None:
        """Asks something on behalf of the saga, which stays in memory until the answer has happened to it."""
        run.inquiries += 1
        self._pace.begin(partial(self._begin_inquiry, run, question))

    def _begin_inquiry(self, run: Run, question: Callable[[], Coroutine[Any, Any, Input | None]]) -> None:
        self._calls.spawn("inquiry", self._hear(run, question()))

    async def _hear(self, run: Run, question: Coroutine[Any, Any, Input | None]) -> None:
        try:
            answer = await question
        finally:
            run.inquiries -= 1
        if not run.is_dropped:  # with no answer, it may at least be let go again
            self.happened(run, answer or TimerFired())

    async def _poll(self, run: Run, call: Invoke) -> Input | None:
        """Asks again about an operation that was accepted before; only a decisive answer says anything new."""
        outcome = await self._invoke(call)
        is_child = call.participant == CHILD_PARTICIPANT
        is_told = isinstance(outcome, Succeeded | Refused) if is_child else is_decisive_status(outcome)
        return OutcomeReported(call.step, call.operation, outcome, call.attempt) if is_told else None

    async def _look(self, run: Run, wanted: LookForEvent) -> Input | None:
        """Sees whether an event that the saga now waits for had come before."""
        try:
            return await self.look_for_event(wanted)
        except Exception as error:  # noqa: BLE001 - left as it is, the saga would wait for what is there already
            _log.warning("event_not_looked_for", saga_id=run.saga_id, reason=str(error))
            self._give_up(run, error, ())
            return None

    async def _look_for_room(self, run: Run, look: Look) -> Input | None:
        """Sees whether an attempt that is held may be made by now; if not, it is looked again later."""
        wanted = look.wanted
        try:
            held = await self._caller.look_for_room(wanted)
        except Exception as error:  # noqa: BLE001 - a defect; but without an answer the saga would wait for ever
            _log.exception("room_not_looked_for", saga_id=run.saga_id, step=wanted.step)
            held = Held(Cause("INTERNAL", clip(f"{error!r}")), LOOK_AFTER_FAILURE_SECONDS)
        if run.looks.get(wanted.step) is not look:  # it is not held any more, or anew
            return None
        if held is None:
            del run.looks[wanted.step]
            return RoomFound(wanted.step, wanted.operation)
        look.due_at = self._lease.now() + held.delay_seconds
        return None

    def look_again(self, participant: str) -> None:
        """There may be room at a participant now: sagas that wait for it look at once, so many that others hardly notice."""
        woken = 0
        for run in tuple(self.runs.values()):
            waiting = [look for look in run.looks.values() if look.wanted.participant == participant]
            if not any(look.due_at < ASKING for look in waiting):
                continue
            for look in waiting:
                look.due_at = min(look.due_at, 0.0) if look.due_at < ASKING else ASKING
            self.happened(run, TimerFired())
            woken += 1
            if woken >= LOOKS_AT_ONCE:
                return

    async def _invoke(self, call: Invoke) -> Outcome:
        try:
            return await self._caller.invoke(call)
        except Exception as error:  # noqa: BLE001 - a defect; but without an outcome the saga would wait for ever
            _log.exception("call_failed", saga_id=call.saga_id, step=call.step, attempt=call.attempt)
            return Unknown(Cause("INTERNAL", clip(f"the call could not be made: {error!r}")))


def _heard(decided: asyncio.Future[Decision]) -> None:
    """What came of it is the saga's own matter."""
    if not decided.cancelled():
        decided.exception()


def _put_back(run: Run, rest: Sequence[tuple[Input, asyncio.Future[Decision] | None]]) -> None:
    """What was not decided yet comes first next time, unless the saga was let go meanwhile."""
    if run.is_dropped:
        _tell_dropped(run, [decided for _, decided in rest])
    else:
        run.inbox.extendleft(reversed(rest))


def _tell_dropped(run: Run, asked: Sequence[asyncio.Future[Decision] | None]) -> None:
    for decided in asked:
        if decided is not None and not decided.done():
            decided.set_exception(OwnershipLost(f"saga {run.saga_id} was let go"))


async def _no_events(wanted: LookForEvent) -> EventArrived | None:
    return None
