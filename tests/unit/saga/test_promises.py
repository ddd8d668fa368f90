"""Random stories in a random world: the oracle raises when a promise of docs/concepts.md is broken.

A failing seed is told in full by `python -m tests.unit.saga.test_promises SEED`.
"""

from __future__ import annotations

import sys
from collections import Counter
from random import Random
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proof.core.oracle import Oracle, play
from saga_coordinator.saga.machine.act_entries import SAGA_ACTS, STEP_ACTS
from saga_coordinator.saga.machine.decide import HANDLERS
from saga_coordinator.saga.machine.effects import Decision
from saga_coordinator.saga.machine.entries import StepSkipped
from saga_coordinator.saga.machine.inputs import Input, PersonAsked, StartRequested
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import (
    SAGA_TRANSITIONS,
    STEP_TRANSITIONS,
    SagaStatus,
    StepStatus,
)
from saga_coordinator.saga.words.identity import OperationKind
from tests.unit.saga.test_transitions import RARE_ROWS, UNREACHABLE_ROWS

SEEDS = range(2000)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.randoms(use_true_random=False))
def test_p1_to_p9_hold_in_every_story(random: Random) -> None:
    """What can be made smaller is found here: hypothesis chooses everything that chance decides."""
    play(random)


def test_p1_to_p9_hold_in_many_stories_and_these_use_every_row_of_the_tables() -> None:
    rows: Counter[Any] = Counter()
    pairs: Counter[Any] = Counter()
    ends: Counter[SagaStatus] = Counter()
    for seed in SEEDS:
        try:
            oracle = play(Random(seed))
        except AssertionError as error:
            error.add_note(f"in the story of seed {seed}")
            raise
        assert oracle.world is not None
        assert oracle.world.state is not None
        ends[oracle.world.state.status] += 1
        rows += oracle.rows
        pairs += oracle.pairs
    assert min(ends.values()) > len(SEEDS) / 5, "the stories end in all ways"
    by_people = {row for row in (*SAGA_TRANSITIONS, *STEP_TRANSITIONS) if row[-1] in (*STEP_ACTS, *SAGA_ACTS)}
    of_skipped = {row for row in STEP_TRANSITIONS if row[0] is StepStatus.SKIPPED}
    of_skipped |= {(StepStatus.RUNNING, OperationKind.ACTION, StepSkipped)}  # after a retry, by `when`
    elsewhere = RARE_ROWS | UNREACHABLE_ROWS | by_people | of_skipped  # the last two: test_acts_in_stories.py
    assert set(rows) >= {*SAGA_TRANSITIONS, *STEP_TRANSITIONS} - elsewhere
    assert set(pairs) == {(None, StartRequested)} | {
        pair
        for pair in HANDLERS
        if pair[0] is not SagaStatus.ABANDONED and pair[1] not in get_args(PersonAsked)
    }
    assert not set(rows) & UNREACHABLE_ROWS, "justified as unreachable, and reached"


class _Telling(Oracle):
    def decided(
        self, before: SagaState | None, happened: Input, decision: Decision, *, may_call: bool
    ) -> None:
        assert self.world is not None
        print(f"{self.world.now:.2f} {happened}{'' if may_call else ' (may not call)'}")
        for what in (*decision.entries, *decision.effects):
            print("   ", what)
        super().decided(before, happened, decision, may_call=may_call)


if __name__ == "__main__":
    play(Random(int(sys.argv[1])), _Telling)
