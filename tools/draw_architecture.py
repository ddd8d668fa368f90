"""Draws the rooms in docs/architecture.md from the contracts that import-linter enforces, and the rooms' own docstrings.

python -m tools.draw_architecture            write it
python -m tools.draw_architecture --check    exit 1 when what is committed is not what would be written
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = (
    "<!-- drawn by `make generate` from pyproject.toml; do not edit -->\n",
    "<!-- end of the drawing -->\n",
)

ELSEWHERE = {"sagactl": "clients/sagactl/sagactl"}
"""Where packages are that are distributions of their own."""

Contract = Mapping[str, Any]


def draw(contracts: Sequence[Contract], root: Path = ROOT) -> str:
    """The drawing and the tables, as Markdown."""
    layered = [each for each in contracts if each["type"] == "layers"]
    parts = [_rooms_of(each, root) for each in layered]
    return "\n".join([*parts, "Further rules of `make check`:\n", *_rules(contracts), ""])


def _rooms_of(contract: Contract, root: Path) -> str:
    container: str = contract["containers"][0]
    folder = root / ELSEWHERE.get(container, container.replace(".", "/"))
    layers = [rooms for layer in contract["layers"] if (rooms := _present(layer, folder))]
    nodes = [f'    l{number}["{" · ".join(rooms)}"]' for number, rooms in enumerate(layers)]
    arrows = [f"    l{number} --> l{number + 1}" for number in range(len(layers) - 1)]
    rows = [f"| `{room}` | {_purpose(folder, room)} |" for rooms in layers for room in rooms]
    heading = f"### {contract['name']}: `{folder.relative_to(root)}/`\n"
    drawing = "\n".join(["```mermaid", "flowchart TD", *nodes, *arrows, "```", ""])
    return "\n".join([heading, drawing, "| room | what it holds |\n|---|---|", *rows, ""])


def _present(layer: str, folder: Path) -> list[str]:
    """The rooms of one layer that there are; a contract names those that may come in parentheses."""
    rooms = [room.strip(" ()") for room in re.split(r"[|:]", layer)]
    return [room for room in rooms if _module(folder, room) is not None]


def _module(folder: Path, room: str) -> Path | None:
    places = (folder / f"{room}.py", folder / room / "__init__.py")
    return next((place for place in places if place.is_file()), None)


def _purpose(folder: Path, room: str) -> str:
    """The first sentence of the room's docstring."""
    module = _module(folder, room)
    assert module is not None
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "Generated from `proto/`"
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0].rstrip(".:").replace("|", "\\|")


def _rules(contracts: Sequence[Contract]) -> Iterator[str]:
    for contract in contracts:
        if contract["type"] != "layers":
            yield f"- {contract['name']}."


def redrawn(page: str, drawing: str) -> str:
    """The page with `drawing` in the place of the one before. Raises ValueError when the page has no place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} must have the lines {BEGIN.strip()!r} and {END.strip()!r}")
    return f"{before}{BEGIN}\n{drawing}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.draw_architecture")
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    before = PAGE.read_text(encoding="utf-8")
    after = redrawn(before, draw(settings["tool"]["importlinter"]["contracts"]))
    if not is_check:
        PAGE.write_text(after, encoding="utf-8")
    elif after != before:
        print(
            "the drawing in docs/architecture.md is not what pyproject.toml says: run `make generate`",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
