"""The same as a worker: one that answers every task at once. It is not what is being measured."""

from __future__ import annotations

import asyncio
import sys

from saga_client.worker import Refused, Task, Worker


async def perform(task: Task) -> None:
    """Refuses the action of the step that the saga's input names in `refuse`, so that rollbacks can be measured too."""
    is_refused = task.message.input.struct_value.fields["refuse"].string_value == task.message.step
    if is_refused and not task.is_compensation:
        raise Refused("as asked")


def main() -> None:
    worker = Worker(sys.argv[1], "worker", credits=1024)
    worker.method("perform")(perform)
    asyncio.run(worker.run())


if __name__ == "__main__":
    main()
