"""What a run has shown, as a person reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proof.torture.resumption import Resumption, percentile
from proof.violation import Violation

VIOLATIONS_SHOWN_MAX = 20
RESUMED_SECONDS = 1.0
"""Beyond the lease: what it may take until another coordinator has looked and taken over."""


@dataclass(frozen=True, slots=True)
class Result:
    """`troubles` are those that participants made by themselves; `clients` what the clients did beside plain starts."""

    seed: int
    lease_seconds: float
    load_seconds: float
    settled_after: float
    sagas: Mapping[str, int]
    faults: Counter[str]
    troubles: Counter[str]
    clients: Counter[str]
    calls: int
    longest_stall: float
    resumptions: Sequence[Resumption]
    violations: Sequence[Violation]
    folder: Path

    @property
    def saga_count(self) -> int:
        return sum(self.sagas.values())

    @property
    def fault_count(self) -> int:
        return self.faults.total() + self.troubles.total()

    def seconds_to_resume(self, *, is_undisturbed: bool) -> list[float]:
        return [each.seconds for each in self.resumptions if each.is_undisturbed or not is_undisturbed]


def show(result: Result) -> None:
    _table("faults injected", result.faults)
    _table("troubles that participants made", result.troubles)
    _table("clients", result.clients)
    _table("sagas by end", result.sagas)
    print("\nfigures")
    throughput = result.saga_count / result.load_seconds
    print(f"  {throughput:10.1f}  sagas a second under fire, {result.calls} calls of participants")
    print(f"  {result.settled_after:10.1f}  s until the last saga settled after the last fault")
    if result.longest_stall:
        print(
            f"  {result.longest_stall:10.1f}  s that this machine stood still at worst: too busy with other things"
        )
    bound = result.lease_seconds + RESUMED_SECONDS
    for is_undisturbed, what in (
        (True, "with Postgres and another coordinator there"),
        (False, "all, outages of Postgres and of everybody else included"),
    ):
        seconds = result.seconds_to_resume(is_undisturbed=is_undisturbed)
        p50, p99, longest = (percentile(seconds, share) for share in (0.5, 0.99, 1.0))
        print(
            f"  {p99:10.2f}  s to resume, p99 of {len(seconds)} ({what}); p50 {p50:.2f}, max {longest:.2f};"
            f" wanted: {bound:g}"
        )
    if result.violations:
        print("\nviolations")
        for violation in result.violations[:VIOLATIONS_SHOWN_MAX]:
            print(f"  {violation}")
        if len(result.violations) > VIOLATIONS_SHOWN_MAX:
            print(f"  and {len(result.violations) - VIOLATIONS_SHOWN_MAX} more")
        print(f"  seed {result.seed}; logs, books and the sagas concerned are in {result.folder}")
    print(
        f"torture: {result.saga_count} sagas, {result.fault_count} faults, {len(result.violations)} violations"
    )


def _table(title: str, counts: Mapping[str, int]) -> None:
    print(f"\n{title}")
    for what, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        print(f"  {count:10}  {what}")
