"""What no act of a person may break: one key has one input, a condition is asked before a call, a task has one worker."""

from __future__ import annotations

from typing import Any

import pytest

from proof.core.definitions import definition, step
from proof.core.story import MAYBE, NO, PENDING, Story, ok
from saga_coordinator.saga.machine.answers import APPLIED
from saga_coordinator.saga.machine.inputs import (
    Finding,
    OutcomeReported,
    OwnershipGained,
    PauseAsked,
    ResolveAsked,
    RetryAsked,
    SkipAsked,
)
from saga_coordinator.saga.machine.preview import preview_compensation
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.stored_entry import decode, encode
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.act import SubjectKind, Verb
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.reasons import Reason
from tests.acts import an_act

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
ONCE = {"participant": "p", "retry": {"max_attempts": 1}}
PATIENT = {"participant": "p", "retry": {"max_attempts": 9, "initial_backoff": "1s"}}
SEEN = {"output": "${steps.check.output}", "failure": "${steps.check.failure}"}


def act() -> Any:
    return an_act(Verb.RETRY_STEP, "saga", kind=SubjectKind.SAGA, reason="seen in the books")


def check_log(story: Story) -> None:
    assert fold("saga", [decode(encode(entry)) for entry in story.log]) == story.state


def passed(**check: Any) -> Story:
    """`check` is in doubt, and the saga has gone on without it: `ship`, which is told of it, is between two attempts."""
    story = Story(
        definition(
            step("check", action={**ONCE, "on_failure": "continue", **check}, compensation=ONCE),
            step("ship", action={**PATIENT, "input": SEEN}),
        )
    )
    story.ends("check", PENDING if check else MAYBE)
    if check:
        story.timer_fires()
    story.ends("ship", MAYBE)
    return story


@pytest.mark.parametrize("finding", [Finding.DONE, Finding.NOT_DONE])
def test_what_a_person_finds_out_about_a_step_that_was_passed_changes_no_input(finding: Finding) -> None:
    story = passed()
    story.happens(ResolveAsked("check", finding, {"id": 7} if finding is Finding.DONE else None, act()))
    assert story.recorded == ["found_done" if finding is Finding.DONE else "found_not_done"]
    story.timer_fires()

    unknown = {"code": "UNAVAILABLE", "message": "connection reset"}
    assert (story.calls, story.inputs) == (["ship action 2"], [{"output": None, "failure": unknown}])
    story.ends("ship", NO)
    story.ends("ship", ok())
    if finding is Finding.DONE:
        assert story.step("check").effect is EffectKnown.CERTAIN
        assert (story.calls, story.inputs) == (["check compensation 1"], [{"id": 7}])
    else:
        assert story.status is SagaStatus.COMPENSATED
    check_log(story)


def test_a_refusal_that_is_reported_late_changes_no_input() -> None:
    story = passed(pending_timeout="1s")
    story.happens(OutcomeReported("check", ACTION, NO))
    assert story.step("check").effect is EffectKnown.NONE
    story.timer_fires()
    assert story.inputs[0]["failure"]["code"] == "PENDING_TIMEOUT"
    check_log(story)


def test_what_a_person_finds_out_on_the_way_back_changes_no_input() -> None:
    undo = {**PATIENT, "input": SEEN}
    story = Story(
        definition(
            step("check", action={**ONCE, "on_failure": "continue"}, compensation=ONCE),
            step("pay", compensation=undo),
            step("ship"),
        )
    )
    story.ends("check", MAYBE)
    story.ends("pay", ok())
    story.ends("ship", NO)
    first = story.inputs
    story.ends("pay", MAYBE)
    story.happens(ResolveAsked("check", Finding.DONE, {"id": 7}, act()))
    story.timer_fires()
    assert (story.calls, story.inputs) == (["pay compensation 2"], first)
    check_log(story)


