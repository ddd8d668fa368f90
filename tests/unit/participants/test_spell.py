"""A participant that goes bad is told once, and so is that it is well again; one that comes and goes does not fill the log."""

from __future__ import annotations

from itertools import pairwise

from saga_coordinator.participants.calls.spell import ATTEMPTS_MIN, QUIET_SECONDS, Failing, Recovered, Spell


def test_three_failures_in_a_row_are_told_once() -> None:
    spell = Spell()
    told = [spell.failed(now) for now in (1.0, 2.0, 3.5, 4.0, 900.0)]
    assert told == [None, None, Failing(3, 2.5), None, None]
    assert spell.answered(1001.0) == Recovered(5, 1000.0)
    assert spell.answered(1002.0) is None


def test_an_answer_in_between_makes_it_no_spell() -> None:
    spell = Spell()
    told = {
        spell.failed(float(now)) if now % ATTEMPTS_MIN else spell.answered(float(now)) for now in range(100)
    }
    assert told == {None}


def test_one_that_comes_and_goes_is_told_once_a_minute() -> None:
    spell = Spell()
    told: list[tuple[float, Failing | Recovered]] = []
    for second in range(600):
        for part in range(ATTEMPTS_MIN + 1):
            now = second + part / 8
            said = spell.failed(now) if part < ATTEMPTS_MIN else spell.answered(now)
            told += [(now, said)] if said else []
    begun = [now for now, said in told if isinstance(said, Failing)]
    assert 8 <= len(begun) <= 10
    assert all(later - earlier >= QUIET_SECONDS for earlier, later in pairwise(begun))
    assert [type(said) for _, said in told] == [Failing, Recovered] * len(begun)


def test_a_spell_that_goes_on_when_the_minute_is_over_is_told() -> None:
    spell = Spell()
    for now in (0.0, 0.1, 0.2):
        spell.failed(now)
    assert spell.answered(0.3) is not None
    assert [spell.failed(now) for now in (1.0, 2.0, 3.0, 100.0)] == [None, None, None, Failing(4, 99.0)]
