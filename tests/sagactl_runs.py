"""Runs the operator's command line, as its users do: in this process, in one of its own, or under a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest

from sagactl.program import main
from tests.eventually import PATIENCE_SECONDS

_CLIENT = Path(__file__).resolve().parent.parent / "clients" / "sagactl"


def environment_of(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A surrounding without contexts, without colours, and without what this machine's user has set."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
    own = {"LANG": "C.UTF-8", "PYTHONPATH": str(_CLIENT), "SAGACTL_CONFIG": "/nonexistent/contexts.yaml"}
    return {**kept, **own, "GRPC_VERBOSITY": "NONE", **(more or {})}


class _Bytes(io.StringIO):
    """A standard stream that says its encoding, as real ones do."""

    encoding = "utf-8"


def run_here(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a command line in this process, without a terminal: that is many times faster than a process of its own."""
    out, err = _Bytes(), _Bytes()
    with (
        mock.patch.dict(os.environ, environment_of(environment), clear=True),
        mock.patch.object(sys, "argv", ["sagactl", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def command(*arguments: str | Path) -> list[str]:
    """The command line as a process of its own."""
    return [sys.executable, "-m", "sagactl", *map(str, arguments)]


def run_apart(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a command line in a process of its own, without a terminal."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        env=environment_of(environment),
        timeout=PATIENCE_SECONDS,
        check=False,
    )


class OnTerminal:
    """A command line under a terminal of so many columns. What it shows is read as it comes."""

    def __init__(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        columns: int = 100,
        lines: int = 40,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.popen = subprocess.Popen(
            command(*arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment_of({"TERM": "xterm-256color", **(environment or {})}),
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def read_until(self, text: str) -> str:
        """Everything that was shown, once `text` is among it."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while text not in self.shown:
            assert time.monotonic() < give_up_at, f"waited in vain for {text!r}; shown:\n{self.shown}"
            if not self._read(1.0):
                assert text in self.shown, f"the program ended without {text!r}; shown:\n{self.shown}"
        return self.shown

    def type(self, text: str) -> None:
        """Types, as a person does."""
        os.write(self._master, text.encode())

    def wait(self) -> tuple[int, str]:
        """The exit code, and everything that was shown, without carriage returns."""
        while self._read(PATIENCE_SECONDS):
            pass
        return self.popen.wait(PATIENCE_SECONDS), self.shown.replace("\r\n", "\n")

    def _read(self, seconds: float) -> bool:
        """Reads what there is; False at the end."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            read = os.read(self._master, 65536)
        except OSError:  # what a terminal says when nobody has it open any more
            return False
        self.shown += read.decode("utf-8", "replace")
        return bool(read)

    def close(self) -> None:
        """Ends the program, if it still runs."""
        self.popen.kill()
        self.popen.wait()
        os.close(self._master)


@contextlib.contextmanager
def on_terminal(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, columns: int = 100
) -> Iterator[OnTerminal]:
    """The same until the end of the block."""
    program = OnTerminal(*arguments, environment=environment, columns=columns)
    try:
        yield program
    finally:
        program.close()
