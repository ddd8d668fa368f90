"""The checker is proven on engines that are broken on purpose: each is caught, for a promise that it breaks."""

import pytest

from simulation.mutants import MUTANTS, Mutant, hunt

BATCHES_MAX = 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_engine_is_caught(mutant: Mutant) -> None:
    assert hunt(mutant, BATCHES_MAX) is not None, f"{mutant.name} breaks {mutant.breaks} and is not noticed"
