"""The embedded server: its data directory, its start and its end."""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from saga_coordinator.sockets import UNIX_PATH_BYTES_MAX
from saga_coordinator.store.embedded.binaries import EmbeddedPostgresError, find_binaries, major_version
from saga_coordinator.store.embedded.run_as import RunAs, give_away, run_as_whom

SUPERUSER = "postgres"
HOST = "127.0.0.1"

_POLL_SECONDS = 0.002
_START_SECONDS_MAX = 120.0
_STOP_SECONDS_MAX = 60.0
# If a process was just killed, its server takes a moment to notice. A start waits so long for that.
_LOCK_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class _PidFile:
    """The content of `cluster/postmaster.pid`: the process that serves the directory, and its state."""

    pid: int
    status: str

    @classmethod
    def read(cls, cluster: Path) -> Self | None:
        """Reads the file; None if it is missing or only begun."""
        try:
            lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return cls(int(lines[0]), lines[7].strip() if len(lines) > 7 else "")
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def is_served(self, cluster: Path) -> bool:
        """Tells whether that process serves this directory, and is not another process that got its number."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        try:
            # A server's working directory is its data directory. Where it cannot be seen, assume the worst.
            return Path(f"/proc/{self.pid}/cwd").resolve(strict=True) == cluster.resolve()
        except OSError:
            return True


class EmbeddedPostgres:
    """A PostgreSQL server that belongs to this process.

    `port` None takes a free one at each start. `fsync` False gives durability up for speed, for tests.
    `settings` are PostgreSQL's own, each `name=value`. Not for use by several threads at once.
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
        self.data_dir = data_dir.absolute()
        self.log_path = self.data_dir / "server.log"
        self._cluster = self.data_dir / "cluster"
        self._password_path = self.data_dir / "password"
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
    def is_made(self) -> bool:
        """Tells whether the data directory holds a database; if not, the first start makes one, which takes seconds."""
        return self._cluster.exists()

    @property
    def port(self) -> int:
        if self._port is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL has not been started")
        return self._port

    @property
    def is_running(self) -> bool:
        """Tells whether the server was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def last_words(self) -> str:
        """The last words of the server's log, in one line."""
        return _last_lines(self.log_path)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL has not been started")
        return self._process.pid

    @property
    def dsn(self) -> str:
        """A connection URL of the database `postgres`, password included."""
        return self.dsn_for("postgres")

    def dsn_for(self, database: str) -> str:
        password = self._password_path.read_text(encoding="ascii")
        return f"postgresql://{SUPERUSER}:{password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server, making its data directory on first use; returns when it accepts connections."""
        if self._process is not None:
            raise EmbeddedPostgresError("the embedded PostgreSQL is already started")
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._lock = _take_lock(self.data_dir)
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
        binaries = self._matching_binaries()
        run_as = run_as_whom(self.data_dir, binaries)
        self._remove_stale_pid_file()
        if not self._cluster.exists():
            self._make_cluster(binaries, run_as, lock)
        if run_as.user is not None and run_as.group is not None:
            give_away(self.data_dir, run_as.user, run_as.group)
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
                _end(process, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                # Not unlocked: any program of ours that is left keeps the directory until it ends.
                os.close(lock)

    def _matching_binaries(self) -> Path:
        version_file = self._cluster / "PG_VERSION"
        if not version_file.exists():
            return find_binaries(self._postgres_bin)
        made_by = int(version_file.read_text(encoding="ascii"))
        mend = (
            f"{self._cluster} was made by PostgreSQL {made_by}: name the folder of its programs with "
            "--postgres-bin, or choose another data directory, or remove this one and what it holds"
        )
        if self._postgres_bin is None:
            try:
                return find_binaries(major=made_by)
            except EmbeddedPostgresError as error:
                raise EmbeddedPostgresError(f"{mend}. {error}") from error
        binaries = find_binaries(self._postgres_bin)
        if (given := major_version(binaries)) != made_by:
            raise EmbeddedPostgresError(f"{binaries} is PostgreSQL {given}, but {mend}")
        return binaries

    def _remove_stale_pid_file(self) -> None:
        found = _PidFile.read(self._cluster)
        if found is not None and found.is_served(self._cluster):
            raise EmbeddedPostgresError(
                f"{self._cluster} is served by another PostgreSQL, process {found.pid}. Stop that one first"
            )
        # PostgreSQL itself would keep a stale file for as long as any process has the number in it.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _make_cluster(self, binaries: Path, run_as: RunAs, lock: int) -> None:
        unfinished = self.data_dir / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._password_path.unlink(missing_ok=True)
        with open(os.open(self._password_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:  # noqa: PTH123  # its mode from the first moment
            file.write(secrets.token_urlsafe(24))
        if run_as.user is not None and run_as.group is not None:
            give_away(self.data_dir, run_as.user, run_as.group)
        options = ["--no-locale", "--encoding=UTF8", "--auth=scram-sha-256", f"--username={SUPERUSER}"]
        options += [f"--pwfile={self._password_path}", *([] if self._fsync else ["--no-sync"])]
        with self.log_path.open("wb") as log:
            command: list[str | Path] = [binaries / "initdb", f"--pgdata={unfinished}", *options]
            process = run_as.popen(command, log=log.fileno(), lock=lock)
            try:
                status = process.wait()
            finally:
                _end(process, signal.SIGINT)
        if status != 0:
            raise EmbeddedPostgresError(
                f"initdb could not make {self._cluster}: {_last_lines(self.log_path)}"
            )
        unfinished.rename(self._cluster)

    def _serve(self, binaries: Path, run_as: RunAs, lock: int) -> None:
        attempts = 1 if self._wanted_port is not None else 5
        for attempt in range(1, attempts + 1):
            self._port = self._wanted_port or _free_port()
            if self._is_ready_after_start(binaries, run_as, lock):
                return
            # Another program may take the port after it was found free.
            cause = _last_lines(self.log_path)
            if attempt == attempts or "could not create any TCP/IP sockets" not in cause:
                raise EmbeddedPostgresError(
                    f"PostgreSQL did not start on port {self._port}: {cause} ({self.log_path})"
                )

    def _is_ready_after_start(self, binaries: Path, run_as: RunAs, lock: int) -> bool:
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        command: list[str | Path] = [binaries / "postgres", "-D", self._cluster]
        with self.log_path.open("wb") as log:
            self._process = run_as.popen([*command, *self._options()], log=log.fileno(), lock=lock)
        deadline = time.monotonic() + _START_SECONDS_MAX
        while self._process.poll() is None:
            found = _PidFile.read(self._cluster)
            if found is not None and found.pid == self._process.pid and found.status == "ready":
                return True
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        process, self._process = self._process, None
        _end(process, signal.SIGQUIT)
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


def _take_lock(data_dir: Path) -> int:
    """Locks the data directory for this process. The server inherits the lock, which is free once both have ended."""
    opened = os.open(data_dir / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    # Above the numbers that a shell script can name, so that the guard's does not close it.
    lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(opened)
    deadline = time.monotonic() + _LOCK_SECONDS_MAX
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _PidFile.read(data_dir / "cluster")
            if holder is not None and holder.status == "stopping":
                deadline = time.monotonic() + _LOCK_SECONDS_MAX
            elif time.monotonic() > deadline:
                os.close(lock)
                server = f" (process {holder.pid})" if holder else ""
                raise EmbeddedPostgresError(
                    f"{data_dir} is in use by another embedded PostgreSQL{server}. Stop it first, or choose "
                    "another data directory"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return lock


def _end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """Ends a program with ever harder signals, and dismisses its guard."""
    try:
        for signal_number in (first, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS_MAX)
                break
    finally:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                if process.returncode is not None:
                    process.stdin.write(b"ended\n")
                process.stdin.close()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _last_lines(log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(lines[-5:]) or "no message"
