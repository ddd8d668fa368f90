"""`serve --processes 2`: coordinators that share a port, under a supervisor."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import psycopg
import pytest

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import StartSagaRequest
from saga_coordinator.pb.saga.v1.saga_service_pb2_grpc import SagaServiceStub
from tests.acceptance.conftest import Client, Program, Shop, repeated, run_program
from tests.eventually import PATIENCE_SECONDS, wait_until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Supervised(Program):
    """A supervisor and its two coordinators."""

    def __init__(self, dsn: str, participants_file: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        flags = ["--processes", "2", "--address", self.address, "--participants", str(participants_file)]
        super().__init__(["serve", *flags, "--lease-seconds", "1"], {"SAGA_DATABASE_URL": dsn})

    def wait_until_serving(self, coordinators: int) -> None:
        for _ in range(coordinators):
            assert self.wait_for("serving")["addresses"] == [self.address]

    @property
    def processes(self) -> set[int]:
        return {
            child.pid for child in psutil.Process(self.popen.pid).children() if "serve" in child.cmdline()
        }


@pytest.fixture
def supervised(database_dsn: str, participants_file: Path) -> Iterator[Supervised]:
    program = Supervised(database_dsn, participants_file)
    processes: set[int] = set()
    try:
        program.wait_until_serving(2)
        processes = program.processes
        yield program
        if program.popen.poll() is None:
            processes |= program.processes
    finally:
        program.close()
        for process in processes:  # they end with their supervisor; what a failed test leaves must not stay
            wait_until_gone(process, or_kill=True)


def wait_until_gone(process: int, *, or_kill: bool = False) -> None:
    try:
        wait_until(lambda: is_gone(process), f"the end of process {process}")
    except AssertionError:
        if or_kill:
            os.kill(process, signal.SIGKILL)
        raise


def is_gone(process: int) -> bool:
    return not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


def start_hanging(address: str, number: int) -> str:
    """Starts a saga over a connection of its own, which either of the coordinators may get."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = StartSagaRequest(definition="hanging", start_key=f"hanging {number}")
        stub = SagaServiceStub(channel)
        return repeated(lambda: stub.StartSaga(request, timeout=PATIENCE_SECONDS)).saga.saga_id


Connect = Callable[[str], Client]


def test_p1_one_of_two_is_killed_and_replaced_and_its_sagas_go_on(
    supervised: Supervised, connect: Connect, shop: Shop, database_dsn: str
) -> None:
    before = supervised.processes
    assert len(before) == 2
    client = connect(supervised.address)
    client.register("hanging", "hang", "quick")
    sagas: list[str] = []
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        owners = "SELECT count(DISTINCT owner) FROM saga.sagas"
        while len(sagas) < 4 or connection.execute(owners).fetchall() != [(2,)]:
            sagas.append(start_hanging(supervised.address, len(sagas)))
            assert len(sagas) < 200, "all connections went to one of them"
        for _ in sagas:
            assert shop.called.get(timeout=PATIENCE_SECONDS).method == "hang"

        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        ended = supervised.wait_for("coordinator_ended")
        assert (ended["process_id"], ended["exit_code"]) == (killed, -signal.SIGKILL)
        shop.may_answer.set()
        supervised.wait_until_serving(1)
        assert len(supervised.processes) == 2
        assert before - {killed} < supervised.processes

        client = connect(supervised.address)
        for saga_id in sagas:
            assert client.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPLETED
        adopted = "SELECT count(DISTINCT saga_id) FROM saga.log WHERE type = 'saga_adopted'"
        ((count,),) = connection.execute(adopted).fetchall()
    assert 0 < count < len(sagas)

    supervised.send(signal.SIGTERM)
    assert supervised.wait() == 0


def test_sigterm_gives_calls_in_flight_their_time_in_every_coordinator(
    supervised: Supervised, connect: Connect, shop: Shop, database_dsn: str
) -> None:
    processes = supervised.processes
    connect(supervised.address).register("hanging", "hang")
    sagas = [start_hanging(supervised.address, number) for number in range(8)]
    for _ in sagas:
        shop.called.get(timeout=PATIENCE_SECONDS)
    supervised.send(signal.SIGTERM)
    for _ in processes:
        supervised.wait_for("stopping")
    shop.may_answer.set()
    assert supervised.wait() == 0
    assert not any(psutil.pid_exists(process) for process in processes)
    with psycopg.connect(database_dsn) as connection:
        statuses = connection.execute("SELECT status, owner FROM saga.sagas").fetchall()
    assert statuses == [("COMPLETED", None)] * len(sagas)


def test_coordinators_end_with_their_supervisor_even_when_it_is_killed(supervised: Supervised) -> None:
    processes = supervised.processes
    supervised.send(signal.SIGKILL)
    supervised.wait()
    for process in processes:
        wait_until_gone(process)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:saga.sock"])
def test_an_address_that_cannot_be_shared(address: str, database_dsn: str) -> None:
    done = run_program("serve", "--processes", "2", "--database-url", database_dsn, "--address", address)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        f"error: {address} cannot be shared by several processes: give HOST:PORT, or --processes 1"
    )


@pytest.mark.parametrize("shares", [False, True], ids=["by another program", "by another supervisor"])
def test_an_occupied_port(shares: bool, database_dsn: str) -> None:
    with socket.socket() as occupied:
        occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        address = f"127.0.0.1:{occupied.getsockname()[1]}"
        done = run_program("serve", "--processes", "2", "--database-url", database_dsn, "--address", address)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == f"error: cannot listen on {address}: Address already in use"


def test_a_database_that_cannot_be_used_ends_all_with_the_reason() -> None:
    flags = [
        "--database-url",
        "postgresql://app:secret@127.0.0.1:1/none",
        "--address",
        f"127.0.0.1:{free_port()}",
    ]
    done = run_program("serve", "--processes", "2", *flags)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors
    assert all("Connection refused" in line for line in errors)
    assert "secret" not in done.stderr
