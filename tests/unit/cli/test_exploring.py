"""What `definition explain` and `simulate` print fits the terminal."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from saga_coordinator.cli.exploring import explain, simulate

TRIP = """
name: trip
steps:
  - name: hotel
    action: {participant: travel, method: BookHotel}
    compensation: {participant: travel, method: CancelHotel}
"""


@pytest.mark.parametrize("command", [explain, simulate])
def test_lines_are_broken_where_the_terminal_ends(command: object, tmp_path: Path) -> None:
    file = tmp_path / "trip.yaml"
    file.write_text(TRIP)
    whole = CliRunner().invoke(command, [str(file)], env={"COLUMNS": None})  # type: ignore[arg-type]
    narrow = CliRunner().invoke(command, [str(file)], env={"COLUMNS": "80"})  # type: ignore[arg-type]
    assert max(map(len, whole.output.splitlines())) > 80
    assert max(map(len, narrow.output.splitlines())) <= 80
    assert narrow.output.split() == whole.output.split()
