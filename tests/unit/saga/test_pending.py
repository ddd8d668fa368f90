"""Operations that were answered with PENDING: reports in any order, heartbeats, and questions to a status method."""

from __future__ import annotations

from typing import Any

import pytest

from proof.core.definitions import definition, step
from proof.core.story import ACTION, COMPENSATION, MAYBE, NO, PENDING, Story, ok
from saga_coordinator.saga.definition.model import Definition, Operation
from saga_coordinator.saga.machine.answers import APPLIED, HeartbeatTaken, NotApplied, WhyNot
from saga_coordinator.saga.machine.effects import Decision, Invoke, SetTimer
from saga_coordinator.saga.machine.entries import AttemptPending
from saga_coordinator.saga.machine.inputs import HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.stored_entry import decode, encode
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    Cause,
    Outcome,
    Refused,
    Succeeded,
    Unknown,
    is_decisive_status,
)
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.saga.words.token import AttemptNamed, parse_token, token_of
from tests.unit.saga.definition_faults import faults

RETRY = {"max_attempts": 2, "initial_backoff": "1s"}


def later(**action: Any) -> Definition:
    return definition(step("pay", action={"participant": "p", "retry": RETRY, **action}), step("ship"))


def pending(source: Definition) -> Story:
    story = Story(source)
    story.ends("pay", PENDING)
    return story


def report(story: Story, outcome: Outcome, attempt: int = 0, kind: OperationKind = ACTION) -> Decision:
    return story.happens(OutcomeReported("pay", kind, outcome, attempt))


def beat(story: Story, attempt: int = 0, details: str = "", kind: OperationKind = ACTION) -> Decision:
    return story.happens(HeartbeatReceived("pay", kind, attempt, details))


# Reports.


def test_an_early_success_decides_and_the_answer_that_follows_says_nothing_new() -> None:
    story = Story(later())
    assert report(story, ok(7), attempt=1).answer == APPLIED
    assert story.calls == ["ship action 1"]
    for outcome in (ok(), PENDING, MAYBE):
        assert isinstance(story.ends("pay", outcome, attempt=1).answer, NotApplied)
        assert story.recorded == []
    assert story.step("pay").output == 7


def test_an_early_unknown_leaves_the_word_to_the_call() -> None:
    story = Story(later())
    for outcome, why in ((MAYBE, WhyNot.EARLY), (PENDING, WhyNot.REPEATED)):
        answer = report(story, outcome, attempt=1)
        assert (answer.answer, answer.entries) == (NotApplied(why), ())
    story.ends("pay", PENDING)
    assert report(story, MAYBE, attempt=1).answer == APPLIED
    assert story.step("pay").status is StepStatus.RUNNING
    assert story.timer == 1


def test_a_report_between_two_attempts_decides() -> None:
    story = pending(later())
    report(story, MAYBE, attempt=1)
    answer = report(story, MAYBE, attempt=1)
    assert answer.answer == NotApplied(WhyNot.LATE)
    assert report(story, ok(), attempt=1).answer == APPLIED
    assert story.calls == ["ship action 1"]


@pytest.mark.parametrize("first", [7, None, {"parcel": 9}])
def test_a_second_success_with_another_output_is_a_contradiction_and_not_recorded(first: object) -> None:
    story = pending(later())
    assert report(story, ok(first)).answer == APPLIED
    again = report(story, ok(8))
    assert (again.answer, again.entries) == (NotApplied(WhyNot.CONTRADICTS), ())
    assert story.step("pay").output == first
    again = report(story, ok(first))
    assert (again.answer, again.entries) == (NotApplied(WhyNot.REPEATED), ())


def test_an_output_that_was_told_first_when_the_compensation_had_begun_contradicts_nothing() -> None:
    story = pending(later())
    story.cancelled()
    report(story, ok(7), attempt=1)
    assert report(story, ok(7), attempt=1).answer == NotApplied(WhyNot.REPEATED)


