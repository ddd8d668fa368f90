"""What a run found is kept in a file, with the command that shows it again: a fresh seed is not drawn twice."""

from __future__ import annotations

from pathlib import Path

from proof.simulation.batch import SAGAS_PER_BATCH, run_batch
from proof.simulation.run import Summary, seed_of
from proof.simulation.story import story
from proof.violation import Violation

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "simulation"
_STORIES_MAX = 5


def replay_command(seed: int, batch: int, sagas: int) -> str:
    """What shows a batch of a run of `sagas` again."""
    return f"make simulate SAGAS={min(sagas, SAGAS_PER_BATCH)} SEED={seed} BATCH={batch}"


def stories(seed: int, batch: int, sagas: int, violations: list[Violation]) -> str:
    """The stories of the first sagas that a batch's violations are about."""
    again = run_batch(seed_of(seed, batch), min(sagas, SAGAS_PER_BATCH))
    concerned = list(dict.fromkeys(violation.saga_id for violation in violations if violation.saga_id))
    return "\n\n".join(f"saga {saga_id}\n{story(again, saga_id)}" for saga_id in concerned[:_STORIES_MAX])


def keep_findings(summary: Summary, seed: int, sagas: int, folder: Path = FOLDER) -> list[Path]:
    """Writes a file for each batch with violations: the command, what is broken and the stories. Returns the files."""
    written = []
    for batch, violations in summary.broken.items():
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"seed-{seed}-batch-{batch}.txt"
        lines = [replay_command(seed, batch, sagas), *map(str, violations), ""]
        file.write_text("\n".join(lines) + "\n" + stories(seed, batch, sagas, violations) + "\n")
        written.append(file)
    return written
