"""Supervises several coordinators that share a port on one machine: starts them, restarts those that crash, and stops them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from saga_coordinator import telemetry
from saga_coordinator.cli.options import Failure
from saga_coordinator.config import Settings
from saga_coordinator.lifecycle import daemon

ONE_OF_MANY = "--one-of-many"
"""The hidden flag by which a coordinator knows that it shares its port, and that it ends with its supervisor."""

HASTY_SECONDS = 30.0
"""Seconds. A coordinator that ends by itself sooner than this could not start, and would not start the next time."""

RESTART_SECONDS = 1.0

log = telemetry.logger()


def supervise(settings: Settings, arguments: Sequence[str]) -> int:
    """Runs `settings.processes` coordinators with `arguments` until told to stop; returns the exit code.

    SIGTERM and SIGINT are passed on as SIGTERM, a second signal too. SIGHUP is passed on unchanged.

    Raises:
        Failure: an address cannot be shared, or is taken.
    """
    _check_addresses(settings.addresses)
    if not settings.peer_address.endswith(":0"):
        raise Failure(
            f"the peer address {settings.peer_address} cannot be that of several processes: give it port 0, or --processes 1",
            exit_code=2,
        )
    telemetry.configure(log_format=settings.log_format, log_level=settings.log_level)
    return _Supervisor(
        settings.processes, (sys.executable, "-m", "saga_coordinator", *arguments, ONE_OF_MANY)
    ).run()


def end_with_supervisor() -> None:
    """Stops this coordinator gracefully when its supervisor is gone, however the supervisor ended."""

    def watch() -> None:
        try:
            os.read(sys.stdin.fileno(), 1)  # nothing is ever sent: this returns when the other end is closed
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    daemon("the watch over the supervisor", watch)


class _Supervisor:
    def __init__(self, processes: int, command: Sequence[str]) -> None:
        self._processes = processes
        self._command = command
        self._children: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._is_stopping = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        for _ in range(self._processes):
            self._start()
        exit_code = 0
        while self._children:
            process_id, status = os.waitpid(-1, 0)  # retried after a signal has been handled
            code = os.waitstatus_to_exitcode(status)
            child, started_at = self._children.pop(process_id)
            child.returncode = code
            if self._is_stopping:
                continue
            if code > 0 and time.monotonic() - started_at < HASTY_SECONDS:
                exit_code = code  # it has said why; the others would fail in the same way
                self._stop(signal.SIGTERM, None)
                continue
            log.warning("coordinator_ended", process_id=process_id, exit_code=code)
            time.sleep(RESTART_SECONDS)
            if not self._is_stopping:
                self._start()
        return exit_code

    def _start(self) -> None:
        # This process holds the pipe's other end, so a coordinator notices when this process ends. Ctrl-C reaches the
        # coordinators only through this process.
        child = subprocess.Popen(self._command, stdin=subprocess.PIPE, process_group=0)
        self._children[child.pid] = (child, time.monotonic())
        log.info("coordinator_spawned", process_id=child.pid)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._is_stopping = True
        self._pass_on(signal.SIGTERM, None)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        for child, _started_at in self._children.values():
            os.kill(child.pid, number)


def _check_addresses(addresses: Sequence[str]) -> None:
    for address in addresses:
        if address.startswith("unix:") or address.endswith(":0"):
            raise Failure(
                f"{address} cannot be shared by several processes: give HOST:PORT, or --processes 1",
                exit_code=2,
            )
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        # The coordinators share the port by SO_REUSEPORT, which would also let a second supervisor in. Binding without it shows
        # that the port is taken.
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except OSError as error:
                raise Failure(f"cannot listen on {address}: {error.strerror}") from None
