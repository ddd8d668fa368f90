"""An object of the engine is wired when it is made, and from then on only its own methods write its fields."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import saga_coordinator.engine

ENGINE = Path(saga_coordinator.engine.__file__).parent
MODULES = sorted(ENGINE.rglob("*.py"))


def written(source: str) -> Iterator[str]:
    """The fields that the source writes of any object but `self`."""
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            for part in parts:
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) != "self":
                    yield f"line {part.lineno}: {ast.unparse(part)}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ENGINE)))
def test_nobody_writes_the_fields_of_another_object(module: Path) -> None:
    assert list(written(module.read_text())) == []


def test_a_callback_assigned_after_construction_is_found() -> None:
    assert list(written("drive = Drive()\ndrive.telling, self.x = Telling(), 1\nself.y += 1")) == [
        "line 2: drive.telling"
    ]
