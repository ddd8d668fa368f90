"""The checker is proven on engines that are broken on purpose: each is caught, for a promise that it breaks."""

import pytest

from proof.simulation import mutants, mutants_rooms, mutants_waiting
from proof.simulation.mutant import MUTANTS, Mutant, hunt

pytestmark = pytest.mark.proof

BATCHES_MAX = 30
ENLISTED_BY = tuple(module.__name__ for module in (mutants, mutants_rooms, mutants_waiting))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_engine_is_caught(mutant: Mutant) -> None:
    assert hunt(mutant, BATCHES_MAX) is not None, f"{mutant.name} breaks {mutant.breaks} and is not noticed"


def test_every_way_of_breaking_it_is_enlisted() -> None:
    assert {mutant.patches.__module__ for mutant in MUTANTS} == set(ENLISTED_BY)
