"""The same as a worker: one that answers every task at once, over so many streams. It is not what is being measured."""

from __future__ import annotations

import asyncio
import sys

from saga_client.worker import Refused, Task, Worker


async def perform(task: Task) -> None:
    """Refuses the action of the step that the saga's input names in `refuse`, so that rollbacks can be measured too."""
    is_refused = task.message.input.struct_value.fields["refuse"].string_value == task.message.step
    if is_refused and not task.is_compensation:
        raise Refused("as asked")


async def work(address: str, streams: int) -> None:
    workers = [Worker(address, "worker", credits=1024, worker_id=str(number)) for number in range(streams)]
    for worker in workers:
        worker.method("perform")(perform)
    await asyncio.gather(*(worker.run() for worker in workers))


def main() -> None:
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
