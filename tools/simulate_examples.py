"""Keeps what `saga-coordinator definition simulate` says of each example beside it: every failure, its end, and the calls made.

Of the command's report only what is worth reviewing is kept, one failure a line. So a change of a definition, or of the rules,
shows what it does to the business.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def example_definitions() -> list[Path]:
    """The files of all definitions in examples/."""
    return sorted(
        path
        for path in EXAMPLES.glob("*/*.yaml")
        if "\nsteps:" in path.read_text(encoding="utf-8") and path.name != "participants.yaml"
    )


def simulation_file(definition: Path) -> Path:
    """Where the simulation of a definition is kept."""
    name = "simulation.json" if definition.stem == "definition" else f"{definition.stem}.simulation.json"
    return definition.with_name(name)


def simulate(definition: Path) -> str:
    """The simulation as it is kept. Raises CalledProcessError when a promise is broken or an expression fails."""
    command = [
        sys.executable,
        "-m",
        "saga_coordinator",
        "definition",
        "simulate",
        str(definition),
        "--json",
        "-",
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    [report] = json.loads(printed)
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield "{"
    for field in ("definition", "input", "outputs", "summary"):
        yield f'  "{field}": {_json(report[field])},'
    yield '  "scenarios": ['
    stories = [_json(_story(scenario)) for scenario in report["scenarios"]]
    yield from (f"    {story}," for story in stories[:-1])
    yield f"    {stories[-1]}"
    yield "  ]"
    yield "}"


def _story(scenario: dict[str, Any]) -> dict[str, Any]:
    faults = " + ".join(f"{fault['step']}: {fault['fault']}" for fault in scenario["faults"])
    told = {
        "what": faults or "nothing goes wrong",
        "assumed": scenario["assumed"],
        "end": scenario["end"],
        "calls": list(_runs(scenario["calls"])),
        "remaining": scenario["remaining"],
    }
    return {name: value for name, value in told.items() if value not in ("", [])}


def _runs(calls: list[dict[str, Any]]) -> Iterator[str]:
    """The calls in order, those of one operation in a row as one: `charge x5`, `undo charge`."""
    names = (call["step"] if call["operation"] == "action" else f"undo {call['step']}" for call in calls)
    for name, run in itertools.groupby(names):
        count = sum(1 for _ in run)
        yield name if count == 1 else f"{name} x{count}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    is_check = parser.parse_args().check
    stale: list[Path] = []
    for definition in example_definitions():
        path, simulation = simulation_file(definition), simulate(definition)
        if not path.is_file() or path.read_text(encoding="utf-8") != simulation:
            stale.append(path)
            if not is_check:
                path.write_text(simulation, encoding="utf-8")
    if not is_check:
        return 0
    for path in stale:
        print(
            f"{path.relative_to(ROOT)} is not what would happen; write it again with `make generate`",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
