"""What grows with what is kept: throughput beside ended and sleeping sagas, and the way back to work beside unfinished ones.

Rows are copied in SQL from a saga that the coordinator itself has brought to where it is, under identities of the past.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from bench.comparison import Comparison, print_table
from bench.load import SagaStarter
from bench.ours import BareRelay, Coordinators, Ours, register
from bench.processes import BenchError, memory_mib, until_serving
from bench.record import Record, Shape
from bench.system import Site, System

SHAPES: Final = (Shape("success", 2, 1), Shape("success", 2, 64))
_BATCH: Final = 100_000
_POLL_SECONDS: Final = 0.05
_WAIT_SECONDS: Final = 900.0
_SLEEPING: Final = {
    "name": "sleeping",
    "steps": [
        {
            "name": "first",
            "action": {
                "participant": "contract",
                "method": "away",
                "retry": {"initial_backoff": "3600s", "max_backoff": "3600s", "max_attempts": 5},
            },
            "compensation": {"participant": "contract", "method": "perform"},
        }
    ],
}
_SLOW: Final = {
    "name": "slow",
    "steps": [
        {
            "name": name,
            "action": {"participant": "contract", "method": method, "timeout": "10s"},
            "compensation": {"participant": "contract", "method": "perform"},
        }
        for name, method in (("first", "slow"), ("second", "perform"))
    ],
}
_COPY: Final = """
WITH template AS (SELECT * FROM saga.sagas WHERE saga_id = %(template)s),
new AS (
    SELECT number, ('01900000-0000-7000-8000-' || lpad(to_hex(number), 12, '0'))::uuid AS saga_id
    FROM generate_series(%(first)s::int, %(last)s::int) AS number
), keys AS (
    INSERT INTO saga.start_keys (namespace, start_key, saga_id, request_digest)
    SELECT keys.namespace, 'copy-' || new.number, new.saga_id, keys.request_digest
    FROM new, template JOIN saga.start_keys AS keys ON keys.start_key = template.start_key
), rows AS (
    INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, cause, remaining, owner,
        wake_at, deadline_at, started_at, ended_at)
    SELECT new.saga_id, 'copy-' || new.number, definition, version, status, labels, cause, remaining, owner,
        wake_at, deadline_at, started_at, ended_at
    FROM new, template
)
INSERT INTO saga.log (saga_id, sequence, type, step, operation, attempt, facts, payload, recorded_at, recorded_by)
SELECT new.saga_id, sequence, type, log.step, log.operation, log.attempt, facts, payload, log.recorded_at, recorded_by
FROM new, template JOIN saga.log AS log ON log.saga_id = template.saga_id
"""
_SIZE: Final = (
    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
    " WHERE nspname = 'saga' AND relkind = 'r'"
)


def copy(site: Site, database: str, template: str, count: int) -> float:
    """So many more sagas like `template`; returns what one takes of the disk, indexes included, in bytes."""
    before = site.ask(_SIZE, database)[0][0]
    with psycopg.connect(site.postgres.dsn_for(database)) as connection:
        connection.execute("SET synchronous_commit = off")
        for first in range(1, count + 1, _BATCH):
            last = min(first + _BATCH - 1, count)
            connection.execute(_COPY.encode(), {"template": template, "first": first, "last": last})
            connection.commit()
    site.ask("VACUUM ANALYZE saga.sagas, saga.log, saga.start_keys", database)
    site.ask("CHECKPOINT", database)
    return float(site.ask(_SIZE, database)[0][0] - before) / max(1, count)


class Grown(Ours):
    """Ours beside so many sagas of the past, `ended` or `sleeping`."""

    def __init__(self, site: Site, count: int, kind: str) -> None:
        self._group = Coordinators(site, f"{kind}-{count}")
        super().__init__(self._group, "unary")
        self.name = f"ours beside {count:,} {kind}"
        self._count = count
        self._kind = kind
        self.bytes_per_saga = 0.0

    async def start(self) -> None:
        await super().start()
        if self._count:
            template = await (self._asleep() if self._kind == "sleeping" else self._ended())
            self.bytes_per_saga = await asyncio.to_thread(
                copy, self._group.site, self._group.name, template, self._count
            )

    async def _ended(self) -> str:
        query = "SELECT saga_id::text FROM saga.sagas WHERE status = 'COMPLETED' LIMIT 1"
        found: str = self._group.site.ask(query, self._group.name)[0][0]
        return found

    async def _asleep(self) -> str:

        await register(self._group.address, _SLEEPING)
        return await _started(self._group, "sleeping", "owner IS NULL AND wake_at IS NOT NULL")


async def _started(group: Coordinators, definition: str, until: str) -> str:
    """Starts a saga and waits until its row is like that; returns its identity."""
    starter = await SagaStarter.open([group.address], 1)
    try:
        saga_id = (await starter.start(definition, {"refuse": ""}, wait=False)).saga_id
    finally:
        starter.close()
    await _until(group, f"SELECT count(*) = 1 FROM saga.sagas WHERE saga_id = '{saga_id}' AND {until}")
    return saga_id


async def _until(group: Coordinators, query: str) -> float:
    """Returns the seconds until the query says true. Raises BenchError when it does not."""
    began = time.monotonic()
    while not group.site.ask(query, group.name)[0][0]:
        if time.monotonic() > began + _WAIT_SECONDS:
            raise BenchError(f"waited in vain until {query}")
        await asyncio.sleep(_POLL_SECONDS)
    return time.monotonic() - began


async def recovery(site: Site, unfinished: int) -> dict[str, Any]:
    """From a start beside the unfinished sagas of a dead coordinator, its lease over, until serving and until all are done."""

    group = Coordinators(site, f"unfinished-{unfinished}")
    try:
        await group.start(_SLOW)
        in_flight = (
            "EXISTS (SELECT FROM saga.log WHERE log.saga_id = sagas.saga_id AND type = 'attempt_started')"
        )
        template = await _started(group, "slow", in_flight)
        group.kill()
        if unfinished > 1:
            await asyncio.to_thread(copy, site, group.name, template, unfinished - 1)
        await _until(group, "SELECT bool_and(lease_until < now()) FROM saga.coordinators")
        began = time.monotonic()
        group.launch()
        await until_serving(group.address, group.popen, group.log)
        serving = time.monotonic() - began
        await _until(group, "SELECT NOT EXISTS (SELECT FROM saga.sagas WHERE status = 'RUNNING')")
        done = time.monotonic() - began
        adopted = site.ask(
            "SELECT extract(epoch FROM max(recorded_at) - min(recorded_at))::float8 FROM saga.log"
            " WHERE type = 'saga_adopted'",
            group.name,
        )[0][0]
        memory = memory_mib(group.pid)
    finally:
        group.stop()
    found = {
        "unfinished": unfinished,
        "serving_seconds": round(serving, 2),
        "adopting_seconds": round(adopted or 0.0, 2),
        "done_seconds": round(done, 2),
        "memory_mib": round(memory, 1),
    }
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    return found


async def growth(
    site: Site, *, ended: Sequence[int], sleeping: int, unfinished: Sequence[int], seconds: float, rounds: int
) -> dict[str, Any]:
    grown = [Grown(site, count, "ended") for count in ended]
    grown.append(Grown(site, sleeping, "sleeping"))
    systems: list[System] = [BareRelay(site), *grown]
    records: list[Record] = await Comparison(systems, SHAPES).run(seconds=seconds, rounds=rounds)
    print_table(records)
    sizes = {each.name: round(each.bytes_per_saga) for each in grown if each.bytes_per_saga}
    for name, size in sizes.items():
        print(f"{name}: {size} bytes on disk a saga, indexes included")
    return {
        "throughput": records,
        "disk_bytes_per_saga": sizes,
        "recovery": [await recovery(site, count) for count in unfinished],
    }
