"""The data directory of the embedded server: its lock, its password, its log, and the database cluster in it."""

import fcntl
import os
import secrets
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from saga_coordinator.store.embedded.binaries import EmbeddedPostgresError, find_binaries, major_version
from saga_coordinator.store.embedded.run_as import RunAs, end, give_away

SUPERUSER = "postgres"

_POLL_SECONDS = 0.002
# If a process was just killed, its server takes a moment to notice. A start waits so long for that.
_LOCK_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class PidFile:
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


class DataDirectory:
    """A data directory. Whoever holds its lock may change what is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.cluster = self.path / "cluster"
        self.log_path = self.path / "server.log"
        self._password_path = self.path / "password"

    @property
    def is_made(self) -> bool:
        """Tells whether the directory holds a cluster, and so whether a start need not make one first."""
        return self.cluster.exists()

    @property
    def password(self) -> str:
        """The superuser's password. Raises FileNotFoundError before the cluster is made."""
        return self._password_path.read_text(encoding="ascii")

    @property
    def last_words(self) -> str:
        """The last lines of the server's log, in one line."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " / ".join(lines[-5:]) or "no message"

    def lock(self) -> int:
        """Makes the directory if it is missing, and locks it for this process. Returns the lock's file descriptor.

        The server inherits the lock, which is free once both processes have ended. Raises EmbeddedPostgresError if another
        process has it, and OSError if the directory cannot be used.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        # Above the numbers that a shell script can name, so that the guard's does not close it.
        lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(opened)
        deadline = time.monotonic() + _LOCK_SECONDS_MAX
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = PidFile.read(self.cluster)
                if holder is not None and holder.status == "stopping":
                    deadline = time.monotonic() + _LOCK_SECONDS_MAX
                elif time.monotonic() > deadline:
                    os.close(lock)
                    server = f" (process {holder.pid})" if holder else ""
                    raise EmbeddedPostgresError(
                        f"{self.path} is in use by another embedded Postgres{server}. Stop it first, or choose "
                        "another data directory"
                    ) from None
                time.sleep(_POLL_SECONDS)
            else:
                return lock

    def matching_binaries(self, postgres_bin: Path | None) -> Path:
        """The folder of the programs that can serve the cluster: `postgres_bin` if it is given.

        Raises EmbeddedPostgresError if they are of another major version than those that made the cluster.
        """
        version_file = self.cluster / "PG_VERSION"
        if not version_file.exists():
            return find_binaries(postgres_bin)
        made_by = int(version_file.read_text(encoding="ascii"))
        mend = (
            f"{self.cluster} was made by Postgres {made_by}: name the folder of its programs with "
            "--postgres-bin, or choose another data directory, or remove this one and what it holds"
        )
        if postgres_bin is None:
            try:
                return find_binaries(major=made_by)
            except EmbeddedPostgresError as error:
                raise EmbeddedPostgresError(f"{mend}. {error}") from error
        binaries = find_binaries(postgres_bin)
        if (given := major_version(binaries)) != made_by:
            raise EmbeddedPostgresError(f"{binaries} is Postgres {given}, but {mend}")
        return binaries

    def remove_stale_pid_file(self) -> None:
        """Removes the file that a killed server left. Raises EmbeddedPostgresError if a server is running."""
        found = PidFile.read(self.cluster)
        if found is not None and found.is_served(self.cluster):
            raise EmbeddedPostgresError(
                f"{self.cluster} is served by another Postgres, process {found.pid}. Stop that one first"
            )
        # Postgres itself would keep a stale file for as long as any process has the number in it.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)

    def make_cluster(self, binaries: Path, run_as: RunAs, lock: int, *, fsync: bool) -> None:
        """Makes the cluster and its password. What an interrupted attempt left is removed. Raises EmbeddedPostgresError."""
        unfinished = self.path / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._write_password()
        self.give_to(run_as)
        options = ["--no-locale", "--encoding=UTF8", "--auth=scram-sha-256", f"--username={SUPERUSER}"]
        options += [f"--pwfile={self._password_path}", *([] if fsync else ["--no-sync"])]
        with self.log_path.open("wb") as log:
            command: list[str | Path] = [binaries / "initdb", f"--pgdata={unfinished}", *options]
            process = run_as.popen(command, log=log.fileno(), lock=lock)
            try:
                status = process.wait()
            finally:
                end(process, signal.SIGINT)
        if status != 0:
            raise EmbeddedPostgresError(f"initdb could not make {self.cluster}: {self.last_words}")
        unfinished.rename(self.cluster)

    def _write_password(self) -> None:
        self._password_path.unlink(missing_ok=True)
        with open(os.open(self._password_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:  # noqa: PTH123  # its mode from the first moment
            file.write(secrets.token_urlsafe(24))

    def give_to(self, run_as: RunAs) -> None:
        """Makes the user of the server own the directory, if that is another user than this process's."""
        if run_as.user is not None and run_as.group is not None:
            give_away(self.path, run_as.user, run_as.group)
