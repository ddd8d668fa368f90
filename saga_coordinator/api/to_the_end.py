"""Carries work to its end, also when the caller hangs up meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from saga_coordinator import telemetry
from saga_coordinator.lifecycle import Background
from saga_coordinator.saga.words.errors import SagaError

_T = TypeVar("_T")

log = telemetry.logger()

_unfinished = Background()


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Awaits `work`, which goes on to its end also when the caller hangs up or their deadline passes.

    Work that the coordinator has begun for a caller must not stop half-way: a start would be durable and yet not driven.
    """
    task = _unfinished.begin("work that goes on to its end", work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_ended_unheard)
        raise


def _ended_unheard(task: asyncio.Future[Any]) -> None:
    """Ends work whose caller is gone. Nobody is told how it ended, but a defect is logged."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, SagaError):
        log.error("unheard_call_failed", exc_info=error)
