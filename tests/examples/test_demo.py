"""The demo as a newcomer runs it: it ends by itself with the books right, or is interrupted and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join([str(ROOT / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, "-m", "order_fulfilment.demo", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def is_alive(process: psutil.Process) -> bool:
    """Whoever is process 1 may take its time to bury those whose parent has gone."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.timeout(180)
def test_the_demo_ends_with_consistent_books(postgres_folder: Path) -> None:
    folder = postgres_folder / "demo"
    with demo(folder) as process:
        output, _ = process.communicate()
    assert output.splitlines()[-1] == "demo: consistent", output
    assert process.returncode == 0
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(postgres_folder: Path, number: signal.Signals) -> None:
    folder = postgres_folder / "interrupted"
    with demo(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2. "):
                break
        started = psutil.Process(process.pid).children(recursive=True)
        names = " ".join(argument for each in started for argument in each.cmdline())
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130, rest
    for service in ("inventory", "payments", "shipping", "postgres", "serve"):
        assert service in names
    assert rest.splitlines()[-1] == "demo: stopped"
    assert not [each for each in started if is_alive(each)]
    assert not folder.exists()
