"""Answers to heartbeats from memory: as long as they hold, and never so long that a participant works on for nobody."""

from __future__ import annotations

import pytest

from saga_coordinator.engine.heartbeats import UNTIMED_SECONDS, Heartbeats
from saga_coordinator.saga.machine.answers import APPLIED, Accepted, HeartbeatTaken, NotApplied
from saga_coordinator.saga.machine.inputs import HeartbeatReceived
from saga_coordinator.saga.words.identity import OperationKind

BEAT = HeartbeatReceived("pay", OperationKind.ACTION, 1)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (HeartbeatTaken(60.0, 20.0), 20.0),
        (HeartbeatTaken(60.0, 3600.0), 30.0),  # of an attempt that has been pending for most of a day
        (APPLIED, UNTIMED_SECONDS),
    ],
)
def test_an_answer_is_remembered_while_it_holds_and_half_a_timeout_at_most(
    answer: Accepted, seconds: float
) -> None:
    heartbeats = Heartbeats()
    heartbeats.remember("a saga", BEAT, answer, 100.0)
    assert heartbeats.remembered("a saga", BEAT, 100.0 + seconds - 0.1) == answer
    assert heartbeats.remembered("a saga", BEAT, 100.0 + seconds) is None


def test_that_nobody_waits_is_asked_anew_each_time() -> None:
    heartbeats = Heartbeats()
    heartbeats.remember("a saga", BEAT, HeartbeatTaken(60.0, 20.0), 100.0)
    heartbeats.remember("a saga", BEAT, NotApplied(), 101.0)
    assert heartbeats.remembered("a saga", BEAT, 101.0) is None
