"""What is broken when: drawn from a seed before anything runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from proof.torture.crashing import POINTS


class Kind(StrEnum):
    KILL_COORDINATOR = "kill -9 of a coordinator"
    STOP_COORDINATOR = "SIGSTOP of a coordinator past its lease"
    LEAVE_COORDINATOR = "SIGTERM of a coordinator"
    KILL_PARTICIPANT = "kill -9 of a participant"
    STOP_PARTICIPANT = "SIGSTOP of a participant"
    FLAP_PARTICIPANT = "a participant is unavailable"
    POSTGRES_FAST = "Postgres restarts, fast"
    POSTGRES_IMMEDIATE = "Postgres restarts, immediate"
    COMMITS_FAIL = "commits in Postgres fail"
    DATABASE_CUT = "connections to Postgres are cut"
    DATABASE_DELAY = "connections to Postgres are slow"
    DATABASE_HOLE = "connections to Postgres are silent"
    DATABASE_ANSWER_LOST = "Postgres' answer is lost"
    CALLS_CUT = "connections to a participant are cut"
    CALLS_DELAY = "connections to a participant are slow"
    CALLS_HOLE = "connections to a participant are silent"
    CALLS_ANSWER_LOST = "a participant's answer is lost"


WEIGHTS: dict[Kind, int] = {
    Kind.KILL_COORDINATOR: 6,
    Kind.STOP_COORDINATOR: 5,
    Kind.LEAVE_COORDINATOR: 2,
    Kind.KILL_PARTICIPANT: 6,
    Kind.STOP_PARTICIPANT: 3,
    Kind.FLAP_PARTICIPANT: 5,
    Kind.POSTGRES_FAST: 2,
    Kind.POSTGRES_IMMEDIATE: 2,
    Kind.COMMITS_FAIL: 4,
    Kind.DATABASE_CUT: 6,
    Kind.DATABASE_DELAY: 4,
    Kind.DATABASE_HOLE: 4,
    Kind.DATABASE_ANSWER_LOST: 8,
    Kind.CALLS_CUT: 6,
    Kind.CALLS_DELAY: 5,
    Kind.CALLS_HOLE: 5,
    Kind.CALLS_ANSWER_LOST: 8,
}


@dataclass(frozen=True, slots=True)
class Blow:
    """`coordinator` and `participant` are indices of those concerned; what `seconds` and `size` mean depends on the kind."""

    after_seconds: float
    kind: Kind
    coordinator: int
    participant: int
    seconds: float
    size: float


def faults(seed: int, *, every_seconds: float, coordinators: int, participants: int) -> Iterator[Blow]:
    """Without end: each kind once first, in an order of the seed's, then by weight."""
    dice = random.Random(f"{seed} plan")
    first = list(Kind)
    dice.shuffle(first)
    while True:
        kind = first.pop() if first else dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        yield Blow(
            dice.expovariate(1 / every_seconds),
            kind,
            dice.randrange(coordinators),
            dice.randrange(participants),
            dice.random(),
            dice.random(),
        )


@dataclass(frozen=True, slots=True)
class Birth:
    """How a coordinator's process is to live: where it kills itself, and by which clock it lives."""

    crash_at: str
    passage: int
    timezone: str
    shift_seconds: float


TIMEZONES = ("Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "America/St_Johns")
RARE = ("compensation", "turn", "adoption")


class Births:
    """Each point to crash at in turn, in an order of the seed's; one that was not reached in a life has its turn again."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(f"{seed} births")
        self._points = list(POINTS)
        self._dice.shuffle(self._points)

    def next(self, *, may_crash: bool) -> Birth:
        dice = self._dice
        crash_at = self._points.pop(0) if may_crash else ""
        passage = dice.randint(1, 4 if any(rare in crash_at for rare in RARE) else 30)
        timezone = dice.choice(TIMEZONES) if dice.random() < 0.4 else ""
        shift_seconds = dice.choice((-1, 1)) * dice.uniform(1, 30) * 3600 if dice.random() < 0.4 else 0.0
        return Birth(crash_at, passage, timezone, round(shift_seconds))

    def ended(self, crash_at: str, *, is_reached: bool) -> None:
        """A life is over. Its point waits for its next turn, which comes sooner when it was not reached."""
        if crash_at:
            self._points.insert(len(self._points) if is_reached else 3, crash_at)
