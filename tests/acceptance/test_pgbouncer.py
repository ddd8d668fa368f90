"""Behind PgBouncer in transaction mode, where each statement may run on another connection to Postgres."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from saga_coordinator.pb.saga.v1 import saga_pb2
from tests.acceptance.conftest import Client, Program, Serving, Shop, StartServing, run_program
from tests.acceptance.test_processes import free_port
from tests.eventually import PATIENCE_SECONDS, wait_until

SERVER_CONNECTIONS = 3
"""Fewer than one coordinator alone has connections to PgBouncer."""

CONFIGURATION = """\
[databases]
* = host={host} port={port} user={user} password={password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
logfile = {folder}/pgbouncer.log
"""


def _program() -> str | None:
    # Debian keeps it where only root's PATH leads.
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _is_answering(port: int, running: subprocess.Popen[bytes], folder: Path) -> bool:
    assert running.poll() is None, [running.returncode, *(log.read_text() for log in folder.glob("*.log"))]
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def pooled_dsn(database_dsn: str) -> Iterator[str]:
    """The way to the test's database through a PgBouncer of its own."""
    program = _program()
    if program is None:
        pytest.skip("pgbouncer is not installed; Debian and Ubuntu: apt-get install pgbouncer")
    # Not pytest's folder, which the user that it runs as may not be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    target, port = conninfo_to_dict(database_dsn), free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, listen_port=port, pool_size=SERVER_CONNECTIONS, **target)
    )
    configuration.chmod(0o600)
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # it refuses to be root
    if nobody is not None:
        for path in (folder, configuration):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    running = subprocess.Popen(
        [program, "--quiet", configuration],
        user=nobody.pw_uid if nobody else None,
        group=nobody.pw_gid if nobody else None,
        extra_groups=() if nobody else None,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _is_answering(port, running, folder), "PgBouncer to answer")
        yield f"postgresql://anybody:secret@127.0.0.1:{port}/{target['dbname']}"
    finally:
        running.kill()
        running.wait()
        shutil.rmtree(folder)


def test_everything_works_in_transaction_mode(
    pooled_dsn: str,
    database_dsn: str,
    serving: StartServing,
    connect: Callable[[str], Client],
    shop: Shop,
    participants_file: Path,
) -> None:
    environment = {"SAGA_DATABASE_URL": pooled_dsn, "SAGA_PREPARED_STATEMENTS": "false"}
    programs: list[Serving] = [
        serving("--participants", participants_file, environment=environment) for _ in range(2)
    ]
    here, there = (connect(program.address) for program in programs)
    here.register("completing", "quick", "quick")
    here.register("compensating", "quick", "refuse")
    here.register("hanging", "quick", "hang")

    # More than once each, since the fifth execution is when a driver begins to prepare a statement.
    ended = {
        client.start(definition, f"{definition} {number}").saga_id: definition
        for number in range(20)
        for definition in ("completing", "compensating")
        for client in ((here, there)[number % 2],)
    }
    for saga_id, definition in ended.items():
        expected = {
            "completing": saga_pb2.SAGA_STATUS_COMPLETED,
            "compensating": saga_pb2.SAGA_STATUS_COMPENSATED,
        }[definition]
        assert there.settled(saga_id).status == expected

    # Through the coordinator that does not drive it.
    shop.called.queue.clear()
    hanging = here.start("hanging").saga_id
    while shop.called.get(timeout=PATIENCE_SECONDS).method != "hang":
        pass
    there.cancel(hanging)
    shop.may_answer.set()
    assert there.settled(hanging).status == saga_pb2.SAGA_STATUS_COMPENSATED

    # One dies; the other takes over.
    shop.may_answer.clear()
    orphaned = here.start("hanging", "orphaned").saga_id
    while shop.called.get(timeout=PATIENCE_SECONDS).method != "hang":
        pass
    programs[0].close()
    shop.may_answer.set()
    assert there.settled(orphaned).status == saga_pb2.SAGA_STATUS_COMPLETED

    with psycopg.connect(database_dsn) as connection:
        ((used,),) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert 0 < used <= SERVER_CONNECTIONS, "PgBouncer was not in between"
    assert not [line for line in logged(programs[1]) if '"error"' in line]


def logged(program: Program) -> list[str]:
    """What it has logged so far."""
    lines = list(program.read)
    while not program.err.empty():
        lines.append(program.err.get() or "")
    return lines


def test_a_schema_is_made_in_transaction_mode(pooled_dsn: str, database_dsn: str) -> None:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA saga CASCADE")
    done = run_program("migrate", environment={"SAGA_DATABASE_URL": pooled_dsn})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("schema ")
