"""What nothing that keeps its promises on this machine can beat: commits alone, the journal alone, the load's own ceiling.

The third floor, the bare relay, is one of the systems that take turns.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import time
import uuid
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.load import STEPS
from bench.system import Site
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.inputs import AttemptEnded, StartRequested
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Succeeded
from saga_coordinator.store import schema
from saga_coordinator.store.appends import Append, Move, Start
from saga_coordinator.store.database import Database
from saga_coordinator.store.embedded.binaries import find_binaries
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.log_writer import PostgresLog

COORDINATOR: Final = "00000000-0000-4000-8000-000000000001"


async def commits(site: Site, concurrency: int, seconds: float) -> dict[str, Any]:
    """Transactions of one small insert, by pgbench where Postgres came with it, else by a loop of ours."""
    site.ask("CREATE TABLE IF NOT EXISTS commits (id uuid DEFAULT gen_random_uuid(), body text)")
    program = find_binaries() / "pgbench"
    if program.exists():
        rate = await asyncio.to_thread(_pgbench, site, str(program), concurrency, seconds)
        return {"floor": "commits, by pgbench", "concurrency": concurrency, "per_second": round(rate, 1)}
    rate = await _commit_loop(site, concurrency, seconds)
    return {"floor": "commits, by psycopg", "concurrency": concurrency, "per_second": round(rate, 1)}


def _pgbench(site: Site, program: str, concurrency: int, seconds: float) -> float:
    script = site.folder / "commit.sql"
    script.write_text("INSERT INTO commits (body) VALUES ('a step of a saga');\n", encoding="utf-8")
    command = [program, "--no-vacuum", f"--client={concurrency}", "--protocol=prepared"]
    command += ["--jobs=2", f"--time={max(3, round(seconds))}", f"--file={script}"]
    # Its variables, because the password in its arguments could be seen by every user of the machine.
    given = {f"PG{name.upper()}": str(value) for name, value in conninfo_to_dict(site.postgres.dsn).items()}
    environment = {**os.environ, **given, "PGDATABASE": "postgres"}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = re.search(r"tps = ([\d.]+)", answer.stdout)
    assert found is not None, answer.stdout
    return float(found[1])


async def _commit_loop(site: Site, concurrency: int, seconds: float) -> float:
    counts: list[int] = []
    began = time.perf_counter()

    async def client() -> None:
        connection = await psycopg.AsyncConnection.connect(site.postgres.dsn, autocommit=True)
        done = 0
        async with connection:
            while time.perf_counter() < began + seconds:
                await connection.execute("INSERT INTO commits (body) VALUES ('a step of a saga')")
                done += 1
        counts.append(done)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return sum(counts) / (time.perf_counter() - began)


def appends_of_saga(number: int) -> list[Append]:
    """What the core decides about a 2-step saga that succeeds: three appends, as the engine would make them."""
    definition = parse_definition(
        {
            "name": "floor",
            "steps": [
                {"name": name, "action": {"participant": "p"}, "compensation": {"participant": "p"}}
                for name in STEPS[:2]
            ],
        }
    )
    decided = decide(definition, None, StartRequested("floor", 1, {"refuse": "", "order": 1}, {}), 0.0, 0.5)
    saga_id = str(uuid.UUID(int=(0x01A0 << 112) | (7 << 76) | (2 << 62) | number))
    start = Start(f"floor-{saga_id}", b"digest", "floor", 1, {}, None)
    appends = []
    sequence = 1
    for step in STEPS[:2]:
        status = decided.state.status
        is_first = sequence == 1
        move = Move(status, None, (), is_owned=True) if is_first else None
        appends.append(
            Append(saga_id, DEFAULT_NAMESPACE, sequence, decided.entries, start if is_first else None, move)
        )
        sequence += len(decided.entries)
        ended = AttemptEnded(step, OperationKind.ACTION, 1, Succeeded(None))
        decided = decide(definition, decided.state, ended, 0.0, 0.5)
    last = Move(decided.state.status, None, (), is_owned=False)
    return [*appends, Append(saga_id, DEFAULT_NAMESPACE, sequence, decided.entries, None, last)]


async def journal(site: Site, concurrency: int, seconds: float) -> dict[str, Any]:
    """Sagas whose three appends are committed through the journal, with nothing around it."""
    url = site.make_database("journal")
    await asyncio.to_thread(schema.upgrade, url)
    templates = appends_of_saga(0)
    numbers = itertools.count(1)
    database = Database(url)
    journal = Journal(PostgresLog(database, COORDINATOR), COORDINATOR)
    await journal.start()
    done = 0
    began, worked = time.perf_counter(), time.process_time()

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            for append in with_number(templates, next(numbers)):
                await journal.append(append)
            done += 1

    try:
        await asyncio.gather(*(client() for _ in range(concurrency)))
        elapsed, spent = time.perf_counter() - began, time.process_time() - worked
    finally:
        await journal.stop()
        await database.stop()
    return {
        "floor": "the journal alone, 2-step sagas",
        "concurrency": concurrency,
        "per_second": round(done / elapsed, 1),
        "cpu_us": round(1e6 * spent / max(1, done), 1),
    }


def with_number(templates: list[Append], number: int) -> list[Append]:
    """The same appends for another saga."""
    saga_id = str(uuid.UUID(int=(0x01A0 << 112) | (7 << 76) | (2 << 62) | number))
    made = []
    for each in templates:
        start = each.start and Start(
            f"floor-{number}",
            each.start.request_digest,
            each.start.definition,
            each.start.version,
            each.start.labels,
            None,
        )
        made.append(Append(saga_id, DEFAULT_NAMESPACE, each.sequence, each.entries, start, each.move))
    return made


async def floors(site: Site, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Each floor at several concurrencies, in rounds; the median rate with the extremes of the rounds."""
    takes = [
        (measure, concurrency)
        for measure, concurrencies in ((commits, (1, 16, 64)), (journal, (1, 64, 256)))
        for concurrency in concurrencies
    ]
    taken: list[list[dict[str, Any]]] = [[] for _ in takes]
    for _ in range(rounds):
        for results, (measure, concurrency) in zip(taken, takes, strict=True):
            results.append(await measure(site, concurrency, seconds))
    found = []
    for results in taken:
        ranked = sorted(results, key=lambda each: float(each["per_second"]))
        extremes = {"low": ranked[0]["per_second"], "high": ranked[-1]["per_second"]}
        found.append({**ranked[len(ranked) // 2], **extremes, "rounds": rounds})
    for each in found:
        spread = f"{each['low']:.0f}-{each['high']:.0f}"
        print(f"{each['floor']:34} at {each['concurrency']:3}: {each['per_second']:8.0f} a second ({spread})")
    return found
