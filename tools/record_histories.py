"""Records what this version writes to the log, so that every later one can be shown to go on from there.

    python -m tools.record_histories

Tells each of tests/unit/saga/transcripts/ to the core and writes tests/histories/VERSION/NAME.json: the definition, the entries
as the database holds them, and after each happening how many of them there were, the time, and where the saga stood. Run it once
for a version, before its release. What is there is never written again: it is what databases out there hold.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from proof.core.story import Story
from proof.core.transcript import told
from saga_coordinator import __version__
from saga_coordinator.saga.machine.stored_entry import encode

ROOT = Path(__file__).resolve().parent.parent
TRANSCRIPTS = ROOT / "tests" / "unit" / "saga" / "transcripts"
HISTORIES = ROOT / "tests" / "histories"


def moment(story: Story) -> dict[str, Any]:
    """Where a saga stands."""
    state = story.state
    return {
        "entries": len(story.log),
        "at": story.now,
        "status": state.status,
        "remaining": list(state.remaining),
        "failure": state.failure.code if state.failure else None,
        "steps": {
            name: {
                "status": step.status,
                "effect": step.effect.name,
                "operation": step.operation,
                "attempt": step.attempt,
                "output": step.output,
            }
            for name, step in state.steps.items()
        },
    }


def history(transcript: str) -> dict[str, Any]:
    """All of a story."""
    definition: dict[str, Any] = {}
    story: Story | None = None
    moments = []
    for definition, story in told(transcript):  # noqa: B007  # the last ones are used
        moments.append(moment(story))
    assert story is not None
    log = [asdict(encode(entry)) for entry in story.log]
    return {"version": __version__, "definition": definition, "log": log, "moments": moments}


def main() -> int:
    folder = HISTORIES / __version__
    if folder.exists():
        print(
            f"{folder.relative_to(ROOT)} is there already: what a version has written does not change",
            file=sys.stderr,
        )
        return 1
    folder.mkdir(parents=True)
    for path in sorted(TRANSCRIPTS.glob("*.txt")):
        recorded = json.dumps(history(path.read_text(encoding="utf-8")), indent=1)
        (folder / f"{path.stem}.json").write_text(recorded + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