def test_a_success_that_is_told_to_a_saga_that_has_ended_is_late() -> None:
    """The undo has been: nothing goes forward any more."""
    story = Story(
        definition(step("pay", action={"participant": "p", "retry": {"max_attempts": 1}}), step("ship"))
    )
    story.ends("pay", MAYBE)
    story.ends("pay", ok())
    assert story.status is SagaStatus.COMPENSATED
    for _ in range(2):
        assert isinstance(report(story, ok(7)).answer, NotApplied)
    assert story.step("pay").status is StepStatus.COMPENSATED
    refused = Story(definition(step("pay"), step("ship")))
    refused.ends("pay", NO)
    assert refused.status is SagaStatus.COMPENSATED
    for _ in range(2):
        assert isinstance(report(refused, ok(7)).answer, NotApplied)
    assert [type(entry).__name__ for entry in refused.log].count("AttemptSucceeded") == 0


def test_an_unknown_of_an_earlier_attempt_does_not_touch_the_present_one() -> None:
    story = pending(later())
    report(story, MAYBE)
    story.timer_fires()
    story.ends("pay", PENDING)
    answer = report(story, MAYBE, attempt=1)
    assert answer.answer == NotApplied(WhyNot.OTHER_ATTEMPT)
    assert story.step("pay").status is StepStatus.WAITING


def test_a_success_after_the_turn_makes_the_effect_certain_and_does_not_stop_its_compensation() -> None:
    story = pending(later())
    story.cancelled()
    assert story.calls == ["pay compensation 1"]
    answer = report(story, ok(7), attempt=1)
    assert answer.answer == NotApplied(WhyNot.LATE)
    assert story.step("pay").effect is EffectKnown.CERTAIN
    story.ends("pay", ok())
    assert story.status is SagaStatus.COMPENSATED
    assert report(story, MAYBE, attempt=1).answer == NotApplied(WhyNot.LATE)
    assert report(story, ok(7), attempt=1).answer == NotApplied(WhyNot.REPEATED)


def test_a_compensation_may_be_pending_too() -> None:
    story = pending(later())
    story.cancelled()
    story.ends("pay", PENDING)
    assert report(story, MAYBE).answer == NotApplied(WhyNot.LATE)  # of the action
    assert report(story, ok(), kind=COMPENSATION).answer == APPLIED
    assert story.status is SagaStatus.COMPENSATED


# Heartbeats.


def test_silence_makes_a_pending_attempt_unknown_and_it_is_retried() -> None:
    story = pending(later(heartbeat_timeout="60s"))
    assert story.timer == 60
    story.timer_fires()
    cause = story.step("pay").cause
    assert cause is not None
    assert cause.code == "HEARTBEAT_TIMEOUT"
    assert story.step("pay").effect is EffectKnown.POSSIBLE
    story.timer_fires()
    assert story.calls == ["pay action 2"]


def test_heartbeats_are_recorded_twice_within_the_timeout_at_most() -> None:
    story = pending(later(heartbeat_timeout="60s"))
    recorded = 0
    for second in range(0, 600, 5):
        story.now = second
        answer = beat(story)
        assert isinstance(answer.answer, HeartbeatTaken)
        recorded += len(answer.entries)
    assert story.step("pay").status is StepStatus.WAITING
    assert 600 / 40 < recorded <= 600 / 30
    assert story.step("pay").polls == 0


@pytest.mark.parametrize("pause", [1, 7, 29, 31, 45, 59.9])
def test_who_is_never_silent_for_the_timeout_is_never_given_up(pause: float) -> None:
    story = pending(later(heartbeat_timeout="60s"))
    while story.now < 1000:
        story.now += pause
        beat(story)
        assert story.step("pay").status is StepStatus.WAITING


def test_silence_is_noticed_half_as_long_again_later_at_most() -> None:
    story = pending(later(heartbeat_timeout="60s"))
    story.now = 10
    assert beat(story).answer == HeartbeatTaken(60, 30)
    story.now = 25
    answer = beat(story)
    assert answer.answer == HeartbeatTaken(60, 15)
    assert answer.entries == ()
    assert story.timer == 100
    story.timer_fires()
    assert story.step("pay").status is StepStatus.RUNNING


def test_a_day_of_heartbeats_is_a_few_entries() -> None:
    story = pending(later(heartbeat_timeout="1s"))
    before = len(story.log)
    while story.now < 86_400:
        answer = beat(story).answer
        assert isinstance(answer, HeartbeatTaken)
        story.now += max(0.3, answer.fresh_seconds)
    assert len(story.log) - before < 220


