"""The files that a directory entry may name, and how they are read: whole, small, regular, and without ever waiting for a device.

A file named in the operator's participants file may be anywhere. A file named by a caller of the API has to be inside one folder
that the operator has named for that. A caller is told the same of every file that cannot be used, so that the answer is no way to
look around on a host.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import structlog

from saga_coordinator.saga.words.errors import Fault

PEM_BYTES_MAX = 1024 * 1024
DESCRIPTOR_SET_BYTES_MAX = 64 * 1024 * 1024

_log = structlog.get_logger(__name__)


class Unreadable(Exception):
    """A file is missing, may not be read, is no regular file, or is too large. The message, for the operator, says which."""


def read_regular(path: Path, bytes_max: int) -> bytes:
    """The content of a regular file of at most `bytes_max` bytes.

    Opening a device may have an effect, and reading a device or a pipe may never end. So the path is looked at before it is
    opened, and the file again once it is open, because the path may lead to another file by then.

    Raises:
        Unreadable: with the reason.
    """
    try:
        _check(path.stat(), bytes_max)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _check(os.fstat(descriptor), bytes_max)
            return _read(file.fileno(), bytes_max)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None


def _check(status: os.stat_result, bytes_max: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("is not a regular file")
    if status.st_size > bytes_max:
        raise Unreadable(f"has {status.st_size} bytes; {bytes_max} is the limit")


def _read(descriptor: int, bytes_max: int) -> bytes:
    """Reads without trusting the size: files of a pseudo file system claim to be empty, and others may grow meanwhile."""
    content = bytearray()
    while part := os.read(descriptor, min(65_536, bytes_max + 1 - len(content))):
        content += part
        if len(content) > bytes_max:
            raise Unreadable(f"has more than {bytes_max} bytes, which is the limit")
    return bytes(content)


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """The files that the participants file names. Relative names start at its `folder`."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def read(self, name: str, place: str, bytes_max: int, faults: list[Fault]) -> bytes | None:
        """The file's content; None, with a fault that says why, if it cannot be read."""
        path = self.path(name)
        try:
            return read_regular(path, bytes_max)
        except Unreadable as error:
            faults.append(Fault(place, f"{path} {error}"))
            return None


@dataclass(frozen=True, slots=True)
class CallersFiles:
    """The files that callers name by absolute paths. After links are followed they must be in `folder`; None allows no file."""

    folder: Path | None

    def path(self, name: str) -> Path:
        return Path("/") / name

    def read(self, name: str, place: str, bytes_max: int, faults: list[Fault]) -> bytes | None:
        """The file's content; None, with a fault that is the same for all files, if it cannot be read."""
        if self.folder is None:
            faults.append(
                Fault(
                    place,
                    "names a file of the coordinator's host, which callers may not do here: start the coordinator with "
                    "--tls-folder, or write the participant into its participants file",
                )
            )
            return None
        try:
            return read_regular(_inside(self.folder, self.path(name)), bytes_max)
        except (
            Unreadable,
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # RuntimeError: links in a circle, to Python before 3.13
            _log.warning("participant_file_refused", field=place, path=name[:1000], reason=str(error))
            faults.append(
                Fault(
                    place,
                    f"{name[:200]} cannot be used: it must be a regular file of at most {bytes_max} bytes, inside the folder "
                    "that --tls-folder names, which the coordinator may read; its log says what is wrong",
                )
            )
            return None


def _inside(folder: Path, path: Path) -> Path:
    """The path with all links followed. Raises Unreadable if it is outside the folder, and OSError."""
    followed = path.resolve(strict=True)
    if not followed.is_relative_to(folder.resolve(strict=True)):
        raise Unreadable("is outside of the folder")
    return followed


Files = OwnFiles | CallersFiles
