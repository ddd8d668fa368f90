"""The one table: every system under every shape, in rounds in which they take turns, so that the machine's moods hit all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from bench.processes import BenchError
from bench.record import RELAY, Record, Sample, Shape, not_measured, summarise
from bench.system import System

_PATIENCE: Final = 4
_GRACE_SECONDS: Final = 30.0
_HEADER = (
    f"{'system':30} {'shape':22} {'sagas/s':>8} {'lowest-highest':>15} {'p50 ms':>8} {'p99 ms':>8} "
    f"{'of relay':>8}  us a saga"
)


class Comparison:
    """Systems under way. `samples` are one a round; `reasons` say why a system, or a system under a shape, has none."""

    def __init__(self, systems: Sequence[System], shapes: Sequence[Shape]) -> None:
        self._systems = systems
        self._shapes = shapes
        self._samples: dict[tuple[str, Shape], list[Sample]] = {}
        self._reasons: dict[tuple[str, Shape], str] = {}

    async def run(self, *, seconds: float, rounds: int) -> list[Record]:
        """Records of all systems under all shapes that they take."""
        try:
            for system in self._systems:
                await self._start(system)
            for number in range(rounds):
                # The other way round every other time: what one leaves behind does not always hit the same next one.
                systems = self._systems if number % 2 == 0 else self._systems[::-1]
                for shape in self._shapes:
                    print(
                        f"\rround {number + 1} of {rounds}: {shape!s:30}", end="", file=sys.stderr, flush=True
                    )
                    for system in systems:
                        await self._take(system, shape, seconds)
        finally:
            print(file=sys.stderr)
            for system in self._systems:
                await system.stop()
        return [record for shape in self._shapes for record in self._records(shape)]

    async def _start(self, system: System) -> None:
        try:
            await system.start()
        except BenchError as error:
            self._reasons |= {(system.name, shape): str(error) for shape in self._shapes}
        else:
            system.rest()

    async def _take(self, system: System, shape: Shape, seconds: float) -> None:
        key = (system.name, shape)
        if not system.takes(shape) or key in self._reasons:
            return
        system.wake()
        try:
            async with asyncio.timeout(_PATIENCE * seconds + _GRACE_SECONDS):
                self._samples.setdefault(key, []).append(await system.run(shape, seconds))
        except BenchError as error:
            self._reasons[key] = str(error)
        except TimeoutError:
            self._reasons[key] = "did not end within the time that it was given"
        finally:
            system.rest()

    def _records(self, shape: Shape) -> Iterator[Record]:
        relay = self._samples.get((RELAY, shape))
        for system in self._systems:
            key = (system.name, shape)
            if key in self._reasons and system.takes(shape):
                yield not_measured(system.name, shape, self._reasons[key])
            elif key in self._samples:
                yield summarise(system.name, shape, self._samples[key], relay)


def print_table(records: Iterable[Record]) -> None:
    print(_HEADER)
    for each in records:
        shape = f"{each.steps}-step {each.shape} at {each.concurrency}"
        if each.sagas_per_second is None:
            print(f"{each.system:30} {shape:22} not measured: {each.reason}")
            continue
        spread = f"{each.sagas_per_second_low:.0f}-{each.sagas_per_second_high:.0f}"
        ratio = "" if each.ratio_to_relay is None else f"{each.ratio_to_relay:.2f}"
        cpu = " ".join(f"{part} {us:.0f}" for part, us in each.cpu_us.items())
        print(
            f"{each.system:30} {shape:22} {each.sagas_per_second:8.0f} {spread:>15} {each.p50_ms:8.1f} "
            f"{each.p99_ms:8.1f} {ratio:>8}  {cpu}"
        )