@pytest.mark.parametrize(("pending_seconds", "noticed_seconds"), [(4, 1.5), (160, 11), (16_000, 1001)])
def test_silence_is_noticed_a_sixteenth_of_the_attempt_later_at_most(
    pending_seconds: float, noticed_seconds: float
) -> None:
    story = pending(later(heartbeat_timeout="1s"))
    while story.now < pending_seconds:
        beat(story)
        story.now += 0.25
    beat(story)
    heard_at = story.now
    story.timer_fires()
    assert story.step("pay").cause == Cause("HEARTBEAT_TIMEOUT", "no heartbeat came for 1 s, and no outcome")
    assert 1 <= story.now - heard_at <= noticed_seconds


def test_a_heartbeat_that_nobody_waits_for_is_told_so() -> None:
    story = Story(later(heartbeat_timeout="60s"))
    early = beat(story)  # faster than the answer
    assert (early.answer, early.entries) == (HeartbeatTaken(60, 0), ())
    story.ends("pay", PENDING)
    assert isinstance(beat(story, attempt=2).answer, NotApplied)
    assert isinstance(beat(story, kind=COMPENSATION).answer, Refusal)
    report(story, ok())
    assert isinstance(beat(story).answer, NotApplied)
    refusal = story.happens(HeartbeatReceived("none", ACTION)).answer
    assert refusal == Refusal(Reason.NO_SUCH_STEP, "the saga has no step `none`")
    asked_for_none = beat(pending(later()))
    assert (asked_for_none.answer, asked_for_none.entries) == (APPLIED, ())


def test_heartbeats_leave_the_pending_timeout_alone() -> None:
    story = pending(later(heartbeat_timeout="60s", pending_timeout="90s"))
    story.now = 59
    beat(story, details="half of it")
    entry = story.log[-1]
    assert isinstance(entry, AttemptPending)
    assert (entry.details, decode(encode(entry))) == ("half of it", entry)
    assert story.timer == 90
    story.timer_fires()
    cause = story.step("pay").cause
    assert cause is not None
    assert cause.code == "PENDING_TIMEOUT"


# Status methods.

ASKED = later(status={"method": "how_is_it", "interval": "20s", "input": {"of": "${input}"}})


def test_a_status_method_is_asked_with_the_same_key_at_its_interval() -> None:
    story = Story(ASKED, payload=5)
    story.ends("pay", PENDING)
    key = next(entry for entry in story.log if isinstance(entry, AttemptPending))
    assert key.poll_at == 20
    for count in range(1, 12):
        story.timer_fires()
        (call,) = (effect for effect in story.last.effects if isinstance(effect, Invoke))
        assert (call.method, call.is_poll, call.input, call.idempotency_key) == (
            "how_is_it",
            True,
            {"of": 5},
            "saga/pay/action",
        )
        assert story.now == (20 * count if count < 11 else 240)
    assert story.step("pay").attempt == 1


def test_polls_and_heartbeats_do_not_disturb_each_other() -> None:
    story = pending(later(heartbeat_timeout="60s", status={"method": "how_is_it", "interval": "20s"}))
    story.timer_fires()
    beat(story)
    state = story.step("pay")
    assert (state.polls, state.poll_at, state.heartbeat_until) == (1, 40, 110)
    story.timer_fires()
    state = story.step("pay")
    assert (state.polls, state.poll_at, state.heartbeat_until) == (2, 60, 110)


def test_nobody_is_asked_about_what_the_same_moment_undoes() -> None:
    story = Story(ASKED, deadline_seconds=20)
    story.ends("pay", PENDING)
    story.timer_fires()
    assert story.now == story.state.deadline_at == 20
    assert story.calls == ["pay compensation 1"]
    assert "attempt_pending" not in story.recorded


@pytest.mark.parametrize(
    ("answer", "is_decisive"),
    [
        (Succeeded(), True),
        (Refused(Cause("FAILED_PRECONDITION", "")), True),
        (Refused(Cause("OK", "by trailer")), True),
        (Refused(Cause("NOT_FOUND", "")), False),
        (Refused(Cause("INVALID_ARGUMENT", "")), False),
        (Refused(Cause("INPUT_INVALID", "")), False),
        (Refused(Cause("NO_SUCH_METHOD", "")), False),
        (Unknown(Cause("UNAVAILABLE", "")), False),
        (PENDING, False),
    ],
)
def test_only_clear_answers_of_a_status_method_decide(answer: Outcome, is_decisive: bool) -> None:
    assert is_decisive_status(answer) is is_decisive


