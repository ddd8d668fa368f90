"""What a saga answers to what is asked of it: one value of a closed union.

A verb whose answer says more than these gets a class of its own here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.immutable import immutable


class WhyNot(StrEnum):
    """Why a report moved nothing."""

    REPEATED = "REPEATED"
    LATE = "LATE"
    EARLY = "EARLY"
    OTHER_ATTEMPT = "OTHER_ATTEMPT"
    CONTRADICTS = "CONTRADICTS"


@immutable
class Applied:
    """It was done, or is awaited: what was asked counts."""


@immutable
class NotApplied:
    """It was accepted and moved nothing: it repeats what came before, or comes too late. `why` is said of reports."""

    why: WhyNot | None = None


@immutable
class HeartbeatTaken:
    """The operation's heartbeat timeout, and for how long from now further heartbeats would change nothing."""

    timeout_seconds: float
    fresh_seconds: float


Accepted = Applied | NotApplied | HeartbeatTaken
"""What is said to whoever may ask so. A repetition is accepted as well (P9)."""

Answer = Accepted | Refusal
"""A refusal says why the saga's state forbids what was asked."""

APPLIED = Applied()
"""Made once, since most decisions carry it."""

ANSWERS: Mapping[str, type[Answer]] = {
    "applied": Applied,
    "not_applied": NotApplied,
    "heartbeat_taken": HeartbeatTaken,
    "refusal": Refusal,
}
"""The names under which coordinators write answers to one another. A name that has been released stays."""
