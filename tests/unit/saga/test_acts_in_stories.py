"""Random stories in which people act at any time: the promises hold whoever acts, and each act counts once."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, get_args

from proof.core.acting import play_with_people
from saga_coordinator.saga.machine.act_entries import SAGA_ACTS, STEP_ACTS
from saga_coordinator.saga.machine.inputs import PersonAsked
from saga_coordinator.saga.machine.transitions import SAGA_TRANSITIONS, STEP_TRANSITIONS, SagaStatus

SEEDS = range(1200)
RARE = {row for row in STEP_TRANSITIONS if row[0].value == "SKIPPED"}
"""Told in `test_acts.py`."""


def test_the_promises_hold_where_people_act_and_every_verb_meets_every_status() -> None:
    rows: Counter[Any] = Counter()
    met: Counter[Any] = Counter()
    for seed in SEEDS:
        try:
            oracle = play_with_people(Random(seed))
        except AssertionError as error:
            error.add_note(f"in the story with people of seed {seed}")
            raise
        rows += oracle.rows
        met += oracle.pairs
    of_people = {row for row in (*SAGA_TRANSITIONS, *STEP_TRANSITIONS) if row[-1] in (*STEP_ACTS, *SAGA_ACTS)}
    assert of_people - RARE <= set(rows)
    verbs = set(get_args(PersonAsked))
    assert {(status, verb) for status in SagaStatus for verb in verbs} - set(met) <= {
        (status, verb) for status in SagaStatus for verb in verbs if verb.__name__ == "ResumeAsked"
    }
