"""The bulkhead: what is admitted, queued and held, and for how long, in time that the tests move."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.participants.calls.breaker import BreakerState, Forced
from saga_coordinator.participants.calls.bulkhead import (
    FORCED_OPEN_SECONDS,
    Bulkhead,
    Permit,
)
from saga_coordinator.participants.calls.concurrency import Concurrency
from saga_coordinator.participants.calls.promises import HELD_SECONDS_MAX
from saga_coordinator.participants.calls.queue import Waiting
from saga_coordinator.participants.directory.limits import BreakerLimits, ParticipantLimits
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Held, Outcome, Refused, Succeeded, Unknown

OFF = BreakerLimits(is_on=False)
SICK = Unknown(Cause("UNAVAILABLE", "gone"))


class Driven:
    """A bulkhead with the clock in the test's hand."""

    def __init__(self, limits: ParticipantLimits) -> None:
        self.now = 100.0
        self.bulkhead = Bulkhead("inventory", limits, random.Random(1).random)

    def ask(self, patience: float = 2.0, *, compensation: bool = False) -> Permit | Waiting | Held:
        return self.bulkhead.ask(self.now, patience, is_compensation=compensation)

    def admitted(self, *, compensation: bool = False) -> Permit:
        answer = self.ask(compensation=compensation)
        assert isinstance(answer, Permit), answer
        return answer

    def queued(self, *, compensation: bool = False) -> Waiting:
        answer = self.ask(compensation=compensation)
        assert isinstance(answer, Waiting), answer
        return answer

    def held(self, patience: float = 2.0) -> Held:
        answer = self.ask(patience)
        assert isinstance(answer, Held), answer
        return answer

    def end(self, permit: Permit, outcome: Outcome | None = Succeeded(), after: float = 0.0) -> None:  # noqa: B008  # immutable
        self.now += after
        self.bulkhead.ended(permit, outcome, self.now)

    def turns(self) -> list[tuple[Waiting, Permit | Held]]:
        return list(self.bulkhead.turns(self.now))

    def later(self, seconds: float) -> None:
        self.now += seconds


def limits(concurrency: int | None = 8, **more: object) -> ParticipantLimits:
    return ParticipantLimits(**{"concurrency": concurrency, "breaker": OFF, **more})  # type: ignore[arg-type]


def test_actions_leave_an_eighth_to_compensations() -> None:
    driven = Driven(limits(8))
    for _ in range(7):
        driven.admitted()
    driven.queued()
    driven.turns()
    assert driven.bulkhead.status(driven.now).in_flight == 7
    waiting = driven.queued(compensation=True)
    assert [turn[0] for turn in driven.turns()] == [waiting]


def test_who_waits_goes_in_order_as_calls_end() -> None:
    driven = Driven(limits(2))
    first = driven.admitted()
    waiting = [driven.queued() for _ in range(3)]
    driven.end(first)
    ((who, permit),) = driven.turns()
    assert who is waiting[0]
    assert isinstance(permit, Permit)
    driven.end(permit)
    assert [turn[0] for turn in driven.turns()] == [waiting[1]]


def test_compensations_go_first_and_actions_are_not_forgotten() -> None:
    driven = Driven(limits(1))
    permit: Permit | Held = driven.admitted()
    actions = {id(driven.queued()) for _ in range(4)}
    for _ in range(12):
        driven.queued(compensation=True)
    order = ""
    while isinstance(permit, Permit) and len(order) < 16:
        driven.end(permit)
        for waiting, permit in driven.turns():  # noqa: B007  # the next round's
            order += "a" if id(waiting) in actions else "c"
    assert order[:8].count("c") == 6
    assert order.count("a") == 4


def test_whoever_would_wait_longer_than_it_can_is_held_behind_those_before() -> None:
    driven = Driven(limits(2))
    for _ in range(20):  # each call takes a second, so two slots are free every half second
        driven.end(driven.admitted(), after=1.0)
    driven.admitted()
    answers = [driven.ask() for _ in range(40)]
    held = [answer for answer in answers if isinstance(answer, Held)]
    assert {type(answer) for answer in answers[:2]} == {Waiting}
    assert len(held) > 30
    assert {answer.cause.code for answer in held} == {CauseCode.PARTICIPANT_BUSY}
    delays = [answer.delay_seconds for answer in held]
    assert delays == sorted(delays)
    assert delays[-1] - delays[0] > len(held) * 0.25


