"""Lines that strangers can cause come a few in a minute, with the count of those left out."""

from __future__ import annotations

from saga_coordinator.telemetry import Throttle


def test_a_few_lines_of_each_kind_come_in_a_minute_and_the_rest_is_counted() -> None:
    now = [0.0]
    throttle = Throttle(3, clock=lambda: now[0])
    assert [throttle.admits("a") for _ in range(6)] == [0, 0, 0, None, None, None]
    assert throttle.admits("b") == 0
    now[0] = 61.0
    assert [throttle.admits("a") for _ in range(4)] == [3, 0, 0, None]
    assert throttle.admits("b") == 0


def test_kinds_without_end_take_no_memory_without_end() -> None:
    throttle = Throttle()
    for number in range(10_000):
        throttle.admits(str(number))
    assert len(throttle._kinds) <= 1000
