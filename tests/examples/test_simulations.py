"""What is kept beside each example as its simulation is what would happen, and nothing is to be said against the definitions."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tools.simulate_examples import EXAMPLES, example_definitions, simulate, simulation_file

DEFINITIONS = example_definitions()


def test_every_example_has_a_definition_and_a_page() -> None:
    folders = {path.parent for path in DEFINITIONS}
    assert folders == {path.parent for path in EXAMPLES.glob("*/README.md")}
    assert len(folders) >= 7


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_kept_simulation_is_fresh(definition: Path) -> None:
    assert simulation_file(definition).read_text(encoding="utf-8") == simulate(definition)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_step_is_reached_and_no_promise_broken(definition: Path) -> None:
    kept = json.loads(simulation_file(definition).read_text(encoding="utf-8"))
    summary, ends = kept["summary"], Counter(scenario["end"] for scenario in kept["scenarios"])
    assert summary["broken"] == 0
    assert summary["not_rehearsed"] == 0
    assert summary["steps_not_reached"] == []
    assert ends == summary["ends"]
    assert ends.keys() >= {"COMPLETED", "COMPENSATED"}


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_definition_gives_no_cause_for_remarks(definition: Path) -> None:
    command = [sys.executable, "-m", "saga_coordinator", "definition", "lint", "--strict", str(definition)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stderr) == (0, ""), linted.stdout
