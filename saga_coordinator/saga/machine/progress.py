"""The entries that count as progress of a step. Two limits use it: the limit of a log's entries, and the limit of takeovers
without progress.
"""

from __future__ import annotations

from saga_coordinator.saga.machine.act_entries import STEP_ACTS
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptStarted,
    AttemptUnknown,
    AttemptUnresolved,
    StepEntry,
)


def is_progress(entry: StepEntry) -> bool:
    """Tells whether the step has come further: an outcome was told, or an operation has begun for the first time or has ended.

    These are no progress: an attempt that is lost with its coordinator, a repeated attempt, and an attempt that was not made
    because there was no room.
    """
    match entry:
        case AttemptStarted():
            return entry.attempt == 1
        case AttemptHeld():
            return False
        case _:
            return not _is_lost(entry)


def counted(entry: StepEntry) -> int:
    """The number that the entry adds to the count for the limit of entries: 1, 0 or -1.

    Neither waiting nor a person's act is counted. If an attempt was not made, or was lost with its coordinator and will be made
    again, the entry takes the count of its start back.
    """
    match entry:
        case AttemptPending():
            return 0
        case AttemptHeld():
            return -1
        case AttemptUnknown() if _is_lost(entry):
            return -1
        case _:
            return int(type(entry) not in STEP_ACTS)


def _is_lost(entry: StepEntry) -> bool:
    """Tells whether an attempt was lost with its coordinator, so that nobody knows its outcome."""
    return isinstance(entry, AttemptUnknown | AttemptUnresolved) and entry.settles_at is not None
