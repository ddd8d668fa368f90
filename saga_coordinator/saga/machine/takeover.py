"""Takeovers of one saga that lead nowhere: when its attempts are made again, and when it is a person's (P1).

Whatever ends a coordinator may be in the saga: an answer that it dies of, a call that outlasts every lease. A saga that
coordinators are lost with, one after the other, waits ever longer in between, and then for a person.
"""

from __future__ import annotations

TAKEOVERS_MAX = 7
"""At so many takeovers in a row with nothing learned in between the saga is parked: after eleven minutes at the least."""

_FIRST_PAUSE_SECONDS = 2.0
_LONGER_EACH_TIME = 4.0


def pause_seconds(takeovers: int) -> float:
    """How long attempts that were lost wait before they are made again: not at all at first, then 2 s, 8 s, up to 512 s."""
    if not 1 < takeovers < TAKEOVERS_MAX:
        return 0.0
    return _FIRST_PAUSE_SECONDS * _LONGER_EACH_TIME ** (takeovers - 2)
