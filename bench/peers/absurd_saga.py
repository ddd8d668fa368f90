"""The saga as Absurd's documentation writes it: a task of steps, and its own undoing in `except`.

Four workers with a connection each. Its own wait for a result polls every 50 ms and then ever more rarely; so that latency is
not that of the poll, a customer is woken when the task's handler returns, and then asks every millisecond until it is committed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psycopg
import uvloop
from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL
from asked import STEPS, Participant, Refused, serve

WORKERS, CONCURRENCY, POLL_SECONDS = 4, 16, 0.01

returned: dict[str, asyncio.Event] = {}


def register(app: AsyncAbsurd, participant: Participant) -> None:
    @app.register_task(name="order")
    async def order(params: Any, ctx: Any) -> str:
        saga_id, refused = params["saga_id"], params["refused"]
        done: list[str] = []
        try:
            for step in STEPS:
                await ctx.step(step, lambda step=step: participant.act(saga_id, step, refused))
                done.append(step)
        except Refused:
            for step in reversed(done):
                await ctx.step(f"undo {step}", lambda step=step: participant.undo(saga_id, step))
            ended = "compensated"
        else:
            ended = "completed"
        returned[saga_id].set()
        return ended


async def main(database: str, target: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(BUNDLED_SCHEMA_SQL.encode())
    client = AsyncAbsurd(database)
    await client.create_queue("default")
    participant = Participant(target)
    workers = [AsyncAbsurd(database) for _ in range(WORKERS)]
    for app in (client, *workers):
        register(app, participant)
    working = [
        asyncio.create_task(app.start_worker(concurrency=CONCURRENCY, poll_interval=POLL_SECONDS))
        for app in workers
    ]

    async def run(saga_id: str, refused: str) -> str:
        event = returned[saga_id] = asyncio.Event()
        spawned = await client.spawn("order", {"saga_id": saga_id, "refused": refused})
        await event.wait()
        del returned[saga_id]
        while True:
            result = await client.fetch_task_result(spawned["task_id"])
            if result is not None and result.state in {"completed", "failed", "cancelled"}:
                return str(result.result or result.failure)
            await asyncio.sleep(0.001)

    await serve(run)
    for task in working:
        task.cancel()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))
