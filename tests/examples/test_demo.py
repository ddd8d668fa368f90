"""The demo as a newcomer runs it: it ends by itself with the books right, or is interrupted and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import psycopg
import pytest
from order_fulfilment.demo import main
from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join([str(ROOT / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, "-m", "order_fulfilment.demo", "--dir", str(folder), *arguments],
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
@pytest.mark.parametrize(
    ("shape", "stories"),
    [("contract", "1,2,3,4,5,6"), ("plain", "1,2,6"), ("worker", "1,2,6")],
    ids=["contract", "plain", "worker"],
)
def test_the_demo_ends_with_consistent_books(postgres_folder: Path, shape: str, stories: str) -> None:
    folder = postgres_folder / f"demo-{shape}"
    with demo(folder, "--participants", shape, "--stories", stories, "--orders", "40") as process:
        output, _ = process.communicate()
    assert output.splitlines()[-1] == "demo: consistent", output
    assert process.returncode == 0
    assert not folder.exists()


def test_an_interrupted_demo_leaves_nothing(postgres_folder: Path) -> None:
    folder = postgres_folder / "interrupted"
    with demo(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2. "):
                break
        started = psutil.Process(process.pid).children(recursive=True)
        names = " ".join(argument for each in started for argument in each.cmdline())
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130, rest
    for service in ("inventory", "payments", "shipping", "postgres", "serve"):
        assert service in names
    assert rest.splitlines()[-1] == "demo: stopped"
    assert not [each for each in started if is_alive(each)]
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_are_as_good_as_ctrl_c(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(sys, "argv", ["demo", "--dir", str(tmp_path / "demo")])
    monkeypatch.setattr("order_fulfilment.demo._run", lambda *_: signal.raise_signal(number))
    try:
        assert main() == 130
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert capsys.readouterr().out == "demo: stopped\n"
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("said", ["0", "7", "1,x", ""])
def test_a_story_that_there_is_not_is_wrong_usage(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--stories", said])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def unreachable(_console: Console, folder: Path, *_: object) -> list[str]:
    (folder / "coordinator.log").write_text("what happened\n")
    with grpc.insecure_channel(f"unix:{folder}/absent.sock") as channel:
        channel.unary_unary("/shop/Ask", lambda given: given, lambda given: given)(b"", timeout=10)
    return []


def locked(_console: Console, folder: Path, *_: object) -> list[str]:
    raise psycopg.OperationalError("the connection\nis lost")


@pytest.mark.parametrize(
    ("play", "said"),
    [(unreachable, "demo: UNAVAILABLE: "), (locked, "demo: the connection is lost; ")],
    ids=["call", "statement"],
)
def test_a_demo_that_breaks_off_says_why_and_where_to_read_on(
    play: Callable[..., list[str]],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--dir", str(tmp_path)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the handlers would stay with the tests
    monkeypatch.setattr("order_fulfilment.demo._run", play)
    assert main() == 1
    first, last = capsys.readouterr().out.splitlines()
    (folder,) = tmp_path.iterdir()
    assert first.startswith(said)
    assert first.endswith(f"; the logs are in {folder}")
    assert last == "demo: inconsistent"
