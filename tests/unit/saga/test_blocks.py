"""Blocks, waits and limits, told as short stories: what random ones meet too rarely, and where the limits are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proof.core.definitions import definition, step
from proof.core.story import ACTION, COMPENSATION, MAYBE, NO, PENDING, Story, ok
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.answers import APPLIED, NotApplied
from saga_coordinator.saga.machine.decide import EVENTS_MAX, decide
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import (
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    Entry,
    SagaFailed,
)
from saga_coordinator.saga.machine.inputs import EventArrived, RecallAsked, RoomFound, StartRequested
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.limits import Limits
from saga_coordinator.saga.words.outcome import Cause, Held

ONCE = {"participant": "p", "retry": {"max_attempts": 1}}
TWICE = {"participant": "p", "retry": {"max_attempts": 2, "initial_backoff": "1s"}}
PARENT_FAILED = Cause("PARENT_FAILED", "the saga that started this one failed")


def block(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, kind: fields}


def pay_each(**fields: Any) -> dict[str, Any]:
    return block("pay", "for_each", items="input.people", **fields)


# Undoing the items of a loop.


def test_items_that_cannot_be_undone_leave_their_places_to_the_others() -> None:
    steps = [step("transfer", compensation=ONCE)]
    story = Story(
        definition(pay_each(steps=steps, max_parallel=2), step("book")), payload={"people": ["a", "b", "c"]}
    )
    for index in range(3):
        story.ends(f"pay[{index}].transfer", ok())
    story.ends("book", NO)
    assert story.calls == ["pay[2].transfer compensation 1", "pay[1].transfer compensation 1"]
    story.ends("pay[2].transfer", MAYBE)
    assert story.calls == ["pay[0].transfer compensation 1"]
    story.ends("pay[1].transfer", MAYBE)
    story.ends("pay[0].transfer", ok())
    assert (story.status, story.state.remaining) == (
        SagaStatus.NEEDS_ATTENTION,
        ("pay[1].transfer", "pay[2].transfer"),
    )


def test_item_in_flight_at_the_turn_takes_a_place_until_it_is_over() -> None:
    story = Story(
        definition(pay_each(steps=[step("transfer")], max_parallel=2)), payload={"people": [1, 2, 3]}
    )
    story.ends("pay[0].transfer", ok())
    story.ends("pay[1].transfer", ok())
    assert story.step("pay[2].transfer").is_in_flight
    story.cancelled()
    assert story.calls == ["pay[1].transfer compensation 1"]
    story.ends("pay[2].transfer", NO)
    assert story.calls == ["pay[0].transfer compensation 1"]


def in_turn(**fields: Any) -> dict[str, Any]:
    return pay_each(**fields, max_parallel=1)


def undone(story: Story) -> list[str]:
    """Plays the saga's undo to its end, each compensation succeeding; the keys in the order of the calls."""
    keys: list[str] = []
    while open_calls := [key for key, each in story.state.steps.items() if each.is_in_flight]:
        assert len(open_calls) == 1, f"{open_calls} are undone at once"
        keys += open_calls
        story.ends(open_calls[0], ok())
    return keys


def test_p3_loops_in_loops_and_branches_in_loops_are_undone_last_to_first() -> None:
    inner = block("twice", "for_each", items="input.people", max_parallel=1, steps=[step("note")])
    branch = block("kind", "switch", cases=[{"when": "true", "steps": [step("check")]}])
    story = Story(definition(in_turn(steps=[inner, branch]), step("book")), payload={"people": [1, 2]})
    for index in range(2):
        for other in range(2):
            story.ends(f"pay[{index}].twice[{other}].note", ok())
        story.ends(f"pay[{index}].check", ok())
    story.ends("book", NO)
    assert undone(story) == [
        key
        for index in (1, 0)
        for key in (f"pay[{index}].check", f"pay[{index}].twice[1].note", f"pay[{index}].twice[0].note")
    ]


def test_p3_item_that_cannot_be_undone_holds_up_those_it_was_built_on() -> None:
    steps = [step("transfer", compensation=ONCE)]
    story = Story(definition(in_turn(steps=steps), step("book")), payload={"people": [1, 2, 3]})
    for index in range(3):
        story.ends(f"pay[{index}].transfer", ok())
    story.ends("book", NO)
    story.ends("pay[2].transfer", ok())
    story.ends("pay[1].transfer", MAYBE)
    assert (story.status, story.state.remaining) == (
        SagaStatus.NEEDS_ATTENTION,
        ("pay[0].transfer", "pay[1].transfer"),
    )


def test_undo_that_version_0_1_0_began_with_the_first_item_goes_on_with_the_last() -> None:
    """What is under way ends first: two items of a loop that runs one at a time are not undone at once."""
    story = Story(
        definition(in_turn(steps=[step("transfer")]), step("book")), payload={"people": [1, 2, 3, 4]}
    )
    for index in range(4):
        story.ends(f"pay[{index}].transfer", ok())
    begun: list[Entry] = [
        AttemptStarted("pay[0].transfer", COMPENSATION, 1),
        AttemptSucceeded("pay[0].transfer", COMPENSATION, 1),
        AttemptStarted("pay[1].transfer", COMPENSATION, 1),
    ]
    log: list[Entry] = [*story.log, AttemptRefused("book", ACTION, 1, NO.cause), SagaFailed(NO.cause), *begun]
    story.last = replace(story.last, state=fold("saga", log))
    story.adopted()
    assert story.calls == ["pay[1].transfer compensation 2"]
    assert undone(story) == ["pay[1].transfer", "pay[3].transfer", "pay[2].transfer"]
    assert story.status is SagaStatus.COMPENSATED


