"""Writes the exact versions and hashes that the image is built with, for every platform and Python that the project takes.

    python -m tools.lock

`server.txt` has what the server and `sagactl` need, for the image has both; `build.txt` has what builds their wheels.
`uv` resolves; no registry is named in the files.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "deploy" / "locks"
HEADER = "# The exact versions and hashes that the image is built with; written by `make lock` from pyproject.toml.\n"


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    operators = tomllib.loads((ROOT / "clients" / "sagactl" / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [*project["project"]["dependencies"], *operators["project"]["dependencies"]]
    lock(needed, LOCKS / "server.txt")
    lock(project["build-system"]["requires"], LOCKS / "build.txt")


def lock(requirements: Sequence[str], destination: Path) -> None:
    options = ["--universal", "--python-version=3.11", "--generate-hashes", "--upgrade"]
    plain = ["--no-emit-index-url", "--no-annotate", "--no-header", "--quiet"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, *plain, "-"]
    resolved = subprocess.run(
        command, input="\n".join(requirements), capture_output=True, text=True, check=True
    )
    destination.write_text(HEADER + resolved.stdout, encoding="utf-8")


if __name__ == "__main__":
    main()
