"""How much of a participant is used at once, and when it is given a rest: the `limits` of a participant, the same in a directory
file and in `saga.v1.ParticipantLimits`:

    limits:
      concurrency: 64
      rate: 100
      breaker: {failure_ratio: 0.5, calls_min: 20, rest: 2s}

A field that is left out has the default below; the contract says what each field means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.json_object import JsonObject

CONCURRENCY_MAX = 100_000
RATE_MAX = 1_000_000.0
RATE_MIN = 0.001
SECONDS_MAX = 3600.0
WINDOW_CALLS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """The settings of a circuit breaker; see `Breaker`. With `slow_call_seconds` None, no call is slow."""

    is_on: bool = True
    window_seconds: float = 10.0
    calls_min: int = 100
    failure_ratio: float = 0.8
    slow_call_seconds: float | None = None
    slow_ratio: float = 0.8
    rest_seconds: float = 1.0
    rest_seconds_max: float = 30.0
    probes: int = 5


@dataclass(frozen=True, slots=True)
class ParticipantLimits:
    """How much one coordinator uses one participant. `concurrency` or `rate` (calls a second) None means no limit."""

    concurrency: int | None = 256
    is_adaptive: bool = False
    rate: float | None = None
    burst: int = 1
    breaker: BreakerLimits = BreakerLimits()


WORKER_LIMITS = ParticipantLimits(concurrency=None)
"""Workers say by their credits how much they take at once."""


def read_limits(
    source: Any, place: str, faults: list[Fault], *, is_worker: bool = False
) -> ParticipantLimits:
    """Reads the `limits` of a participant from their JSON form, and adds their faults to `faults`."""
    usual = WORKER_LIMITS if is_worker else ParticipantLimits()
    fields = JsonObject(source, place, faults)
    concurrency = fields.whole("concurrency", 0, 1, CONCURRENCY_MAX) or usual.concurrency
    rate = fields.number("rate", 0.0, RATE_MIN, RATE_MAX) or None
    burst = fields.whole("burst", 0, 1, CONCURRENCY_MAX)
    if burst and rate is None:
        faults.append(Fault(f"{place}.burst", "needs a rate: give one, or leave this out"))
    is_adaptive = fields.flag("adaptive")
    if is_adaptive and concurrency is None:
        faults.append(Fault(f"{place}.adaptive", "needs a concurrency: give one, too"))
    breaker = fields.object("breaker")
    limits = ParticipantLimits(
        concurrency,
        is_adaptive,
        rate,
        burst or max(1, round(rate or 0)),
        _breaker(breaker) if breaker is not None else BreakerLimits(),
    )
    fields.finish()
    return limits


def _breaker(fields: JsonObject) -> BreakerLimits:
    usual = BreakerLimits()
    rest = fields.seconds("rest", usual.rest_seconds, SECONDS_MAX) or usual.rest_seconds
    rest_max = fields.seconds("rest_max", None, SECONDS_MAX)
    if rest_max is not None and rest_max < rest:
        fields.fault("rest_max", f"is less than rest, which is {rest:g} s")
    read = BreakerLimits(
        is_on=not fields.flag("off"),
        window_seconds=fields.seconds("window", usual.window_seconds, SECONDS_MAX) or usual.window_seconds,
        calls_min=fields.whole("calls_min", usual.calls_min, 1, WINDOW_CALLS_MAX),
        failure_ratio=fields.number("failure_ratio", usual.failure_ratio, 0.01, 1.0),
        slow_call_seconds=fields.seconds("slow_call", None, SECONDS_MAX),
        slow_ratio=fields.number("slow_ratio", usual.slow_ratio, 0.01, 1.0),
        rest_seconds=rest,
        rest_seconds_max=max(rest, usual.rest_seconds_max) if rest_max is None else rest_max,
        probes=fields.whole("probes", usual.probes, 1, 1000),
    )
    fields.finish()
    return read
