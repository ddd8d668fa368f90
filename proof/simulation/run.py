"""Many batches, on all processors, and what came of them."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from proof.simulation.batch import SAGAS_PER_BATCH, run_batch
from proof.simulation.checker import ALL_ROWS, Verdict, judge
from proof.violation import Violation

_UNREACHABLE = frozenset({"COMPENSATING compensation InputInvalid", "RUNNING action InputInvalid"})
"""An operation's input depends on nothing that changes between its attempts; the rows are there for broken logs."""


_SAGAS_TO_EXPECT = 95
"""Of a batch: a client that gives up early may leave no saga behind."""


@dataclass(slots=True)
class Summary:
    """All verdicts together. `broken`: the batches with violations, by number."""

    batches: int = 0
    sagas: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    rows_seen: set[str] = field(default_factory=set)
    broken: dict[int, list[Violation]] = field(default_factory=dict)

    @property
    def violations(self) -> int:
        return sum(map(len, self.broken.values()))

    def add(self, number: int, verdict: Verdict) -> None:
        self.batches += 1
        self.sagas += verdict.sagas
        self.faults += verdict.faults
        self.met += verdict.met
        self.ends += verdict.ends
        self.rows_seen |= verdict.rows_seen
        if verdict.violations:
            self.broken[number] = verdict.violations

    def lines(self) -> Iterator[str]:
        yield "ends: " + ", ".join(f"{count} {status}" for status, count in self.ends.most_common())
        yield "faults:"
        for kind, count in self.faults.most_common():
            yield f"  {count:8d} {kind}"
        yield "met: " + ", ".join(f"{count} {what}" for what, count in self.met.most_common())
        reachable = ALL_ROWS - _UNREACHABLE
        seen = self.rows_seen & reachable
        yield f"coverage: {len(seen)} of {len(reachable)} rows of the transition tables"
        for row in sorted(reachable - seen):
            yield f"  never: {row}"


def seed_of(seed: int, batch: int) -> int:
    """The seed of one batch: unrelated to those of its neighbours and of neighbouring runs."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{batch}".encode()).digest()[:8])


def run(sagas: int, seed: int, processes: int | None = None) -> Summary:
    """Simulates at least that many sagas, from one batch's worth on."""
    summary = Summary()
    batches = 1 if sagas <= SAGAS_PER_BATCH else -(-sagas // _SAGAS_TO_EXPECT)
    processes = processes or os.cpu_count() or 1
    if processes == 1 or batches == 1:
        for number in range(batches):
            summary.add(number, _judged(seed, number, min(sagas, SAGAS_PER_BATCH)))
        return summary
    chunks = [range(first, min(first + 10, batches)) for first in range(0, batches, 10)]
    with ProcessPoolExecutor(processes) as pool:
        for chunk, verdicts in zip(chunks, pool.map(_judged_all, [seed] * len(chunks), chunks), strict=True):
            for number, verdict in zip(chunk, verdicts, strict=True):
                summary.add(number, verdict)
    return summary


def _judged_all(seed: int, batches: range) -> list[Verdict]:
    return [_judged(seed, number, SAGAS_PER_BATCH) for number in batches]


def _judged(seed: int, batch: int, sagas: int) -> Verdict:
    return judge(run_batch(seed_of(seed, batch), sagas))


def timed(sagas: int, seed: int) -> tuple[Summary, float]:
    """The summary, and how many seconds it took."""
    began = time.perf_counter()
    return run(sagas, seed), time.perf_counter() - began