def test_what_hangs_is_noticed_before_any_call_has_ended() -> None:
    driven = Driven(limits(2))
    driven.end(driven.admitted(), after=0.001)
    driven.admitted()
    driven.admitted(compensation=True)
    driven.later(20.0)
    delay = driven.held().delay_seconds
    assert 20.0 <= delay < 25.0
    assert "none has ended for 20 s" in driven.held().cause.message


def test_after_the_crowd_a_call_need_not_wait_behind_promises() -> None:
    driven = Driven(limits(2))
    permit = driven.admitted()
    other = driven.admitted(compensation=True)
    driven.later(20.0)
    for _ in range(1000):
        driven.held()
    driven.end(permit)
    driven.end(other)
    again = driven.admitted()
    driven.admitted(compensation=True)
    assert driven.held(patience=0.0).delay_seconds < 2.0
    driven.end(again)


def test_a_rate_is_kept_and_what_is_too_much_comes_one_after_the_other() -> None:
    driven = Driven(limits(None, rate=10.0, burst=5))
    for _ in range(5):
        driven.admitted()
    answers = [driven.ask(patience=1.0) for _ in range(30)]
    queued = [answer for answer in answers if isinstance(answer, Waiting)]
    held = [answer for answer in answers if isinstance(answer, Held)]
    assert len(queued) == 10
    assert {answer.cause.code for answer in held} == {CauseCode.RATE_LIMITED}
    assert held[-1].delay_seconds == pytest.approx(1.1 + len(held) / 10, abs=0.2)
    assert driven.bulkhead.next_turn_seconds(driven.now) == pytest.approx(0.1)
    driven.later(0.1)
    assert [turn[0] for turn in driven.turns()] == queued[:1]


def test_an_open_breaker_holds_new_calls_and_those_that_wait() -> None:
    driven = Driven(limits(2, breaker=BreakerLimits(calls_min=1, rest_seconds=4.0)))
    permit = driven.admitted()
    waiting = driven.queued()
    driven.end(permit, SICK)
    ((who, answer),) = driven.turns()
    assert who is waiting
    assert isinstance(answer, Held)
    assert answer.cause.code == CauseCode.CIRCUIT_OPEN
    assert "UNAVAILABLE: gone" in answer.cause.message
    assert 3.2 <= answer.delay_seconds <= 5.0
    assert driven.held().delay_seconds > 3.2


def test_while_probes_are_out_others_wait_for_what_they_tell() -> None:
    driven = Driven(limits(8, breaker=BreakerLimits(calls_min=1, rest_seconds=1.0, probes=1)))
    driven.end(driven.admitted(), SICK)
    driven.later(1.3)
    probe = driven.admitted()
    waiting = driven.queued()
    assert driven.turns() == []
    driven.end(probe)
    assert [turn[0] for turn in driven.turns()] == [waiting]
    assert driven.bulkhead.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("outcome", "opens"),
    [
        (Refused(Cause("FAILED_PRECONDITION", "sold out")), False),
        (Unknown(Cause(CauseCode.NO_SUCH_METHOD, "misspelt")), False),
        (Held(Cause("UNAVAILABLE", "no worker"), 1.0), False),
        (None, False),
        (SICK, True),
    ],
)
def test_only_a_failure_of_the_participant_counts(outcome: Outcome | None, opens: bool) -> None:
    driven = Driven(limits(8, breaker=BreakerLimits(calls_min=1)))
    driven.end(driven.admitted(), outcome)
    assert (driven.bulkhead.state is BreakerState.OPEN) is opens


def test_what_an_operator_keeps_open_sleeps_ever_longer_but_comes_back() -> None:
    driven = Driven(limits(8))
    driven.bulkhead.force(Forced.OPEN, driven.now)
    assert FORCED_OPEN_SECONDS <= driven.held().delay_seconds <= 2 * FORCED_OPEN_SECONDS + 0.2
    driven.later(3600.0)
    assert 60.0 < driven.held().delay_seconds <= 120.2
    driven.bulkhead.force(Forced.AUTOMATIC, driven.now)
    driven.admitted()


