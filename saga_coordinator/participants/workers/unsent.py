"""What waits to be sent to one worker beside its tasks: heartbeats, goodbyes and rejected outcomes."""

from __future__ import annotations

from collections import deque

from saga_coordinator.pb.saga.v1.worker_service_pb2 import Rejection, WorkResponse

REJECTIONS_AT_ONCE = 20
"""How many rejections one message has at most, so that no message is large because of them."""

REJECTIONS_MAX = 1000
"""How many outcomes of tasks never given may wait to be rejected. A worker that goes on without listening is not served any more.

The rejected outcomes of tasks that the worker was given are no more than its credits.
"""


class UnsentMessages:
    """Serialized messages that wait to be sent to one worker, in order, and the rejections that follow them."""

    __slots__ = ("_messages", "_rejections", "_strange")

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._rejections: list[Rejection] = []
        self._strange = 0

    def add(self, message: bytes) -> None:
        """Adds a message behind the others."""
        self._messages.append(message)

    def reject(self, task_id: int, code: str, message: str, *, was_given: bool) -> None:
        """Adds a rejection. `was_given` tells whether the worker ever got the task."""
        self._rejections.append(Rejection(task_id=task_id, code=code, message=message))
        self._strange += not was_given

    @property
    def is_unheard(self) -> bool:
        """Tells whether too many rejections wait for a worker that reports tasks that it never got."""
        return self._strange > REJECTIONS_MAX

    def take(self, bytes_max: int) -> tuple[list[bytes], bool]:
        """Takes what the next message of at most `bytes_max` bytes has room for; tells whether that was all."""
        if self._rejections:
            told = self._rejections[:REJECTIONS_AT_ONCE]
            self._rejections = self._rejections[REJECTIONS_AT_ONCE:]
            self._messages.append(WorkResponse(rejections=told).SerializeToString())
            self._strange = min(self._strange, len(self._rejections))
        parts: list[bytes] = []
        size = 0
        while self._messages and (not parts or size + len(self._messages[0]) <= bytes_max):
            parts.append(self._messages.popleft())
            size += len(parts[-1])
        return parts, not self._messages
