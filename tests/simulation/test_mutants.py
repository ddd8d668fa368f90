"""The checker is proven on engines that are broken on purpose: each is caught, for a promise that it breaks."""

import pytest

from proof.mutant import Mutant
from proof.simulation import mutants, mutants_rooms, mutants_waiting
from proof.simulation.mutant import hunt

# A search takes as long as the machine is slow; only what hangs takes an hour.
pytestmark = [pytest.mark.proof, pytest.mark.timeout(3600)]

BATCHES_MAX = 30
MUTANTS = [*mutants.MUTANTS, *mutants_rooms.MUTANTS, *mutants_waiting.MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_engine_is_caught(mutant: Mutant) -> None:
    assert hunt(mutant, BATCHES_MAX) is not None, f"{mutant.name} breaks {mutant.breaks} and is not noticed"
