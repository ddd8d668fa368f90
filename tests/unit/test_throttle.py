"""Lines that strangers can cause come a few in a minute, with the count of those left out."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from saga_coordinator import telemetry
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


def test_what_a_library_says_time_and_again_is_a_few_lines_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", written)
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        telemetry.configure(log_format="json")
        for _ in range(1000):
            try:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
            except UnicodeDecodeError:
                logging.getLogger("grpc").exception("Invalid encoding")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
        logging.captureWarnings(False)
    written.flush()
    lines = written.buffer.getvalue().decode().splitlines()
    assert len(lines) == telemetry.LINES_A_MINUTE_MAX
    assert all(json.loads(line)["logger"] == "grpc" for line in lines)
