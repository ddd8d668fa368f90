"""`python -m proof.simulation --sagas 100000 --seed 1`, or `--batch 17` to see one batch of that run again."""

from __future__ import annotations

import argparse
import sys

from proof.simulation.batch import SAGAS_PER_BATCH, run_batch
from proof.simulation.checker import judge
from proof.simulation.findings import keep_findings, replay_command, stories
from proof.simulation.run import seed_of, timed

_SHOWN_MAX = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--sagas", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--batch", type=int, help="only this batch of the run, with the stories of what went wrong"
    )
    arguments = parser.parse_args()
    if arguments.batch is not None:
        return _replay(arguments.seed, arguments.batch, min(arguments.sagas, SAGAS_PER_BATCH))
    summary, seconds = timed(arguments.sagas, arguments.seed)
    for line in summary.lines():
        print(line)
    print(f"seconds: {seconds:.1f}, batches: {summary.batches}")
    for number, violations in list(summary.broken.items())[:_SHOWN_MAX]:
        print(f"batch {number}: {len(violations)} violations, the first: {violations[0]}")
        print(f"  {replay_command(arguments.seed, number, arguments.sagas)}")
    for file in keep_findings(summary, arguments.seed, arguments.sagas):
        print(f"kept in {file}")
    if summary.broken:
        number, violations = next(iter(summary.broken.items()))
        _tell(stories(arguments.seed, number, arguments.sagas, violations[:1]))
    return _end(summary.sagas, sum(summary.faults.values()), summary.violations)


def _replay(seed: int, number: int, sagas: int) -> int:
    batch = run_batch(seed_of(seed, number), sagas)
    verdict = judge(batch)
    for violation in verdict.violations:
        print(violation)
    _tell(stories(seed, number, sagas, verdict.violations))
    print(f"digest: {batch.digest()}")
    return _end(verdict.sagas, sum(verdict.faults.values()), len(verdict.violations))


def _tell(text: str) -> None:
    if text:
        print(f"\n{text}\n")


def _end(sagas: int, faults: int, violations: int) -> int:
    print(f"simulate: {sagas} sagas, {faults} faults, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
