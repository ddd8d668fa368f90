"""`serve`: what it refuses to start on, and how it stops."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    WaitSagaRequest,
    WaitSagaResponse,
)
from tests.acceptance.conftest import (
    Client,
    Serving,
    Shop,
    StartProgram,
    StartServing,
    fails_with,
    run_program,
)
from tests.eventually import PATIENCE_SECONDS

Connect = Callable[[str], Client]


def password_of(dsn: str) -> str:
    password = urlsplit(dsn).password
    assert password
    return password


def test_a_database_without_a_schema(empty_database_dsn: str) -> None:
    line = fails_with("serve", "--database-url", empty_database_dsn)
    assert "has no saga schema" in line
    assert "run `saga-coordinator migrate`" in line
    done = run_program("migrate", "--database-url", empty_database_dsn)
    assert done.returncode == 0
    assert "(was none)" in done.stdout
    assert "(unchanged)" in run_program("migrate", "--database-url", empty_database_dsn).stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("postgres:", "postgres:wrong-"), "refuses the connection; mend the database URL or the role: "),
        (("@127.0.0.1:", "@127.0.0.1:99999,127.0.0.1:"), "must be a URL"),
        (("@127.0.0.1:", "@host.invalid:"), "host.invalid"),
        (("/test_", "/absent_"), "does not exist"),
        (("postgresql:", "mysql:"), "must be a URL"),
    ],
    ids=["password", "port", "unknown host", "unknown database", "not Postgres"],
)
def test_a_database_that_cannot_be_used(database_dsn: str, change: tuple[str, str], said: str) -> None:
    dsn = database_dsn.replace(*change)
    done = run_program("serve", "--database-url", dsn)
    assert done.returncode in {1, 2}
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert password_of(dsn) not in line


def test_no_database() -> None:
    line = fails_with("serve", "--database-url", "postgresql://u:p@127.0.0.1:1/x")
    assert "cannot be reached; start it, or mend the database URL: " in line
    assert line.endswith("Connection refused")


def test_a_database_that_comes_late(start_program: StartProgram, database_dsn: str) -> None:
    with psycopg.connect(database_dsn.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
        name = database_dsn.rpartition("/")[2]
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        flags = ["--database-url", database_dsn, "--address", "127.0.0.1:0", "--database-wait-seconds", "60"]
        program = start_program("serve", *flags)
        program.wait_for("database_awaited")
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    program.wait_for("serving")


def test_stopped_before_it_serves(start_program: StartProgram) -> None:
    flags = ["--database-url", "postgresql://127.0.0.1:1/x", "--database-wait-seconds", "60"]
    program = start_program("serve", *flags)
    program.wait_for("database_awaited")
    program.send(signal.SIGTERM)
    assert program.wait() == 0


def test_an_occupied_port(database_dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        address = f"127.0.0.1:{occupied.getsockname()[1]}"
        line = fails_with("serve", "--database-url", database_dsn, "--address", address)
    assert line.startswith(f"error: cannot listen on {address}: address already in use; end the process")


def test_two_coordinators_do_not_share_a_port(serving: StartServing, database_dsn: str) -> None:
    address = serving().address
    assert "address already in use" in fails_with(
        "serve", "--database-url", database_dsn, "--address", address
    )


def test_an_address_of_another_machine(database_dsn: str) -> None:
    line = fails_with("serve", "--database-url", database_dsn, "--address", "192.0.2.1:7242")
    assert line.startswith("error: cannot listen on 192.0.2.1:7242: cannot assign requested address; name an")


def test_a_unix_socket(
    serving: StartServing, connect: Connect, postgres_folder: Path, database_dsn: str
) -> None:
    path = postgres_folder / "s.sock"
    address = f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))  # left behind by a process that was killed
    program = serving("--address", address, "--address", "127.0.0.1:0")
    assert program.addresses[0] == address
    assert [connect(each).health() for each in program.addresses] == ["SERVING", "SERVING"]
    assert "another process does" in fails_with("serve", "--database-url", database_dsn, "--address", address)
    assert connect(address).health() == "SERVING"
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a client as another user")
@pytest.mark.parametrize(
    ("mode", "group", "is_let_in"), [(None, None, False), ("0660", "65533", True), ("0660", None, False)]
)
def test_who_may_connect_to_a_unix_socket(
    serving: StartServing, mode: str | None, group: str | None, is_let_in: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        address = f"unix:{folder}/s.sock"
        rights = [*(["--socket-mode", mode] if mode else []), *(["--socket-group", group] if group else [])]
        serving("--address", address, *rights)
        code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        program = ["/usr/bin/env", "python3", "-W", "ignore", "-c", code, address.removeprefix("unix:")]
        done = subprocess.run(
            program,
            user=65534,
            group=65534,
            extra_groups=[65533],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is is_let_in, done.stderr
        assert is_let_in or "PermissionError" in done.stderr


def test_a_file_where_the_socket_should_be(database_dsn: str, tmp_path: Path) -> None:
    path = Path(os.path.relpath(tmp_path)) / "s.sock"
    path.write_text("precious")
    line = fails_with("serve", "--database-url", database_dsn, "--address", f"unix:{path}")
    assert "is not a socket" in line
    assert path.read_text() == "precious"


def test_settings_from_a_file(serving: StartServing, tmp_path: Path, participants_file: Path) -> None:
    file = tmp_path / "saga.toml"
    file.write_text(f'participants = "{participants_file}"\naddresses = ["127.0.0.1:0", "127.0.0.1:0"]\n')
    program = serving("--config", file)
    assert len(program.addresses) == 1  # the flag wins


def test_stopping_gives_calls_in_flight_their_time(
    serving: StartServing, connect: Connect, shop: Shop, participants_file: Path
) -> None:
    program = serving("--participants", participants_file)
    client = connect(program.address)
    client.register("slow", "hang", "quick")
    saga_id = client.start("slow").saga_id
    assert shop.called.get(timeout=PATIENCE_SECONDS).method == "hang"
    waiting = client.sagas.WaitSaga.future(WaitSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS)
    watch = client.watch_health()
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    # The wait was sent before this call on the same connection, so it has been taken in.
    client.saga(saga_id)
    program.send(signal.SIGTERM)
    program.wait_for("stopping")
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    answer: WaitSagaResponse = waiting.result()
    assert not answer.settled
    assert answer.saga.status == saga_pb2.SAGA_STATUS_RUNNING
    with pytest.raises(grpc.RpcError):
        next(watch)  # those who watch the health do not hold the stop up
    shop.may_answer.set()
    program.wait_for("coordinator_stopped")
    assert program.wait() == 0

    # What the call in flight came to is in the log, and another coordinator goes on behind it.
    saga = connect(serving("--participants", participants_file).address).settled(saga_id)
    assert saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert [step.attempt for step in saga.steps] == [1, 1]


def test_a_second_signal_stops_at_once(
    serving: StartServing, connect: Connect, shop: Shop, participants_file: Path
) -> None:
    program = serving("--participants", participants_file, "--grace-seconds", "600")
    client = connect(program.address)
    client.register("slow", "hang")
    client.start("slow")
    assert shop.called.get(timeout=PATIENCE_SECONDS).method == "hang"
    program.send(signal.SIGTERM)
    program.wait_for("stopping")
    program.send(signal.SIGTERM)
    program.wait_for("stopped_at_once")
    assert program.wait() == 128 + signal.SIGTERM


def test_the_grace_has_an_end(
    serving: StartServing, connect: Connect, shop: Shop, participants_file: Path
) -> None:
    program = serving("--participants", participants_file, "--grace-seconds", "0.2")
    client = connect(program.address)
    client.register("slow", "hang")
    client.start("slow")
    assert shop.called.get(timeout=PATIENCE_SECONDS).method == "hang"
    program.send(signal.SIGINT)
    assert program.wait() == 0


def test_participants_are_read_again(
    serving: StartServing, connect: Connect, shop: Shop, participants_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "participants.yaml"
    file.write_text("participants: {}")
    program = serving("--participants", file)
    client = connect(program.address)
    client.register("quick", "quick")
    with pytest.raises(grpc.RpcError, match="no participant `shop` is in the participants file"):
        client.start("quick")

    file.write_text("participants: {shop: {}}")
    program.send(signal.SIGHUP)
    (fault,) = program.wait_for("participants_not_reloaded")["faults"]
    assert "participants.shop.target" in fault

    file.write_text(participants_file.read_text())
    program.send(signal.SIGHUP)
    assert program.wait_for("participants_reloaded")["participants"] == ["shop"]
    assert client.start("quick", wait=True).status == saga_pb2.SAGA_STATUS_COMPLETED


def test_participants_are_read_again_when_the_file_is_another(
    serving: StartServing, participants_file: Path, tmp_path: Path
) -> None:
    # As Kubernetes changes a mounted ConfigMap: what is named leads elsewhere from one moment to the next.
    before, named = tmp_path / "before.yaml", tmp_path / "participants.yaml"
    before.write_text("participants: {}")
    named.symlink_to(before)
    program = serving("--participants", named)
    later = tmp_path / "later"
    later.symlink_to(participants_file)
    later.replace(named)
    assert program.wait_for("participants_reloaded")["participants"] == ["shop"]


def test_a_faulty_participants_file(database_dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "participants.yaml"
    file.write_text("participants: {shop: {target: 7}}")
    line = fails_with("serve", "--database-url", database_dsn, "--participants", file)
    assert f"{file}:1: participants.shop.target" in line


def test_the_password_is_not_logged(serving: StartServing, database_dsn: str) -> None:
    program = Serving(["--database-url", database_dsn, "--address", "127.0.0.1:0", "--log-level", "debug"])
    try:
        program.wait_until_serving()
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert ":***@127.0.0.1" in "".join(program.read)
        assert password_of(database_dsn) not in "".join(program.read)
    finally:
        program.close()


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_it_serves_and_stops_when_nobody_reads_its_log(
    database_dsn: str, connect: Connect, participants_file: Path, shop: Shop, log_format: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--address", address, "--participants", str(participants_file), "--log-format", log_format]
    with subprocess.Popen(
        [sys.executable, "-m", "saga_coordinator", "serve", *flags, "--log-level", "debug"],
        stderr=subprocess.PIPE,
        env={**os.environ, "SAGA_DATABASE_URL": database_dsn},
    ) as program:
        try:
            assert program.stderr is not None
            for line in program.stderr:
                if b"serving" in line:
                    break
            program.stderr.close()
            client = connect(address)
            client.register("quick", "quick")
            assert (
                client.start("quick", wait=True).status == saga_pb2.SAGA_STATUS_COMPLETED
            )  # which is logged
            program.send_signal(signal.SIGTERM)
            assert program.wait(PATIENCE_SECONDS) == 0
        finally:
            program.kill()
