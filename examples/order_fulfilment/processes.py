"""The demo's processes: Postgres, the coordinator and the three services, each on its own, each with its own log."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import psycopg
from grpc_health.v1 import health_pb2
from psycopg import sql
from psycopg.conninfo import make_conninfo

EXAMPLE = Path(__file__).resolve().parent
START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
# Both ends are on this machine: a service that comes back is worth another look at once.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class DemoError(Exception):
    """The demo cannot go on. The message says what happened, and which log to read."""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Returns once `condition` holds; raises DemoError when it does not within `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise DemoError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(POLL_SECONDS)


def is_serving(channel: grpc.Channel) -> bool:
    """Asks the standard health service."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer: health_pb2.HealthCheckResponse = check(health_pb2.HealthCheckRequest(), timeout=1.0)
    except grpc.RpcError:
        return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


@dataclass(slots=True)
class Process:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def fail_if_ended(self) -> None:
        if self.popen.poll() is not None:
            raise DemoError(f"{self.name} ended with code {self.popen.returncode}; see {self.log}")

    def kill(self) -> None:
        """As `kill -9` does: without a chance to put anything in order."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> bool:
        """Asks it to end. False when it had to be killed."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True


class Processes:
    """Starts them in order and stops them in reverse. Everything that they write is in `folder`."""

    def __init__(self, folder: Path, shape: str = "contract") -> None:
        self.folder = folder
        self.shape = shape
        self.program = _program()
        self.database_url = ""
        self.shop_url = ""
        self.running: dict[str, Process] = {}
        names = ("coordinator", "inventory", "payments", "shipping")
        self.addresses = {
            name: f"127.0.0.1:{port}" for name, port in zip(names, _free_ports(len(names)), strict=True)
        }
        self.channels = {
            name: grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
            for name, address in self.addresses.items()
        }

    def start_all(self) -> None:
        self._start_postgres()
        for name in ("inventory", "payments", "shipping"):
            self.start_participant(name, wait=False)
        self._run("migrate", "--database-url", self.database_url)
        self.start_coordinator()
        definition = str(EXAMPLE / ("definition_plain.yaml" if self.shape == "plain" else "definition.yaml"))
        self._run("definition", "apply", definition, "--address", self.addresses["coordinator"])
        for name in ("inventory", "payments", "shipping"):
            self._wait_until_serving(name)

    def start_coordinator(self) -> None:
        participants = self.folder / "participants.yaml"
        lines = [
            f"  {name}: {{{self._whereabouts(name)}}}\n" for name in ("inventory", "payments", "shipping")
        ]
        participants.write_text("participants:\n" + "".join(lines), encoding="utf-8")
        command = [self.program, "serve", "--database-url", self.database_url, "--log-format", "json"]
        address = self.addresses["coordinator"]
        self._start("coordinator", [*command, "--address", address, "--participants", str(participants)])
        self._wait_until_serving("coordinator")

    def _whereabouts(self, name: str) -> str:
        return "worker: true" if self.shape == "worker" else f'target: "dns:///{self.addresses[name]}"'

    def start_participant(self, name: str, *, wait: bool = True) -> None:
        command = [sys.executable, "-m", f"order_fulfilment.{name}"]
        where = ["--address", self.addresses[name], "--coordinator", self.addresses["coordinator"]]
        self._start(name, [*command, *where, "--database-url", self.shop_url, "--shape", self.shape])
        if wait:
            self._wait_until_serving(name)

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        if not process.stop():
            raise DemoError(f"{name} did not stop within {STOP_SECONDS:.0f} s of SIGTERM; see {process.log}")

    def kill(self, name: str) -> None:
        self.running.pop(name).kill()

    def stop_all(self) -> list[str]:
        """Stops what runs, the last started first, and returns the names of those that had to be killed."""
        for channel in self.channels.values():
            channel.close()
        stopped = {name: self.running[name].stop() for name in reversed(self.running)}
        self.running.clear()
        return [name for name, was_polite in stopped.items() if not was_polite]

    def _start_postgres(self) -> None:
        command = [self.program, "postgres", "--data-dir", str(self.folder / "postgres")]
        process = self._start("postgres", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        output = process.popen.stdout
        if output is None or not select.select([output], [], [], START_SECONDS)[0]:
            raise DemoError(f"Postgres did not start within {START_SECONDS:.0f} s; see {process.log}")
        line = output.readline().decode().strip()
        if not line.startswith("postgres: "):
            process.popen.wait(STOP_SECONDS)
            process.fail_if_ended()
            raise DemoError(f"expected the address of Postgres, not {line!r}; see {process.log}")
        self.database_url = line.removeprefix("postgres: ")
        self.shop_url = make_conninfo(self.database_url, dbname="shop")
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier("shop")))

    def _start(
        self, name: str, command: Sequence[str], stdin: int = subprocess.DEVNULL, stdout: int | None = None
    ) -> Process:
        log = self.folder / f"{name}.log"
        with log.open("ab") as file:
            popen = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=file if stdout is None else stdout,
                stderr=file,
                env=_environment(),
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the others in order
            )
        self.running[name] = Process(name, popen, log)
        return self.running[name]

    def _run(self, *arguments: str) -> None:
        """One command of the coordinator's program that ends by itself."""
        log = self.folder / f"{arguments[0]}.log"
        with log.open("ab") as file:
            command = [self.program, *arguments]
            done = subprocess.run(command, stdout=file, stderr=file, env=_environment(), check=False)
        if done.returncode != 0:
            raise DemoError(f"saga-coordinator {arguments[0]} ended with code {done.returncode}; see {log}")

    def _wait_until_serving(self, name: str) -> None:
        process, channel = self.running[name], self.channels[name]

        def serves() -> bool:
            process.fail_if_ended()
            return is_serving(channel)

        wait_until(serves, f"{name} to serve at {self.addresses[name]}; see {process.log}")


def _program() -> str:
    """The coordinator's program: the one named, the one of this environment, or the one on the path."""
    beside = Path(sys.executable).parent / "saga-coordinator"
    if named := os.environ.get("SAGA_COORDINATOR_BIN"):
        return named
    found = str(beside) if beside.exists() else shutil.which("saga-coordinator")
    if found is None:
        raise DemoError("saga-coordinator is not installed here; set SAGA_COORDINATOR_BIN to its path")
    return found


def _environment() -> Mapping[str, str]:
    """This one, with the folder that holds this package on the path; settings of the caller's own are left out."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")}
    path = os.pathsep.join([str(EXAMPLE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
