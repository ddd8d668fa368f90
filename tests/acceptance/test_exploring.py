"""`definition explain`, `lint` and `simulate`, as their users call them."""

import json
import re
from pathlib import Path

import pytest

from saga_coordinator.advice.lint import RULES
from tests.acceptance.conftest import ROOT, run_here, run_program

EXAMPLE = ROOT / "examples" / "order_fulfilment" / "definition.yaml"

FRAGILE = """
name: fragile
steps:
- name: a
  action: {participant: p, on_failure: continue}
  compensation: {participant: p}
- name: b
  action: {participant: p, input: {id: "${steps.a.output.id}"}}
  compensation: {participant: p}
"""


@pytest.fixture
def fragile(tmp_path: Path) -> Path:
    """A saga whose second step cannot be called when the first one has failed."""
    file = tmp_path / "fragile.yaml"
    file.write_text(FRAGILE)
    return file


def test_a_definition_is_drawn_and_said(tmp_path: Path) -> None:
    picture = tmp_path / "order.svg"
    done = run_here("definition", "explain", EXAMPLE, "--svg", picture)
    assert done.returncode == 0
    assert "forward  reserve      ─▶ charge      ─▶ ◆ ship" in done.stdout
    assert "undo     undo reserve ◀─ undo charge" in done.stdout
    assert "0.8 s for each attempt, 15 attempts" in done.stdout
    assert picture.read_text().startswith("<svg ")


def test_a_terminal_without_such_characters_gets_plain_ones() -> None:
    done = run_program("definition", "explain", EXAMPLE, environment={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "forward  reserve      -> charge      -> * ship" in done.stdout


def test_a_good_definition_is_rehearsed(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run_here("definition", "simulate", EXAMPLE, "--pairs", "--json", report)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Input, made up from what expressions read" in done.stdout
    assert "no promise broken, no expression failed" in " ".join(done.stdout.split())
    assert "People are needed when:\n  ship: refused + reserve: compensation refused" in done.stdout
    (found,) = json.loads(report.read_text())
    assert found["summary"]["broken"] == 0
    happy = found["scenarios"][0]
    assert (happy["faults"], happy["end"]) == ([], "COMPLETED")
    assert [call["step"] for call in happy["calls"]] == ["reserve", "charge", "ship"]
    assert happy["calls"][0]["idempotency_key"].endswith("/reserve/action")


def test_an_expression_that_fails_in_one_scenario_fails_the_command(fragile: Path) -> None:
    done = run_here("definition", "simulate", fragile)
    assert done.returncode == 1
    assert "Broken:\n  a: refused" in done.stdout
    assert "steps.a.output.id" in done.stdout
    assert done.stderr.startswith("error: ")


def test_the_input_and_outputs_can_be_given(fragile: Path, tmp_path: Path) -> None:
    given = tmp_path / "input.json"
    given.write_text('{"order": 7}')
    arguments = ("--input", given, "--output-of", 'a={"id": 5}', "--json", "-")
    done = run_here("definition", "simulate", fragile, *arguments)
    (found,) = json.loads(done.stdout)
    assert found["input"] == {"order": 7}
    assert found["scenarios"][0]["calls"][1]["input"] == {"id": 5}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output-of", "a"], "write STEP=JSON"),
        (["--output-of", "z=1"], "no step is named `z`; there are: a, b"),
        (["--input", "{oops"], "--input is not JSON"),
        (["--input", "no-such-file"], "neither JSON nor a file"),
        (["--input", '{"id": 9007199254740993}'], "--input: id: 9007199254740993 cannot be kept as a number"),
        (["--output-of", "a=9007199254740993"], "--output-of a: 9007199254740993 cannot be kept as a number"),
    ],
)
def test_wrong_arguments_are_told(fragile: Path, arguments: list[str], said: str) -> None:
    done = run_here("definition", "simulate", fragile, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_smells_are_told_with_their_lines(fragile: Path) -> None:
    done = run_here("definition", "lint", fragile)
    assert done.returncode == 0
    first = done.stdout.splitlines()[0]
    assert first.startswith(f"{fragile}:5: steps[0].action: ")
    assert first.endswith("[default-timeout]")
    assert run_here("definition", "lint", fragile, "--strict").returncode == 1
    ignoring = run_here("definition", "lint", fragile, "--strict", "--ignore", "default-timeout")
    assert (ignoring.returncode, ignoring.stdout) == (0, f"{fragile}: nothing to mend\n")


def test_smells_are_told_to_programs(fragile: Path) -> None:
    found = json.loads(run_here("definition", "lint", fragile, "--format", "json").stdout)
    assert {each["rule"] for each in found} == {"default-timeout"}
    assert set(found[0]) == {"definition", "place", "rule", "path", "what", "mend"}


@pytest.mark.parametrize("verb", ["explain", "lint", "simulate"])
def test_faults_of_the_definition_are_told_first(verb: str, tmp_path: Path) -> None:
    file = tmp_path / "faulty.yaml"
    file.write_text("name: faulty\nsteps: [{name: a}]\n")
    done = run_here("definition", verb, file)
    assert done.returncode == 1
    assert f"error: {file}:2: steps[0].action: is required" in done.stderr


def test_the_documentation_names_every_rule() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "exploring.md").read_text(), re.MULTILINE)
    assert rows == list(RULES)
