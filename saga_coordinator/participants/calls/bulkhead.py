"""Bulkheads, which keep one participant's trouble from the others: they limit its calls at once and a second, and pause them.

A `Bulkhead` decides and keeps the queue; it has no clock and awaits nothing. A call is admitted at once, or queued for a moment
for which its attempt has time, or held: then its saga waits in the log, where it costs no memory, no attempt and no slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from saga_coordinator.participants.calls.breaker import Breaker, BreakerState, Forced
from saga_coordinator.participants.calls.concurrency import CallsInFlight, Concurrency
from saga_coordinator.participants.calls.promises import Promises
from saga_coordinator.participants.calls.queue import CallQueue, Waiting
from saga_coordinator.participants.calls.rate import Rate
from saga_coordinator.participants.calls.record import CallRecord
from saga_coordinator.participants.directory.limits import ParticipantLimits
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Held, Outcome

QUEUE_SECONDS = 2.0
"""How long a call may be queued at most; and for no more than a quarter of its timeout, which goes on meanwhile (P4)."""

HELD_SECONDS_MIN = 1.0
FORCED_OPEN_SECONDS = 6.0
"""The shortest delay while an operator keeps the breaker open: long enough for a saga to be let go from memory."""

FORCED_OPEN_SECONDS_MAX = 60.0
"""From so much to twice as much when it has been kept open for long."""

PATIENT_SECONDS_MAX = 30.0
"""How long what is held waits at least when nothing has moved for as long; behind it come those that are held after it."""

SICK_SPACING_SECONDS = 0.02
"""How closely held calls follow each other to a participant that was not well: fifty a second cost the others little."""

_REST_SECONDS_MIN = 0.1


@dataclass(slots=True)
class Permit:
    """A call that is under way."""

    is_compensation: bool
    began_at: float
    epoch: int


@dataclass(frozen=True, slots=True)
class BulkheadStatus:
    """The status of one participant's bulkhead at a moment. `limit` of None means no limit. Instants are monotonic seconds."""

    breaker: BreakerState
    forced: Forced
    rest_left_seconds: float
    failure_ratio: float
    calls_in_window: int
    in_flight: int
    limit: int | None
    queued: int
    held: int
    last_outcome: Outcome | None
    last_outcome_at: float
    last_failure: Cause | None
    last_failure_at: float


