"""Follows a saga's log across restarts of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sagactl.endings import Unavailable
from sagactl.invocation import warn

if TYPE_CHECKING:
    from sagactl.asking import Server

METHOD = "saga.v1.SagaService/WatchSaga"
_PAUSE_SECONDS, _PAUSE_MAX_SECONDS = 0.2, 2.0


def followed(
    server: Server, saga_id: str, after: int = 0, seconds_left: Callable[[], float] | None = None
) -> Iterator[dict[str, Any]]:
    """The answers of WatchSaga until the saga is settled. When the server goes away, it is asked again from the last entry on.

    Raises:
        Problem: the saga cannot be watched. A server that was never reached is Unavailable, and so is a saga that is not settled
            when no seconds are left.
    """
    has_answered, pause = False, _PAUSE_SECONDS
    while True:
        request = {"saga_id": saga_id, "after_sequence": after}
        try:
            for answer in server.stream(
                METHOD, [request], seconds=seconds_left and max(seconds_left(), 0.001)
            ):
                if has_answered and pause > _PAUSE_SECONDS:
                    warn("the server is back")
                has_answered, pause = True, _PAUSE_SECONDS
                after = max([after, *(entry["sequence"] for entry in answer["entries"])])
                yield answer
            return
        except Unavailable as problem:
            if seconds_left is not None and seconds_left() <= 0:
                raise Unavailable(f"{saga_id} is not settled in time") from None
            if not has_answered:
                raise
            if pause == _PAUSE_SECONDS:
                warn(f"{problem.lines[0]}; watching again from entry {after} on")
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE_MAX_SECONDS)
