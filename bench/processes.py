"""The processes of a run: started with an environment that holds nothing of the caller's, metered, and ended with it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc.aio
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.02


class BenchError(Exception):
    """It cannot go on; the message says what to look at."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one run, under .cache/, so that it is on the disk that the project is on; removed afterwards."""
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="bench-") as folder:
        yield Path(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def python_path() -> str:
    return os.pathsep.join(map(str, (ROOT, ROOT / "clients" / "python", ROOT / "examples")))


def spawn(
    command: Sequence[object],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """A process out of the terminal's reach. What it prints goes to `log`, unless `stdout` says otherwise."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGA_", "GRPC_"))}
    with log.open("ab") as file:
        return subprocess.Popen(
            [str(each) for each in command],
            stdin=stdin,
            stdout=file if stdout is None else stdout,
            stderr=file,
            env={**kept, "PYTHONUNBUFFERED": "1", **(environment or {})},
            cwd=ROOT,
            start_new_session=True,
        )


def spawn_module(module: str, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
    return spawn([sys.executable, "-m", module, *arguments], log, {"PYTHONPATH": python_path()})


def end(popen: subprocess.Popen[bytes]) -> None:
    """Ends a process, politely at first."""
    if popen.poll() is not None:
        return
    popen.send_signal(signal.SIGTERM)
    try:
        popen.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


@contextmanager
def running(popen: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield popen
    finally:
        end(popen)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children so far, those that have ended included."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mib(pid: int) -> float:
    """Resident memory of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / 2**20


async def until_serving(address: str, popen: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once the server's health service says SERVING. Raises BenchError when it ends, or takes too long."""
    give_up_at = time.monotonic() + START_SECONDS
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_reconnect_backoff_ms", 100)]
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < give_up_at and popen.poll() is None:
            with suppress(grpc.aio.AioRpcError):
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(_POLL_SECONDS)
    raise BenchError(f"{address} does not serve; see {log}")


async def until_open(port: int, popen: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once something listens on the port. Raises BenchError when the process ends, or takes too long."""
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at and popen.poll() is None:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise BenchError(f"nothing listens on port {port}; see {log}")