@pytest.mark.parametrize(
    ("action", "path", "says"),
    [
        ({"heartbeat_timeout": "0.5s"}, "heartbeat_timeout", "1 s or more"),
        ({"status": {}}, "status.method", "is required"),
        ({"status": {"method": "pay"}}, "status.method", "the operation's own"),
        ({"status": {"method": "a/b/c"}}, "status.method", "no full gRPC method name"),
        ({"status": {"method": "s", "interval": "0.1s"}}, "status.interval", "1 s or more"),
        ({"status": {"method": "s", "every": "1s"}}, "status.every", "unknown field"),
        (
            {"status": {"method": "s", "input": "${steps.ship.output}"}},
            "status.input",
            "not sure to have ended",
        ),
    ],
)
def test_faults(action: dict[str, Any], path: str, says: str) -> None:
    steps = step("pay", action={"participant": "p", **action}), step("ship")
    ((found, description),) = faults(*steps).items()
    assert found == f"steps[0].action.{path}"
    assert says in description


def test_a_compensation_has_them_too() -> None:
    undo = {"participant": "p", "heartbeat_timeout": "5s", "status": {"method": "s", "input": "${output}"}}
    parsed = definition(step("pay", compensation=undo)).step("pay").compensation
    assert isinstance(parsed, Operation)
    assert (parsed.heartbeat_seconds, parsed.poll_seconds) == (5, 30)


# Tokens.


@pytest.mark.parametrize("key", ["charge", "pay[3].transfer", "a" * 1000])
@pytest.mark.parametrize("kind", [ACTION, COMPENSATION])
def test_a_token_names_its_attempt(key: str, kind: OperationKind) -> None:
    token = token_of("0190f0a2-0000-7000-8000-000000000001", key, kind, 12)
    assert parse_token(token) == AttemptNamed("0190f0a2-0000-7000-8000-000000000001", key, kind, 12)
    assert token.isascii()
    assert token.replace("-", "").replace("_", "").isalnum()


def test_a_token_that_was_changed_is_none() -> None:
    token = token_of("0190f0a2-0000-7000-8000-000000000001", "charge", ACTION, 1)
    changed = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(len(token))]
    others = [token[:-1], *(token + end for end in "A=\n"), "", " ", "x" * 5000, "\u00e4"]
    for other in changed + others:
        with pytest.raises(ValueError):  # noqa: PT011 - each fails at another place, and nobody reads the words
            parse_token(other)


def test_the_turn_ends_the_wait_for_a_heartbeat() -> None:
    beating = {"participant": "p", "heartbeat_timeout": "60s", "retry": RETRY}
    story = Story(definition(step("reserve"), step("pay", action=beating, read_only=True)))
    story.ends("reserve", ok())
    story.ends("pay", PENDING)
    assert story.timer == 60
    story.cancelled()
    assert story.calls == ["reserve compensation 1"]
    assert not any(isinstance(effect, SetTimer) for effect in story.last.effects)
    assert story.timer_fires(at=61).entries == ()


def test_what_a_failed_step_is_reported_to_have_put_out_is_shown_to_no_expression() -> None:
    """Another attempt of the step that reads it may have been made with null, under the same key (P5)."""
    once = {"participant": "p", "retry": {"max_attempts": 1}, "on_failure": "continue"}
    reads = {"participant": "p", "input": {"paid": "${steps.pay.output}", "status": "${steps.pay.status}"}}
    story = Story(definition(step("pay", action=once), step("pack"), step("ship", action=reads)))
    story.ends("pay", MAYBE)
    assert "pack action 1" in story.calls
    assert isinstance(report(story, ok(7)).answer, NotApplied)
    assert story.step("pay").output == 7
    story.ends("pack", ok())
    assert ("ship action 1", {"paid": None, "status": "FAILED"}) in list(
        zip(story.calls, story.inputs, strict=True)
    )
