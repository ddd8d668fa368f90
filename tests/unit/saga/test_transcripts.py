"""Stories to read, each checked word by word. After a change on purpose, rewrite and review them as prose:

REWRITE=1 pytest tests/unit/saga/test_transcripts.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proof.core.transcript import rewrite

FOLDER = Path(__file__).parent / "transcripts"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript_tells_what_the_core_does(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    told = rewrite(text)
    if os.environ.get("REWRITE"):
        path.write_text(told, encoding="utf-8")
    else:
        assert told == text, "rewrite it with REWRITE=1, and read the difference"


def test_there_are_stories() -> None:
    assert len(list(FOLDER.glob("*.txt"))) >= 40
