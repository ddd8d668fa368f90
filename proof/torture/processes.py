"""What runs under torture: Postgres, coordinators and participants, each a process of its own, and the proxies between them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from saga_client.v1 import definition_service_pb2
from saga_client.v1.definition_service_pb2_grpc import DefinitionServiceStub
from sqlalchemy import make_url

from proof.torture import commits, definitions
from proof.torture.crashing import CRASHED
from proof.torture.proxy import HOST, Proxy
from saga_coordinator.store import schema
from saga_coordinator.store.embedded import EmbeddedPostgres

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.02
CHANNEL_OPTIONS: Final = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class TortureError(Exception):
    """It cannot go on; the message says which log to read."""


async def eventually(
    condition: Callable[[], bool], what: str, seconds: float = START_SECONDS, every: float = POLL_SECONDS
) -> None:
    """Returns once `condition` holds. Raises TortureError when it does not within `seconds`."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise TortureError(f"waited {seconds:g} s in vain for {what}")
        await asyncio.sleep(every)


@dataclass(slots=True)
class Life:
    """One process of a coordinator. Instants are seconds since the epoch by the machine's clock, which is Postgres' too."""

    number: int
    log: Path
    popen: subprocess.Popen[bytes]
    began_at: float
    crash_at: str = ""
    clock: str = ""
    coordinator_id: str = ""
    serving_at: float | None = None
    died_at: float | None = None
    was_killed: bool = False
    stops: list[tuple[float, float]] = field(default_factory=list)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def spawn(
    module: str, *arguments: object, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A program of this environment, out of the terminal's reach, that does not outlive us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGA_", "GRPC_"))}
    path = os.pathsep.join(map(str, (ROOT, ROOT / "clients" / "python")))
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(environment or {})},
            cwd=ROOT,
            start_new_session=True,
        )


def lines_of(log: Path) -> list[dict[str, Any]]:
    """The JSON lines of a log; others are given as `{"event": "text", "text": line}`."""
    found: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            parsed = json.loads(line)
        except ValueError:
            parsed = None
        found.append(parsed if isinstance(parsed, dict) else {"event": "text", "text": line})
    return found


