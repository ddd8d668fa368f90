"""What many sagas cost: a burst, sick participants, a crowd, many workers, and one more coordinator.

    python -m proof.torture.scale              all of them
    python -m proof.torture.scale burst        50,000 starts at once on three coordinators: accepted, drained, counted
    python -m proof.torture.scale sick         40 healthy sagas at a time, beside one that hangs and one that fails half its calls
    python -m proof.torture.scale crowd        5,000 sagas at once on a participant that takes 64 calls at a time
    python -m proof.torture.scale dialling     10,000 workers that dial one coordinator at the same instant, each on a connection
    python -m proof.torture.scale adding       throughput with one coordinator, with a second one, and without it again

Figures are measured and shown; what must hold whatever the machine (counts, nothing lost) is checked, and the
exit code is 1 where it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import uvloop

from proof.torture.definitions import SLOW, STEADY
from proof.torture.dialling import dialling
from proof.torture.measuring import (
    Fault,
    effects_of,
    operation,
    scaled_world,
    statuses_of,
    until_drained,
)
from proof.torture.processes import eventually
from proof.torture.sick import crowd, sick


def _two_steps(name: str, method: str = STEADY) -> dict[str, Any]:
    return {
        "name": name,
        "steps": [
            {
                "name": step,
                "action": operation(participant, method),
                "compensation": operation(participant, STEADY),
            }
            for step, participant in (("take", "stock"), ("pay", "money"))
        ],
    }


BURST: Final = _two_steps("burst")
SLOW_BURST: Final = _two_steps("slow-burst", SLOW)


async def burst(sagas: int = 50_000, in_flight: int = 256) -> list[Fault]:
    async with scaled_world([BURST], coordinators=3) as (world, clients):
        began_at = time.monotonic()
        await clients.many((clients.start("burst", f"burst-{n}") for n in range(sagas)), in_flight)
        accepted = time.monotonic() - began_at
        done_already = statuses_of(world).get("COMPLETED", 0)
        drained = await until_drained(world, sagas, 600)
        counts = statuses_of(world)
        effects = [effects_of(world, name) for name in ("stock", "money")]
    print(f"burst: {sagas} starts accepted in {accepted:.1f} s, {sagas / accepted:.0f} a second, while")
    print(
        f"       {done_already} completed; the rest drained in {drained:.1f} s; {clients.repeated} repeated"
    )
    print(f"       ended: {counts}; effects and keys at each participant: {effects}")
    is_exact = counts == {"COMPLETED": sagas} and effects == [(sagas, sagas)] * 2
    return [] if is_exact else [f"burst: {sagas} sagas were started, but {counts}, {effects}"]


async def adding(seconds: float = 12.0) -> list[Fault]:
    """Twice: with calls that take no time, so that the processor is the limit, and with slow ones, so that the room is."""
    faults = await _adding(BURST, seconds, 64, {})
    faults += await _adding(SLOW_BURST, seconds, 120, {"--sagas-in-memory-max": 40})
    return faults


async def _adding(
    spec: Mapping[str, Any], seconds: float, in_flight: int, flags: Mapping[str, object]
) -> list[Fault]:
    rates: list[float] = []
    name = spec["name"]
    numbers = itertools.count()
    async with scaled_world([spec], coordinators=2, started=1, flags=flags) as (world, clients):
        _, second = world.coordinators

        async def load(change: Callable[[], None] | None = None) -> None:
            give_up_at = time.monotonic() + seconds
            before = next(numbers)

            def starts() -> Iterator[Awaitable[Any]]:
                while time.monotonic() < give_up_at:
                    yield clients.start(name, f"adding-{next(numbers)}", wait=True)

            if change is not None:
                asyncio.get_running_loop().call_later(seconds / 2, change)
            began_at = time.monotonic()
            await clients.many(starts(), in_flight)
            rates.append((next(numbers) - before - 1) / (time.monotonic() - began_at))

        await load()
        second.start()
        await second.wait_until_serving()
        clients.addresses.append(second.address)
        await load()

        def leave() -> None:
            second.life.popen.send_signal(signal.SIGTERM)
            clients.addresses.remove(second.address)

        await load(leave)
        await eventually(lambda: not second.is_alive, "the second coordinator to stop")
        await until_drained(world, sum(statuses_of(world).values()), 60)
        counts = statuses_of(world)
        effects = [effects_of(world, name) for name in ("stock", "money")]
        code = second.life.popen.returncode
    print(
        f"adding ({name}): {rates[0]:.0f} sagas a second with one coordinator, {rates[1]:.0f} with two,"
        f" ratio {rates[1] / rates[0]:.2f};"
    )
    print(
        f"        {rates[2]:.0f} while the second one left (code {code}); ended: {counts}; effects: {effects}"
    )
    sagas = counts.get("COMPLETED", 0)
    is_exact = set(counts) == {"COMPLETED"} and effects == [(sagas, sagas)] * 2 and code == 0
    return [] if is_exact else [f"adding: {counts}, {effects}, code {code}"]


MEASURES: Final[Mapping[str, Callable[[], Awaitable[list[Fault]]]]] = {
    "sick": sick,
    "crowd": crowd,
    "dialling": dialling,
    "adding": adding,
    "burst": burst,
}


async def _measure(names: Sequence[str]) -> list[Fault]:
    faults: list[Fault] = []
    for name in names:
        faults += await MEASURES[name]()
        sys.stdout.flush()
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.torture.scale")
    parser.add_argument("measures", nargs="*", choices=[[], *MEASURES], help="default: all")
    given = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            faults = runner.run(_measure(given.measures or list(MEASURES)))
    except KeyboardInterrupt:
        print("scale: stopped")
        return 130
    for fault in faults:
        print(f"fault: {fault}")
    print(f"scale: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
