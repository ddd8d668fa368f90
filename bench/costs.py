"""Where the time goes: round trips and statements by pg_stat_statements, and the coordinator's processor time by room."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from bench.ours import WAYS, Coordinators, Ours
from bench.record import Shape
from bench.system import Site

SHAPES: Final = (
    Shape("success", 2, 1),
    Shape("rollback", 2, 1),
    Shape("success", 2, 64),
    Shape("rollback", 2, 32),
)
PROFILED: Final = Shape("success", 2, 64)
_STATEMENTS_MAX: Final = 6

# The innermost frame that is in one of these says whose the time is; the first that matches.
_PLACES: Final = (
    ("saga_coordinator/saga/", "core: decide, fold, expressions"),
    ("saga_coordinator/engine/", "engine"),
    ("saga_coordinator/store/", "store"),
    ("saga_coordinator/participants/", "participants"),
    ("saga_coordinator/api/", "api"),
    ("saga_coordinator/telemetry", "telemetry"),
    ("saga_coordinator/views/", "views"),
    ("saga_coordinator/wire/", "wire"),
    ("saga_coordinator/catalog/", "catalog"),
    ("saga_coordinator/pb", "protobuf"),
    ("google/protobuf", "protobuf"),
    ("_message.abi3", "protobuf"),
    ("grpc/", "gRPC"),
    ("cygrpc", "gRPC"),
    ("psycopg", "psycopg and SQLAlchemy"),
    ("libpq", "psycopg and SQLAlchemy"),
    ("sqlalchemy", "psycopg and SQLAlchemy"),
    ("gc_collect_main", "garbage collection"),
)
# A thread that waits is sampled too; libc's waits that have no name of their own are shown by address.
_WAITING: Final = ("epoll_wait", "epoll_pwait", "poll", "0x")
_OTHER: Final = "event loop and interpreter"


async def costs(site: Site, seconds: float) -> dict[str, Any]:
    """Taken apart from the timed rounds, since counting statements and sampling stacks have their own cost."""
    group = Coordinators(site, "costs")
    systems = [Ours(group, way) for way in WAYS]
    found: dict[str, Any] = {"statements": [], "profile": []}
    try:
        for system in systems:
            await system.start()
        for system in systems:
            for shape in SHAPES if site.has_statements else ():
                found["statements"].append(await _statements(site, group, system, shape, seconds))
            found["profile"].append(await _profile(site, group, system, seconds))
    finally:
        for system in systems:
            await system.stop()
    _print(found)
    return found


async def _statements(
    site: Site, group: Coordinators, system: Ours, shape: Shape, seconds: float
) -> dict[str, Any]:
    # The warming up is counted too: by the sagas in the database, not by those of the timed part.
    site.count_statements("top")
    await asyncio.sleep(0.5)  # sessions read it when they next are told to, which nothing shows
    site.ask("SELECT pg_stat_statements_reset()")
    before = _sagas(site, group)
    sample = await system.run(shape, seconds)
    sagas = max(1, _sagas(site, group) - before)
    rows = site.ask(
        "SELECT regexp_replace(query, '\\s+', ' ', 'g'), calls, total_exec_time FROM pg_stat_statements"
        f" JOIN pg_database ON oid = dbid WHERE datname = '{group.name}' ORDER BY total_exec_time DESC"
    )
    site.count_statements("none")
    queries = [row for row in rows if "FROM saga.sagas" not in row[0] or "count(*)" not in row[0]]
    return {
        "system": system.name,
        "shape": shape.outcome,
        "steps": shape.steps,
        "concurrency": shape.concurrency,
        "round_trips_per_saga": round(sum(row[1] for row in queries) / sagas, 3),
        "commits_per_saga": round(sample.commits or 0.0, 3),
        "wal_bytes_per_saga": round(sample.wal_bytes or 0.0),
        "statements": [
            {
                "statement": query[:100],
                "calls_per_saga": round(calls / sagas, 3),
                "us_per_saga": round(1000 * milliseconds / sagas, 1),
            }
            for query, calls, milliseconds in queries[:_STATEMENTS_MAX]
        ],
    }


def _sagas(site: Site, group: Coordinators) -> int:
    return int(site.ask("SELECT count(*) FROM saga.sagas", group.name)[0][0])


async def _profile(site: Site, group: Coordinators, system: Ours, seconds: float) -> dict[str, Any]:
    """Shares of the coordinator's time on the processor by room, as py-spy samples it."""
    described = {"system": system.name, "steps": PROFILED.steps, "concurrency": PROFILED.concurrency}
    program = Path(sys.executable).parent / "py-spy"
    if not program.exists():
        return {**described, "reason": "py-spy is not installed"}
    output = site.folder / "profile.txt"
    command = [
        str(program),
        "record",
        "--native",
        "--pid",
        str(group.pid),
        "--rate",
        "100",
        "--format",
        "raw",
    ]
    duration = max(3, round(3 * seconds))
    command += ["--duration", str(duration), "--output", str(output)]
    driving = asyncio.create_task(system.run(PROFILED, duration + 1.0))
    done = await asyncio.to_thread(
        lambda: subprocess.run(command, check=False, capture_output=True, text=True)
    )
    sample = await driving
    if done.returncode:
        return {**described, "reason": f"py-spy: {done.stderr.strip().splitlines()[-1:]}"}
    shares = shares_of(output.read_text(encoding="utf-8").splitlines())
    return {**described, "cpu_us": round(sample.cpu_us["coordinator"], 1), "shares": shares}


def shares_of(lines: Iterable[str]) -> dict[str, float]:
    """From py-spy's raw lines, `frame (file:line);frame ... COUNT`: the share of each room in what was not waiting."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not ("libc" in frames[-1] and frames[-1].startswith(_WAITING)):
            counts[_place_of(frames)] += int(count)
    total = sum(counts.values()) or 1
    return {place: round(count / total, 3) for place, count in counts.most_common()}


def _place_of(frames: list[str]) -> str:
    for frame in reversed(frames):
        for mark, place in _PLACES:
            if mark in frame:
                return place
    return _OTHER


def _print(found: dict[str, Any]) -> None:
    for each in found["statements"]:
        print(
            f"{each['system']:14} {each['steps']}-step {each['shape']:8} at {each['concurrency']:3}: "
            f"{each['round_trips_per_saga']:6.2f} round trips, {each['commits_per_saga']:5.2f} commits, "
            f"{each['wal_bytes_per_saga']:6.0f} bytes of log a saga"
        )
    for each in found["profile"]:
        print(
            f"{each['system']:14} {each.get('reason') or ', '.join(f'{k} {v:.0%}' for k, v in each['shares'].items())}"
        )
