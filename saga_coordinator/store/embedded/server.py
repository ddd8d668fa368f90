"""The embedded server: its start, its end, and where it is reached."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from saga_coordinator.sockets import UNIX_PATH_BYTES_MAX
from saga_coordinator.store.embedded.binaries import EmbeddedPostgresError
from saga_coordinator.store.embedded.data_directory import SUPERUSER, DataDirectory, PidFile
from saga_coordinator.store.embedded.run_as import RunAs, end, run_as_whom

HOST = "127.0.0.1"

_POLL_SECONDS = 0.002
_START_SECONDS_MAX = 120.0


class EmbeddedPostgres:
    """A Postgres server that belongs to this process.

    Without `port`, each start takes a free port. Without `fsync`, a crash of the machine may lose commits, but tests are faster.
    `settings` are Postgres's own, each `name=value`. One thread at a time may use it.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres_bin: Path | None = None,
        port: int | None = None,
        fsync: bool = True,
        settings: Sequence[str] = (),
    ) -> None:
        self._directory = DataDirectory(data_dir)
        self._postgres_bin = postgres_bin.absolute() if postgres_bin else None
        self._wanted_port = port
        self._fsync = fsync
        self._settings = tuple(settings)
        self._port: int | None = None
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def data_dir(self) -> Path:
        """The absolute path of the data directory."""
        return self._directory.path

    @property
    def log_path(self) -> Path:
        """The path of the server's log."""
        return self._directory.log_path

    @property
    def is_made(self) -> bool:
        """Tells whether the data directory holds a database; if not, the first start makes one, which takes seconds."""
        return self._directory.is_made

    @property
    def port(self) -> int:
        if self._port is None:
            raise EmbeddedPostgresError("the embedded Postgres has not been started")
        return self._port

    @property
    def is_running(self) -> bool:
        """Tells whether the server was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def last_words(self) -> str:
        """The last words of the server's log, in one line."""
        return self._directory.last_words

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedPostgresError("the embedded Postgres has not been started")
        return self._process.pid

    @property
    def dsn(self) -> str:
        """A connection URL of the database `postgres`, password included."""
        return self.dsn_for("postgres")

    def dsn_for(self, database: str) -> str:
        """A connection URL of that database, password included."""
        return f"postgresql://{SUPERUSER}:{self._directory.password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server, making its data directory on first use; returns when it accepts connections."""
        if self._process is not None:
            raise EmbeddedPostgresError("the embedded Postgres is already started")
        try:
            lock = self._lock = self._directory.lock()
            self._start_locked(lock)
        except OSError as error:
            self.stop("immediate")
            raise EmbeddedPostgresError(
                f"the data directory {self.data_dir} cannot be used: {error}"
            ) from error
        except BaseException:
            self.stop("immediate")
            raise

    def _start_locked(self, lock: int) -> None:
        directory = self._directory
        binaries = directory.matching_binaries(self._postgres_bin)
        run_as = run_as_whom(directory.path, binaries)
        directory.remove_stale_pid_file()
        if not directory.is_made:
            directory.make_cluster(binaries, run_as, lock, fsync=self._fsync)
        directory.give_to(run_as)
        self._serve(binaries, run_as, lock)

    def restart(self) -> None:
        """Starts a server that has ended by itself, on the port that it had. Raises EmbeddedPostgresError."""
        self.stop("immediate")
        wanted, self._wanted_port = self._wanted_port, self._port
        try:
            self.start()
        finally:
            self._wanted_port = wanted

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Ends the server: `fast` writes everything out, `immediate` leaves it to the next start."""
        process, self._process = self._process, None
        try:
            if process is not None:
                end(process, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                # Not unlocked: any program of ours that is left keeps the directory until it ends.
                os.close(lock)

    def _serve(self, binaries: Path, run_as: RunAs, lock: int) -> None:
        attempts = 1 if self._wanted_port is not None else 5
        for attempt in range(1, attempts + 1):
            self._port = self._wanted_port or _free_port()
            if self._is_ready_after_start(binaries, run_as, lock):
                return
            # Another program may take the port after it was found free.
            cause = self._directory.last_words
            if attempt == attempts or "could not create any TCP/IP sockets" not in cause:
                raise EmbeddedPostgresError(
                    f"Postgres did not start on port {self._port}: {cause} ({self.log_path})"
                )

    def _is_ready_after_start(self, binaries: Path, run_as: RunAs, lock: int) -> bool:
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        command: list[str | Path] = [binaries / "postgres", "-D", self._directory.cluster]
        with self.log_path.open("wb") as log:
            self._process = run_as.popen([*command, *self._options()], log=log.fileno(), lock=lock)
        deadline = time.monotonic() + _START_SECONDS_MAX
        while self._process.poll() is None:
            found = PidFile.read(self._directory.cluster)
            if found is not None and found.pid == self._process.pid and found.status == "ready":
                return True
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        process, self._process = self._process, None
        end(process, signal.SIGQUIT)
        return False

    def _options(self) -> Iterator[str]:
        socket_path = self.data_dir / f".s.PGSQL.{self.port}"
        has_socket = len(os.fsencode(socket_path)) <= UNIX_PATH_BYTES_MAX
        yield from ("-p", str(self.port))
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": str(self.data_dir) if has_socket else "",
            "fsync": "on" if self._fsync else "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        for setting in [*(f"{name}={value}" for name, value in settings.items()), *self._settings]:
            yield from ("-c", setting)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
