"""A limit stands in one place: whoever needs it imports it."""

from __future__ import annotations

import ast

import pytest

from tests.parsed import modules


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
        place
        for place, module in modules().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and node.value in written
    ]
    assert found == [home]
