"""Sagas that coordinators are lost with, one after the other: each waits longer, and in the end for a person (P1)."""

from __future__ import annotations

from random import Random

from proof.core.definitions import definition, step
from proof.core.oracle import Oracle, play
from proof.core.story import MAYBE, NO, Story, ok
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.identity import OperationKind

COMPENSATION = OperationKind.COMPENSATION
NEEDS_ATTENTION = SagaStatus.NEEDS_ATTENTION
FLAPPING = range(300)


def flap(seed: int) -> Oracle:
    """A random story in which most coordinators that make a call are lost with it. Raises `Breach`."""
    return play(Random(seed), flaps=(0.6, 0.9, 1.0))


def test_only_the_seventh_takeover_in_a_row_parks_a_saga_in_either_direction() -> None:
    parked = {True: 0, False: 0}
    others = 0
    for seed in FLAPPING:
        try:
            oracle = flap(seed)
        except AssertionError as error:
            error.add_note(f"in the story of seed {seed}")
            raise
        if oracle.takeovers.parked:
            parked[oracle.told.turned_by is None] += 1
        else:
            others += 1
    assert min(*parked.values(), others) > len(FLAPPING) / 20, "the stories end in all ways"


def lost(story: Story, times: int) -> None:
    for _ in range(times):
        story.adopted()
        if story.timer is not None:
            story.timer_fires()


def test_a_saga_that_only_waits_may_be_taken_over_as_often_as_it_likes() -> None:
    story = Story(definition(step("a"), {"name": "later", "delay": "86400s"}, step("b")))
    story.ends("a", ok())
    for _ in range(20):
        story.adopted()
    story.timer_fires()
    assert story.calls == ["b action 1"]
    lost(story, 6)
    assert story.status is SagaStatus.RUNNING


def test_what_a_participant_says_begins_the_count_anew() -> None:
    story = Story(definition(step("a", action={"participant": "p", "retry": {"max_attempts": 5}})))
    lost(story, 6)
    story.ends("a", MAYBE)
    story.timer_fires()
    lost(story, 6)
    assert story.status is SagaStatus.RUNNING
    story.adopted()
    assert story.status is NEEDS_ATTENTION
    assert story.state.failure is not None
    assert story.state.failure.code == "NO_PROGRESS"
    assert story.state.remaining == ("a",)


def test_a_saga_that_is_parked_while_it_goes_back_says_why_it_failed_and_what_stops_the_undo() -> None:
    story = Story(definition(step("a"), step("b"), step("c")))
    for name, outcome in (("a", ok()), ("b", ok()), ("c", NO)):
        story.ends(name, outcome)
    lost(story, 7)
    state = fold("saga", story.log)
    assert (state.status, state.remaining) == (NEEDS_ATTENTION, ("a", "b"))
    assert (state.failure and state.failure.step, state.blocked_by and state.blocked_by.code) == (
        "c",
        "NO_PROGRESS",
    )
    story.reported("b", NO, COMPENSATION)
    assert (story.state.blocked_by and story.state.blocked_by.step) == "b"


def test_a_parked_saga_names_the_next_step_when_the_step_that_it_named_is_mended() -> None:
    story = Story(definition(step("a"), step("b", after=[]), step("c", after=["a", "b"])))
    for name, outcome in (("a", ok()), ("b", ok()), ("c", NO)):
        story.ends(name, outcome)
    story.ends("a", NO)
    story.ends("b", NO)
    assert (story.state.blocked_by and story.state.blocked_by.step) == "a"
    story.reported("a", ok(), COMPENSATION)
    assert story.recorded == ["attempt_succeeded", "undo_unparked", "saga_parked"]
    assert (story.state.blocked_by and story.state.blocked_by.step) == "b"
    story.reported("b", ok(), COMPENSATION)
    assert (story.status, story.state.blocked_by) == (SagaStatus.COMPENSATED, None)


def test_attempts_of_a_step_with_a_deadline_wait_no_longer_than_that() -> None:
    story = Story(definition(step("a", deadline="20s")))
    lost(story, 3)
    assert story.now == 10
    story.adopted()
    assert story.timer == 20


def test_a_parked_saga_goes_on_with_what_else_was_in_flight() -> None:
    story = Story(definition(step("first"), step("a", after=["first"]), step("b", after=["first"])))
    story.ends("first", ok())
    lost(story, 7)
    assert (story.status, story.state.remaining) == (NEEDS_ATTENTION, ("first", "a", "b"))
    story.reported("a", ok())
    assert story.status is SagaStatus.RUNNING
    assert story.calls == ["b action 8"]
    assert fold("saga", story.log) == story.state
