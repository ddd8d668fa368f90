"""docs/state_machine.md is drawn from the tables, and says so when it is stale."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saga_coordinator.saga.machine.entries import ENTRY_TYPES
from saga_coordinator.saga.machine.stored_entry import entry_type
from tools import draw_state_machine


def test_drawing_is_what_the_tables_say() -> None:
    assert draw_state_machine.draw() == draw_state_machine.DRAWING.read_text(encoding="utf-8")


def test_drawing_explains_every_entry() -> None:
    drawing = draw_state_machine.draw()
    for kind in ENTRY_TYPES:
        assert f"| `{entry_type(kind)}` |" in drawing
    assert "()" not in drawing, "a type without a docstring of its own"


def test_stale_drawing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(draw_state_machine, "ROOT", tmp_path)
    monkeypatch.setattr(draw_state_machine, "DRAWING", tmp_path / "state_machine.md")
    monkeypatch.setattr(sys, "argv", ["draw_state_machine", "--check"])
    assert draw_state_machine.main() == 1
    assert "make generate" in capsys.readouterr().err
    (tmp_path / "state_machine.md").write_text(draw_state_machine.draw(), encoding="utf-8")
    assert draw_state_machine.main() == 0
