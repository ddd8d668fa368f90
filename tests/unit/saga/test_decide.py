"""Single decisions, told as short stories: the rules of docs/concepts.md where they meet each other."""

from __future__ import annotations

import pytest

from proof.core.definitions import definition, step
from proof.core.story import ACTION, COMPENSATION, MAYBE, NO, NOT_FOUND, PENDING, Story, ok
from saga_coordinator.saga.machine.answers import APPLIED, NotApplied
from saga_coordinator.saga.machine.inputs import OutcomeReported
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.stored_entry import decode, encode
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.outcome import Cause, Outcome, Unknown

ONCE = {"participant": "p", "retry": {"max_attempts": 1}}
TWICE = {"participant": "p", "retry": {"max_attempts": 2, "initial_backoff": "1s"}}
TWO_STEPS = definition(step("reserve"), step("charge"))
SIDE_BY_SIDE = definition(
    step("reserve"), step("hotel", after=["reserve"]), step("flight", after=["reserve"])
)


# Timers.


@pytest.mark.parametrize(("asked_seconds", "due_at"), [(30.0, 30), (0.1, 1)])
def test_participant_that_asks_for_a_rest_gets_it_and_never_less_than_its_own_backoff(
    asked_seconds: float, due_at: float
) -> None:
    story = Story(definition(step("reserve", action=TWICE), step("charge")))
    story.ends("reserve", Unknown(Cause("RESOURCE_EXHAUSTED", "busy"), retry_after_seconds=asked_seconds))
    assert story.timer == due_at


NOT_SENT = Unknown(Cause("NO_DESCRIPTORS", "nobody says what it takes"), was_sent=False)


def test_what_was_never_sent_spends_an_attempt_and_needs_no_undoing() -> None:
    story = Story(definition(step("reserve"), step("charge", action=TWICE)))
    story.ends("reserve", ok())
    story.ends("charge", NOT_SENT)
    assert (story.step("charge").effect, story.timer) == (EffectKnown.NONE, 1)
    story.timer_fires()
    story.ends("charge", NOT_SENT)
    assert story.step("charge").effect is EffectKnown.NONE
    assert story.calls == ["reserve compensation 1"]
    assert fold("saga", map(decode, map(encode, story.log))) == story.state


def test_what_was_sent_once_may_have_happened_whatever_was_not_sent_after_it() -> None:
    story = Story(definition(step("charge", action=TWICE)))
    story.ends("charge", MAYBE)
    story.timer_fires()
    story.ends("charge", NOT_SENT)
    assert story.calls == ["charge compensation 1"]


def test_a_pivot_that_was_never_sent_leaves_no_doubt() -> None:
    story = Story(definition(step("reserve"), step("charge", pivot=True, action=ONCE)))
    story.ends("reserve", ok())
    story.ends("charge", NOT_SENT)
    assert story.calls == ["reserve compensation 1"]


def test_report_that_meets_its_timeout_wins() -> None:
    story = Story(TWO_STEPS)
    story.ends("reserve", PENDING)
    story.now = 86401
    assert story.reported("reserve", ok()).answer == APPLIED
    assert story.calls == ["charge action 1"]


def test_adoption_of_a_forward_saga_does_not_wake_it_for_what_only_compensations_wait_for() -> None:
    story = Story(TWO_STEPS)
    story.adopted()
    assert story.calls == ["reserve action 2"]
    assert story.timer is None


def test_deadline_does_not_undo_what_was_complete() -> None:
    story = Story(definition(step("only")), deadline_seconds=10)
    story.now = 11  # the answer and the deadline's timer are under way together
    story.ends("only", ok())
    assert story.status is SagaStatus.COMPLETED


def test_step_is_undone_only_when_a_lost_attempt_of_a_later_one_is_over_even_if_that_needs_no_undoing() -> (
    None
):
    story = Story(definition(step("reserve"), step("check", read_only=True)))
    story.ends("reserve", ok())
    story.cancelled()
    story.adopted()
    assert (story.status, story.calls, story.timer) == (SagaStatus.COMPENSATING, [], 10)
    story.timer_fires()
    assert story.calls == ["reserve compensation 1"]


def test_lost_attempt_of_a_compensation_holds_nothing_once_the_compensation_has_succeeded() -> None:
    story = Story(definition(step("reserve"), step("charge"), step("ship")))
    story.ends("reserve", ok())
    story.ends("charge", ok())
    story.ends("ship", NO)
    story.adopted()
    assert story.calls == ["charge compensation 2"]
    story.ends("charge", ok())
    assert story.calls == ["reserve compensation 1"]


# Reports that are faster than the call.


