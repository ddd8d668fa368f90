"""The breaker: by its story, and by any history of calls, pauses and operators."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.participants.calls.breaker import (
    REST_JITTER,
    TRANSITIONS,
    Breaker,
    BreakerState,
    Forced,
    Turn,
)
from saga_coordinator.participants.directory.limits import BreakerLimits

LIMITS = BreakerLimits(calls_min=4, failure_ratio=0.5, rest_seconds=1.0, rest_seconds_max=5.0, probes=2)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
MIDDLE = 0.5
"""The draw by which a rest lasts exactly as long as it is said to."""


def call(breaker: Breaker, now: float, *, fails: bool, seconds: float = 0.0) -> None:
    assert breaker.admits(now)
    breaker.ended(breaker.begin(), now, seconds, MIDDLE, is_failure=fails)


def opened(limits: BreakerLimits = LIMITS, now: float = 0.0) -> Breaker:
    breaker = Breaker(limits)
    for _ in range(limits.calls_min):
        call(breaker, now, fails=True)
    assert breaker.state is OPEN
    return breaker


def test_it_opens_at_the_ratio_and_not_before_there_are_enough_calls() -> None:
    breaker = Breaker(LIMITS)
    for fails in (True, True, False):
        call(breaker, 0.0, fails=fails)
    assert breaker.state is CLOSED
    assert breaker.failure_ratio(0.0) == pytest.approx(2 / 3)
    call(breaker, 0.0, fails=False)
    assert breaker.state is OPEN


def test_fewer_failures_than_the_ratio_leave_it_closed() -> None:
    breaker = Breaker(LIMITS)
    for number in range(400):
        call(breaker, number / 100, fails=number % 3 == 2)
    assert breaker.state is CLOSED


def test_what_is_longer_ago_than_the_window_does_not_count() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(3):
        call(breaker, 0.0, fails=True)
    call(breaker, LIMITS.window_seconds, fails=True)
    assert (breaker.state, breaker.calls_in_window) == (CLOSED, 1)


def test_slow_calls_count_where_it_is_said_what_is_slow() -> None:
    slow = BreakerLimits(calls_min=4, slow_call_seconds=2.0, slow_ratio=0.5)
    breaker, without = Breaker(slow), Breaker(BreakerLimits(calls_min=4))
    for seconds in (1.9, 1.9, 2.0, 2.0):
        call(breaker, 0.0, fails=False, seconds=seconds)
        call(without, 0.0, fails=False, seconds=100.0)
    assert (breaker.state, without.state) == (OPEN, CLOSED)


def test_after_its_rest_it_lets_only_the_probes_through() -> None:
    breaker = opened()
    assert not breaker.admits(0.999)
    assert breaker.rest_left_seconds(0.25) == 0.75
    assert breaker.admits(1.0)
    assert breaker.state is HALF_OPEN
    breaker.begin()
    assert breaker.admits(1.0)
    breaker.begin()
    assert not breaker.admits(1.0)


def test_good_probes_close_it_as_soon_as_the_others_cannot_change_that() -> None:
    breaker = opened()
    call(breaker, 1.0, fails=False)
    assert breaker.state is HALF_OPEN  # with a ratio of a half, the other one would open it again
    call(breaker, 1.0, fails=False)
    assert (breaker.state, breaker.calls_in_window) == (CLOSED, 0)


def test_a_probe_that_was_not_made_makes_room_for_another() -> None:
    breaker = opened()
    assert breaker.admits(1.0)
    epochs = [breaker.begin(), breaker.begin()]
    breaker.give_back(epochs[0])
    assert breaker.admits(1.0)


def test_rests_grow_while_it_relapses_up_to_their_maximum() -> None:
    breaker, now, rests = opened(), 0.0, []
    for _ in range(5):
        rests.append(breaker.rest_left_seconds(now))
        now += rests[-1]
        call(breaker, now, fails=True)
    assert rests == pytest.approx([1.0, 2.0, 4.0, 5.0, 5.0])


def test_after_a_good_while_rests_begin_anew() -> None:
    breaker = opened()
    call(breaker, 1.0, fails=True)
    for _ in range(2):
        call(breaker, 3.0, fails=False)
    assert breaker.state is CLOSED
    later = 3.0 + LIMITS.window_seconds
    for _ in range(4):
        call(breaker, later, fails=True)
    assert breaker.rest_left_seconds(later) == pytest.approx(1.0)


def test_calls_from_before_it_opened_say_nothing_about_the_probes() -> None:
    breaker = Breaker(LIMITS)
    before = [breaker.begin() for _ in range(8)]
    for epoch in before[:4]:
        breaker.ended(epoch, 0.0, 0.0, MIDDLE, is_failure=True)
    assert breaker.admits(1.0)
    for epoch in before[4:]:
        breaker.ended(epoch, 1.0, 0.0, MIDDLE, is_failure=False)
    assert breaker.state is HALF_OPEN


def test_an_operator_has_the_last_word() -> None:
    breaker = opened()
    breaker.force(Forced.CLOSED)
    for _ in range(100):
        call(breaker, 0.0, fails=True)
    assert breaker.state is CLOSED
    breaker.force(Forced.OPEN)
    assert (breaker.state, breaker.admits(1e9), breaker.rest_left_seconds(0.0)) == (OPEN, False, 0.0)
    breaker.force(Forced.AUTOMATIC)
    assert (breaker.state, breaker.failure_ratio(1e9)) == (CLOSED, 0.0)


def test_one_that_is_off_counts_and_never_opens() -> None:
    breaker = Breaker(BreakerLimits(is_on=False, calls_min=1))
    for _ in range(100):
        call(breaker, 0.0, fails=True)
    assert (breaker.state, breaker.failure_ratio(0.0)) == (CLOSED, 1.0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.none()),
        st.tuples(st.just("fail"), st.integers(0, 9)),
        st.tuples(st.just("pass"), st.integers(0, 9)),
        st.tuples(st.just("give_back"), st.integers(0, 9)),
        st.tuples(st.just("later"), st.floats(0.0, 4.0)),
    ),
    max_size=120,
)


@given(steps=STEPS, draw=st.floats(0.0, 1.0, exclude_max=True), probes=st.integers(1, 4))
def test_any_history_follows_the_table(
    steps: list[tuple[str, float | None]], draw: float, probes: int
) -> None:
    """Never a call while it rests, never more probes than it may make, never a rest longer than it may be, and no dead end."""
    limits = BreakerLimits(
        calls_min=3, failure_ratio=0.5, rest_seconds=1.0, rest_seconds_max=3.0, probes=probes
    )
    breaker, now, before = Breaker(limits), 0.0, CLOSED
    under_way: list[int] = []
    probing: dict[int, int] = {}
    for step, amount in steps:
        is_resting = breaker.state is OPEN and breaker.rest_left_seconds(now) > 0
        if step == "ask" and breaker.admits(now):
            assert not is_resting
            under_way.append(breaker.begin())
            if breaker.state is HALF_OPEN:
                probing[breaker.epoch] = probing.get(breaker.epoch, 0) + 1
                assert probing[breaker.epoch] <= probes
        elif step == "later" and amount is not None:
            now += amount
        elif step in ("fail", "pass", "give_back") and under_way:
            epoch = under_way.pop(int(amount or 0) % len(under_way))
            if step == "give_back":
                breaker.give_back(epoch)
                if epoch in probing:
                    probing[epoch] -= 1
            else:
                breaker.ended(epoch, now, 0.0, draw, is_failure=step == "fail")
        if breaker.state is not before:
            assert any(TRANSITIONS.get((before, turn)) is breaker.state for turn in Turn)
        before = breaker.state
        assert breaker.rest_left_seconds(now) <= limits.rest_seconds_max * (1 + REST_JITTER)
    for epoch in under_way:
        breaker.give_back(epoch)
    now += limits.rest_seconds_max * 2
    while breaker.state is not CLOSED:
        call(breaker, now, fails=False)
