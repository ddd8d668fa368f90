"""What finding sagas costs in a large database: lists and counts by filters, and groups of failures.

python -m bench.finding --sagas 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import psycopg

from saga_coordinator.filters.parsing import parse_filter
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.counts import count_sagas
from saga_coordinator.store.database import Database
from saga_coordinator.store.embedded import EmbeddedPostgres
from saga_coordinator.store.failures import group_failures
from saga_coordinator.store.lists import AT_ONCE, Lists
from saga_coordinator.store.sagas import SagaFilter
from saga_coordinator.store.schema import upgrade

TIMES = 9
PAGE = 100

# Of 1,000 sagas 975 have completed, 20 were compensated, 4 run and 1 needs a person; one started each second.
_SAGAS = """
INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, wake_at, started_at, ended_at, cause, remaining)
SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7000' || '9000' || lpad(to_hex(n), 12, '0'))::uuid,
    'order-' || n, 'definition_' || n / 1000 %% 50, 1, status,
    CASE WHEN n %% 4 = 0 THEN jsonb_build_object('tenant', 'tenant ' || n %% 5000) ELSE '{}' END,
    CASE status WHEN 'RUNNING' THEN now() + interval '1 hour' END, started_at,
    CASE WHEN status IN ('COMPLETED', 'COMPENSATED') THEN started_at + interval '1 s' END,
    CASE WHEN status IN ('COMPENSATED', 'NEEDS_ATTENTION') THEN convert_to(jsonb_build_object('code', 'OUT_OF_RANGE',
        'step', 'charge', 'message', 'card ' || n || ' was declined')::text, 'UTF8') END,
    CASE status WHEN 'NEEDS_ATTENTION' THEN ARRAY['reserve'] ELSE '{}' END
FROM (
    SELECT n, now() - (%(sagas)s - n) * interval '1 s' AS started_at,
        CASE WHEN n %% 1000 < 975 THEN 'COMPLETED' WHEN n %% 1000 < 995 THEN 'COMPENSATED'
            WHEN n %% 1000 < 999 THEN 'RUNNING' ELSE 'NEEDS_ATTENTION' END AS status
    FROM generate_series(1, %(sagas)s) n
) made
"""
_REST = """
INSERT INTO saga.log (saga_id, sequence, type, attempt, facts, recorded_by, recorded_at)
SELECT saga_id, sequence, CASE WHEN sequence = 1 THEN 'saga_started' WHEN status = 'NEEDS_ATTENTION' THEN 'saga_parked'
        ELSE 'saga_adopted' END, 0,
    CASE WHEN sequence = 2 AND status = 'NEEDS_ATTENTION' THEN convert_to(jsonb_build_object('remaining', remaining, 'cause',
        jsonb_build_object('code', 'UNAVAILABLE', 'step', 'reserve', 'message', 'no answer from ' || saga_id))::text, 'UTF8')
        ELSE '{}' END, saga_id, started_at
FROM saga.sagas, generate_series(1, 2) sequence;
INSERT INTO saga.start_keys SELECT 'default', start_key, saga_id, '' FROM saga.sagas;
"""

FILTERS = (
    "",
    'status == "NEEDS_ATTENTION"',
    'status == "NEEDS_ATTENTION" && blocked_by.step == "reserve"',
    'status in ["RUNNING", "COMPENSATING"] && idle > duration("10m")',
    'status in ["RUNNING", "COMPENSATING"] && age > duration("24h")',
    'status == "COMPENSATED" && ended_at > now - duration("1h")',
    'status == "COMPENSATED" && failure.code == "OUT_OF_RANGE"',
    'definition == "definition_7" && status != "COMPLETED"',
    'definition == "definition_7"',
    'labels["tenant"] == "tenant 40"',
    'start_key == "order-4711"',
    'start_key.startsWith("order-4711")',
    'start_key.startsWith("nobody")',
)


async def _measured(work: Callable[[], Awaitable[object]]) -> tuple[float, float, object]:
    """The median and the longest time in milliseconds, and the last result."""
    spent = []
    result: object = None
    for _ in range(TIMES):
        begun = time.perf_counter()
        result = await work()
        spent.append((time.perf_counter() - begun) * 1000)
    return statistics.median(spent), max(spent), result


async def _measure(dsn: str) -> None:
    lists = Lists(Database(dsn, pool_size=AT_ONCE))
    print(
        f"| filter | list of {PAGE}: median, longest (ms) | count: median, longest (ms) | count |\n|---|---|---|---|"
    )
    for text in FILTERS:
        wanted = SagaFilter(condition=parse_filter(text, "filter", []))
        listed = await _measured(lambda: lists.sagas(DEFAULT_NAMESPACE, wanted, None, PAGE, id))  # noqa: B023
        counted = await _measured(lambda: count_sagas(lists, DEFAULT_NAMESPACE, wanted))  # noqa: B023
        print(
            f"| `{text or '(none)'}` | {listed[0]:.0f}, {listed[1]:.0f} | {counted[0]:.0f}, {counted[1]:.0f} | {counted[2]} |",
            flush=True,
        )
    for within in (None, timedelta(hours=1), timedelta(days=7)):
        median, longest, found = await _measured(
            lambda: group_failures(lists, DEFAULT_NAMESPACE, SagaFilter(), within, 50)  # noqa: B023
        )
        print(f"groups within {within}: {median:.0f}, {longest:.0f} ms: {found}"[:300], flush=True)
    await lists.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sagas", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(Path(folder) / "data", fsync=False) as server,
    ):
        upgrade(server.dsn)
        begun = time.perf_counter()
        with psycopg.connect(server.dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute("DROP INDEX saga.sagas_turned_back")
            connection.execute(_SAGAS, {"sagas": arguments.sagas})
            connection.execute(_REST)
            connection.execute("VACUUM ANALYZE")
            print(f"{arguments.sagas} sagas written in {time.perf_counter() - begun:.0f} s")
            begun = time.perf_counter()
            connection.execute(
                "CREATE INDEX sagas_turned_back ON saga.sagas (namespace, ended_at)"
                " WHERE ended_at IS NOT NULL AND status <> 'COMPLETED'"
            )
            print(f"migration 0012: {time.perf_counter() - begun:.2f} s\n")
        asyncio.run(_measure(server.dsn))


if __name__ == "__main__":
    main()
