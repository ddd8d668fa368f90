"""What is built from this tree is what a user needs to install: all of it, and nothing else."""

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from saga_coordinator import __version__
from tests.acceptance.conftest import ROOT, fails_with, run_here

BUILD = "import hatchling.build, sys; print(getattr(hatchling.build, 'build_' + sys.argv[1])(sys.argv[2]))"


def build(kind: str, folder: Path, project: Path = ROOT) -> Path:
    command = [sys.executable, "-c", BUILD, kind, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_the_wheel_carries_the_program_its_migrations_and_the_example(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        names = set(wheel.namelist())
    assert {
        "saga_coordinator/py.typed",
        "saga_coordinator/store/migrations/versions/0001_begin.py",
        "saga_coordinator/examples/order_fulfilment/definition.yaml",
        "saga_coordinator/examples/order_fulfilment/guard.py",
    } <= names
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"saga_coordinator", f"saga_coordinator-{__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_of_the_operators_command_line_has_its_manual_and_nothing_of_the_server(
    tmp_path: Path,
) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path, ROOT / "clients" / "sagactl")) as wheel:
        names = set(wheel.namelist())
        (metadata,) = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    assert "sagactl/program.py" in names
    assert any(name.endswith(".data/data/share/man/man1/sagactl.1") for name in names)
    assert {name.partition("/")[0].partition("-")[0].removesuffix(".data") for name in names} == {"sagactl"}
    assert "saga-coordinator" not in "".join(
        line for line in metadata.splitlines() if line.startswith("Requires-Dist")
    )


def test_the_source_archive_carries_what_its_tests_need_and_no_caches(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        paths = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    tops = {path.parts[0] for path in paths if path.parts}
    assert {"saga_coordinator", "clients", "examples", "proto", "tests", "tools", "Makefile"} <= tops
    assert {name for name in tops if name.startswith(".")} <= {".dockerignore", ".editorconfig", ".gitignore"}


def test_the_demo_says_what_to_install_when_the_client_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "saga_client" else installed(name)
    )
    line = fails_with("demo", run=run_here)
    assert "saga_client" in line
    assert "pip install 'saga-coordinator[demo]'" in line