def test_success_of_an_earlier_attempt_decides_the_step_while_it_is_open() -> None:
    """All attempts carry one key: what one of them did, all of them did."""
    story = Story(definition(step("reserve", action=TWICE), step("charge")))
    story.ends("reserve", MAYBE)
    story.timer_fires()
    assert story.calls == ["reserve action 2"]
    story.ends("reserve", ok(), attempt=1)
    assert story.calls == ["charge action 1"]
    story.ends("charge", NO)
    assert story.calls == []  # the second attempt may still be in flight


# Effects.


def test_pivot_refused_after_pending_goes_back() -> None:
    story = Story(definition(step("reserve"), step("approve", pivot=True)))
    story.ends("reserve", ok())
    story.ends("approve", PENDING)
    story.reported("approve", NO)
    assert story.calls == ["reserve compensation 1"]


def test_compensation_is_called_with_null_where_the_output_was_never_known() -> None:
    undo = {"participant": "p", "input": {"reservation": "${output.id}", "why": "${failure.code}"}}
    story = Story(definition(step("reserve", action=ONCE, compensation=undo)))
    story.ends("reserve", MAYBE)
    assert story.inputs == [{"reservation": None, "why": "UNAVAILABLE"}]


# Late and repeated outcomes.


@pytest.mark.parametrize("outcome", [ok(), NOT_FOUND])
def test_compensation_that_succeeds_after_it_was_given_up_does_not_remain(outcome: Outcome) -> None:
    both = step("hotel", after=["reserve"], compensation=ONCE), step("flight", after=["reserve"])
    story = Story(definition(step("reserve"), *both))
    story.ends("reserve", ok())
    story.ends("hotel", MAYBE)
    story.ends("flight", MAYBE)
    story.cancelled()
    assert story.calls == ["hotel compensation 1", "flight compensation 1"]
    story.ends("hotel", MAYBE)
    assert story.step("hotel").status is StepStatus.FAILED
    assert story.reported("hotel", outcome, COMPENSATION).answer == APPLIED
    assert isinstance(story.reported("hotel", outcome, COMPENSATION).answer, NotApplied)
    story.now = 1
    story.ends("flight", ok())
    assert story.calls == ["reserve compensation 1"]
    story.ends("reserve", ok())
    assert story.status is SagaStatus.COMPENSATED


def test_reports_to_a_parked_saga_promise_no_retry_and_shorten_the_list_of_what_remains() -> None:
    story = Story(
        definition(
            step("pay", pivot=True),
            step("ship", after=["pay"], late=True),
            step("mail", after=["pay"], late=True),
        )
    )
    story.ends("pay", ok())
    story.ends("ship", PENDING)
    story.ends("mail", NO)
    assert (story.status, story.state.remaining) == (SagaStatus.NEEDS_ATTENTION, ("pay", "ship"))
    story.reported("ship", MAYBE)
    assert story.recorded == ["attempt_unresolved"]
    story.reported("ship", NO)
    assert (story.status, story.state.remaining) == (SagaStatus.NEEDS_ATTENTION, ("pay",))


def test_late_action_outcome_names_the_attempts_of_the_action() -> None:
    story = Story(definition(step("reserve", action=TWICE, compensation=TWICE)))
    for _ in range(2):
        story.ends("reserve", MAYBE)
        if story.timer:
            story.timer_fires()
    assert story.calls == ["reserve compensation 1"]
    story.reported("reserve", ok())
    assert [entry for entry in story.last.entries if entry.attempt == 2]  # type: ignore[union-attr]


def test_operation_whose_input_could_not_be_computed_was_not_attempted() -> None:
    story = Story(
        definition(step("reserve", action={"participant": "p", "input": "${input.gone}"})), payload={}
    )
    assert story.status is SagaStatus.COMPENSATED
    assert isinstance(story.reported("reserve", ok()).answer, Refusal)
    assert story.step("reserve").effect is EffectKnown.NONE


@pytest.mark.parametrize("name", ["nowhere", "charge"])
def test_report_about_what_was_never_attempted_is_refused(name: str) -> None:
    story = Story(TWO_STEPS)
    for kind in (ACTION, COMPENSATION):
        decision = story.happens(OutcomeReported(name, kind, ok()))
        assert isinstance(decision.answer, Refusal)
        assert decision.entries == ()


# Pausing.


def test_nothing_is_called_while_the_coordinator_cannot_and_everything_once_it_can() -> None:
    story = Story(TWO_STEPS)
    story.ends("reserve", ok(), may_call=False)
    assert (story.recorded, story.calls) == (["attempt_succeeded"], [])
    story.adopted(None)
    assert story.calls == ["charge action 1"]
    story.ends("charge", NO, may_call=False)
    assert (story.status, story.calls) == (SagaStatus.COMPENSATING, [])
    story.adopted(None)
    assert story.calls == ["reserve compensation 1"]
