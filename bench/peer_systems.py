"""The peers that registries have: each in an environment of its own, of exact versions, with the same 3-step saga.

Where one cannot be had here, BenchError says why, and the table shows the reason in place of figures.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.http1 import Http1Connection
from bench.http2 import CallFailed
from bench.load import Driven, drive
from bench.processes import (
    HOST,
    ROOT,
    BenchError,
    free_port,
    python_path,
    running,
    spawn,
    until_open,
)
from bench.record import Sample, Shape
from bench.system import Meter, Site

_HERE: Final = Path(__file__).parent / "peers"
_CACHE: Final = ROOT / ".cache" / "bench-peers"
_INSTALL_SECONDS: Final = 600
_ANSWER_SECONDS: Final = 120.0
_STEPS: Final = 3


def python_environment() -> Path:
    """The interpreter of the Python peers' environment, made where it is not there yet, or not of these versions."""
    folder = _CACHE / "python"
    python = folder / "bin" / "python"

    def make() -> None:
        _install([sys.executable, "-m", "venv", "--clear", str(folder)], _CACHE)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _install([*map(str, command), "--requirement", str(_HERE / "requirements.txt")], _CACHE)

    _make_once(folder, _HERE / "requirements.txt", make)
    return python


def node_environment() -> Path:
    """The folder with the Node peers' packages and their saga."""
    folder = _CACHE / "node"
    if not (shutil.which("npm") and shutil.which("node")):
        raise BenchError("needs node and npm, which are not on this machine")

    def make() -> None:
        shutil.copy(_HERE / "package.json", folder / "package.json")
        # No package of these has a script that it needs, and one that reports to its makers.
        _install(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    _make_once(folder, _HERE / "package.json", make)
    shutil.copy(_HERE / "restate_saga.mjs", folder / "restate_saga.mjs")
    return folder


def _make_once(folder: Path, wanted: Path, make: Callable[[], None]) -> None:
    stamp = folder / ".made-from"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    make()
    stamp.write_text(digest, encoding="ascii")


def _install(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, check=False, capture_output=True, text=True, timeout=_INSTALL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"could not be installed: {error}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise BenchError(f"could not be installed: {''.join(last)}")


class PythonPeer:
    """A library; its customers are in its process. `script` is one of bench/peers."""

    def __init__(self, site: Site, name: str, script: str) -> None:
        self.name = name
        self._site = site
        self._script = script
        self._stack = ExitStack()
        self._popen: subprocess.Popen[bytes] | None = None

    def takes(self, shape: Shape) -> bool:
        return shape.steps == _STEPS

    async def start(self) -> None:
        python = await asyncio.to_thread(python_environment)
        database = self._site.make_database(self._script.partition("_")[0])
        log = self._site.folder / f"{self._script}.log"
        command = [python, _HERE / self._script, database, self._site.address("contract")]
        self._popen = spawn(
            command,
            log,
            {"PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._stack.enter_context(running(self._popen))
        while (line := await self._line()) != b"ready\n":
            if not line:
                raise BenchError(f"did not start: {_last_line(log)}")

    async def _line(self) -> bytes:
        assert self._popen is not None
        assert self._popen.stdout is not None
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await asyncio.to_thread(self._popen.stdout.readline)

    async def run(self, shape: Shape, seconds: float) -> Sample:
        assert self._popen is not None
        await self._ask(shape, seconds / 4)
        parts = {
            "coordinator": self._popen.pid,
            "participant": self._site.participants["contract"],
        }
        meter = Meter(self._site, parts, own="coordinator")
        answer = await self._ask(shape, seconds)
        return meter.sample(Driven(answer["seconds"], 0.0, answer["latencies"]))

    async def _ask(self, shape: Shape, seconds: float) -> dict[str, Any]:
        assert self._popen is not None
        assert self._popen.stdin is not None
        asked = {"in_flight": shape.concurrency, "seconds": seconds, "outcome": shape.outcome}
        self._popen.stdin.write(json.dumps(asked).encode() + b"\n")
        self._popen.stdin.flush()
        while not (line := await self._line()).startswith(b"{"):  # libraries print what they like
            if not line:
                raise BenchError("it ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(str(answer["error"]))
        return answer

    def rest(self) -> None:
        if self._popen is not None:
            self._popen.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        if self._popen is not None:
            self._popen.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        self.wake()
        if self._popen is not None and self._popen.stdin is not None:
            self._popen.stdin.close()
        self._stack.close()


class RestatePeer:
    """A server of its own, with its own log, and a service in TypeScript's language; asked over its ingress."""

    name = "Restate 1.7"

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stack = ExitStack()
        self._ingress = f"{HOST}:{free_port()}"
        self._pids: dict[str, int] = {}

    def takes(self, shape: Shape) -> bool:
        return shape.steps == _STEPS

    async def start(self) -> None:
        folder = await asyncio.to_thread(node_environment)
        admin, fabric, service = free_port(), free_port(), free_port()
        log = self._site.folder / "restate.log"
        environment = {
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": f"{HOST}:{fabric}",
            "RESTATE_INGRESS__BIND_ADDRESS": self._ingress,
            "RESTATE_ADMIN__BIND_ADDRESS": f"{HOST}:{admin}",
            "RESTATE_DISABLE_TELEMETRY": "true",
        }
        # Not by its launcher in .bin, which would outlive, or be outlived by, what it launched.
        programs = sorted(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
        if not programs:
            raise BenchError("its packages hold no server for this platform")
        command = [programs[0], "--base-dir", self._site.folder / "restate", "--no-logo"]
        server = self._stack.enter_context(running(spawn(command, log, environment)))
        arguments = [service, self._site.address("contract"), ROOT / "proto"]
        handler = self._stack.enter_context(
            running(spawn(["node", folder / "restate_saga.mjs", *arguments], log, {"NODE_ENV": "production"}))
        )
        self._pids = {"coordinator": server.pid, "service": handler.pid}
        await until_open(service, handler, log)
        for port in (admin, int(self._ingress.rpartition(":")[2])):
            await until_open(port, server, log)
        await self._register(f"{HOST}:{admin}", f"http://{HOST}:{service}")

    async def _register(self, admin: str, uri: str) -> None:
        connection = await Http1Connection.open(admin)
        try:
            for attempt in range(60):
                try:
                    await connection.post("/deployments", json.dumps({"uri": uri}).encode())
                except CallFailed as error:
                    if attempt == 59:  # it answers before it is ready to
                        raise BenchError(str(error)) from error
                    await asyncio.sleep(0.5)
                else:
                    return
        finally:
            connection.close()

    async def run(self, shape: Shape, seconds: float) -> Sample:
        body = json.dumps({"refused": "third" if shape.outcome == "rollback" else ""}).encode()
        expected = {"success": b'"completed"', "rollback": b'"compensated"'}[shape.outcome]
        connections = [await Http1Connection.open(self._ingress) for _ in range(shape.concurrency)]
        idle = list(connections)

        async def ask() -> None:
            connection = idle.pop()
            answer = await connection.post("/order/run", body)
            idle.append(connection)
            if answer != expected:
                raise BenchError(f"a saga ended as {answer!r}")

        try:
            await self._driven(ask, shape, seconds / 4)
            parts = {**self._pids, "participant": self._site.participants["contract"]}
            meter = Meter(self._site, parts, own="coordinator", uses_postgres=False)
            return meter.sample(await self._driven(ask, shape, seconds))
        finally:
            for connection in connections:
                connection.close()

    async def _driven(self, ask: Callable[[], Awaitable[None]], shape: Shape, seconds: float) -> Driven:
        try:
            return await drive(ask, shape.concurrency, seconds)
        except (CallFailed, OSError, asyncio.IncompleteReadError) as error:
            raise BenchError(f"a call failed: {error}") from error

    def rest(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGSTOP)

    def wake(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGCONT)

    async def stop(self) -> None:
        self.wake()
        self._stack.close()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"see {log}"
