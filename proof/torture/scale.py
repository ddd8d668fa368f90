"""What many sagas cost: a burst, a hanging participant, one more coordinator, and a million sleepers.

    python -m proof.torture.scale              all of them
    python -m proof.torture.scale burst        50,000 starts at once on three coordinators: accepted, drained, counted
    python -m proof.torture.scale hanging      40 sagas on a participant that hangs, beside 40 healthy ones that each need a retry
    python -m proof.torture.scale sick         40 healthy sagas at a time, beside one that hangs and one that fails half its calls
    python -m proof.torture.scale crowd        5,000 sagas at once on a participant that takes 64 calls at a time
    python -m proof.torture.scale dialling     10,000 workers that dial one coordinator at the same instant, each on a connection
    python -m proof.torture.scale adding       throughput with one coordinator, with a second one, and without it again
    python -m proof.torture.scale sleeping     a million sleeping sagas: memory, plan, start and waking

Figures are measured and shown; what must hold whatever the machine (counts, nothing lost, the index used) is checked, and the
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
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import uvloop

from proof.torture.definitions import HANGING, SECOND_TIME, SLOW, STEADY
from proof.torture.dialling import dialling
from proof.torture.measuring import (
    RETRYING,
    Fault,
    ask,
    effects_of,
    operation,
    scaled_world,
    statuses_of,
    until_drained,
)
from proof.torture.processes import World, eventually
from proof.torture.resumption import percentile
from proof.torture.sick import crowd, sick
from saga_coordinator.store import ownership

PARENT: Final = Path(".cache/torture")


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
HUNG: Final = {
    "name": "hung",
    "steps": [
        {
            "name": "take",
            "action": operation("parcels", HANGING, timeout="600s"),
            "compensation": operation("parcels", STEADY),
        }
    ],
}


DORMANT: Final = {
    "name": "dormant",
    "steps": [
        {
            "name": "take",
            "action": operation(
                "stock",
                SECOND_TIME,
                retry={"initial_backoff": "3600s", "max_backoff": "3600s", "max_attempts": 5},
            ),
            "compensation": operation("stock", STEADY),
        }
    ],
}


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


async def hanging(rounds: int = 12, sagas: int = 40) -> list[Fault]:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    faults: list[Fault] = []
    async with scaled_world([RETRYING, HUNG], coordinators=1) as (world, clients):

        async def healthy(key: str, into: list[float]) -> None:
            began_at = time.monotonic()
            status = await clients.start("retrying", key, wait=True)
            into.append(time.monotonic() - began_at)
            if status != "COMPLETED":
                faults.append(f"hanging: a healthy saga ended {status}")

        for number in range(2 * rounds):  # first without the hung ones, then with as many of them in flight
            is_with_hung = number >= rounds
            if number == rounds:
                await asyncio.gather(*(clients.start("hung", f"hung-{n}") for n in range(sagas)))
                await asyncio.sleep(0.5)
            await asyncio.gather(*(healthy(f"{number}-{n}", seconds[is_with_hung]) for n in range(sagas)))
        running = statuses_of(world).get("RUNNING", 0)
    without, beside = (percentile(seconds[is_with_hung], 0.99) for is_with_hung in (False, True))
    print(
        f"hanging: p99 of healthy sagas with a retry each: {1000 * without:.0f} ms alone, {1000 * beside:.0f} ms beside"
    )
    print(f"         {running} sagas on a participant that hangs; ratio {beside / without:.3f}")
    return faults


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


_SLEEPERS = """
WITH template AS (SELECT * FROM saga.sagas WHERE start_key = 'template'),
new AS (
    SELECT number, ('01a00000-0000-7000-8000-' || lpad(to_hex(number), 12, '0'))::uuid AS saga_id,
        to_timestamp(%(wake_at)s::float8 + number * 0.01) AS wake_at
    FROM generate_series(%(first)s::int, %(last)s::int) AS number
), keys AS (
    INSERT INTO saga.start_keys (namespace, start_key, saga_id, request_digest)
    SELECT keys.namespace, 'sleeper-' || new.number, new.saga_id, keys.request_digest
    FROM new, saga.start_keys AS keys WHERE keys.start_key = 'template'
), rows AS (
    INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, wake_at)
    SELECT new.saga_id, 'sleeper-' || new.number, definition, version, status, labels, new.wake_at FROM new, template
)
INSERT INTO saga.log (saga_id, sequence, type, step, operation, attempt, facts, payload, recorded_by)
SELECT new.saga_id, sequence, type, log.step, log.operation, log.attempt,
    CASE WHEN said ? 'retry_at' THEN convert_to(
        jsonb_set(said, '{retry_at}', to_jsonb(extract(epoch FROM new.wake_at)::float8))::text, 'UTF8'
    ) ELSE facts END,
    payload, recorded_by
