"""The rule for takeovers of one saga without progress: how long its attempts wait, and when a person has to decide (P1).

The saga itself may be the reason why coordinators are lost: an answer may crash them, or a call may outlast every lease. If one
coordinator after the other is lost while it drives a saga, the saga waits ever longer in between, and is then parked for a
person.
"""

from __future__ import annotations

TAKEOVERS_MAX = 7
"""The number of takeovers in a row without progress at which the saga is parked. That takes eleven minutes at the least."""

_FIRST_PAUSE_SECONDS = 2.0
_LONGER_EACH_TIME = 4.0


def pause_seconds(takeovers: int) -> float:
    """The seconds that lost attempts wait before they are made again: none at first, then 2, 8, and so on up to 512."""
    if not 1 < takeovers < TAKEOVERS_MAX:
        return 0.0
    return _FIRST_PAUSE_SECONDS * _LONGER_EACH_TIME ** (takeovers - 2)
