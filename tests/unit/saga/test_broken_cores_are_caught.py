"""The oracle is worth what it catches: each broken core must fail in some story."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from proof.core import mutants
from proof.core.acting import play_with_people
from proof.core.oracle import play
from proof.mutant import Mutant
from saga_coordinator.saga.words.errors import ImpossibleTransition

pytestmark = pytest.mark.proof

SEEDS = range(3000)
"""At most so many stories until the fault must have shown; most take ten."""


def is_caught(mutant: Mutant, play: Callable[..., Any] = play, **how: Any) -> bool:
    with mutant.alive():
        for seed in SEEDS:
            try:
                play(Random(seed), about=mutant.focus.kinds, **how)
            except (AssertionError, ImpossibleTransition):
                return True
    return False


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_broken_cores_are_caught(mutant: Mutant) -> None:
    assert is_caught(mutant), f"{len(SEEDS)} stories with this fault, and the oracle saw nothing"


@pytest.mark.parametrize("mutant", mutants.TAKEN_OVER, ids=lambda mutant: mutant.name)
def test_cores_that_are_broken_where_coordinators_are_lost_are_caught(mutant: Mutant) -> None:
    assert is_caught(mutant, flaps=(0.6, 0.9, 1.0)), "coordinators were lost, and the oracle saw nothing"


@pytest.mark.parametrize("mutant", mutants.BY_PEOPLE, ids=lambda mutant: mutant.name)
def test_cores_that_are_broken_where_people_act_are_caught(mutant: Mutant) -> None:
    assert is_caught(mutant, play_with_people), "people acted, and the judge saw nothing"
