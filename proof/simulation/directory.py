"""Who takes part, how each is reached, and what it may be asked to do at once."""

from __future__ import annotations

import random
from types import MappingProxyType

from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.limits import BreakerLimits, ParticipantLimits

CALLED = ("ledger", "stock", "courier")
WORKERS = ("depot", "kiosk")
"""Participants that dial the coordinators."""

GUARDED = (*CALLED, *WORKERS)
UNGUARDED = ("legacy", "oracle")
NAMES = frozenset(GUARDED + UNGUARDED)

WORKER_METHODS = ("pack", "move")
STATUS_METHOD = "look"


def random_directory(dice: random.Random) -> Directory:
    """Everybody, each with limits of its own: none to speak of, or such that are reached all the time."""
    return Directory(None, MappingProxyType({name: _participant(name, dice) for name in sorted(NAMES)}))


def without(directory: Directory, missing: frozenset[str]) -> Directory:
    """The same directory as a coordinator has it whose file does not name some participants."""
    known = {name: each for name, each in directory.participants.items() if name not in missing}
    return Directory(None, MappingProxyType(known))


def _participant(name: str, dice: random.Random) -> Participant:
    is_worker = name in WORKERS
    target = "" if is_worker else f"dns:///{name}:50051"
    return Participant(name, target, is_worker=is_worker, given_limits=_limits(dice, is_worker=is_worker))


def _limits(dice: random.Random, *, is_worker: bool) -> ParticipantLimits | None:
    if dice.random() < 0.4:
        return None
    rate = dice.choice((None, None, None, 5.0, 30.0))
    concurrency = None if is_worker and dice.random() < 0.7 else dice.choice((1, 2, 4, 16))
    return ParticipantLimits(
        concurrency=concurrency,
        is_adaptive=concurrency is not None and dice.random() < 0.3,
        rate=rate,
        burst=dice.choice((1, 5)) if rate else 1,
        breaker=BreakerLimits(
            is_on=dice.random() < 0.8,
            window_seconds=dice.choice((1.0, 5.0)),
            calls_min=dice.choice((3, 5, 10)),
            failure_ratio=dice.choice((0.2, 0.5, 0.8)),
            slow_call_seconds=dice.choice((None, 0.2, 1.0)),
            rest_seconds=dice.choice((0.2, 1.0, 3.0)),
            rest_seconds_max=5.0,
            probes=dice.choice((1, 2, 5)),
        ),
    )
