"""Starts Postgres's programs: never as root, out of the terminal's reach, and so that they never outlive this process."""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saga_coordinator.store.embedded.binaries import EmbeddedPostgresError

# A shell that becomes the program, after leaving behind a guard that waits on a pipe whose other end only our
# process holds: "ended" means that all is well, anything else that we are gone. Not prctl(PR_SET_PDEATHSIG):
# that fires when the starting thread ends, and is lost when the program changes its user. The guard is orphaned
# at once, so that the server does not find a child that it never started. A fork of our process that does not
# execute another program holds the pipe as well, and the server waits for that to end too.
_GUARDED = """
exec 3<&0 </dev/null
( ( read -r ended <&3 || kill -INT $$ ) & )
exec 3<&-
exec "$@"
"""

_STOP_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class RunAs:
    """The user that a program is started as. Postgres's programs refuse to run as root."""

    description: str
    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    def popen(self, command: Sequence[str | Path], *, log: int, lock: int) -> subprocess.Popen[bytes]:
        """Starts `command`, which dies with this process unless "ended" is written to its standard input first."""
        return subprocess.Popen(
            ["sh", "-c", _GUARDED, "sh", *self.prefix, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # Not in this process's folder, which another user may not be allowed to enter.
            cwd="/",
            env=_environment(),
            pass_fds=(lock,),
            start_new_session=True,
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else (),
        )

    def can_enter(self, *paths: Path) -> bool:
        """Tells whether this user can enter or run all `paths`, which are folders or programs."""
        test = ["sh", "-c", 'for path; do test -x "$path" || exit 1; done', "sh"]
        try:
            done = subprocess.run(
                [*self.prefix, *test, *paths],
                stderr=subprocess.DEVNULL,
                cwd="/",
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else (),
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0


def end(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """Ends a program that `RunAs.popen` started, with ever harder signals, and dismisses its guard."""
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


def _environment() -> dict[str, str]:
    """This process's environment, without variables that would redirect Postgres, and with messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def run_as_whom(data_dir: Path, binaries: Path) -> RunAs:
    """The user to run Postgres's programs as: this process's, unless that is root.

    For root it is the first who can reach the data and the programs: the owner of the cluster; else root under another name, the
    owner of a folder above, or nobody. Raises EmbeddedPostgresError if none of them can.
    """
    if os.geteuid() != 0:
        return RunAs("this user")
    nobody = pwd.getpwnam("nobody")
    called_nobody = (f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
    in_namespace = RunAs("root in a user namespace", ("unshare", "--user", *called_nobody))
    as_nobody = RunAs("user nobody", user=nobody.pw_uid, group=nobody.pw_gid)
    if (made_by := _as_owner(data_dir / "cluster")) is not None:
        candidates = [made_by]
    else:
        # With sudo in somebody's home, only the home's owner may enter it.
        owners = [owner for folder in data_dir.parents if (owner := _as_owner(folder)) is not None]
        candidates = [in_namespace, *owners[:1], as_nobody]
    for candidate in candidates:
        if candidate.can_enter(data_dir.parent, binaries, binaries / "postgres"):
            return candidate
    tried = ", ".join(candidate.description for candidate in candidates)
    raise EmbeddedPostgresError(
        f"Postgres does not run as root, and {data_dir.parent} or {binaries} cannot be entered as any of: "
        f"{tried}. Run this as an ordinary user, or choose a data directory and programs that others may enter"
    )


def _as_owner(path: Path) -> RunAs | None:
    """The owner of `path`; None if the path is missing or root's."""
    if not path.exists() or path.stat().st_uid == 0:
        return None
    return RunAs(f"user {path.stat().st_uid}", user=path.stat().st_uid, group=path.stat().st_gid)


def give_away(data_dir: Path, user: int, group: int) -> None:
    """Makes the server's user own the data directory, but nothing else in the same folder."""
    os.chown(data_dir, user, group)
    for name in ("cluster", "cluster.unfinished", "lock", "password", "server.log", "server.log.1"):
        ours = data_dir / name
        for path in [*([ours] if ours.exists() else []), *ours.rglob("*")]:
            os.chown(path, user, group, follow_symlinks=False)
