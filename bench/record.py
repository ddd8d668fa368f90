"""What is written down: one sample a round, one record for all rounds of a system under a shape, and the file they go to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

RESULTS: Final = Path(__file__).parent / "results"
LATEST: Final = RESULTS / "latest.json"
RELAY: Final = "relay"
"""The system that all others are compared with."""

Outcome = Literal["success", "rollback"]


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """What is asked of a system: sagas of so many steps, so many in flight, that succeed or whose last step is refused."""

    outcome: Outcome
    steps: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.steps}-step {self.outcome} at {self.concurrency}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. `cpu_us` is processor time per saga by part; `commits` (transactions that wrote) and `wal_bytes` are per
    saga, None where there is no Postgres; `memory_mib` is the resident memory of the system's own processes.
    """

    sagas: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    commits: float | None = None
    wal_bytes: float | None = None
    memory_mib: float | None = None

    @property
    def sagas_per_second(self) -> float:
        return self.sagas / self.seconds


@dataclass(frozen=True, slots=True)
class Record:
    """All rounds of a system under a shape: medians; `_low` and `_high` are the extremes of the rounds.

    `ratio_to_relay` compares with what the relay did in the same round. `reason` says why there are no figures.
    """

    system: str
    shape: str
    steps: int
    concurrency: int
    rounds: int
    sagas_per_second: float | None = None
    sagas_per_second_low: float | None = None
    sagas_per_second_high: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    ratio_to_relay: float | None = None
    ratio_to_relay_low: float | None = None
    ratio_to_relay_high: float | None = None
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    commits_per_saga: float | None = None
    wal_bytes_per_saga: float | None = None
    memory_mib: float | None = None
    reason: str = ""


def latencies_ms(seconds: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th percentile by nearest rank, in milliseconds; zeros of nothing."""
    return percentile(seconds, 0.5) * 1000, percentile(seconds, 0.99) * 1000


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank; 0 of nothing."""
    if not values:
        return 0.0
    ranked = sorted(values)
    rank = -(-len(ranked) * round(share * 10_000) // 10_000)
    return ranked[min(len(ranked), max(1, rank)) - 1]


def summarise(
    system: str, shape: Shape, samples: Sequence[Sample], relay: Sequence[Sample] | None = None
) -> Record:
    """The record of a system's samples, one a round. `relay` are the relay's of the same rounds, where it ran this shape."""
    rates = [each.sagas_per_second for each in samples]
    ratios = [
        each.sagas_per_second / other.sagas_per_second
        for each, other in zip(samples, relay or (), strict=False)
    ]
    parts = sorted({part for each in samples for part in each.cpu_us})
    return Record(
        system,
        shape.outcome,
        shape.steps,
        shape.concurrency,
        len(samples),
        sagas_per_second=_rounded(statistics.median(rates), 1),
        sagas_per_second_low=_rounded(min(rates), 1),
        sagas_per_second_high=_rounded(max(rates), 1),
        p50_ms=_median((each.p50_ms for each in samples), 2),
        p99_ms=_median((each.p99_ms for each in samples), 2),
        ratio_to_relay=_median(ratios, 3),
        ratio_to_relay_low=_rounded(min(ratios), 3) if ratios else None,
        ratio_to_relay_high=_rounded(max(ratios), 3) if ratios else None,
        cpu_us={part: _median((each.cpu_us.get(part) for each in samples), 0) or 0.0 for part in parts},
        commits_per_saga=_median((each.commits for each in samples), 3),
        wal_bytes_per_saga=_median((each.wal_bytes for each in samples), 0),
        memory_mib=_median((each.memory_mib for each in samples), 1),
    )


def not_measured(system: str, shape: Shape, reason: str) -> Record:
    return Record(system, shape.outcome, shape.steps, shape.concurrency, 0, reason=reason)


def _median(values: Any, digits: int) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(statistics.median(known), digits) if known else None


def _rounded(value: float, digits: int) -> float:
    return round(value, digits)


def read(path: Path = LATEST) -> dict[str, Any]:
    """Everything measured so far, by section; empty before the first run."""
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_section(name: str, content: Any, settings: Mapping[str, Any], path: Path = LATEST) -> None:
    """Puts a section into the file in place of its last version, stamped; the others stay as they were."""
    found = read(path)
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    found[name] = {"taken_at": taken_at, "settings": dict(settings), "measured": _plain(content)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _plain(content: Any) -> Any:
    if isinstance(content, Record):
        return asdict(content)
    if isinstance(content, dict):
        return {name: _plain(value) for name, value in content.items()}
    return [_plain(each) for each in content] if isinstance(content, list) else content
