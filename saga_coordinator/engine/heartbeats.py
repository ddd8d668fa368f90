"""Heartbeats of pending operations: most are answered from memory, because telling a sleeping saga costs two transactions.

The core records one at most twice within the timeout and waits so much longer that those in between need not be told; for how
long, it says each time. What another coordinator was told is not known here, which only costs the telling.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from saga_coordinator.engine.mail import Answer
from saga_coordinator.saga.machine.inputs import HeartbeatReceived
from saga_coordinator.saga.words.identity import OperationKind

REMEMBERED_MAX = 100_000
UNTIMED_SECONDS = 10.0
"""How long the answer to a heartbeat is remembered whose operation has no such timeout."""

_Key = tuple[str, str, OperationKind, int]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a participant is told: whether the outcome is awaited, and how long it may be silent; None for as long as it likes."""

    is_awaited: bool
    timeout_seconds: float | None


class Heartbeats:
    """The answers that still hold."""

    def __init__(self) -> None:
        self._until: OrderedDict[_Key, tuple[float, Heartbeat]] = OrderedDict()

    def remembered(self, saga_id: str, received: HeartbeatReceived, now: float) -> Heartbeat | None:
        """The answer, if telling the saga would change nothing."""
        until, answer = self._until.get(_key(saga_id, received), (0.0, None))
        return answer if now < until else None

    def taken(self, saga_id: str, received: HeartbeatReceived, answer: Answer, now: float) -> Heartbeat:
        """What the saga's answer means; it is remembered while it holds. `now`: when the saga was asked."""
        told = answer.heartbeat
        heartbeat = Heartbeat(answer.is_applied, told.timeout_seconds if told else None)
        key = _key(saga_id, received)
        self._until.pop(key, None)
        if heartbeat.is_awaited:
            until = now + (told.fresh_seconds if told else UNTIMED_SECONDS)
            self._until[key] = (until, heartbeat)
            if len(self._until) > REMEMBERED_MAX:
                self._until.popitem(last=False)
        return heartbeat


def _key(saga_id: str, received: HeartbeatReceived) -> _Key:
    return saga_id, received.step, received.operation, received.attempt