def test_loop_over_nothing_is_done_at_once() -> None:
    story = Story(definition(pay_each(steps=[step("transfer")]), step("book")), payload={"people": []})
    assert story.recorded == ["saga_started", "block_opened", "block_closed", "attempt_started"]
    assert story.step("pay").output == []


# Limits.


def test_a_full_log_refuses_no_step_that_was_reached() -> None:
    source = {"name": "order", "steps": [step("reserve"), step("charge")]}
    story = Story(parse_definition(source, Limits(log_entries=1)))
    story.ends("reserve", ok())
    story.ends("charge", ok())
    assert story.status is SagaStatus.COMPLETED


def test_a_full_log_refuses_another_pass_of_a_loop() -> None:
    again = {"name": "again", "repeat": {"max_passes": 9, "until": "false", "steps": [step("ask")]}}
    source = {"name": "order", "steps": [again]}
    story = Story(parse_definition(source, Limits(log_entries=4)))
    story.ends("again[0].ask", ok())
    story.ends("again[1].ask", ok())
    assert story.state.failure is not None
    assert (story.state.failure.code, story.state.failure.step) == ("LIMIT_EXCEEDED", "again")


def test_what_only_waits_leaves_a_log_no_fuller() -> None:
    source = {"name": "order", "steps": [step("reserve"), pay_each(steps=[step("transfer")])]}
    story = Story(parse_definition(source, Limits(log_entries=3)), payload={"people": ["anna"]})
    for number in range(20):
        story.ends("reserve", Held(Cause("UNAVAILABLE", "given back"), 1.0, was_given=True))
        story.happens(RoomFound("reserve", ACTION))
        story.happens(EventArrived(f"e{number}", "paid"))
    story.ends("reserve", ok())
    assert story.state.progress == 4  # two, the loop, and the call that it makes
    story.ends("pay[0].transfer", ok())
    assert story.status is SagaStatus.COMPLETED


def test_events_that_nobody_takes_are_refused_once_there_are_too_many() -> None:
    story = Story(definition(step("reserve")))
    for number in range(EVENTS_MAX):
        assert story.happens(EventArrived(f"e{number}", "paid")).answer == APPLIED
    decision = story.happens(EventArrived("one-more", "paid"))
    assert (decision.entries, type(decision.answer)) == ((), Refusal)
    assert story.happens(EventArrived("e0", "paid")).answer == NotApplied()  # a repetition is answered as one


def test_report_given_up_waits_for_room_before_it_is_tried_again() -> None:
    patient = {**TWICE, "pending_timeout": "5s"}
    story = Story(
        definition(
            step("hotel", action=patient),
            step("flight", after=[]),
            step("car", after=["hotel"]),
            max_parallel=1,
        )
    )
    assert story.calls == ["hotel action 1"]
    story.ends("hotel", PENDING)
    assert story.calls == ["flight action 1"]
    story.timer_fires(at=20)
    assert story.calls == []  # the report is given up, and the flight is still in flight
    assert story.step("hotel").retry_at == 21
    story.now = 30
    story.ends("flight", ok())
    assert story.calls == ["hotel action 2"]


# A step's own deadline.


def test_step_whose_deadline_passed_while_nobody_drove_the_saga_is_not_attempted_again() -> None:
    story = Story(definition(step("reserve"), step("charge", action=TWICE, deadline="5s")))
    story.ends("reserve", ok())
    story.now = 60
    story.adopted()
    assert story.recorded == ["saga_adopted", "attempt_unknown", "step_failed", "saga_failed"]
    assert story.state.failure is not None
    assert story.state.failure.code == "STEP_DEADLINE"
    story.timer_fires()
    assert story.calls == ["charge compensation 1"]  # it may have happened


def test_attempt_that_began_before_the_deadline_has_its_whole_timeout() -> None:
    story = Story(definition(step("reserve"), step("charge", action=TWICE, deadline="5s")))
    story.ends("reserve", ok())
    story.now = 3
    story.ends("charge", MAYBE)
    story.timer_fires()
    assert story.now == 4
    assert [effect.timeout_seconds for effect in story.last.effects if isinstance(effect, Invoke)] == [10]
    story.now = 13
    story.ends("charge", ok())
    assert story.status is SagaStatus.COMPLETED


# Children.


def test_child_that_is_undone_before_it_was_started_starts_nothing() -> None:
    recalled = StartRequested("saga", 1, None, {}, recalled_for=PARENT_FAILED)
    decision = decide(definition(step("pack")), None, recalled, 0.0, 0.5)
    assert decision.state.status is SagaStatus.COMPENSATED
    assert decision.state.failure == PARENT_FAILED
    assert not decision.state.steps


def test_parked_child_stays_where_it_is_when_it_is_undone() -> None:
    story = Story(definition(step("pack", compensation=ONCE), step("ship")))
    story.ends("pack", ok())
    story.ends("ship", NO)
    story.ends("pack", NO)
    assert story.status is SagaStatus.NEEDS_ATTENTION
    decision = story.happens(RecallAsked(PARENT_FAILED))
    assert (decision.entries, decision.answer, story.status) == ((), NotApplied(), SagaStatus.NEEDS_ATTENTION)


def test_step_that_waits_is_given_up_at_the_turn_and_has_nothing_to_undo() -> None:
    story = Story(
        definition(step("reserve"), block("consent", "approval", approvers=["anna"])), deadline_seconds=10
    )
    story.ends("reserve", ok())
    assert story.step("consent").status is StepStatus.WAITING
    story.timer_fires(at=10)
    assert story.calls == ["reserve compensation 1"]
    story.ends("reserve", ok())
    assert (story.status, story.state.remaining) == (SagaStatus.COMPENSATED, ())
    assert story.step("consent").attempts(ACTION) == 1
    assert story.step("consent").attempts(COMPENSATION) == 0
