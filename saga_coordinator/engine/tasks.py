"""How a task that runs all the time is ended."""

from __future__ import annotations

import asyncio
from typing import Any

_MOMENT_SECONDS = 1.0


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancels a task. One that cannot stop at once, because the database does not even answer that, is left behind."""
    if task is not None:
        task.cancel()
        await asyncio.wait({task}, timeout=_MOMENT_SECONDS)
