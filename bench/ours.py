"""The coordinator as it is shipped, everything on, in three ways: by contract, by plain methods, by a worker's stream."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import grpc.aio
from google.protobuf.json_format import ParseDict
from saga_client.v1 import definition_service_pb2 as definitions
from saga_client.v1 import definition_service_pb2_grpc as definitions_grpc
from saga_client.v1.definition_pb2 import Definition

from bench.load import STEPS, SagaStarter, drive
from bench.processes import HOST, BenchError, free_port, running, spawn, spawn_module, until_serving
from bench.record import RELAY, Sample, Shape
from bench.system import Meter, Site

PROGRAM: Final = Path(sys.executable).parent / "saga-coordinator"
Way = Literal["unary", "method", "worker"]
WAYS: Final[tuple[Way, ...]] = ("unary", "method", "worker")
_CONNECTIONS_PER_PROCESS: Final = 8
"""The kernel deals connections out to processes by chance; with a few for each, all get work."""


def definition_name(way: str, steps: int) -> str:
    return f"{way}-{steps}"


def definition_of(way: Way, steps: int) -> dict[str, Any]:
    """So many steps in a row, each with a compensation."""
    return {
        "name": definition_name(way, steps),
        "steps": [
            {
                "name": name,
                "action": _operation(way, "Reserve", name),
                "compensation": _operation(way, "Release", name),
            }
            for name in STEPS[:steps]
        ],
    }


def _operation(way: Way, method: str, step: str) -> dict[str, Any]:
    if way != "method":
        participant = {"unary": "contract", "worker": "worker"}[way]
        return {"participant": participant, "method": "perform", "timeout": "10s"}
    given = (
        {"order_id": f"{step}/${{input.refuse}}"}
        if method == "Reserve"
        else {"reservation_id": "${output == null ? '' : output.reservation_id}"}
    )
    return {
        "participant": "plain",
        "method": f"shop.v1.Inventory/{method}",
        "timeout": "10s",
        "input": given,
    }


async def register(address: str, *specs: dict[str, Any]) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = definitions_grpc.DefinitionServiceStub(channel)
        for spec in specs:
            request = definitions.RegisterDefinitionRequest(definition=ParseDict(spec, Definition()))
            await stub.RegisterDefinition(request, timeout=10)


class Coordinators:
    """`saga-coordinator serve` on a database of its own. The directory file names the site's participants and `more`."""

    def __init__(self, site: Site, name: str, *, processes: int = 1, more: str = "", flags: Any = ()) -> None:
        self.site = site
        self.name = name
        self.processes = processes
        self.address = f"{HOST}:{free_port()}"
        self.url = ""
        self.log = site.folder / f"{name}.log"
        self._flags = list(flags)
        self._more = more
        self._stack = ExitStack()
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def connections(self) -> int:
        """How many a customer or a worker has at least."""
        return self.processes * _CONNECTIONS_PER_PROCESS if self.processes > 1 else 1

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise BenchError(f"{self.name} was not started")
        return self._popen

    @property
    def pid(self) -> int:
        return self.popen.pid

    def migrate(self) -> None:
        self.url = self.site.make_database(self.name)
        subprocess.run([PROGRAM, "migrate", "--database-url", self.url], check=True, capture_output=True)

    def launch(self) -> None:
        directory = self.site.folder / f"{self.name}.yaml"
        directory.write_text(
            "participants:\n"
            f"  contract: {{target: 'dns:///{self.site.address('contract')}'}}\n"
            f"  plain: {{target: 'dns:///{self.site.address('plain')}'}}\n"
            "  worker: {worker: true}\n" + self._more,
            encoding="utf-8",
        )
        command = [PROGRAM, "serve", "--address", self.address, "--participants", directory]
        command += ["--processes", self.processes, "--log-level", "warning", *self._flags]
        self._popen = spawn(command, self.log, {"SAGA_DATABASE_URL": self.url})
        self._stack.enter_context(running(self._popen))

    async def start(self, *specs: dict[str, Any]) -> None:
        self.migrate()
        self.launch()
        await until_serving(self.address, self.popen, self.log)
        await register(self.address, *specs)

    def kill(self) -> None:
        """As `kill -9` does."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> None:
        self._stack.close()


class Ours:
    """One way of taking part, with so many processes of the coordinator. Those with as many share them."""

    def __init__(self, coordinators: Coordinators, way: Way) -> None:
        processes = coordinators.processes
        self.name = f"ours, {way}" + (f", {processes} processes" if processes > 1 else "")
        self._coordinators = coordinators
        self._way: Way = way
        self._stack = ExitStack()
        self._participant = 0

    def takes(self, shape: Shape) -> bool:
        return True

    def rest(self) -> None:
        """Idle, it uses about a hundredth of a core; stopped, it would lose its lease."""

    def wake(self) -> None:
        pass

    async def start(self) -> None:
        group = self._coordinators
        specs = [definition_of(self._way, steps) for steps in (2, 3)]
        if group.url:
            await register(group.address, *specs)
        else:
            await group.start(*specs)
        if self._way == "worker":
            log = group.site.folder / f"{group.name}.worker.log"
            popen = spawn_module("bench.worker", group.address, str(group.connections), log=log)
            self._stack.enter_context(running(popen))
            self._participant = popen.pid
        else:
            name = {"unary": "contract", "method": "plain"}[self._way]
            self._participant = group.site.participants[name]
        await self.run(Shape("success", 2, 1), 0.2)

    async def run(self, shape: Shape, seconds: float) -> Sample:
        group = self._coordinators
        starter = await SagaStarter.open([group.address], shape.concurrency, group.connections)
        try:
            ask = starter.customer(definition_name(self._way, shape.steps), shape)
            await drive(ask, shape.concurrency, seconds / 4)  # warms up
            parts = {"coordinator": group.pid, "participant": self._participant}
            meter = Meter(group.site, parts, own="coordinator")
            return meter.sample(await drive(ask, shape.concurrency, seconds))
        finally:
            starter.close()

    async def stop(self) -> None:
        self._stack.close()
        self._coordinators.stop()


class BareRelay:
    """See `bench.relay`: the floor."""

    name = RELAY

    def __init__(self, site: Site) -> None:
        self._site = site
        self._address = f"{HOST}:{free_port()}"
        self._stack = ExitStack()
        self._pid = 0

    def takes(self, shape: Shape) -> bool:
        return True

    def rest(self) -> None:
        """Idle, it does nothing."""

    def wake(self) -> None:
        pass

    async def start(self) -> None:
        log = self._site.folder / "relay.log"
        popen = spawn_module("bench.relay", self._address, self._site.address("contract"), log=log)
        self._stack.enter_context(running(popen))
        self._pid = popen.pid
        await until_serving(self._address, popen, log)

    async def run(self, shape: Shape, seconds: float) -> Sample:
        starter = await SagaStarter.open([self._address], shape.concurrency)
        try:
            ask = starter.customer(definition_name(RELAY, shape.steps), shape)
            await drive(ask, shape.concurrency, seconds / 4)
            parts = {"coordinator": self._pid, "participant": self._site.participants["contract"]}
            meter = Meter(self._site, parts, own="coordinator", uses_postgres=False)
            return meter.sample(await drive(ask, shape.concurrency, seconds))
        finally:
            starter.close()

    async def stop(self) -> None:
        self._stack.close()
