"""So many calls a second: never more in any stretch of time, and never fewer than were asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.participants.calls.rate import Rate


@given(
    per_second=st.floats(0.1, 1000.0),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=80),
)
def test_no_stretch_of_time_has_more_than_its_share(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    rate, now, made = Rate(per_second, burst), 0.0, []
    for pause in pauses:
        now += pause
        if not rate.wait_seconds(now):
            rate.take(now)
            made.append(now)
    for first, began in enumerate(made):
        for last, ended in enumerate(made[first:], 1):
            assert last <= burst + per_second * (ended - began) + 1e-6


@given(per_second=st.floats(0.1, 1000.0), burst=st.integers(1, 20), count=st.integers(1, 60))
def test_whoever_waits_as_told_gets_the_full_rate(per_second: float, burst: int, count: int) -> None:
    rate, now = Rate(per_second, burst), 0.0
    for _ in range(count):
        while wait := rate.wait_seconds(now):
            now += wait
        rate.take(now)
    assert now == pytest.approx(max(0, count - burst) / per_second, rel=1e-6, abs=1e-6)
