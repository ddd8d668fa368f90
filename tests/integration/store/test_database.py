"""The way to the database: faulty URLs are named, and a database that cannot serve is Unavailable, in one clear line."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from sqlalchemy import make_url, text

from saga_coordinator.saga.words.errors import InvalidRequest, Unavailable
from saga_coordinator.store import schema
from saga_coordinator.store.database import Database, driver_url
from tests.integration.proxy import Proxy
from tests.integration.store.conftest import Query


def with_parts(dsn: str, **parts: Any) -> str:
    return make_url(dsn).set(**parts).render_as_string(hide_password=False)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is not a URL such as postgresql://user@host:5432/name"),
        ("localhost", "is not a URL such as postgresql://user@host:5432/name"),
        ("host=localhost dbname=saga", "is not a URL such as postgresql://user@host:5432/name"),
        ("mysql://localhost/saga", "must begin with postgresql://"),
        ("postgresql://localhost:port/saga", "is not a URL such as postgresql://user@host:5432/name"),
        ("postgresql://localhost:99999999/saga", "has port 99999999; a port is 1 to 65535"),
        ("postgresql://localhost/saga?ssl_mode=require", 'has an invalid connection option "ssl_mode"'),
    ],
)
def test_a_faulty_url_is_refused_and_says_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        driver_url(url)
    (fault,) = refused.value.faults
    assert fault.path == "database_url"
    assert said in fault.description


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:p%40ss@db:5433/saga?sslmode=require",
        "postgres://ada:p%40ss@db:5433/saga?sslmode=require",
        "postgresql+psycopg://ada:p%40ss@db:5433/saga?sslmode=require",
    ],
)
def test_a_url_keeps_its_parts_and_gets_what_is_missing(url: str) -> None:
    parsed = make_url(driver_url(url))
    assert (parsed.drivername, parsed.username, parsed.password) == ("postgresql+psycopg", "ada", "p@ss")
    assert (parsed.host, parsed.port, parsed.database) == ("db", 5433, "saga")
    assert parsed.query["sslmode"] == "require"
    assert parsed.query["application_name"] == "saga-coordinator"


def test_what_a_url_says_wins(database_dsn: str) -> None:
    parsed = make_url(driver_url(f"{database_dsn}?application_name=mine&connect_timeout=1"))
    assert (parsed.query["application_name"], parsed.query["connect_timeout"]) == ("mine", "1")


def test_a_socket_folder_is_a_host() -> None:
    assert make_url(driver_url("postgresql:///saga?host=/run/postgresql")).query["host"] == "/run/postgresql"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"password": "wrong"}, "password authentication failed for user"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"username": "nobody"}, "nobody"),
        ({"host": "no-such-host.invalid"}, "no-such-host.invalid"),
        ({"host": "127.0.0.1", "port": 0}, "Connection refused"),
        ({"query": {"sslmode": "perhaps"}}, 'invalid sslmode value: "perhaps"'),
    ],
    ids=["password", "database", "user", "host", "port", "sslmode"],
)
async def test_a_database_that_cannot_be_reached_is_unavailable_in_one_line(
    parts: dict[str, Any], said: str, database_dsn: str
) -> None:
    dsn = with_parts(database_dsn, **({**parts, "port": free_port()} if "port" in parts else parts))
    database = Database(dsn)
    with pytest.raises(Unavailable) as refused:
        await database.ping()
    await database.stop()
    with pytest.raises(Unavailable) as checked:
        await asyncio.to_thread(schema.check, dsn)
    for message in (str(refused.value), str(checked.value)):
        assert said in message
        assert "\n" not in message
        assert str(make_url(dsn).password) not in message


async def test_a_pool_that_is_used_up_is_unavailable(database_dsn: str) -> None:
    database = Database(database_dsn, pool_size=1)
    database._engine.pool._timeout = 0.05  # type: ignore[attr-defined]  # rather than five seconds
    async with database.connection():
        with pytest.raises(Unavailable, match="QueuePool limit"):
            await database.ping()
    await database.ping()
    await database.stop()


async def test_a_connection_that_was_lost_is_replaced(fragile: Database, proxy: Proxy) -> None:
    await fragile.ping()
    await proxy.shut()
    with pytest.raises(Unavailable):
        await fragile.ping()
    proxy.open()
    await fragile.ping()


async def test_connections_that_died_in_the_pool_are_given_to_nobody(
    database: Database, query: Query
) -> None:
    async with database.connection(), database.connection():
        pass  # and now both lie in the pool, where Postgres ends them as it ends idle ones
    ended = await query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert ended == [(True,), (True,)]
    async with database.driver_connection() as kept:
        await kept.execute("SELECT 1")
    await database.ping()


async def test_a_wrong_statement_is_no_outage(database: Database) -> None:
    with pytest.raises(Exception, match=r'relation "saga\.sagaz" does not exist') as raised:
        async with database.connection() as connection:
            await connection.execute(text("SELECT FROM saga.sagaz"))
    assert not isinstance(raised.value, Unavailable)
    await database.ping()


async def test_each_statement_commits_by_itself(database: Database) -> None:
    async with database.connection() as one, database.connection() as other:
        await one.execute(text("CREATE TABLE seen ()"))
        await other.execute(text("SELECT FROM seen"))
