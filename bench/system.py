"""What is compared: anything that can be started, driven under a shape for some seconds, and stopped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import psycopg

from bench.load import Driven
from bench.processes import HOST, cpu_seconds, free_port, memory_mib, running, spawn_module, until_open
from bench.record import Sample, Shape, latencies_ms
from saga_coordinator.store.embedded import EmbeddedPostgres


class System(Protocol):
    """`name` is the table's. A system that cannot be started raises BenchError, and the table says so.

    Between its turns it is told to `rest`, so that what it does when idle is not taken from the others; before each, to
    `wake`.
    """

    name: str

    def takes(self, shape: Shape) -> bool: ...

    async def start(self) -> None: ...

    async def run(self, shape: Shape, seconds: float) -> Sample: ...

    def rest(self) -> None: ...

    def wake(self) -> None: ...

    async def stop(self) -> None: ...


class Site:
    """What all systems share: a folder, one Postgres with fsync on and a database for each, and the same participants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(
            folder / "postgres", settings=["shared_preload_libraries=pg_stat_statements", *_POSTGRES]
        )
        self.participant_ports = {"contract": free_port(), "plain": free_port()}
        self._stack = ExitStack()
        self.participants: dict[str, int] = {}
        self.has_statements = True

    async def __aenter__(self) -> Self:
        try:
            self._stack.enter_context(self.postgres)
        except Exception:  # noqa: BLE001  # a Postgres without the extension; everything else can be measured
            self.has_statements = False
            self.postgres = EmbeddedPostgres(self.folder / "postgres", settings=_POSTGRES)
            self._stack.enter_context(self.postgres)
        if self.has_statements:
            self.ask("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            self.count_statements("none")
        for name, port in self.participant_ports.items():
            log = self.folder / f"{name}.log"
            popen = self._stack.enter_context(
                running(spawn_module("bench.participant", name, f"{HOST}:{port}", log=log))
            )
            self.participants[name] = popen.pid
            await until_open(port, popen, log)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    def address(self, participant: str) -> str:
        return f"{HOST}:{self.participant_ports[participant]}"

    def ask(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.postgres.dsn_for(database), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def count_statements(self, which: str) -> None:
        """`top` where round trips are counted, else `none`, so that no other figure bears its cost."""
        self.ask(f"ALTER SYSTEM SET pg_stat_statements.track = '{which}'")
        self.ask("SELECT pg_reload_conf()")

    def make_database(self, name: str) -> str:
        """Makes it anew; returns its URL."""
        self.ask(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self.ask(f'CREATE DATABASE "{name}"')
        return self.postgres.dsn_for(name)


_POSTGRES = (
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "max_connections=200",
)


@dataclass(slots=True)
class Meter:
    """Measures what a run costs, from its making to `sample`. `parts` are processes by name; their children count too."""

    site: Site
    parts: Mapping[str, int]
    own: str
    uses_postgres: bool = True
    _cpu: dict[str, float] = field(init=False)
    _written: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._written = self._postgres_counters()
        self._cpu = {name: cpu_seconds(pid) for name, pid in self._all_parts().items()}

    def _all_parts(self) -> dict[str, int]:
        return {**self.parts, "postgres": self.site.postgres.pid} if self.uses_postgres else dict(self.parts)

    def _postgres_counters(self) -> tuple[int, int]:
        """Transactions that have written, and bytes of log, since the beginning of the cluster."""
        if not self.uses_postgres:
            return 0, 0
        query = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_lsn() - '0/0'::pg_lsn"
        ((transactions, position),) = self.site.ask(query)
        return int(transactions), int(position)

    def sample(self, driven: Driven) -> Sample:
        count = max(1, len(driven.latencies))
        spent = {name: cpu_seconds(pid) - self._cpu[name] for name, pid in self._all_parts().items()}
        spent["load"] = driven.load_cpu_seconds
        transactions, position = self._postgres_counters()
        p50, p99 = latencies_ms(driven.latencies)
        return Sample(
            len(driven.latencies),
            driven.seconds,
            p50,
            p99,
            cpu_us={name: 1e6 * seconds / count for name, seconds in spent.items()},
            commits=(transactions - self._written[0]) / count if self.uses_postgres else None,
            wal_bytes=(position - self._written[1]) / count if self.uses_postgres else None,
            memory_mib=memory_mib(self.parts[self.own]),
        )
