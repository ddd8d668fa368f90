"""The repository has what it cites, and its architecture page is drawn from the contracts; both say so when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_citations import citations
from tools.draw_architecture import draw, redrawn

PROMISES = "# Concepts\n\n## The words\n\n| P1 | **Nothing accepted is lost** |\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one page of promises, one decision and one module."""
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "docs" / "concepts.md").write_text(PROMISES)
    (tmp_path / "docs" / "decisions" / "0001-a-choice.md").write_text("# 1\n")
    engine = tmp_path / "saga_coordinator" / "engine"
    engine.mkdir(parents=True)
    (engine / "__init__.py").write_text('"""Drives sagas. More of it."""\n')
    (engine / "drive.py").write_text("class Drive:\n    async def ask(self) -> None: ...\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "said", "fault"),
    [
        ("code.py", "# see docs/concepts.md and P1, decision 0001", None),
        ("code.py", "# see DESIGN.md", "there is no DESIGN.md"),
        ("code.py", "# kept by P14", "there is no promise P14"),
        ("code.py", "# see decision 0002", "there is no decision 0002"),
        ("README.md", "[words](docs/concepts.md#the-words)", None),
        ("README.md", "[words](docs/concepts.md#the-worlds)", "docs/concepts.md has no section #the-worlds"),
        ("README.md", "[words](docs/words)", "the link leads nowhere: docs/words"),
        ("docs/architecture.md", "`engine.drive.Drive.ask`", None),
        ("docs/reliability.md", "`engine.driving`", "there is no engine.driving in saga_coordinator"),
        (
            "docs/architecture.md",
            "`engine.drive.Drive.tell`",
            "there is no engine.drive.Drive.tell in saga_coordinator",
        ),
    ],
)
def test_what_is_cited_and_not_there_is_found(
    repository: Path, file: str, said: str, fault: str | None
) -> None:
    (repository / file).write_text(f"\n{said}\n")
    assert list(citations(repository)) == ([f"{file}:2: {fault}"] if fault else [])


def test_the_drawing_has_the_rooms_that_there_are(repository: Path) -> None:
    layers = ["(api)", "engine | (console)"]
    contract = {"name": "Rooms", "type": "layers", "containers": ["saga_coordinator"], "layers": layers}
    rule = {"name": "No import cycles", "type": "acyclic_siblings"}
    drawing = draw([contract, rule], repository)
    assert 'l0["engine"]' in drawing
    assert "| `engine` | Drives sagas |" in drawing
    assert "- No import cycles." in drawing
    assert "api" not in drawing
    with pytest.raises(ValueError, match="must have the lines"):
        redrawn("# Architecture\n", drawing)
