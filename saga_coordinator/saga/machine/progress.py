"""Which entries say that a step has come further. Two rules ask: the limit of entries, and that of takeovers in vain."""

from __future__ import annotations

from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptStarted,
    AttemptUnknown,
    AttemptUnresolved,
    StepEntry,
)


def is_progress(entry: StepEntry) -> bool:
    """Whether the step has come further: something was told, has begun for the first time, or has ended.

    An attempt that is lost with its coordinator is no progress, nor is one that is made again or not made for want of room.
    """
    match entry:
        case AttemptStarted():
            return entry.attempt == 1
        case AttemptHeld():
            return False
        case _:
            return not _is_lost(entry)


def counted(entry: StepEntry) -> int:
    """What the entry adds to those that the limit of entries counts.

    Waiting is not counted: an attempt that was not made, or was lost with its coordinator and will be made again, takes its start
    back.
    """
    match entry:
        case AttemptPending():
            return 0
        case AttemptHeld():
            return -1
        case AttemptUnknown() if _is_lost(entry):
            return -1
        case _:
            return 1


def _is_lost(entry: StepEntry) -> bool:
    """Whether an attempt was lost with its coordinator, so that nobody knows its outcome."""
    return isinstance(entry, AttemptUnknown | AttemptUnresolved) and entry.settles_at is not None
