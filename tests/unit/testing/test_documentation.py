"""The example in docs/testing.md is run as its readers would run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 100


def block(language: str) -> str:
    (found,) = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "docs/testing.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return str(found)


def run_tests(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder that knows nothing of this project but that it is installed."""
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), *arguments, str(folder)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def test_the_example_runs(tmp_path: Path) -> None:
    example = block("python")
    (tmp_path / "order.yaml").write_text(block("yaml"))
    (tmp_path / "test_order.py").write_text(example)
    done = run_tests(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{example.count('def test_')} passed" in done.stdout


def test_those_who_do_not_use_it_do_not_load_it(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\ndef test_nothing():\n    loaded = [name for name in sys.modules if name.startswith('saga_coordinator')]\n"
        "    assert loaded == ['saga_coordinator', 'saga_coordinator.testing', 'saga_coordinator.testing.plugin']\n"
        "    assert 'grpc' not in sys.modules\n"
    )
    done = run_tests(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
