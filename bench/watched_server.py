"""A coordinator that tells how long its event loop stood still: `python -m bench.watched_server URL ADDRESS FILE [STACKS]`.

It is the program itself, with a probe on its loop. At each line that it reads it writes the longest standstill since the line
before, as JSON: in milliseconds of processor time, of the loop's own thread and of the whole process. The second also counts the
work of other threads that keep the interpreter to themselves; neither counts other processes. The longest garbage collection is
told as well. With a file for STACKS, stacks of
all threads are written there wherever the loop stands still.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

from saga_coordinator import app
from saga_coordinator.config import load_settings

SHOWN_MS: Final = 15.0
_TICK_SECONDS: Final = 0.001
_STACK_SECONDS: Final = 0.004


class Probe:
    """Wakes every millisecond, and counts what was worked in between."""

    def __init__(self, stacks: TextIO | None) -> None:
        self._stacks = stacks
        self.loop_ms = 0.0
        self.process_ms = 0.0
        self.collection_ms = 0.0
        self._collection_began = 0.0
        gc.callbacks.append(self._collected)

    def _collected(self, phase: str, _: dict[str, Any]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._collection_began = now
        else:
            self.collection_ms = max(self.collection_ms, 1000 * (now - self._collection_began))

    async def watch(self) -> None:
        thread, process, written = time.thread_time(), time.process_time(), self._written()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            thread_now, process_now = time.thread_time(), time.process_time()
            self.loop_ms = max(self.loop_ms, 1000 * (thread_now - thread))
            self.process_ms = max(self.process_ms, 1000 * (process_now - process))
            if self._stacks is not None and 1000 * (process_now - process) > SHOWN_MS:
                os.write(
                    self._stacks.fileno(),
                    f"==== stood still for {1000 * (process_now - process):.0f} ms from {written}\n".encode(),
                )
            thread, process, written = time.thread_time(), time.process_time(), self._written()

    def _written(self) -> int:
        return 0 if self._stacks is None else os.lseek(self._stacks.fileno(), 0, os.SEEK_CUR)

    def read(self) -> dict[str, float]:
        """The longest since it was read last."""
        read = {
            "loop_ms": self.loop_ms,
            "process_ms": self.process_ms,
            "collection_ms": self.collection_ms,
        }
        self.loop_ms = self.process_ms = self.collection_ms = 0.0
        return read


def main(url: str, address: str, participants: str, stacks: str = "") -> None:
    settings = load_settings(
        {
            "database_url": url,
            "addresses": (address,),
            "participants": participants,
        },
        {},
    )
    file = Path(stacks).open("w") if stacks else None  # noqa: SIM115  # to the end
    probe = Probe(file)

    def announce(addresses: tuple[str, ...]) -> None:
        loop = asyncio.get_running_loop()
        tasks.append(loop.create_task(probe.watch()))
        loop.add_reader(sys.stdin.fileno(), tell)
        if file is not None:
            faulthandler.register(signal.SIGPROF, file=file, all_threads=True, chain=False)
            signal.setitimer(signal.ITIMER_PROF, _STACK_SECONDS, _STACK_SECONDS)
        print(json.dumps({"addresses": addresses}), flush=True)

    def tell() -> None:
        if not sys.stdin.readline():
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            return
        print(json.dumps(probe.read()), flush=True)

    tasks: list[Any] = []
    app.run(settings, announce)


if __name__ == "__main__":
    main(*sys.argv[1:])
