"""One run from beginning to end: set up, harm, let settle, check the books, tell, clean up."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from proof.torture.definitions import MIX, before, name_of
from proof.torture.evidence import Evidence, gather
from proof.torture.faults import Nemesis
from proof.torture.judge import judge
from proof.torture.load import Load
from proof.torture.processes import TortureError, World, lines_of
from proof.torture.replay import replay
from proof.torture.report import Result, show
from proof.torture.resumption import resumptions
from proof.violation import Violation
from saga_coordinator.saga.machine.transitions import SETTLED

CLIENTS_MAX = 300
UNSETTLED = "SELECT count(*) FROM saga.sagas WHERE status <> ALL (%s)"
PULSE_SECONDS = 0.1
STALL_SECONDS = 0.5
GRPC_NOISE = "ExecuteBatchError"
"""What gRPC logs by itself when an answer meets a caller that has just hung up."""
DEFECTS = frozenset({"saga_stuck", "crashed", "claiming_failed", "journal_failed"})
"""Events that a coordinator logs when it meets something that it should not have let happen."""


@dataclass(frozen=True, slots=True)
class Settings:
    seconds: float = 60.0
    seed: int = 1
    per_second: float = 40.0
    every_seconds: float = 0.7
    lease_seconds: float = 3.0
    settle_seconds: float = 60.0
    must_keep: bool = False
    parent: Path = field(default_factory=lambda: Path(".cache/torture"))


def main(settings: Settings) -> int:
    """Runs, tells, and returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(torture(settings))
    except KeyboardInterrupt:
        print("torture: stopped", flush=True)
        return 130
    show(result)
    sys.stdout.flush()
    return 1 if result.violations else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


async def torture(settings: Settings) -> Result:
    """Leaves nothing running, whatever happens. The folder stays when something was wrong; `Result.folder` names it."""
    folder = make_folder(settings.parent, f"seed-{settings.seed}-")
    world = World(folder, seed=settings.seed, lease_seconds=settings.lease_seconds)
    load = Load(world.addresses, settings.seed)
    must_keep = True
    try:
        result = await _run(settings, world, load)
        must_keep = bool(result.violations) or settings.must_keep
        return result
    except (KeyboardInterrupt, asyncio.CancelledError):
        must_keep = False
        raise
    finally:
        await load.close()
        await world.stop()
        shutil.rmtree(folder / "postgres", ignore_errors=True)
        if not must_keep:
            shutil.rmtree(folder, ignore_errors=True)


def make_folder(parent: Path, prefix: str) -> Path:
    """A new one, which the user that Postgres runs as may pass through."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent.resolve()))
    folder.chmod(0o711)
    return folder


async def _run(settings: Settings, world: World, load: Load) -> Result:
    await world.start([spec for spec, _ in MIX])
    stalls: list[tuple[float, float]] = []
    pulse = asyncio.create_task(_feel_pulse(world, stalls))
    nemesis = Nemesis(world, every_seconds=settings.every_seconds)
    began_at = time.monotonic()
    loading = asyncio.create_task(load.run(settings.seconds, settings.per_second, CLIENTS_MAX))
    await nemesis.run(settings.seconds)
    await loading
    load_seconds = time.monotonic() - began_at
    await load.finish(settings.settle_seconds)
    settled_after = await _settle(world, settings.settle_seconds)
    pulse.cancel()
    complaints = [*load.complaints, *nemesis.complaints, *await world.stop_coordinators()]
    for coordinator in world.coordinators:
        coordinator.read_lives()
        complaints += _defects(coordinator.name, coordinator.lives)
    evidence = gather(
        world.database_url,
        {name: participant.books for name, participant in world.participants.items()},
        load.wishes,
        {name_of(spec): before(spec) for spec, _ in MIX},
    )
    violations = [
        *(Violation("complaint", "", what) for what in complaints),
        *judge(evidence),
        *replay(evidence),
    ]
    result = Result(
        seed=settings.seed,
        lease_seconds=settings.lease_seconds,
        load_seconds=load_seconds,
        settled_after=settled_after,
        sagas=Counter(row.status for row in evidence.rows.values()),
        faults=nemesis.counts,
        troubles=Counter(call.trouble for calls in evidence.calls.values() for call in calls if call.trouble),
        clients=load.counts,
        calls=sum(len(calls) for calls in evidence.calls.values()),
        resumptions=resumptions(evidence, world.coordinators, [*world.outages, *stalls]),
        longest_stall=max((ended - began for began, ended in stalls), default=0.0),
        violations=violations,
        folder=world.folder,
    )
    (world.folder / "resumptions.json").write_text(json.dumps([asdict(each) for each in result.resumptions]))
    troubles = {place.name: place.troubles for place in world.coordinators}
    (world.folder / "troubles.json").write_text(
        json.dumps({**troubles, "Postgres": world.outages, "stalls": stalls})
    )
    if violations:
        _keep(world.folder, evidence, violations)
    return result


async def _feel_pulse(world: World, stalls: list[tuple[float, float]]) -> None:
    """Notices when this process stood still, or a commit took long: the machine was too busy for a figure to say much."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                world.database_url, autocommit=True
            ) as connection:
                await connection.execute("CREATE TABLE IF NOT EXISTS pulse (beat int)")
                while True:
                    before = time.time()
                    await connection.execute("INSERT INTO pulse VALUES (1)")
                    await asyncio.sleep(PULSE_SECONDS)
                    if time.time() - before > STALL_SECONDS:
                        stalls.append((before, time.time()))
        except psycopg.OperationalError:
            await asyncio.sleep(PULSE_SECONDS)


async def _settle(world: World, seconds: float) -> float:
    """Waits until every saga has settled, for `seconds` at most; returns how long that took."""
    began_at = time.monotonic()
    with psycopg.connect(world.database_url, autocommit=True) as connection:
        while time.monotonic() - began_at < seconds:
            if connection.execute(UNSETTLED, [[status.value for status in SETTLED]]).fetchone() == (0,):
                break
            await asyncio.sleep(0.2)
    return time.monotonic() - began_at


def _defects(name: str, lives: Sequence[Any]) -> list[str]:
    found = []
    for life in lives:
        for line in lines_of(life.log):
            said = str(line.get("text", ""))
            if GRPC_NOISE in str(line):
                continue
            is_trace = said.startswith("Traceback") or "never retrieved" in str(line)
            if line["event"] in DEFECTS or is_trace or line.get("level") == "error":
                what = (said or str(line.get("exception", line))).strip().splitlines()[-1]
                found.append(f"{name} logged {line['event']}: {what[:300]}; see {life.log}")
    return found


def _keep(folder: Path, evidence: Evidence, violations: Sequence[Violation]) -> None:
    """Writes down everything about the sagas that something is wrong with."""
    concerned: Mapping[str, Any] = {
        saga_id: {
            "violations": [str(each) for each in violations if each.saga_id == saga_id],
            "row": asdict(evidence.rows[saga_id]) if saga_id in evidence.rows else None,
            "log": [asdict(entry) for entry in evidence.logs.get(saga_id, ())],
            "calls": [asdict(call) for call in evidence.calls.get(saga_id, ())],
            "effects": [asdict(effect) for effect in evidence.effects.get(saga_id, ())],
        }
        for saga_id in sorted({violation.saga_id for violation in violations if violation.saga_id})
    }
    (folder / "sagas.json").write_text(json.dumps(concerned, indent=1), encoding="utf-8")
    lines = "".join(f"{violation}\n" for violation in violations)
    (folder / "violations.txt").write_text(lines, encoding="utf-8")


__all__ = ["Settings", "TortureError", "main", "torture"]
