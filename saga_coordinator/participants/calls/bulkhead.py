"""Bulkheads, which keep one participant's trouble from the others: they limit its calls at once and a second, and pause them.

A `Bulkhead` decides and keeps the queue; it has no clock and awaits nothing. A call is admitted at once, or queued for a moment
for which its attempt has time, or held: then its saga waits in the log, where it costs no memory, no attempt and no slot.

Each held call is told when to come back. These instants follow each other as quickly as the participant takes calls, so that ten
thousand held sagas do not all come back at once to be held again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from saga_coordinator.participants.calls.breaker import Breaker, BreakerState, Forced
from saga_coordinator.participants.calls.concurrency import Concurrency
from saga_coordinator.participants.calls.rate import Rate
from saga_coordinator.participants.directory.limits import ParticipantLimits
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Held, Outcome, Unknown, clip

QUEUE_SECONDS = 2.0
"""How long a call may be queued at most; and for no more than a quarter of its timeout, which goes on meanwhile (P4)."""

HELD_SECONDS_MIN = 1.0
HELD_SECONDS_MAX = 300.0
FORCED_OPEN_SECONDS = 6.0
"""The shortest delay while an operator keeps the breaker open: long enough for a saga to be let go from memory."""

FORCED_OPEN_SECONDS_MAX = 60.0
"""From so much to twice as much when it has been kept open for long."""

PATIENT_SECONDS_MAX = 30.0
"""How long what is held waits at least when nothing has moved for as long; behind it come those that are held after it."""

SICK_SPACING_SECONDS = 0.02
"""How closely held calls follow each other to a participant that was not well: fifty a second cost the others little."""

_QUEUE_MAX = 20_000
_ACTION_TURN = 4
"""Of so many calls taken from the queue at least one is an action, while compensations come first otherwise."""

_LONG_AGO = float("-inf")
_SMOOTHING = 0.05
_BRIEFLY_SECONDS = 0.1

_NOT_ITS_FAULT = frozenset({CauseCode.NO_SUCH_METHOD, CauseCode.NO_DESCRIPTORS})
"""A definition that names a method wrongly says nothing about whether the participant is well."""


@dataclass(slots=True)
class Permit:
    """A call that is under way."""

    is_compensation: bool
    began_at: float
    epoch: int


class Waiting:
    """A call in the queue. `is_open` until it is admitted, held or withdrawn."""

    __slots__ = ("is_compensation", "is_open", "settle")

    def __init__(self, *, is_compensation: bool) -> None:
        self.is_compensation = is_compensation
        self.is_open = True
        self.settle: Callable[[Permit | Held], None] = lambda _: None


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
        self._queues: tuple[deque[Waiting], deque[Waiting]] = (deque(), deque())  # actions, compensations
        self._queued = 0
        self._turn = 0
        self._in_flight = 0
        self._actions_in_flight = 0
        self._held = 0
        self._promised_at = self._rate_promised_at = _LONG_AGO
        self._moved_at = _LONG_AGO  # when a call began or ended last
        self._forced_at = 0.0
        # Nothing is known at first. A call that is queued for too long is held all the same.
        self._call_seconds = self._answer_seconds = 0.0
        self._last_outcome: Outcome | None = None
        self._last_outcome_at = self._last_failure_at = 0.0
        self._last_failure: Cause | None = None
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
            self._promised_at = _LONG_AGO
            self._breaker.force(forced)

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    def ask(self, now: float, patience_seconds: float, *, is_compensation: bool) -> Permit | Waiting | Held:
        """Admits a call, or queues it where its turn may come within `patience_seconds`, or holds it."""
        if not self._queued and self._may_go(now, is_compensation=is_compensation):
            if self._breaker.state is BreakerState.CLOSED:
                self._promised_at = (
                    _LONG_AGO  # there is room, so nobody need wait behind those that were held
                )
            return self._admit(now, is_compensation=is_compensation)
        if self._breaker.state is BreakerState.OPEN:
            return self._hold_open(now)
        wait = self._wait_seconds(now, is_compensation=is_compensation)
        if wait > patience_seconds or self._queued >= _QUEUE_MAX:
            return self.hold(now)
        waiting = Waiting(is_compensation=is_compensation)
        self._queues[is_compensation].append(waiting)
        self._queued += 1
        return waiting

    def ended(self, permit: Permit, outcome: Outcome | None, now: float) -> None:
        """Notes that a call has ended; `outcome` is None if nobody waits for it any more."""
        in_flight = self._in_flight
        self._in_flight -= 1
        self._actions_in_flight -= not permit.is_compensation
        self._moved_at = now
        if outcome is None or isinstance(outcome, Held):
            self._breaker.give_back(permit.epoch)
            return
        seconds = now - permit.began_at
        failure = failure_of(outcome)
        is_failure = failure is not None
        self._last_outcome, self._last_outcome_at = outcome, now
        self._call_seconds = _smoothed(self._call_seconds, seconds)
        if failure is not None:
            self._last_failure, self._last_failure_at = failure, now
        else:
            self._answer_seconds = _smoothed(self._answer_seconds, seconds)
        slow = self._limits.breaker.slow_call_seconds
        is_bad = is_failure or (slow is not None and seconds >= slow)
        self._concurrency.ended(now, seconds, in_flight, is_bad=is_bad)
        self._breaker.ended(permit.epoch, now, seconds, self._draw(), is_failure=is_failure)

    def turns(self, now: float) -> Iterator[tuple[Waiting, Permit | Held]]:
        """The queued calls that need not wait any longer, each with its permit or with the reason why it is held."""
        while self._queued:
            if self._breaker.state is BreakerState.OPEN and not self._breaker.admits(now):
                waiting = self._first(is_compensation=bool(self._queues[True]))
                if waiting is not None:
                    yield waiting, self._hold_open(now)
                continue
            is_compensation = self._whose_turn(now)
            if is_compensation is None:
                return
            waiting = self._first(is_compensation=is_compensation)
            if waiting is not None:
                self._turn += 1
                yield waiting, self._admit(now, is_compensation=is_compensation)

    def withdraw(self, waiting: Waiting) -> None:
        """Withdraws a call from the queue. Its place there stays empty until its turn."""
        if waiting.is_open:
            waiting.is_open = False
            self._queued -= 1
            if not self._queued:
                for queue in self._queues:
                    queue.clear()

    def next_turn_seconds(self, now: float) -> float | None:
        """The seconds after which to look at the queue again although no call has ended; None if only an end makes room."""
        if not self._queued or self._rate is None:
            return None
        return self._rate.wait_seconds(now) or None

    def hold(self, now: float) -> Held:
        """Holds a call, because there are too many calls at once or too many a second."""
        if self._breaker.state is BreakerState.HALF_OPEN:
            return self._promise(
                now,
                CauseCode.CIRCUIT_OPEN,
                f"a few calls find out whether {self._name} is well again",
                max(HELD_SECONDS_MIN, self._call_seconds),
                SICK_SPACING_SECONDS,
            )
        if self._rate is not None and self._rate.wait_seconds(now) > 0:
            return self._hold_back(now, self._rate)
        stalled = self._stalled_seconds(now)
        spacing = self._spacing_seconds(now)
        least = max(HELD_SECONDS_MIN, self._queued * spacing, min(stalled, PATIENT_SECONDS_MAX))
        said = (
            f"{self._in_flight} calls of {self._name} are in flight here, as many as it gets at once, and "
            f"{self._queued} wait for their turn"
        )
        if stalled > QUEUE_SECONDS:
            spacing = max(spacing, SICK_SPACING_SECONDS)
            said += f"; none has ended for {stalled:.0f} s"
        return self._promise(now, CauseCode.PARTICIPANT_BUSY, said, least, spacing)

    def status(self, now: float) -> BulkheadStatus:
        breaker = self._breaker
        ratio = breaker.failure_ratio(now)
        return BulkheadStatus(
            breaker=breaker.state,
            forced=breaker.forced,
            rest_left_seconds=breaker.rest_left_seconds(now),
            failure_ratio=ratio,
            calls_in_window=breaker.calls_in_window,
            in_flight=self._in_flight,
            limit=self._concurrency.limit,
            queued=self._queued,
            held=self._held,
            last_outcome=self._last_outcome,
            last_outcome_at=self._last_outcome_at,
            last_failure=self._last_failure,
            last_failure_at=self._last_failure_at,
        )

    def _may_go(self, now: float, *, is_compensation: bool) -> bool:
        return (
            self._concurrency.has_room(
                self._in_flight, self._actions_in_flight, is_compensation=is_compensation
            )
            and (self._rate is None or not self._rate.wait_seconds(now))
            and self._breaker.admits(now)
        )

    def _admit(self, now: float, *, is_compensation: bool) -> Permit:
        self._in_flight += 1
        self._actions_in_flight += not is_compensation
        self._moved_at = now
        if self._rate is not None:
            self._rate.take(now)
        return Permit(is_compensation, now, self._breaker.begin())

    def _whose_turn(self, now: float) -> bool | None:
        """Tells whether a compensation or an action is next; None if neither may go now."""
        is_actions_turn = self._turn % _ACTION_TURN == _ACTION_TURN - 1
        for is_compensation in (False, True) if is_actions_turn else (True, False):
            if self._queues[is_compensation] and self._may_go(now, is_compensation=is_compensation):
                return is_compensation
        return None

    def _first(self, *, is_compensation: bool) -> Waiting | None:
        """Takes the first call out of a queue; returns None for an empty place."""
        waiting = self._queues[is_compensation].popleft()
        if not waiting.is_open:
            return None
        waiting.is_open = False
        self._queued -= 1
        return waiting

    def _wait_seconds(self, now: float, *, is_compensation: bool) -> float:
        """Estimates how long a call that is queued now would wait. Compensations come first."""
        if self._breaker.state is BreakerState.HALF_OPEN:
            return 0.0  # the probes may tell in a moment
        ahead = len(self._queues[True]) if is_compensation else self._queued
        wait = max((ahead + 1) * self._spacing_seconds(now), self._stalled_seconds(now))
        return wait if self._rate is None else max(wait, self._rate.wait_seconds(now))

    def _spacing_seconds(self, now: float) -> float:
        """The seconds from one call to the next while calls are always waiting."""
        limit = self._concurrency.limit
        seconds = max(self._call_seconds, self._stalled_seconds(now))
        by_room = seconds / limit if limit else 0.0
        return max(by_room, 1 / self._limits.rate if self._limits.rate else 0.0)

    def _stalled_seconds(self, now: float) -> float:
        """The seconds for which there has been no room and no call has ended. Calls that hang do not show in those that ended."""
        has_room = self._concurrency.has_room(self._in_flight, self._actions_in_flight, is_compensation=False)
        return 0.0 if has_room else now - self._moved_at

    def _hold_back(self, now: float, rate: Rate) -> Held:
        """Holds a call that is one too many a second. The rate says exactly when each may come, so they come one by one."""
        interval = 1 / (self._limits.rate or 1.0)
        least = max(HELD_SECONDS_MIN, rate.wait_seconds(now) + self._queued * interval)
        said = f"{self._name} is called {self._limits.rate:g} times a second at most, and more are waiting"
        at = max(now + least, self._rate_promised_at + interval)
        if at <= now + HELD_SECONDS_MAX:
            self._rate_promised_at = at
        return self._held_until(at, now, CauseCode.RATE_LIMITED, said)

    def _hold_open(self, now: float) -> Held:
        if self._breaker.forced is Forced.OPEN:
            least = min(max((now - self._forced_at) / 4, FORCED_OPEN_SECONDS), FORCED_OPEN_SECONDS_MAX)
            said = f"an operator has opened the breaker of {self._name}, and it stays open until it is set otherwise"
            least *= 1 + self._draw()
        else:
            least = max(self._breaker.rest_left_seconds(now), _BRIEFLY_SECONDS)
            said = f"{self._name} is given a rest of {least:.1f} s more, because too many calls failed or were slow"
            if (failure := self._last_failure) is not None:
                said += f", the last with {failure.code}: {failure.message[:300]}"
        return self._promise(now, CauseCode.CIRCUIT_OPEN, said, least, SICK_SPACING_SECONDS)

    def _promise(
        self, now: float, code: CauseCode, message: str, least_seconds: float, spacing_seconds: float
    ) -> Held:
        """Holds a call until an instant of its own, later than all instants promised before."""
        at = max(now + least_seconds, self._promised_at + spacing_seconds)
        if at <= now + HELD_SECONDS_MAX:
            self._promised_at = at
        return self._held_until(at, now, code, message)

    def _held_until(self, at: float, now: float, code: CauseCode, message: str) -> Held:
        self._held += 1
        if at > now + HELD_SECONDS_MAX:  # then anywhere in the second half of what there is
            at = now + HELD_SECONDS_MAX * (0.5 + 0.5 * self._draw())
        return Held(Cause(code, clip(message)), at - now + _BRIEFLY_SECONDS * self._draw())


def failure_of(outcome: Outcome) -> Cause | None:
    """The reason why an attempt's outcome shows that the participant is not well; None if it shows nothing of the kind."""
    if isinstance(outcome, Unknown) and outcome.cause.code not in _NOT_ITS_FAULT:
        return outcome.cause
    return None


def _smoothed(before: float, seconds: float) -> float:
    return before + _SMOOTHING * (seconds - before) if before else seconds
