"""The oracle is worth what it catches: each broken core must fail in some story."""

from __future__ import annotations

from random import Random

import pytest

from proof.core.broken_blocks import BROKEN_BLOCKS
from proof.core.broken_cores import BROKEN_CORES, Break
from proof.core.oracle import play
from saga_coordinator.saga.words.errors import ImpossibleTransition

pytestmark = pytest.mark.proof

SEEDS = range(3000)
"""At most so many stories until the fault must have shown; most take ten."""


@pytest.mark.parametrize("broken", [*BROKEN_CORES, *BROKEN_BLOCKS], ids=lambda broken: broken.__name__)
def test_broken_cores_are_caught(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    for seed in SEEDS:
        try:
            play(Random(seed))
        except (AssertionError, ImpossibleTransition):
            return
    pytest.fail(f"{len(SEEDS)} stories with this fault, and the oracle saw nothing")
