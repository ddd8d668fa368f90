"""Failover to a standby that the database's URL names: what was accepted goes on there."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.store import schema
from saga_coordinator.store.embedded import EmbeddedPostgres
from saga_coordinator.store.embedded.binaries import find_binaries
from tests.conftest import SETTINGS
from tests.eventually import eventually
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.participants import Gate, Participants

REPLICATED = (*SETTINGS, "wal_level=replica", "hot_standby=on", "max_wal_senders=4")


@pytest.fixture
def primary(postgres_folder: Path, postgres_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    folder = postgres_folder / "primary"
    with EmbeddedPostgres(folder, postgres_bin=postgres_bin, fsync=False, settings=REPLICATED) as server:
        schema.upgrade(server.dsn)
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def standby(
    primary: EmbeddedPostgres, postgres_folder: Path, postgres_bin: Path | None
) -> Iterator[EmbeddedPostgres]:
    """A physical copy, which confirms every commit of the primary."""
    folder = postgres_folder / "standby"
    folder.mkdir(mode=0o700)
    shutil.copy(primary.data_dir / "password", folder / "password")
    command: list[str | Path] = [
        find_binaries(postgres_bin) / "pg_basebackup",
        "--checkpoint=fast",
        "--no-sync",
    ]
    command += ["--pgdata", folder / "cluster", "--dbname", primary.dsn, "--write-recovery-conf"]
    subprocess.run(command, check=True, capture_output=True)
    with EmbeddedPostgres(folder, postgres_bin=postgres_bin, fsync=False, settings=REPLICATED) as server:
        with psycopg.connect(primary.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        yield server
    shutil.rmtree(folder)


async def test_p1_after_a_failover_everything_accepted_goes_on_at_the_standby(
    primary: EmbeddedPostgres,
    standby: EmbeddedPostgres,
    start_engine: StartEngine,
    participants: Participants,
) -> None:
    user, _, _ = primary.dsn.rpartition("@")
    dsn = f"{user}@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
    engine = await start_engine(dsn=dsn)
    gate = Gate()
    participants.on("charge", gate)
    accepted = [await engine.start(key=f"before {number}") for number in range(20)]
    await eventually(lambda: len(gate.waiting) == 20, "every saga to charge")

    await asyncio.to_thread(primary.stop, "immediate")
    gate.open()  # outcomes that cannot be written down yet
    await eventually(lambda: not engine.coordinator.is_accepting, "the outage to be noticed")
    with pytest.raises(Unavailable):
        await engine.coordinator.start_saga(StartSaga("order", "in between"))
    async with await psycopg.AsyncConnection.connect(standby.dsn, autocommit=True) as connection:
        await connection.execute("SELECT pg_promote()")
        await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await connection.execute("SELECT pg_reload_conf()")
    await eventually(lambda: engine.coordinator.is_accepting, "the coordinator to go on at the standby")

    for saga_id in accepted:
        assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
        assert participants.books.standing(saga_id) == ["reserve", "charge", "ship"]
    assert set(participants.books.applied.values()) == {1}
    assert (await engine.run(key="after")).status is SagaStatus.COMPLETED
