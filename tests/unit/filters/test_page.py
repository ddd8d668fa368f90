"""The page for operators names every field of the filter language."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga_coordinator.filters.fields import FIELDS, SPANS

PAGE = Path(__file__).parents[3] / "docs" / "operating.md"


@pytest.mark.parametrize("field", [*FIELDS, *SPANS])
def test_every_field_is_in_the_table_of_the_page(field: str) -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert any(f"`{field}`" in row.split("|")[1] for row in rows)
