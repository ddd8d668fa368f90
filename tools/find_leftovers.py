"""Finds what a change must not leave behind: notes to oneself, debugger stops and merge conflict marks.

    python -m tools.find_leftovers

Prints each place as `path:line: why` and exits 1 when there is any. Reads the files that belong to the
project: all below this folder but hidden, made or generated ones.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED_FOLDERS = {"__pycache__", "build", "dist", "pb"}
SUFFIXES = {".py", ".pyi", ".md", ".toml", ".yaml", ".yml", ".proto", ".sql", ".sh", ".txt", ".mako", ""}
# Written in pieces, so that this file does not find itself.
LEFTOVERS = {
    "a note to oneself; do it, or write it down where others look": re.compile(
        r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b"
    ),
    "a debugger stop": re.compile(r"\b(break" r"point\(\)|pdb\.set_" r"trace)"),
    "a merge conflict mark": re.compile(r"^(<{7}|>{7}|={7})( |$)"),
}


def project_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in SKIPPED_FOLDERS and (not path.name.startswith(".") or path.name == ".ci"):
                yield from project_files(path)
        elif path.suffix in SUFFIXES:
            yield path


def leftovers() -> Iterator[str]:
    for path in project_files(ROOT):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for why, pattern in LEFTOVERS.items():
                if pattern.search(line):
                    yield f"{path.relative_to(ROOT)}:{number}: {why}"


def main() -> int:
    found = list(leftovers())
    for place in found:
        print(place)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
