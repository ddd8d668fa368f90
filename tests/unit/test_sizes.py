"""A file, a class and a function stay small enough to be read at once; a longer one holds more than one concept."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("saga_coordinator", "proof", "clients")
FILE_LINES_MAX, CLASS_LINES_MAX, FUNCTION_LINES_MAX = 500, 200, 70
TO_BE_CUT = frozenset(
    {
        "core/world.py: World",
        "rehearsal/rehearse.py: Rehearsal",
        "sagactl/invocation.py: shared_options",
        "simulation/database.py: SimulatedDatabase",
        "simulation/evidence.py: Evidence",
        "simulation/participants.py: SimulatedParticipants",
        "simulation/workers.py: WorkerProgram",
        "torture/faults.py: Nemesis",
    }
)
"""What is still too long. Nothing is added here."""


def written_by_hand() -> Iterator[Path]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).parts
            if not path.stem.endswith(("_pb2", "_pb2_grpc")) and not any(
                part.startswith(".") for part in parts
            ):
                yield path


def what_is_too_long(place: str, text: str) -> Iterator[str]:
    """Yields the file, if it is too long, and its classes and functions that are, each with its lines."""
    if (lines := len(text.splitlines())) > FILE_LINES_MAX:
        yield f"{place}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        lines = (node.end_lineno or first) - first + 1
        if lines > (CLASS_LINES_MAX if isinstance(node, ast.ClassDef) else FUNCTION_LINES_MAX):
            yield f"{place}: {node.name}: {lines} lines"


def test_files_classes_and_functions_are_small() -> None:
    found = [
        too_long
        for path in written_by_hand()
        for too_long in what_is_too_long(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        if not too_long.rpartition(":")[0].endswith(tuple(TO_BE_CUT))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("head", "lines_max"),
    [("x = 0", 500), ("class X:", 200), ("def x():", 70), ("@cache\nasync def x():", 70)],
    ids=["file", "class", "function", "decorated"],
)
def test_one_line_more_than_the_limit_is_found(head: str, lines_max: int) -> None:
    indent = "    " if head.endswith(":") else ""
    longest = head + f"\n{indent}x = 1" * (lines_max - len(head.splitlines()))
    assert list(what_is_too_long("here", longest)) == []
    assert len(list(what_is_too_long("here", f"{longest}\n{indent}x = 1"))) == 1
