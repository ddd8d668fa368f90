"""`make bench-guard`: whether a change made sagas dearer, by ratios that hold on any machine, busy or not.

Nothing here is a time on a clock. Each measure is processor time of our code over processor time of a yardstick that does not
change, taken in turns in the same minute, the least of several; more than the baseline by more than the tolerance fails.

    core      deciding and folding a saga, over a fixed loop of Python
    journal   a flush of 64 appends, over psycopg sending as many rows of the same size
    calls     the coordinator's processor time a saga, over the bare relay's (unary and by worker's stream)

`python -m bench.guard --write` takes what is measured for the new baseline: after an improvement, or a price that is worth it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
import uvloop
from psycopg.types.array import ListBinaryDumper

from bench.floors import COORDINATOR, appends_of_saga, with_number
from bench.load import STEPS
from bench.machine import yardstick
from bench.ours import BareRelay, Coordinators, Ours
from bench.processes import scratch_folder
from bench.record import Shape
from bench.system import Site, System
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.inputs import AttemptEnded, StartRequested
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode, encode
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Refused, Succeeded
from saga_coordinator.store import schema
from saga_coordinator.store.appends import written
from saga_coordinator.store.database import Database
from saga_coordinator.store.log_writer import PostgresLog

BASELINE: Final = Path(__file__).with_name("guard_baseline.json")
SHAPE: Final = Shape("success", 2, 32)
ROUNDS: Final = 5
_CALL_SECONDS: Final = 1.2
_WRITTEN_RUNS: Final = 3
_TRIALS: Final = 500
_FLUSHES: Final = 300
_APPENDS: Final = 64


def core() -> dict[str, float]:
    """Processor time of deciding a 2-step saga, over that of the yardstick."""
    call = {"participant": "p"}
    steps = [{"name": name, "action": call, "compensation": call} for name in STEPS[:2]]
    definition = parse_definition({"name": "guard", "steps": steps})

    def decided(last: Any, *, is_undone: bool) -> None:
        action, compensation = OperationKind.ACTION, OperationKind.COMPENSATION
        at = decide(definition, None, StartRequested("guard", 1, {"order": 1}, {}), 0.0, 0.5)
        at = decide(definition, at.state, AttemptEnded("first", action, 1, Succeeded({"id": 1})), 1.0, 0.5)
        at = decide(definition, at.state, AttemptEnded("second", action, 1, last), 2.0, 0.5)
        if is_undone:
            at = decide(
                definition, at.state, AttemptEnded("first", compensation, 1, Succeeded(None)), 3.0, 0.5
            )
        assert at.state.status == ("COMPENSATED" if is_undone else "COMPLETED")

    refused = Refused(Cause("NOT_FOUND", "as asked"))
    return {
        "core, success": _over_yardstick(lambda: decided(Succeeded(None), is_undone=False)),
        "core, rollback": _over_yardstick(lambda: decided(refused, is_undone=True)),
    }


def _over_yardstick(work: Callable[[], None]) -> float:
    """The least processor time of either in trials in which they take turns, short enough that some are not disturbed."""
    ours = measure = float("inf")
    for _ in range(_TRIALS):
        measure = min(measure, _spent(yardstick, 3))
        ours = min(ours, _spent(work, 20))
    return ours / measure


def _spent(work: Callable[[], None], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


async def journal(site: Site) -> dict[str, float]:
    """Processor time of flushes in this process, over that of sending the same bytes with nothing around them."""
    url = site.make_database("guard_journal")
    await asyncio.to_thread(schema.upgrade, url)
    site.ask("CREATE TABLE yardstick (a text, b int4, c text)", "guard_journal")
    templates = appends_of_saga(0)
    numbers = itertools.count(1)
    database = Database(url)
    ours = alone = float("inf")
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    try:
        async with PostgresLog(database, COORDINATOR).session() as session:
            for _ in range(_FLUSHES):
                began = time.process_time()
                await _send_yardstick(connection)
                alone = min(alone, time.process_time() - began)
                batch = [with_number(templates, next(numbers))[0] for _ in range(_APPENDS)]
                began = time.process_time()
                await session.write([written(append) for append in batch])
                ours = min(ours, time.process_time() - began)
    finally:
        await connection.close()
        await database.stop()
    return {"journal": ours / alone}


async def _send_yardstick(connection: psycopg.AsyncConnection) -> None:
    """Never to be changed."""
    cursor = psycopg.AsyncRawCursor(connection)
    cursor.adapters.register_dumper(list, ListBinaryDumper)
    bodies = [
        orjson.dumps({"number": number, "input": {"refuse": "", "order": number}, "labels": {}}).decode()
        for number in range(3 * _APPENDS)
    ]
    rows = [bodies, list(range(len(bodies))), [f"text-{number}" for number in range(len(bodies))]]
    query = "INSERT INTO yardstick SELECT * FROM unnest($1::text[], $2::int4[], $3::text[])"
    await cursor.execute(query, rows, prepare=True)


def replay() -> dict[str, float]:
    """Processor time of reading a saga's log back, over that of the yardstick."""
    entries = [entry for append in appends_of_saga(0) for entry in append.entries]
    stored = [_through_json(encode(entry)) for entry in entries]

    def read() -> None:
        for each in stored:
            decode(each)

    return {"log, read back": _over_yardstick(read)}


