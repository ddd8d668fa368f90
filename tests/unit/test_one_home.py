"""A limit stands in one place: whoever needs it imports it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import saga_coordinator

ROOT = Path(saga_coordinator.__file__).parent


@pytest.mark.parametrize(
    ("written", "home"),
    [
        ((107, 108), "sockets.py"),
        ((65535,), "sockets.py"),
        (("[a-z][a-z0-9_]{0,59}",), "saga/words/names.py"),
    ],
    ids=["the path of a socket", "a port", "the name of a step"],
)
def test_a_limit_is_written_once(written: tuple[object, ...], home: str) -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if "pb" not in path.relative_to(ROOT).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in written
    ]
    assert found == [home]