def test_other_limits_are_used_at_once_and_what_is_in_flight_still_counts() -> None:
    driven = Driven(limits(8))
    permits = [driven.admitted() for _ in range(4)]
    driven.bulkhead.change(limits(4), is_moved=False)
    driven.queued()
    driven.end(permits[0])
    driven.end(permits[1])
    assert len(driven.turns()) == 1


def test_one_that_moved_begins_with_nothing_against_it() -> None:
    driven = Driven(limits(8, breaker=BreakerLimits(calls_min=1)))
    still_out = driven.admitted()
    driven.end(driven.admitted(), SICK)
    driven.bulkhead.change(limits(8, breaker=BreakerLimits(calls_min=1)), is_moved=True)
    driven.admitted()
    driven.end(still_out, SICK)  # by the old address
    assert driven.bulkhead.state is BreakerState.CLOSED


def test_an_adaptive_limit_follows_how_calls_go() -> None:
    adaptive = Concurrency(64, is_adaptive=True)
    for now in range(20):
        adaptive.ended(float(now), 0.1, 64, is_bad=True)
    shrunk = adaptive.limit
    assert shrunk is not None
    assert 2 <= shrunk < 16
    for now in range(20, 4000):
        adaptive.ended(float(now), 0.1, shrunk, is_bad=False)
    assert (adaptive.limit or 0) >= 2 * shrunk - 1  # grows only as far as the room is used
    for now in range(4000, 9000):
        adaptive.ended(float(now), 0.1, 64, is_bad=False)
    assert adaptive.limit == 64


def test_one_bad_moment_shrinks_an_adaptive_limit_once() -> None:
    adaptive = Concurrency(100, is_adaptive=True)
    for _ in range(50):  # all began before the first of them failed
        adaptive.ended(10.0, 5.0, 50, is_bad=True)
    assert adaptive.limit == 90


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "undo", "end", "fail", "cancel", "withdraw", "later"]),
        st.integers(0, 30),
    ),
    max_size=150,
)


@given(acts=ACTS, concurrency=st.integers(1, 9), rate=st.none() | st.floats(0.5, 50.0))
def test_any_history_keeps_the_limit_and_forgets_nobody(
    acts: list[tuple[str, int]], concurrency: int, rate: float | None
) -> None:
    breaker = BreakerLimits(calls_min=3, failure_ratio=0.5, rest_seconds=1.0, probes=2)
    driven = Driven(limits(concurrency, rate=rate, burst=2, breaker=breaker))
    permits: list[Permit] = []
    waiting: list[Waiting] = []

    def take(answer: Permit | Waiting | Held) -> None:
        if isinstance(answer, Permit):
            permits.append(answer)
        elif isinstance(answer, Waiting):
            waiting.append(answer)
        else:
            assert 0 < answer.delay_seconds <= HELD_SECONDS_MAX + 0.1

    for act, number in acts:
        match act:
            case "ask" | "undo":
                take(driven.ask(compensation=act == "undo"))
            case "end" | "fail" | "cancel" if permits:
                ends: dict[str, Outcome | None] = {"end": Succeeded(), "fail": SICK, "cancel": None}
                driven.end(permits.pop(number % len(permits)), ends[act])
            case "withdraw" if waiting:
                driven.bulkhead.withdraw(waiting.pop(number % len(waiting)))
            case "later":
                driven.later(number / 10)
            case _:
                pass  # there is none to whom it could happen
        for who, answer in driven.turns():
            waiting.remove(who)
            take(answer)
        status = driven.bulkhead.status(driven.now)
        assert (status.in_flight, status.queued) == (len(permits), len(waiting))
        assert len(permits) <= concurrency
        actions = sum(not permit.is_compensation for permit in permits)
        assert concurrency == 1 or actions < concurrency
    while waiting or permits:  # all get their turn, or are held
        driven.later(1.0)
        while permits:
            driven.end(permits.pop())
        for who, answer in driven.turns():
            waiting.remove(who)
            take(answer)
    driven.later(HELD_SECONDS_MAX)
    driven.admitted()
