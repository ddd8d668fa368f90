"""Answers most heartbeats of pending operations from memory, because telling a sleeping saga costs two transactions.

The core records a heartbeat at most twice within the timeout. It waits longer than the timeout, so it need not be told of the
heartbeats in between. Each of its answers says for how long that holds. An answer is remembered for half of the timeout at most,
because the saga may turn meanwhile, and the participant should learn in time that nobody waits any more. The answers that other
coordinators gave are not known here, so the saga is told once more.
"""

from __future__ import annotations

from collections import OrderedDict

from saga_coordinator.saga.machine.answers import Accepted, HeartbeatTaken, NotApplied
from saga_coordinator.saga.machine.inputs import HeartbeatReceived
from saga_coordinator.saga.words.identity import OperationKind

REMEMBERED_MAX = 100_000
REMEMBERED_SHARE = 0.5
"""An answer is remembered for at most this share of the heartbeat timeout, as `HeartbeatResponse.awaited` promises."""
UNTIMED_SECONDS = 10.0
"""The seconds for which the answer to a heartbeat is remembered if the operation has no heartbeat timeout."""

_Key = tuple[str, str, OperationKind, int]


class Heartbeats:
    """The answers to heartbeats that still hold."""

    def __init__(self) -> None:
        self._until: OrderedDict[_Key, tuple[float, Accepted]] = OrderedDict()

    def remembered(self, saga_id: str, received: HeartbeatReceived, now: float) -> Accepted | None:
        """The remembered answer; None if the saga has to be told."""
        until, answer = self._until.get(_key(saga_id, received), (0.0, None))
        return answer if now < until else None

    def remember(self, saga_id: str, received: HeartbeatReceived, answer: Accepted, now: float) -> None:
        """Keeps the saga's answer while it holds. `now` is the instant at which the saga was asked."""
        key = _key(saga_id, received)
        self._until.pop(key, None)
        match answer:
            case NotApplied():
                return
            case HeartbeatTaken(timeout_seconds, fresh_seconds):
                seconds = min(fresh_seconds, REMEMBERED_SHARE * timeout_seconds)
            case _:
                seconds = UNTIMED_SECONDS
        self._until[key] = (now + seconds, answer)
        if len(self._until) > REMEMBERED_MAX:
            self._until.popitem(last=False)


def _key(saga_id: str, received: HeartbeatReceived) -> _Key:
    return saga_id, received.step, received.operation, received.attempt
