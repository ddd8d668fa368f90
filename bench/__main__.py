"""`python -m bench`, or `make bench`: how fast, against what, and where the time goes.

Real processes, a real Postgres that syncs every commit, every step durable, and every part on this machine's cores. Sections:

    systems    sagas a second and latency: ours, the bare relay, and peers, taking turns
    processes  ours with one, two and four processes
    floors     commits alone, the journal alone
    costs      round trips, statements, and the coordinator's time by room
    growth     beside ended and sleeping sagas, and started beside unfinished ones
    scenario   a shop's hours in compressed time: spikes, a gateway that fails and is slow at times
    faults     one of three coordinators killed; a participant that hangs

What is measured is printed and kept in bench/results/latest.json, section by section.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import uvloop

from bench.comparison import Comparison, print_table
from bench.costs import costs
from bench.faults import faults
from bench.floors import floors
from bench.growth import growth
from bench.http2 import CallFailed
from bench.load import WrongAnswer
from bench.machine import busy_share, machine, yardstick_us
from bench.ours import WAYS, BareRelay, Coordinators, Ours
from bench.peer_systems import PythonPeer, RestatePeer
from bench.processes import BenchError, scratch_folder
from bench.record import Record, Shape, write_section
from bench.scenario import scenario
from bench.system import Site, System


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured. `seconds` is one figure's, once warm; each is taken in every one of `rounds`."""

    seconds: float
    rounds: int
    is_full: bool


def _shapes(extent: Extent) -> list[Shape]:
    if extent.is_full:
        concurrencies = (1, 16, 64, 256)
        shapes = [
            Shape(outcome, steps, concurrency)
            for steps in (2, 3)
            for outcome in ("success", "rollback")
            for concurrency in concurrencies
        ]
        return [*shapes, Shape("rollback", 2, 32)]
    return [
        Shape("success", 2, 1),
        Shape("success", 2, 64),
        Shape("success", 2, 256),
        Shape("rollback", 2, 32),
        Shape("success", 3, 1),
        Shape("success", 3, 64),
    ]


async def _systems(site: Site, extent: Extent) -> list[Record]:
    group = Coordinators(site, "ours")
    systems: list[System] = [BareRelay(site), *(Ours(group, way) for way in WAYS)]
    systems += [
        PythonPeer(site, "DBOS 3.4", "dbos_saga.py"),
        PythonPeer(site, "Absurd 0.5", "absurd_saga.py"),
        RestatePeer(site),
    ]
    return await _compared(systems, _shapes(extent), extent)


async def _processes(site: Site, extent: Extent) -> list[Record]:
    """With one process among them, so that what several are compared with was measured beside them."""
    systems: list[System] = [BareRelay(site)]
    for processes in (1, 2, 4):
        group = Coordinators(site, f"ours-{processes}", processes=processes)
        systems += [Ours(group, way) for way in WAYS]
    successes = (Shape("success", 2, concurrency) for concurrency in (16, 64, 256))
    return await _compared(systems, [*successes, Shape("rollback", 2, 32)], extent)


async def _compared(systems: list[System], shapes: list[Shape], extent: Extent) -> list[Record]:
    records = await Comparison(systems, shapes).run(seconds=extent.seconds, rounds=extent.rounds)
    print_table(records)
    return records


async def _growth(site: Site, extent: Extent) -> Any:
    return await growth(
        site,
        ended=(0, 1_000_000, 10_000_000) if extent.is_full else (0, 100_000),
        sleeping=1_000_000 if extent.is_full else 100_000,
        unfinished=(1, 1000, 10_000, 50_000) if extent.is_full else (1, 1000),
        seconds=extent.seconds,
        # What is asked is a difference of a few hundredths, and three rounds differ by a tenth.
        rounds=4 * extent.rounds,
    )


Section = Callable[[Site, Extent], Awaitable[Any]]
SECTIONS: Final[Mapping[str, Section]] = {
    "systems": _systems,
    "processes": _processes,
    "floors": lambda site, extent: floors(site, extent.seconds, extent.rounds),
    "costs": lambda site, extent: costs(site, extent.seconds),
    "growth": _growth,
    "scenario": lambda site, extent: scenario(site, 6 if extent.is_full else 1),
    "faults": lambda site, extent: faults(site, 2 * extent.seconds, extent.rounds if extent.is_full else 1),
}

SHORT: Final = ("systems", "floors", "costs")
"""What is measured unless all is asked for: enough to see what a change has done."""


async def _measure(names: Sequence[str], extent: Extent) -> list[str]:
    """Returns why sections could not be taken; the others are, and are kept."""
    faults: list[str] = []
    settings = machine() | {"seconds": extent.seconds, "rounds": extent.rounds, "full": extent.is_full}
    for name, value in settings.items():
        print(f"{name:12} {value}")
    for name in names:
        settings |= {"busy": busy_share(), "yardstick_us": yardstick_us()}
        # Each section on a Postgres of its own: what one leaves to be vacuumed is not the next one's.
        with scratch_folder() as folder:
            async with Site(folder) as site:
                print(f"\n{name}", flush=True)
                try:
                    write_section(name, await SECTIONS[name](site, extent), settings)
                except (BenchError, CallFailed, WrongAnswer) as error:
                    faults.append(f"{name}: {type(error).__name__}: {error}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", choices=[[], *SECTIONS], help="default: all with --full, else those of minutes"
    )
    parser.add_argument("--full", action="store_true", help="every shape, every system, every size")
    parser.add_argument("--seconds", type=float, help="how long each figure is taken [1; full: 3]")
    parser.add_argument("--rounds", type=int, help="how often [2; full: 3]")
    given = parser.parse_args()
    # So that whatever ends us leaves no process behind; in the background SIGINT may have come to us as ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    extent = Extent(
        given.seconds or (3.0 if given.full else 1.0), given.rounds or (3 if given.full else 2), given.full
    )
    told = uvloop.run(_measure(given.sections or list(SECTIONS if given.full else SHORT), extent))
    for fault in told:
        print(fault, file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