def test_an_output_that_comes_after_the_step_was_skipped_changes_no_input() -> None:
    story = Story(
        definition(
            step("check", action={**ONCE, "on_failure": "pause"}, compensation=ONCE),
            step("ship", action={**PATIENT, "input": SEEN}),
        )
    )
    story.ends("check", MAYBE)
    story.happens(SkipAsked("check", {"id": 1}, act()))
    first = story.inputs
    story.ends("ship", MAYBE)
    story.happens(OutcomeReported("check", ACTION, ok({"id": 2})))
    story.timer_fires()
    assert (story.calls, story.inputs) == (["ship action 2"], first)
    check_log(story)


def test_a_step_whose_condition_could_not_be_computed_is_not_called_by_a_retry() -> None:
    story = Story(
        definition(
            step("check"),
            step("pay", when="${steps.check.output.go}", action={**ONCE, "on_failure": "pause"}),
        )
    )
    story.ends("check", ok({}))
    assert story.status is SagaStatus.NEEDS_ATTENTION
    story.happens(RetryAsked("pay", act()))
    assert story.calls == []
    ended = story.happens(SkipAsked("pay", None, act()))
    assert ended.state.status is SagaStatus.COMPLETED
    check_log(story)


def test_a_task_that_a_lost_coordinator_gave_out_is_not_given_out_again_by_a_retry() -> None:
    story = Story(definition(step("pay", action={**PATIENT, "timeout": "10s"}), step("ship")))
    story.happens(OwnershipGained("coordinator-1", frozenset({"p"})))
    story.now = 1.0
    story.happens(RetryAsked("pay", act()))
    assert (story.calls, story.timer) == ([], 10.0)
    story.timer_fires()
    assert story.calls == ["pay action 2"]
    check_log(story)


def test_the_undo_of_a_task_that_a_lost_coordinator_gave_out_is_not_given_out_again_by_a_retry() -> None:
    story = Story(definition(step("pay", compensation={**PATIENT, "timeout": "10s"}), step("ship")))
    story.ends("pay", ok())
    story.ends("ship", NO)
    story.happens(OwnershipGained("coordinator-1", frozenset({"p"})))
    story.happens(RetryAsked("pay", act()))
    assert (story.calls, story.timer) == ([], 10.0)


def test_an_effect_is_not_found_undone_while_a_reported_attempt_may_still_arrive() -> None:
    story = Story(definition(step("pay", action={**PATIENT, "timeout": "10s"}), step("ship")))
    story.happens(OutcomeReported("pay", ACTION, ok({"id": 7})))
    story.cancelled()
    story.ends("ship", NO)
    answer = story.happens(ResolveAsked("pay", Finding.UNDONE, None, act())).answer
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.STILL_IN_FLIGHT
    story.now = 10.0
    assert story.happens(ResolveAsked("pay", Finding.UNDONE, None, act())).answer == APPLIED
    assert story.status is SagaStatus.COMPENSATED
    check_log(story)


def test_an_effect_that_a_person_let_stand_is_not_undone_by_a_retry_of_the_others() -> None:
    story = Story(
        definition(step("reserve", compensation=ONCE), step("pay", compensation=ONCE), step("ship"))
    )
    story.ends("reserve", ok())
    story.ends("pay", ok())
    story.ends("ship", NO)
    story.ends("pay", MAYBE)
    story.happens(SkipAsked("pay", None, act()))
    story.ends("reserve", MAYBE)
    story.happens(RetryAsked("", act()))
    assert story.calls == ["reserve compensation 2"]
    story.ends("reserve", ok())
    story.happens(RetryAsked("pay", act()))
    assert story.calls == ["pay compensation 2"], "a person who names it may still have it undone"


def test_the_preview_of_a_paused_saga_shows_what_would_be_undone() -> None:
    story = Story(definition(step("reserve"), step("pay")))
    story.ends("reserve", ok())
    story.happens(PauseAsked(act()))
    preview = preview_compensation(story.definition, story.state, story.now)
    stages = [[call.step for call in stage] for stage in preview.stages]
    assert (stages, preview.status) == ([["pay"], ["reserve"]], SagaStatus.COMPENSATED)
