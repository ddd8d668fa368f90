"""How long a worker waits before it dials a coordinator again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


def redial_pauses(draw: Callable[[], float] = random.random) -> Iterator[float]:
    """The seconds to wait before each further dial as long as no coordinator welcomes the worker; without an end.

    The longest pause doubles from `FIRST_SECONDS` to `LONGEST_SECONDS`. `draw` gives numbers from [0, 1), by which each pause is
    drawn from the upper half of what it may be, so that not all workers of a coordinator that is gone dial at once.
    """
    longest = FIRST_SECONDS
    while True:
        yield longest * (0.5 + draw() / 2)
        longest = min(2 * longest, LONGEST_SECONDS)
