"""The saga as DBOS' documentation writes it: a workflow of steps, and its own undoing in `except`."""

from __future__ import annotations

import sys

import uvloop
from asked import STEPS, Participant, Refused, serve
from dbos import DBOS, DBOSConfig, SetWorkflowID

database, target = sys.argv[1:3]
participants: list[Participant] = []


@DBOS.step()
async def act(saga_id: str, step: str, refused: str) -> str:
    return await participants[0].act(saga_id, step, refused)


@DBOS.step()
async def undo(saga_id: str, step: str) -> None:
    await participants[0].undo(saga_id, step)


@DBOS.workflow()
async def order(saga_id: str, refused: str) -> str:
    done: list[str] = []
    try:
        for step in STEPS:
            await act(saga_id, step, refused)
            done.append(step)
    except Refused:
        for step in reversed(done):
            await undo(saga_id, step)
        return "compensated"
    return "completed"


async def run(saga_id: str, refused: str) -> str:
    with SetWorkflowID(saga_id):
        return await order(saga_id, refused)


async def main() -> None:
    participants.append(Participant(target))
    await serve(run)


if __name__ == "__main__":
    config: DBOSConfig = {"name": "bench", "system_database_url": database, "log_level": "WARNING"}
    DBOS(config=config)
    DBOS.launch()
    try:
        uvloop.run(main())
    finally:
        DBOS.destroy()
