"""The circuit breaker of one participant: a state machine without a clock, which is told the time at every step.

    CLOSED      calls are made, and counted over a sliding window
    OPEN        none is made until the participant has rested
    HALF_OPEN   a few are made, to see whether it is well again

A call counts for the state in which it began. If it ends after the state has changed, it says nothing about the new state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from saga_coordinator.participants.directory.limits import BreakerLimits

REST_GROWTH = 2.0
REST_JITTER = 0.2
"""A rest lasts between so much less and so much more, or all coordinators would come back at once."""

_BUCKETS = 10


class BreakerState(StrEnum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Turn(StrEnum):
    """The events that change the state."""

    FAILING = "FAILING"
    RESTED = "RESTED"
    WELL = "WELL"


TRANSITIONS: Mapping[tuple[BreakerState, Turn], BreakerState] = MappingProxyType(
    {
        (BreakerState.CLOSED, Turn.FAILING): BreakerState.OPEN,
        (BreakerState.OPEN, Turn.RESTED): BreakerState.HALF_OPEN,
        (BreakerState.HALF_OPEN, Turn.FAILING): BreakerState.OPEN,
        (BreakerState.HALF_OPEN, Turn.WELL): BreakerState.CLOSED,
    }
)


class Forced(StrEnum):
    """What an operator has decided about a breaker."""

    AUTOMATIC = "AUTOMATIC"
    OPEN = "OPEN"
    CLOSED = "CLOSED"


class Window:
    """Counts of the last `seconds`, to a tenth of that: calls, how many of them failed, and how many were slow."""

    __slots__ = ("_buckets", "_width", "calls", "failures", "slow")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _BUCKETS
        self.clear()

    def clear(self) -> None:
        self._buckets: deque[list[int]] = deque()  # number, calls, failures, slow
        self.calls = self.failures = self.slow = 0

    def add(self, now: float, *, is_failure: bool, is_slow: bool) -> None:
        number = self._forget(now)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0, 0])
        bucket = self._buckets[-1]
        bucket[1] += 1
        bucket[2] += is_failure
        bucket[3] += is_slow
        self.calls += 1
        self.failures += is_failure
        self.slow += is_slow

    def failure_ratio(self, now: float) -> float:
        """The share of calls that failed; 0.0 if there were no calls."""
        self._forget(now)
        return self.failures / self.calls if self.calls else 0.0

    def _forget(self, now: float) -> int:
        """Drops the counts that are too old; returns the number of the present bucket."""
        number = int(now / self._width)
        while self._buckets and self._buckets[0][0] <= number - _BUCKETS:
            _, calls, failures, slow = self._buckets.popleft()
            self.calls -= calls
            self.failures -= failures
            self.slow -= slow
        return number


class Breaker:
    """Says of each call whether it may be made, and learns what came of it.

    `now` is a monotonic time in seconds; `draw` is from [0, 1).
    """

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._state = BreakerState.CLOSED
        self._window = Window(limits.window_seconds)
        self._rests_until = 0.0
        self._rests = 0
        self._closed_at = float("-inf")
        self._probing = 0
        self._passed = 0
        self._failed = 0
        self.epoch = 0
        """Which stretch of one state it is in; a call is told it when it begins and tells it back."""
        self.forced = Forced.AUTOMATIC

    @property
    def state(self) -> BreakerState:
        match self.forced:
            case Forced.OPEN:
                return BreakerState.OPEN
            case Forced.CLOSED:
                return BreakerState.CLOSED
            case Forced.AUTOMATIC:
                return self._state

    def failure_ratio(self, now: float) -> float:
        """The share of the calls in the window that failed."""
        return self._window.failure_ratio(now)

    @property
    def calls_in_window(self) -> int:
        return self._window.calls

    def rest_left_seconds(self, now: float) -> float:
        """The seconds until a call may be made; 0 if one may be made now, or if an operator has forced the breaker open."""
        is_resting = self.state is BreakerState.OPEN and self.forced is Forced.AUTOMATIC
        return max(0.0, self._rests_until - now) if is_resting else 0.0

    def admits(self, now: float) -> bool:
        """Tells whether a call may be made now. A call that is made has to `begin`."""
        if self._state is BreakerState.CLOSED and self.forced is Forced.AUTOMATIC:
            return True
        if self.forced is not Forced.AUTOMATIC:
            return self.forced is Forced.CLOSED
        if self._state is BreakerState.OPEN and now >= self._rests_until:
            self._turn(Turn.RESTED, now)
        if self._state is BreakerState.HALF_OPEN:
            return self._probing + self._passed + self._failed < self._limits.probes
        return False

    def begin(self) -> int:
        """Notes that a call begins; returns the epoch to pass to `ended`."""
        if self._state is BreakerState.HALF_OPEN:
            self._probing += 1
        return self.epoch

    def give_back(self, epoch: int) -> None:
        """Takes back a call that had begun and says nothing about the participant: it was not made, or nobody heard its end."""
        if epoch == self.epoch and self._state is BreakerState.HALF_OPEN:
            self._probing -= 1

    def ended(self, epoch: int, now: float, seconds: float, draw: float, *, is_failure: bool) -> None:
        """Notes that a call that began in `epoch` has ended after `seconds`."""
        limits = self._limits
        is_slow = limits.slow_call_seconds is not None and seconds >= limits.slow_call_seconds
        if epoch != self.epoch:
            return
        self._window.add(now, is_failure=is_failure, is_slow=is_slow)
        if not limits.is_on or self.forced is not Forced.AUTOMATIC:
            return
        if self._state is BreakerState.CLOSED:
            if self._is_failing():
                self._turn(Turn.FAILING, now, draw)
        elif self._state is BreakerState.HALF_OPEN:
            self._probed(now, draw, is_bad=is_failure or is_slow)

    def force(self, forced: Forced) -> None:
        """Forces the state as an operator wants it. Back to automatic, the breaker begins closed with empty counts."""
        if forced is not self.forced:
            self.forced = forced
            self._rests = 0
            self._close()

    def _is_failing(self) -> bool:
        limits, window = self._limits, self._window
        return window.calls >= limits.calls_min and (
            window.failures >= limits.failure_ratio * window.calls
            or (limits.slow_call_seconds is not None and window.slow >= limits.slow_ratio * window.calls)
        )

    def _probed(self, now: float, draw: float, *, is_bad: bool) -> None:
        """Decides about the probes as soon as those still in flight cannot change the result."""
        self._probing -= 1
        if is_bad:
            self._failed += 1
        else:
            self._passed += 1
        ratio, probes = min(self._limits.failure_ratio, self._limits.slow_ratio), self._limits.probes
        if self._failed >= ratio * probes:
            self._turn(Turn.FAILING, now, draw)
        elif probes - self._passed < ratio * probes:
            self._turn(Turn.WELL, now)

    def _turn(self, turn: Turn, now: float, draw: float = 0.0) -> None:
        before, after = self._state, TRANSITIONS[self._state, turn]
        if after is BreakerState.CLOSED:
            self._closed_at = now
            self._close()
            return
        self._state = after
        self.epoch += 1
        self._probing = self._passed = self._failed = 0
        if after is BreakerState.OPEN:
            is_relapse = (
                before is BreakerState.HALF_OPEN or now - self._closed_at < self._limits.window_seconds
            )
            self._rests = self._rests + 1 if is_relapse else 1
            growth = REST_GROWTH ** min(self._rests - 1, 40)
            rest = min(self._limits.rest_seconds_max, self._limits.rest_seconds * growth)
            self._rests_until = now + rest * (1 - REST_JITTER + 2 * REST_JITTER * draw)

    def _close(self) -> None:
        self._state = BreakerState.CLOSED
        self.epoch += 1
        self._probing = self._passed = self._failed = 0
        self._window.clear()
