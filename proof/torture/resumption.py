"""How long sagas stood still: from the end, or the stop, of the coordinator that drove them to the first entry of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proof.torture.evidence import Evidence
from proof.torture.processes import Coordinator

_AWAKE_SECONDS = 0.5
"""A stopped coordinator that wakes finds its sagas taken; takers that were about to may have been that much later."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """`is_undisturbed`: Postgres was there the whole time, and so was at least one other coordinator."""

    saga_id: str
    coordinator: str
    since: float
    seconds: float
    is_undisturbed: bool


def resumptions(
    evidence: Evidence, coordinators: Sequence[Coordinator], outages: Sequence[Sequence[float]]
) -> list[Resumption]:
    lives = {life.coordinator_id: (place, life) for place in coordinators for life in place.lives}
    found = []
    for saga_id, log in evidence.logs.items():
        for entry in log:
            place, life = lives.get(str(entry.body.get("previous_owner", "")), (None, None))
            if entry.type != "saga_adopted" or place is None or life is None:
                continue
            if life.died_at is not None and entry.recorded_at >= life.died_at:
                since = life.died_at
            else:
                stops = [
                    began
                    for began, ended in life.stops
                    if began <= entry.recorded_at <= ended + _AWAKE_SECONDS
                ]
                if not stops:
                    continue  # cut off from Postgres rather than stopped
                since = stops[-1]
            others = [other.troubles for other in coordinators if other is not place]
            window = (since, entry.recorded_at)
            is_undisturbed = not _meets(outages, window) and not all(_meets(each, window) for each in others)
            found.append(Resumption(saga_id, place.name, since, entry.recorded_at - since, is_undisturbed))
    return found


def _meets(intervals: Sequence[Sequence[float]], window: tuple[float, float]) -> bool:
    return any(began < window[1] and ended > window[0] for began, ended in intervals)


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank; 0 of nothing."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, round(share * len(ranked) + 0.5) - 1))]