FROM new, template JOIN saga.log AS log ON log.saga_id = template.saga_id
    CROSS JOIN LATERAL (SELECT convert_from(log.facts, 'UTF8')::jsonb AS said) AS facts_of
"""
_TEMPLATE = (
    "SELECT count(*) FROM saga.sagas WHERE start_key = 'template' AND owner IS NULL AND wake_at IS NOT NULL"
)
_LATE = """
SELECT extract(epoch FROM ended_at - to_timestamp((
    SELECT (convert_from(facts, 'UTF8')::jsonb ->> 'retry_at')::float8 FROM saga.log
    WHERE log.saga_id = sagas.saga_id AND convert_from(facts, 'UTF8')::jsonb ? 'retry_at'
)))::float8
FROM saga.sagas WHERE status = 'COMPLETED' AND start_key LIKE 'sleeper-%'
"""


async def sleeping(sagas: int = 1_000_000, woken: int = 1000, wake_after: float = 30.0) -> list[Fault]:
    async with scaled_world([DORMANT], coordinators=1) as (world, clients):
        place = world.coordinators[0]
        await clients.start("dormant", "template")
        await eventually(lambda: ask(world, _TEMPLATE) == [(1,)], "a saga to fall asleep")
        await asyncio.sleep(3)
        before = _rss(place.life.popen.pid)
        began_at = time.monotonic()
        with psycopg.connect(world.database_url) as connection:
            connection.execute("SET synchronous_commit = off")
            for first in range(1, sagas - woken + 1, 100_000):
                numbers = {"first": first, "last": min(first + 99_999, sagas - woken)}
                connection.execute(_SLEEPERS, {**numbers, "wake_at": time.time() + 86_400})
                connection.commit()
        with psycopg.connect(world.database_url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE saga.sagas")
            numbers = {"first": sagas - woken + 1, "last": sagas}
            wake_at = time.time() + wake_after - sagas * 0.01
            connection.execute(_SLEEPERS, {**numbers, "wake_at": wake_at})
        made = time.monotonic() - began_at
        await asyncio.sleep(3)
        after = _rss(place.life.popen.pid)
        place.kill()
        began_at = time.monotonic()
        place.start()
        await place.wait_until_serving()
        ready = time.monotonic() - began_at
        plan = _plan(world)
        drained = await until_drained(world, woken, wake_after + woken * 0.01 + 60)
        late = [seconds for (seconds,) in ask(world, _LATE)]
        at_the_end = _rss(place.life.popen.pid)
    print(
        f"sleeping: {sagas} sleeping sagas (made in {made:.0f} s) cost the process {after - before:.1f} MiB:"
    )
    print(
        f"          {before:.1f} MiB before, {after:.1f} after, {at_the_end:.1f} in a new process that woke {len(late)};"
    )
    print(f"          it served {ready:.1f} s after it was started; claims by {plan}")
    print(
        f"          woken and completed after they were due: p50 {percentile(late, 0.5):.2f} s,"
        f" p99 {percentile(late, 0.99):.2f} s ({drained:.0f} s in all)"
    )
    faults = []
    if "sagas_of_group_due" not in plan:
        faults.append(f"sleeping: claims do not use the index: {plan}")
    if after - before > 50:
        faults.append(f"sleeping: {after - before:.1f} MiB more, where 50 are allowed")
    if len(late) != woken:
        faults.append(f"sleeping: {woken} sagas were to wake, {len(late)} have")
    return faults


def _rss(pid: int) -> float:
    mebibytes: float = psutil.Process(pid).memory_info().rss / 2**20
    return mebibytes


def _plan(world: World) -> str:
    """How Postgres looks for what is due: the scans of the claim's plan."""
    statement = ownership._CLAIM_DUE.text  # the very statement
    for name, value in (
        (":coordinator_id", "'00000000-0000-4000-8000-000000000000'::uuid"),
        (":passed_over", "'{}'"),
        (":limit", "200"),
    ):
        statement = statement.replace(name, value)
    lines = [line.strip(" ->") for (line,) in ask(world, f"EXPLAIN (COSTS OFF) {statement}")]
    return "; ".join(line for line in lines if "Scan" in line)


MEASURES: Final[Mapping[str, Callable[[], Awaitable[list[Fault]]]]] = {
    "hanging": hanging,
    "sick": sick,
    "crowd": crowd,
    "dialling": dialling,
    "adding": adding,
    "burst": burst,
    "sleeping": sleeping,
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
