"""The habits of one world: how often calls, participants and coordinators go wrong in it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass
class Habits:
    """Probabilities."""

    slow: float
    refuse: float
    unknown: float
    pending: float
    quick_report: float
    report_lost: float
    crash: float
    cancel: float
    hold: float

    @classmethod
    def draw(cls, random: Random) -> Habits:
        def some(most: float) -> float:
            return random.choice([0.0, 0.0, most / 2, most])

        often = [some(most) for most in (0.5, 0.5, 0.6, 0.6, 0.8, 0.6, 0.6, 0.5, 0.4)]
        return cls(*often)
