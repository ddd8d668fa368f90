"""The answers of a saga to requests: each is one value of a closed union.

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
    """The request counts: what it asks for has been done, or will follow."""


@immutable
class NotApplied:
    """The request was accepted and changed nothing: it repeats an earlier request, or came too late. `why` is set for
    reports.
    """

    why: WhyNot | None = None


@immutable
class HeartbeatTaken:
    """The operation's heartbeat timeout, and for how long from now further heartbeats would change nothing."""

    timeout_seconds: float
    fresh_seconds: float


Accepted = Applied | NotApplied | HeartbeatTaken
"""The answers to a request that the saga accepts. A repeated request is accepted as well (P9)."""

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
"""The names of the answers in the mail between coordinators. A name never changes once it has been released."""