class Bulkhead:
    """The bulkhead of one participant. `now` is a monotonic time in seconds; `draw` gives numbers from [0, 1)."""

    def __init__(self, name: str, limits: ParticipantLimits, draw: Callable[[], float]) -> None:
        self._name = name
        self._draw = draw
        self._queue = CallQueue()
        self._promises = Promises(draw)
        self._rate_promises = Promises(draw)
        self._record = CallRecord()
        self._in_flight = CallsInFlight()
        self._forced_at = 0.0
        self._use(limits)

    def _use(self, limits: ParticipantLimits) -> None:
        self._limits = limits
        self._breaker = Breaker(limits.breaker)
        self._concurrency = Concurrency(limits.concurrency, is_adaptive=limits.is_adaptive)
        self._rate = None if limits.rate is None else Rate(limits.rate, limits.burst)

    def change(self, limits: ParticipantLimits, *, is_moved: bool) -> None:
        """Uses other limits. A participant that `is_moved` to another address begins with a clean record."""
        if limits != self._limits or is_moved:
            forced = self._breaker.forced
            epoch = self._breaker.epoch
            self._use(limits)
            self._breaker.epoch = epoch + 1  # what is in flight says nothing about what comes now
            self._breaker.force(forced)

    def force(self, forced: Forced, now: float) -> None:
        """Forces the breaker as an operator wants it. Idempotent."""
        if forced is not self._breaker.forced:
            self._forced_at = now
            self._promises.forget()
            self._breaker.force(forced)

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    def ask(self, now: float, patience_seconds: float, *, is_compensation: bool) -> Permit | Waiting | Held:
        """Admits a call, or queues it where its turn may come within `patience_seconds`, or holds it."""
        if not self._queue and self._may_go(now, is_compensation=is_compensation):
            if self._breaker.state is BreakerState.CLOSED:
                self._promises.forget()  # there is room, so nobody need wait behind those that were held
            return self._admit(now, is_compensation=is_compensation)
        if self._breaker.state is BreakerState.OPEN:
            return self._hold_open(now)
        wait = self._wait_seconds(now, is_compensation=is_compensation)
        if wait > patience_seconds or self._queue.is_full:
            return self.hold(now)
        return self._queue.append(is_compensation=is_compensation)

    def ended(self, permit: Permit, outcome: Outcome | None, now: float) -> None:
        """Notes that a call has ended; `outcome` is None if nobody waits for it any more."""
        in_flight = self._in_flight.count
        self._in_flight.ended(now, is_compensation=permit.is_compensation)
        if outcome is None or isinstance(outcome, Held):
            self._breaker.give_back(permit.epoch)
            return
        seconds = now - permit.began_at
        is_failure = self._record.ended(outcome, seconds, now)
        slow = self._limits.breaker.slow_call_seconds
        is_bad = is_failure or (slow is not None and seconds >= slow)
        self._concurrency.ended(now, seconds, in_flight, is_bad=is_bad)
        self._breaker.ended(permit.epoch, now, seconds, self._draw(), is_failure=is_failure)

    def turns(self, now: float) -> Iterator[tuple[Waiting, Permit | Held]]:
        """The queued calls that need not wait any longer, each with its permit or with the reason why it is held."""
        while self._queue:
            if self._breaker.state is BreakerState.OPEN and not self._breaker.admits(now):
                waiting = self._queue.refuse_first()
                if waiting is not None:
                    yield waiting, self._hold_open(now)
                continue
            is_compensation = self._whose_turn(now)
            if is_compensation is None:
                return
            waiting = self._queue.admit_first(is_compensation=is_compensation)
            if waiting is not None:
                yield waiting, self._admit(now, is_compensation=is_compensation)

    def withdraw(self, waiting: Waiting) -> None:
        """Withdraws a call from the queue; does nothing if it is not there any more."""
        self._queue.withdraw(waiting)

    def next_turn_seconds(self, now: float) -> float | None:
        """The seconds after which to look at the queue again although no call has ended; None if only an end makes room."""
        if not self._queue or self._rate is None:
            return None
        return self._rate.wait_seconds(now) or None

    def hold(self, now: float) -> Held:
        """Holds a call, because there are too many calls at once or too many a second."""
        if self._breaker.state is BreakerState.HALF_OPEN:
            return self._promises.hold(
                now,
                CauseCode.CIRCUIT_OPEN,
                f"a few calls find out whether {self._name} is well again",
                max(HELD_SECONDS_MIN, self._record.call_seconds),
                SICK_SPACING_SECONDS,
            )
        if self._rate is not None and self._rate.wait_seconds(now) > 0:
            return self._hold_back(now, self._rate)
        stalled = self._stalled_seconds(now)
        spacing = self._spacing_seconds(now)
        least = max(HELD_SECONDS_MIN, len(self._queue) * spacing, min(stalled, PATIENT_SECONDS_MAX))
        said = (
            f"{self._in_flight.count} calls of {self._name} are in flight here, as many as it gets at once, and "
            f"{len(self._queue)} wait for their turn"
        )
        if stalled > QUEUE_SECONDS:
            spacing = max(spacing, SICK_SPACING_SECONDS)
            said += f"; none has ended for {stalled:.0f} s"
        return self._promises.hold(now, CauseCode.PARTICIPANT_BUSY, said, least, spacing)

    def status(self, now: float) -> BulkheadStatus:
        breaker = self._breaker
        ratio = breaker.failure_ratio(now)
        return BulkheadStatus(
            breaker=breaker.state,
            forced=breaker.forced,
            rest_left_seconds=breaker.rest_left_seconds(now),
            failure_ratio=ratio,
            calls_in_window=breaker.calls_in_window,
            in_flight=self._in_flight.count,
            limit=self._concurrency.limit,
            queued=len(self._queue),
            held=self._promises.held + self._rate_promises.held,
            last_outcome=self._record.last_outcome,
            last_outcome_at=self._record.last_outcome_at,
            last_failure=self._record.last_failure,
            last_failure_at=self._record.last_failure_at,
        )

    def _may_go(self, now: float, *, is_compensation: bool) -> bool:
        return (
            self._concurrency.has_room(
                self._in_flight.count, self._in_flight.actions, is_compensation=is_compensation
            )
            and (self._rate is None or not self._rate.wait_seconds(now))
            and self._breaker.admits(now)
        )

    def _admit(self, now: float, *, is_compensation: bool) -> Permit:
        self._in_flight.began(now, is_compensation=is_compensation)
        if self._rate is not None:
            self._rate.take(now)
        return Permit(is_compensation, now, self._breaker.begin())

    def _whose_turn(self, now: float) -> bool | None:
        """Tells whether a compensation or an action is next; None if neither may go now."""
        for is_compensation in self._queue.kinds():
            if self._may_go(now, is_compensation=is_compensation):
                return is_compensation
        return None

    def _wait_seconds(self, now: float, *, is_compensation: bool) -> float:
        """Estimates how long a call that is queued now would wait."""
        if self._breaker.state is BreakerState.HALF_OPEN:
            return 0.0  # the probes may tell in a moment
        ahead = self._queue.ahead(is_compensation=is_compensation)
        wait = max((ahead + 1) * self._spacing_seconds(now), self._stalled_seconds(now))
        return wait if self._rate is None else max(wait, self._rate.wait_seconds(now))

    def _spacing_seconds(self, now: float) -> float:
        """The seconds from one call to the next while calls are always waiting."""
        limit = self._concurrency.limit
        seconds = max(self._record.call_seconds, self._stalled_seconds(now))
        by_room = seconds / limit if limit else 0.0
        return max(by_room, 1 / self._limits.rate if self._limits.rate else 0.0)

    def _stalled_seconds(self, now: float) -> float:
        """The seconds for which there has been no room and no call has ended. Calls that hang do not show in those that ended."""
        in_flight = self._in_flight
        has_room = self._concurrency.has_room(in_flight.count, in_flight.actions, is_compensation=False)
        return 0.0 if has_room else now - in_flight.moved_at

    def _hold_back(self, now: float, rate: Rate) -> Held:
        """Holds a call that is one too many a second. The rate says exactly when each may come, so they come one by one."""
        interval = 1 / (self._limits.rate or 1.0)
        least = max(HELD_SECONDS_MIN, rate.wait_seconds(now) + len(self._queue) * interval)
        said = f"{self._name} is called {self._limits.rate:g} times a second at most, and more are waiting"
        return self._rate_promises.hold(now, CauseCode.RATE_LIMITED, said, least, interval)

    def _hold_open(self, now: float) -> Held:
        if self._breaker.forced is Forced.OPEN:
            least = min(max((now - self._forced_at) / 4, FORCED_OPEN_SECONDS), FORCED_OPEN_SECONDS_MAX)
            said = f"an operator has opened the breaker of {self._name}, and it stays open until it is set otherwise"
            least *= 1 + self._draw()
        else:
            least = max(self._breaker.rest_left_seconds(now), _REST_SECONDS_MIN)
            said = f"{self._name} is given a rest of {least:.1f} s more, because too many calls failed or were slow"
            if (failure := self._record.last_failure) is not None:
                said += f", the last with {failure.code}: {failure.message[:300]}"
        return self._promises.hold(now, CauseCode.CIRCUIT_OPEN, said, least, SICK_SPACING_SECONDS)
