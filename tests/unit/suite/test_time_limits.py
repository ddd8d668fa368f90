"""Whatever hangs is ended, is told of, and the tests after it run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent

HANGS = """
import asyncio, threading, time
import pytest

@pytest.fixture
async def its_end_hangs():
    yield
    await asyncio.Event().wait()

@pytest.fixture
async def its_beginning_hangs():
    await asyncio.Event().wait()

async def test_waits_for_ever():
    never = asyncio.Event()
    await never.wait()

async def test_asks_for_ever():
    async def others():
        while True:
            await asyncio.sleep(0)
    other = asyncio.create_task(others())
    while True:
        await asyncio.sleep(0)

async def test_does_not_yield():
    while True:
        pass

def test_waits_for_a_thread():
    threading.Event().wait()

async def test_its_fixture_hangs(its_beginning_hangs):
    pass

async def test_fails_and_its_fixture_does_not_end(its_end_hangs):
    assert False

async def test_does_not_want_to_be_cancelled():
    while True:
        try:
            await asyncio.sleep(0.001)
        except BaseException:
            pass

def test_cannot_be_ended():
    while True:
        try:
            time.sleep(0.1)
        except BaseException:
            pass

async def test_is_well():
    pass
"""


def run(tmp_path: Path, test: str, *more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_hangs.py").write_text(HANGS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\ntimeout = 1\ntimeout_grace = 6\n")
    command = (sys.executable, "-m", "pytest", "-p", "tests.time_limits", "-k", test, *more)
    return subprocess.run(
        [*command, "--rootdir", tmp_path, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize(
    ("test", "stands"),
    [
        ("test_waits_for_ever", "await never.wait()"),
        ("test_asks_for_ever", "in others"),
        ("test_does_not_yield", "in test_does_not_yield"),
        ("test_waits_for_a_thread", "threading.Event().wait()"),
        ("test_its_fixture_hangs", "in its_beginning_hangs"),
        ("test_does_not_want_to_be_cancelled", "await asyncio.sleep(0.001)"),
        ("test_fails_and_its_fixture_does_not_end", "in its_end_hangs"),
    ],
)
def test_what_hangs_is_ended_where_it_stands_is_told_and_the_next_test_runs(
    tmp_path: Path, test: str, stands: str
) -> None:
    ended = run(tmp_path, f"{test} or test_is_well")
    assert ended.returncode == 1, ended.stdout
    assert re.search(r"took longer than [16] s", ended.stdout)
    assert stands in ended.stdout
    assert "1 passed" in ended.stdout


def test_what_cannot_be_ended_ends_its_process_and_the_next_test_runs_in_another(tmp_path: Path) -> None:
    ended = run(tmp_path, "test_cannot_be_ended or test_is_well", "--numprocesses", "1")
    assert ended.returncode == 1, ended.stdout
    assert "crashed while running" in ended.stdout
    assert "cannot be ended" in ended.stderr
    assert "in test_cannot_be_ended" in ended.stderr
    assert "1 passed" in ended.stdout