def _through_json(stored: StoredEntry) -> StoredEntry:
    return StoredEntry(
        stored.type, stored.step, stored.operation, stored.attempt, orjson.loads(orjson.dumps(stored.body))
    )


async def calls(site: Site) -> dict[str, float]:
    """Processor time of the coordinator a saga, over the relay's that makes the same calls."""
    group = Coordinators(site, "guard")
    relay = BareRelay(site)
    ours = {"calls, unary": Ours(group, "unary"), "calls, worker": Ours(group, "worker")}
    systems: dict[str, System] = {"relay": relay, **ours}
    least = dict.fromkeys(systems, float("inf"))
    try:
        for system in systems.values():
            await system.start()
        for _ in range(ROUNDS):
            for name, system in systems.items():
                sample = await system.run(SHAPE, _CALL_SECONDS)
                least[name] = min(least[name], sample.cpu_us["coordinator"])
    finally:
        for system in systems.values():
            await system.stop()
    return {name: least[name] / least["relay"] for name in ours}


async def measure() -> dict[str, float]:
    found = {**core(), **replay()}
    with scratch_folder() as folder:
        async with Site(folder) as site:
            found |= await journal(site)
            found |= await calls(site)
    return {name: round(ratio, 3) for name, ratio in found.items()}


def read_baseline(path: Path = BASELINE) -> dict[str, Any]:
    """`ratios` by measure and `tolerance`, the share by which one may be exceeded."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def complaints(found: Mapping[str, float], baseline: Mapping[str, Any]) -> list[str]:
    """What has become too dear, and what the baseline does not know."""
    tolerance = baseline["tolerance"]
    told = []
    for name, ratio in found.items():
        if (known := baseline["ratios"].get(name)) is None:
            told.append(f"{name}: not in the baseline; python -m bench.guard --write takes it up")
        elif ratio > known * (1 + tolerance):
            told.append(
                f"{name}: {ratio:.3f} where {known:.3f} was the baseline, {ratio / known - 1:+.0%}; {tolerance:.0%} are "
                "tolerated. Make it cheaper, or, if it is worth its price, python -m bench.guard --write"
            )
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.guard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="take what is measured for the baseline")
    given = parser.parse_args()
    found = uvloop.run(measure())
    if given.write:
        runs = [found, *(uvloop.run(measure()) for _ in range(_WRITTEN_RUNS - 1))]
        found = {name: statistics.median(run[name] for run in runs) for name in found}
        tolerance = read_baseline()["tolerance"] if BASELINE.exists() else 0.4
        content = {"tolerance": tolerance, "ratios": found}
        BASELINE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    baseline = read_baseline()
    if complaints(found, baseline):
        print("too dear; measured once more, since the machine may have been at fault")
        again = uvloop.run(measure())
        found = {name: min(ratio, again[name]) for name, ratio in found.items()}
    for name, ratio in found.items():
        known = baseline["ratios"].get(name)
        print(f"{name:16} {ratio:8.3f}   baseline {known}")
    told = complaints(found, baseline)
    for each in told:
        print(each, file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
