"""The limits of the engine that a configuration may set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits of one coordinator.

    It drives at most `sagas_in_memory_max` sagas at once; more are durably queued. It refuses starts once `backlog_max` sagas are
    queued in all. It looks for work every `poll_seconds`. `log_sagas` tells whether each saga's start, turn and end is
    logged at info.
    """

    lease_seconds: float = 3.0
    sagas_in_memory_max: int = 10_000
    backlog_max: int = 100_000
    poll_seconds: float = 0.5
    log_sagas: bool = False