def end(popen: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> bool:
    """Asks a process to end. False when it had to be killed."""
    if popen.poll() is not None:
        return True
    popen.send_signal(signal.SIGCONT)
    popen.send_signal(signal.SIGTERM)
    try:
        popen.wait(seconds)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
        return False
    return True


async def is_serving(address: str) -> bool:
    """Whether the coordinator there can be reached and would take a start."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service="saga.v1.SagaService"), timeout=1)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Coordinator:
    """One place for coordinators: a port, the proxies on its ways, and one process after the other."""

    def __init__(self, number: int, port: int, world: World) -> None:
        self.number = number
        self.name = f"coordinator-{number}"
        self.port = port
        self.lives: list[Life] = []
        self.down_until = 0.0
        self.is_leaving = False
        """Whether it is being told to end, so that its end is no news."""
        self.troubles: list[list[float]] = []
        """When it could not be counted on, by our own faults: from, to."""
        self._world = world
        dice = world.dice
        self.to_database = Proxy(f"{self.name} to Postgres", world.postgres_port, dice)
        self.to_participants = {
            name: Proxy(f"{self.name} to {name}", world.participants[name].port, dice)
            for name in definitions.PARTICIPANTS
        }

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def life(self) -> Life:
        return self.lives[-1]

    @property
    def is_alive(self) -> bool:
        return bool(self.lives) and self.life.popen.poll() is None

    @property
    def is_troubled(self) -> bool:
        now = time.time()
        return not self.is_alive or any(began <= now <= ended for began, ended in self.troubles)

    @property
    def proxies(self) -> list[Proxy]:
        return [self.to_database, *self.to_participants.values()]

    async def prepare(self) -> None:
        for proxy in self.proxies:
            await proxy.start()
        lines = [
            f'  {name}: {{target: "dns:///{HOST}:{self._way(name)}"}}\n' for name in definitions.PARTICIPANTS
        ]
        self._directory.write_text("participants:\n" + "".join(lines), encoding="utf-8")

    @property
    def _directory(self) -> Path:
        return self._world.folder / f"{self.name}.participants.yaml"

    def _way(self, participant: str) -> int:
        if self._world.is_direct:
            return self._world.participants[participant].port
        return self.to_participants[participant].port

    def start(
        self, crash_at: str = "", passage: int = 1, timezone: str = "", shift_seconds: float = 0.0
    ) -> None:
        """Starts a process. `crash_at` is one of `crashing.POINTS`, where it ends at the given passage."""
        number = len(self.lives) + 1
        log = self._world.folder / f"{self.name}.life-{number}.log"
        environment = {"TORTURE_CLOCK_SHIFT": str(shift_seconds)}
        if crash_at:
            environment["TORTURE_CRASH_AT"] = f"{crash_at}:{passage}"
            environment["TORTURE_DISARMED_BY"] = str(self._world.disarmed_by)
        if timezone:
            environment["TZ"] = timezone
        port = self._world.postgres_port if self._world.is_direct else self.to_database.port
        url = make_url(self._world.database_url).set(port=port).render_as_string(hide_password=False)
        flags = {
            "--database-url": url,
            "--address": self.address,
            "--participants": self._directory,
            "--lease-seconds": self._world.lease_seconds,
            "--database-wait-seconds": 120,
            "--grace-seconds": 5,
            "--log-format": "json",
            **self._world.flags,
        }
        arguments = [each for flag in flags.items() for each in flag]
        popen = spawn("proof.torture.crashing", "serve", *arguments, log=log, environment=environment)
        clock = " ".join(filter(None, (timezone, f"{shift_seconds / 3600:+.1f} h" if shift_seconds else "")))
        self.lives.append(Life(number, log, popen, time.time(), crash_at, clock))
        self.is_leaving = False

    def kill(self) -> None:
        """As `kill -9` does."""
        self.life.died_at = time.time()
        self.life.was_killed = True
        self.life.popen.kill()
        self.life.popen.wait()

    async def wait_until_serving(self) -> None:
        for _ in range(int(START_SECONDS / POLL_SECONDS)):
            if await is_serving(self.address):
                return
            if not self.is_alive:
                break
            await asyncio.sleep(POLL_SECONDS)
        raise TortureError(f"{self.name} does not serve; see {self.life.log}")

    def read_lives(self) -> None:
        """Takes from the logs which coordinator each life was, since when it served, and when it crashed on purpose."""
        for life in self.lives:
            for line in lines_of(life.log):
                if line["event"] == "serving":
                    life.coordinator_id = line["coordinator_id"]
                elif line["event"] == CRASHED:
                    life.died_at = line["at"]


@dataclass(slots=True)
class Participant:
    name: str
    port: int
    books: Path
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    down_until: float = 0.0

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self.popen is not None, f"{self.name} was never started"
        return self.popen


class World:
    """Everything that runs, in one folder.

    `is_direct`: coordinators reach the others without proxies between. `keeps_calls`: participants take down each call.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        coordinators: int = 3,
        lease_seconds: float = 3.0,
        is_direct: bool = False,
        keeps_calls: bool = True,
        flags: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.dice = random.Random(f"{seed} world")
        self.lease_seconds = lease_seconds
        self.is_direct = is_direct
        self._keeps_calls = keeps_calls
        self.flags = dict(flags or {})
        ports = free_ports(1 + len(definitions.PARTICIPANTS) + coordinators)
        self.postgres_port = ports.pop()
        self.postgres = EmbeddedPostgres(folder / "postgres", port=self.postgres_port)
        self.participants = {
            name: Participant(name, ports.pop(), folder / f"{name}.sqlite", folder / f"{name}.log")
            for name in definitions.PARTICIPANTS
        }
        self.coordinators = [Coordinator(number, ports.pop(), self) for number in range(1, coordinators + 1)]
        self.outages: list[list[float]] = []
        """When Postgres was away, by our own faults: from, to."""

    @property
    def database_url(self) -> str:
        return self.postgres.dsn

    @property
    def addresses(self) -> list[str]:
        return [coordinator.address for coordinator in self.coordinators]

    @property
    def disarmed_by(self) -> Path:
        return self.folder / "disarmed"

    def disarm(self) -> None:
        """From now on no coordinator kills itself."""
        self.disarmed_by.touch()

    async def start(self, specs: list[Mapping[str, Any]], *, coordinators: int | None = None) -> None:
        """Starts everything, or only the first `coordinators`; returns when they serve and know the definitions."""
        await asyncio.to_thread(self.postgres.start)
        await asyncio.to_thread(schema.upgrade, self.database_url)
        await asyncio.to_thread(commits.prepare, self.database_url)
        for participant in self.participants.values():
            self.start_participant(participant)
        started = self.coordinators[:coordinators]
        for coordinator in self.coordinators:
            await coordinator.prepare()
        for coordinator in started:
            coordinator.start()
        for coordinator in started:
            await coordinator.wait_until_serving()
        await self.register(specs)

    async def register(self, specs: list[Mapping[str, Any]]) -> None:
        async with grpc.aio.insecure_channel(self.addresses[0]) as channel:
            stub: Any = DefinitionServiceStub(channel)
            for spec in specs:
                definition = definitions.message(spec)
                request = definition_service_pb2.RegisterDefinitionRequest(definition=definition)
                await stub.RegisterDefinition(request, timeout=10)

    def start_participant(self, participant: Participant) -> None:
        arguments: list[object] = ["--name", participant.name, "--port", participant.port]
        arguments += ["--books", participant.books, "--seed", self.seed]
        arguments += [] if self._keeps_calls else ["--no-calls"]
        for address in self.addresses:
            arguments += ["--report-to", address]
        participant.popen = spawn("proof.torture.participant", *arguments, log=participant.log)

    async def stop_coordinators(self) -> list[str]:
        """Stops them as an operator does; returns those that did not end by themselves, or ended badly."""
        alive = [coordinator for coordinator in self.coordinators if coordinator.is_alive]
        for coordinator in alive:
            coordinator.is_leaving = True
        ended = await asyncio.gather(*(asyncio.to_thread(end, each.life.popen) for each in alive))
        return [
            f"{coordinator.name} did not stop well (code {coordinator.life.popen.returncode}); see {coordinator.life.log}"
            for coordinator, was_polite in zip(alive, ended, strict=True)
            if not was_polite or coordinator.life.popen.returncode != 0
        ]

    async def stop(self) -> None:
        """Leaves nothing running."""
        for coordinator in self.coordinators:
            if coordinator.is_alive:
                coordinator.life.popen.kill()
                coordinator.life.popen.wait()
        for participant in self.participants.values():
            if participant.popen is not None:
                participant.popen.kill()
                participant.popen.wait()
        for coordinator in self.coordinators:
            for proxy in coordinator.proxies:
                await proxy.stop()
        self.postgres.stop("immediate")
