"""Takeovers of one saga that lead nowhere: when its attempts are made again, and when it is a person's (P1).

Whatever ends a coordinator may be in the saga: an answer that it dies of, a call that outlasts every lease. A saga that
coordinators are lost with, one after the other, waits ever longer in between, and then for a person.
"""

from __future__ import annotations

from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptStarted,
    AttemptUnknown,
    AttemptUnresolved,
    StepEntry,
)
from saga_coordinator.saga.words.outcome import CauseCode

TAKEOVERS_MAX = 7
"""At so many takeovers in a row with nothing learned in between the saga is parked: after eleven minutes at the least."""

_FIRST_PAUSE_SECONDS = 2.0
_LONGER_EACH_TIME = 4.0


def is_progress(entry: StepEntry) -> bool:
    """Whether a step has come further by it: something was told, begun for the first time, or over.

    It is not where an attempt is lost with its coordinator, and made again, or is not made for want of room.
    """
    match entry:
        case AttemptUnknown() | AttemptUnresolved():
            return entry.cause.code != CauseCode.COORDINATOR_LOST
        case AttemptStarted():
            return entry.attempt == 1
        case AttemptHeld():
            return False
        case _:
            return True


def pause_seconds(takeovers: int) -> float:
    """How long attempts that were lost wait before they are made again: not at all at first, then 2 s, 8 s, up to 512 s."""
    if not 1 < takeovers < TAKEOVERS_MAX:
        return 0.0
    return _FIRST_PAUSE_SECONDS * _LONGER_EACH_TIME ** (takeovers - 2)
