"""Answers most heartbeats of pending operations from memory, because telling a sleeping saga costs two transactions.

The core records a heartbeat at most twice within the timeout, and waits so much longer that it need not hear of those in between.
Each of its answers says for how long that holds. What another coordinator was told is not known here; then the saga is told once
more.
"""

from __future__ import annotations

from collections import OrderedDict

from saga_coordinator.saga.machine.answers import Accepted, HeartbeatTaken, NotApplied
from saga_coordinator.saga.machine.inputs import HeartbeatReceived
from saga_coordinator.saga.words.identity import OperationKind

REMEMBERED_MAX = 100_000
UNTIMED_SECONDS = 10.0
"""How long the answer to a heartbeat is remembered if the operation has no heartbeat timeout."""

_Key = tuple[str, str, OperationKind, int]


class Heartbeats:
    """Remembers the answers that still hold."""

    def __init__(self) -> None:
        self._until: OrderedDict[_Key, tuple[float, Accepted]] = OrderedDict()

    def remembered(self, saga_id: str, received: HeartbeatReceived, now: float) -> Accepted | None:
        """The answer, if telling the saga would change nothing."""
        until, answer = self._until.get(_key(saga_id, received), (0.0, None))
        return answer if now < until else None

    def remember(self, saga_id: str, received: HeartbeatReceived, answer: Accepted, now: float) -> None:
        """Keeps the saga's answer while it holds. `now`: when the saga was asked."""
        key = _key(saga_id, received)
        self._until.pop(key, None)
        if isinstance(answer, NotApplied):
            return
        fresh_seconds = answer.fresh_seconds if isinstance(answer, HeartbeatTaken) else UNTIMED_SECONDS
        self._until[key] = (now + fresh_seconds, answer)
        if len(self._until) > REMEMBERED_MAX:
            self._until.popitem(last=False)


def _key(saga_id: str, received: HeartbeatReceived) -> _Key:
    return saga_id, received.step, received.operation, received.attempt
