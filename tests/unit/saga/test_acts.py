"""What people do to one saga: each verb in the states in which it works, and refused with the way out in the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proof.core.definitions import definition, step
from proof.core.story import MAYBE, NO, PENDING, Story, ok
from saga_coordinator.saga.machine.answers import APPLIED, NotApplied
from saga_coordinator.saga.machine.effects import Decision
from saga_coordinator.saga.machine.entries import SagaStarted
from saga_coordinator.saga.machine.inputs import (
    AbandonAsked,
    Finding,
    PauseAsked,
    PersonAsked,
    ResolveAsked,
    ResumeAsked,
    RetryAsked,
    SkipAsked,
)
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.stored_entry import decode, encode
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.act import SubjectKind, Verb
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.reasons import Reason
from tests.acts import an_act

ONCE = {"participant": "p", "retry": {"max_attempts": 1}}
NOTHING: dict[str, Any] = {}
TWICE = {"participant": "p", "retry": {"max_attempts": 2, "initial_backoff": "1s"}}


def act() -> Any:
    return an_act(Verb.RETRY_STEP, "saga", kind=SubjectKind.SAGA, reason="it is mended")


def order(action: dict[str, Any] = NOTHING, *, is_pivot: bool = False) -> Story:
    """`reserve`, then `pay`, then `ship`; each is undone by a call that is attempted once."""
    return Story(
        definition(
            step("reserve", action=ONCE, compensation=ONCE),
            step(
                "pay", action={**ONCE, **action}, **({"pivot": True} if is_pivot else {"compensation": ONCE})
            ),
            step("ship", action=TWICE, late=is_pivot),
        )
    )


def blocked_on_the_way_back() -> Story:
    """`ship` was refused, and the refund of `pay` was given up: `reserve` stands behind it."""
    story = order()
    story.ends("reserve", ok())
    story.ends("pay", ok())
    story.ends("ship", NO)
    story.ends("pay", MAYBE)
    assert (story.status, story.state.remaining) == (SagaStatus.NEEDS_ATTENTION, ("reserve", "pay"))
    return story


def blocked_on_the_way_forward(*, is_pivot: bool = False) -> Story:
    story = order(NOTHING if is_pivot else {"on_failure": "pause"}, is_pivot=is_pivot)
    story.ends("reserve", ok())
    story.ends("pay", MAYBE)
    assert story.status is SagaStatus.NEEDS_ATTENTION
    return story


def check_log(story: Story) -> None:
    """The log leads to the state, also as it comes back from the store."""
    assert fold("saga", [decode(encode(entry)) for entry in story.log]) == story.state


def refused(decision: Decision, reason: Reason, way_out: str) -> None:
    assert isinstance(decision.answer, Refusal)
    assert (decision.answer.reason, decision.entries) == (reason, ())
    assert way_out in decision.answer.message


# Retry.


@pytest.mark.parametrize("name", ["pay", ""])
def test_a_compensation_that_was_given_up_is_retried_and_the_undo_goes_on(name: str) -> None:
    story = blocked_on_the_way_back()
    story.happens(RetryAsked(name, act()))

    assert story.recorded == ["operation_retried", "undo_unparked", "attempt_started"]
    assert story.calls == ["pay compensation 2"]
    story.ends("pay", ok())
    story.ends("reserve", ok())
    assert story.status is SagaStatus.COMPENSATED
    check_log(story)


def test_an_action_that_holds_up_the_saga_is_retried_and_the_saga_goes_forward() -> None:
    story = blocked_on_the_way_forward()
    story.happens(RetryAsked("", act()))

    assert story.recorded == ["operation_retried", "saga_unparked", "attempt_started"]
    story.ends("pay", ok())
    story.ends("ship", ok())
    assert story.status is SagaStatus.COMPLETED
    check_log(story)


def test_a_retry_between_two_attempts_is_made_now_with_a_fresh_budget() -> None:
    story = order()
    story.ends("reserve", ok())
    story.ends("pay", ok())
    story.ends("ship", MAYBE)
    assert story.timer is not None
    story.happens(RetryAsked("ship", act()))

    assert story.calls == ["ship action 2"]
    story.ends("ship", MAYBE)
    assert story.step("ship").status is StepStatus.RUNNING, "one failure of two, counted anew"


def test_nothing_is_retried_where_an_attempt_is_in_flight_or_nothing_has_failed() -> None:
    story = order()
    refused(story.happens(RetryAsked("reserve", act())), Reason.STILL_IN_FLIGHT, "wait")
    refused(story.happens(RetryAsked("ship", act())), Reason.NOT_GIVEN_UP, "PENDING")
    refused(story.happens(RetryAsked("", act())), Reason.NOT_GIVEN_UP, "nothing to retry")
    refused(story.happens(RetryAsked("nope", act())), Reason.NO_SUCH_STEP, "nope")
    story.ends("reserve", PENDING)
    refused(story.happens(RetryAsked("reserve", act())), Reason.NOT_GIVEN_UP, "resolve")


# Skip.


def test_a_skipped_compensation_lets_the_undo_go_on_and_its_effect_remains() -> None:
    story = blocked_on_the_way_back()
    story.happens(SkipAsked("pay", None, act()))

    assert story.calls == ["reserve compensation 1"]
    story.ends("reserve", ok())
    assert (story.status, story.state.remaining) == (SagaStatus.NEEDS_ATTENTION, ("pay",))
    refused(story.happens(SkipAsked("pay", None, act())), Reason.NOT_GIVEN_UP, "resolve")
    story.happens(RetryAsked("pay", act()))
    story.ends("pay", ok())
    assert story.status is SagaStatus.COMPENSATED
    check_log(story)


def test_a_failed_action_is_skipped_with_an_output_and_is_undone_if_the_saga_turns() -> None:
    story = blocked_on_the_way_forward()
    story.happens(SkipAsked("pay", {"id": 7}, act()))

    assert (story.step("pay").status, story.step("pay").output) == (StepStatus.SKIPPED, {"id": 7})
    assert story.calls == ["ship action 1"]
    story.ends("ship", NO)
    assert story.calls == ["pay compensation 1"], "it may have taken effect"
    check_log(story)


def test_a_step_that_has_not_begun_is_skipped() -> None:
    story = order()
    story.happens(SkipAsked("pay", {"id": 7}, act()))
    assert story.calls == []
    story.ends("reserve", ok())

    assert story.calls == ["ship action 1"], "when its turn has come"
    assert (story.step("pay").status, story.step("pay").output) == (StepStatus.SKIPPED, {"id": 7})
    check_log(story)


def test_the_pivot_is_not_skipped() -> None:
    story = blocked_on_the_way_forward(is_pivot=True)
    refused(story.happens(SkipAsked("pay", None, act())), Reason.WRONG_STATUS, "resolve")


def test_only_instances_that_exist_are_named() -> None:
    inner = {"for_each": {"items": "${input.lines}", "as": "line", "steps": [step("pack")]}}
    story = Story(definition(step("first"), {"name": "each", **inner}), payload={"lines": [1, 2]})

    refused(story.happens(SkipAsked("each[0].pack", None, act())), Reason.NO_SUCH_STEP, "does not exist yet")
    story.ends("first", ok())
    for key in ("pack", "each[2].pack", "each[x].pack"):
        refused(story.happens(RetryAsked(key, act())), Reason.NO_SUCH_STEP, "")


# Resolve.


def test_a_doubtful_action_that_was_done_lets_the_saga_go_on_with_its_output() -> None:
    story = blocked_on_the_way_forward()
    story.happens(ResolveAsked("pay", Finding.DONE, {"id": 7}, act()))

    pay = story.step("pay")
    assert (pay.status, pay.effect, pay.output) == (StepStatus.SUCCEEDED, EffectKnown.CERTAIN, {"id": 7})
    assert story.calls == ["ship action 1"]
    check_log(story)


def test_a_doubtful_pivot_that_was_never_done_turns_the_saga() -> None:
    story = blocked_on_the_way_forward(is_pivot=True)
    story.happens(ResolveAsked("pay", Finding.NOT_DONE, None, act()))

    assert story.step("pay").effect is EffectKnown.NONE
    assert story.calls == ["reserve compensation 1"]
    check_log(story)


def test_a_saga_whose_pivot_was_never_done_may_be_cancelled() -> None:
    story = order({"on_failure": "pause"}, is_pivot=True)
    story.ends("reserve", ok())
    story.ends("pay", MAYBE)
    refused(story.cancelled(), Reason.PIVOT_ATTEMPTED, "resolve")
    story.happens(ResolveAsked("pay", Finding.NOT_DONE, None, act()))
    assert story.status is SagaStatus.NEEDS_ATTENTION, "the definition leaves the failure to a person"
    story.cancelled()

    assert story.calls == ["reserve compensation 1"]
    check_log(story)


@pytest.mark.parametrize("finding", [Finding.UNDONE, Finding.NOT_DONE])
def test_an_effect_that_a_person_found_undone_remains_no_more(finding: Finding) -> None:
    story = order()
    story.ends("reserve", ok())
    story.ends("pay", MAYBE)
    story.ends("pay", MAYBE)
    assert story.state.remaining == ("reserve", "pay")
    story.happens(ResolveAsked("pay", finding, None, act()))

    assert story.step("pay").status is StepStatus.COMPENSATED
    assert story.calls == ["reserve compensation 1"]
    story.ends("reserve", ok())
    assert story.status is SagaStatus.COMPENSATED
    check_log(story)


def test_an_effect_without_a_compensation_is_resolved_and_the_saga_is_compensated() -> None:
    story = Story(definition(step("mail", action=ONCE, irreversible=True), step("ship", action=ONCE)))
    story.ends("mail", ok())
    story.ends("ship", NO)
    assert story.state.remaining == ("mail",)
    story.happens(ResolveAsked("mail", Finding.UNDONE, None, act()))

    assert story.status is SagaStatus.COMPENSATED
    check_log(story)


def test_a_finding_is_refused_where_it_is_known_better() -> None:
    story = order()
    story.ends("reserve", ok())
    refused(story.happens(ResolveAsked("pay", Finding.DONE, None, act())), Reason.STILL_IN_FLIGHT, "wait")
    refused(story.happens(ResolveAsked("ship", Finding.DONE, None, act())), Reason.WRONG_STATUS, "skip")
    refused(
        story.happens(ResolveAsked("reserve", Finding.UNDONE, None, act())), Reason.WRONG_STATUS, "cancel"
    )
    refused(
        story.happens(ResolveAsked("reserve", Finding.NOT_DONE, None, act())), Reason.WRONG_STATUS, "UNDONE"
    )
    refused(
        story.happens(ResolveAsked("reserve", Finding.DONE, None, act())), Reason.WRONG_STATUS, "SUCCEEDED"
    )


def test_what_may_still_be_in_flight_unseen_is_not_called_undone() -> None:
    story = order()
    story.ends("reserve", ok())
    story.adopted()
    story.cancelled()
    assert story.step("pay").settles_at is not None
    refused(story.happens(ResolveAsked("pay", Finding.NOT_DONE, None, act())), Reason.STILL_IN_FLIGHT, "wait")


# Pause, resume, abandon, cancel.


def test_nothing_begins_while_the_saga_is_paused_and_outcomes_count() -> None:
    story = order()
    story.happens(PauseAsked(act()))
    story.ends("reserve", ok())
    assert (story.calls, story.step("reserve").status) == ([], StepStatus.SUCCEEDED)
    assert story.happens(PauseAsked(act())).answer == NotApplied()
    story.adopted()
    assert story.calls == []
    story.happens(ResumeAsked(act()))
    assert story.calls == ["pay action 1"]
    refused(story.happens(ResumeAsked(act())), Reason.NOT_PAUSED, "RUNNING")
    check_log(story)


def test_a_deadline_counts_while_the_saga_is_paused_and_the_undo_waits_for_the_resume() -> None:
    story = Story(
        definition(step("reserve", action=ONCE, compensation=ONCE), step("pay")), deadline_seconds=60
    )
    story.happens(PauseAsked(act()))
    story.ends("reserve", ok())
    story.timer_fires(at=61.0)
    assert (story.status, story.calls) == (SagaStatus.COMPENSATING, [])
    story.happens(ResumeAsked(act()))
    assert story.calls == ["reserve compensation 1"]


def test_a_retry_that_is_due_waits_while_the_saga_is_paused() -> None:
    story = Story(definition(step("ship", action=TWICE)))
    story.ends("ship", MAYBE)
    story.happens(PauseAsked(act()))
    story.timer_fires(at=10.0)
    assert (story.calls, story.timer) == ([], None)
    story.happens(ResumeAsked(act()))
    assert story.calls == ["ship action 2"]


def test_a_saga_that_needs_a_person_is_abandoned_with_the_effects_that_remain() -> None:
    story = blocked_on_the_way_back()
    refused(story.happens(PauseAsked(act())), Reason.WRONG_STATUS, "abandon")
    story.happens(AbandonAsked(act()))

    assert (story.status, story.state.remaining) == (SagaStatus.ABANDONED, ("reserve", "pay"))
    assert story.state.blocked_by is None, "nothing is waited for any more"
    assert story.happens(AbandonAsked(act())).answer == NotApplied()
    refused(story.happens(RetryAsked("", act())), Reason.SAGA_ENDED, "ABANDONED")
    check_log(story)


def test_a_paused_saga_is_abandoned_once_nothing_is_in_flight() -> None:
    story = order()
    refused(story.happens(AbandonAsked(act())), Reason.WRONG_STATUS, "pause")
    story.happens(PauseAsked(act()))
    refused(story.happens(AbandonAsked(act())), Reason.STILL_IN_FLIGHT, "wait")
    story.ends("reserve", ok())
    story.happens(AbandonAsked(act()))

    assert (story.status, story.state.remaining) == (SagaStatus.ABANDONED, ("reserve",))
    assert story.state.failure is not None
    assert story.state.failure.code == "ABANDONED"
    check_log(story)


def test_a_late_success_after_a_saga_was_abandoned_is_kept_and_moves_nothing() -> None:
    story = blocked_on_the_way_forward()
    story.happens(AbandonAsked(act()))
    story.reported("pay", ok(7))

    assert story.recorded == ["outcome_late"]
    assert story.status is SagaStatus.ABANDONED


def test_a_saga_that_waits_for_a_person_on_its_way_forward_is_cancelled_unless_past_its_pivot() -> None:
    story = blocked_on_the_way_forward()
    story.cancelled()
    assert (story.status, story.calls) == (SagaStatus.COMPENSATING, ["pay compensation 1"])
    check_log(story)

    refused(blocked_on_the_way_forward(is_pivot=True).cancelled(), Reason.PIVOT_ATTEMPTED, "resolve")
    refused(blocked_on_the_way_back().cancelled(), Reason.SAGA_ENDED, "retry")


# Every verb.


def _between_attempts() -> Story:
    story = order()
    story.ends("reserve", ok())
    story.ends("pay", ok())
    story.ends("ship", MAYBE)
    return story


@pytest.mark.parametrize(
    ("begin", "asked"),
    [
        (order, PauseAsked(act())),
        (order, SkipAsked("ship", None, act())),
        (_between_attempts, RetryAsked("ship", act())),
        (_between_attempts, ResolveAsked("ship", Finding.DONE, None, act())),
        (blocked_on_the_way_back, AbandonAsked(act())),
    ],
    ids=lambda each: type(each).__name__,
)
def test_an_act_that_is_asked_twice_is_done_once(begin: Callable[[], Story], asked: PersonAsked) -> None:
    story = begin()
    assert story.happens(asked).answer == APPLIED
    before = story.state
    again = story.happens(asked)
    assert (again.answer, again.entries, again.state) == (NotApplied(), (), before)


def test_an_act_says_who_asked_and_why_in_the_log() -> None:
    story = order()
    story.happens(PauseAsked(act()))

    entry = story.log[-1]
    assert not isinstance(entry, SagaStarted)
    stored = encode(entry)
    assert (stored.body["requested_by"], stored.body["reason"]) == ("ana", "it is mended")
    assert story.state.hold == entry
