"""What the simulation's definitions are made of: its participants, in every way in which they can be asked."""

from __future__ import annotations

import random
from typing import Any

from proof.definitions import Taste
from proof.simulation.directory import GUARDED, STATUS_METHOD, UNGUARDED, WORKER_METHODS, WORKERS


def _participant(dice: random.Random) -> str:
    return dice.choice(GUARDED) if dice.random() < 0.8 else dice.choice(UNGUARDED)


def _operation(dice: random.Random, participant: str, given: Any, patience: int) -> dict[str, Any]:
    initial = dice.choice((0.01, 0.1, 0.1, 1, 8))
    more: dict[str, Any] = {} if given is None else {"input": given}
    if participant in WORKERS:
        more["method"] = dice.choice(WORKER_METHODS)
    if dice.random() < 0.2:
        more["status"] = {"method": STATUS_METHOD, "interval": f"{dice.choice((1, 3))}s"}
    pending_timeouts: tuple[float, ...] = (0.1, 1, 4, 15)
    if dice.random() < 0.3:
        pending_timeouts = (4, 15, 15)
        more["heartbeat_timeout"] = f"{dice.choice((1, 3, 8))}s"
    return {
        "participant": participant,
        "timeout": f"{dice.choice((0.05, 0.2, 0.5, 1, 3))}s",
        "pending_timeout": f"{dice.choice(pending_timeouts)}s",
        "retry": {
            "max_attempts": patience * dice.choice((1, 2, 3, 5)),
            "initial_backoff": f"{initial}s",
            "max_backoff": f"{max(initial, dice.choice((0.5, 2, 12)))}s",
        },
        **more,
    }


TASTE = Taste(_operation, _participant, deadlines=(0.5, 2, 5, 12, 40))
