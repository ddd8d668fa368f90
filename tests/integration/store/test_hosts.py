"""Several hosts in the database's URL: whichever of them can be written to is used."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url, text

from saga_coordinator.saga.words.errors import InvalidRequest, Unavailable
from saga_coordinator.store import schema
from saga_coordinator.store.database import Database, driver_url
from tests.eventually import eventually
from tests.integration.store.conftest import Query


def among(dsn: str, *hosts: str, **query: str) -> str:
    """The URL with other hosts before its own."""
    before, _, own = dsn.rpartition("@")
    parameters = "&".join(f"{name}={value}" for name, value in query.items())
    return f"{before}@{','.join(hosts)},{own}?{parameters}"


@pytest.fixture
def closed() -> str:
    """A host that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A host that takes connections and never says a word, as one behind a firewall does."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        yield f"127.0.0.1:{mute.getsockname()[1]}"


@pytest.mark.parametrize(
    ("hosts", "names", "ports"),
    [
        ("h1:5432,h2:5433", "h1,h2", "5432,5433"),
        ("h1,h2", "h1,h2", ","),
        ("h1:1,h2", "h1,h2", "1,"),
        ("[::1]:5432,[fe80::1]:5433,db.example", "::1,fe80::1,db.example", "5432,5433,"),
        ("%2Frun%2Fpostgresql,h2:5433", "/run/postgresql,h2", ",5433"),
    ],
)
def test_a_url_may_name_several_hosts(hosts: str, names: str, ports: str) -> None:
    url = make_url(driver_url(f"postgresql://ada:p%40ss@{hosts}/saga?sslmode=require"))
    assert (url.query["host"], url.query["port"]) == (names, ports)
    assert (url.username, url.password, url.database) == ("ada", "p@ss", "saga")
    assert (url.query["sslmode"], url.query["target_session_attrs"]) == ("require", "read-write")


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ("h1:99999,h2", "has port 99999"),
        ("h1:port,h2", "has 'h1:port' among its hosts"),
        ("::1,h2", "has '::1' among its hosts"),
    ],
)
def test_faulty_hosts_are_named(hosts: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        driver_url(f"postgresql://ada:secret@{hosts}/saga")
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_a_host_that_is_down_is_passed_over(database_dsn: str, closed: str) -> None:
    dsn = among(database_dsn, closed)
    await asyncio.to_thread(schema.check, dsn)
    database = Database(dsn)
    await database.ping()
    await database.stop()


async def test_a_silent_host_costs_nobody_the_lease(database_dsn: str, silent: str) -> None:
    """Whoever gives up sooner than the silent host's timeout has the next host asked first the next time."""
    database = Database(among(database_dsn, silent))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await database.ping()
    for _ in range(3):
        async with asyncio.timeout(0.5):
            async with database.connection() as one, database.connection() as other:
                await one.execute(text("SELECT 1"))
                await other.execute(text("SELECT 1"))
        database._engine.pool._invalidate_time = time.time()  # connect anew
    await database.stop()


async def test_no_host_at_all_is_unavailable_in_one_line(database_dsn: str, closed: str) -> None:
    before, _, own = database_dsn.rpartition("@")
    database = Database(f"{before}@{closed},{closed}/{own.rpartition('/')[2]}")
    with pytest.raises(Unavailable, match="refused") as refused:
        await database.ping()
    assert "\n" not in str(refused.value)
    await database.stop()


async def test_connections_to_what_has_become_read_only_are_left(
    database: Database, database_dsn: str, query: Query
) -> None:
    """A primary may be made a standby without losing its connections; those of the pool would fail for ever."""
    name = psycopg.conninfo.conninfo_to_dict(database_dsn)["dbname"]
    await query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    write = text("CREATE TABLE IF NOT EXISTS written ()")
    async with database.connection() as one, database.connection() as other:
        for connection in (one, other):
            await connection.execute(text("SELECT 1"))
    await query(f"ALTER DATABASE {name} RESET default_transaction_read_only")

    async def is_written() -> bool:
        try:
            async with database.connection() as connection:
                await connection.execute(write)
        except Unavailable:
            return False
        return True

    await eventually(is_written, "the pool to connect anew", seconds=2)
