"""Letters between coordinators are read as they were written, also by and from coordinators of other versions."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from saga_coordinator.engine.letters import answer_body, answer_in, asked_body, asked_in
from saga_coordinator.saga.machine.answers import ANSWERS, APPLIED, Answer, HeartbeatTaken, NotApplied, WhyNot
from saga_coordinator.saga.machine.inputs import (
    ASKED,
    ApprovalDecided,
    Asked,
    CancelAsked,
    EventArrived,
    HeartbeatReceived,
    OutcomeReported,
    RecallAsked,
)
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Pending, Refused, Succeeded, Unknown
from saga_coordinator.saga.words.reasons import Reason

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
DECLINED = Cause("DECLINED", "no money", "charge")
CAUSE_OF_0_1_0 = {"code": "DECLINED", "message": "no money", "step": "charge", "requested_by": ""}

REPORT = {"kind": "report", "step": "charge", "operation": "action", "attempt": 1}
UNDONE = {"operation": "compensation", "attempt": 0}

ASKED_BY_0_1_0: list[tuple[dict[str, Any], Asked]] = [
    ({"kind": "cancel", "reason": "why not", "requested_by": "anna"}, CancelAsked("why not", "anna")),
    ({**REPORT, "outcome": "succeeded", "output": [1]}, OutcomeReported("charge", ACTION, Succeeded([1]), 1)),
    (
        {**REPORT, **UNDONE, "outcome": "refused", "cause": CAUSE_OF_0_1_0},
        OutcomeReported("charge", COMPENSATION, Refused(DECLINED)),
    ),
    (
        {**REPORT, "outcome": "unknown", "cause": CAUSE_OF_0_1_0},
        OutcomeReported("charge", ACTION, Unknown(DECLINED), 1),
    ),
    ({**REPORT, "outcome": "pending"}, OutcomeReported("charge", ACTION, Pending(), 1)),
    ({**REPORT, "kind": "heartbeat", "details": "half"}, HeartbeatReceived("charge", ACTION, 1, "half")),
    (
        {"kind": "event", "event_id": "e", "name": "paid", "correlation": "o", "payload": {"n": 1}},
        EventArrived("e", "paid", "o", {"n": 1}),
    ),
    (
        {"kind": "approval", "step": "sign", "is_approved": True, "decided_by": "bert", "comment": ""},
        ApprovalDecided("sign", True, "bert"),
    ),
    ({"kind": "recall", "cause": CAUSE_OF_0_1_0}, RecallAsked(DECLINED)),
]

ANSWERED_BY_0_1_0: list[tuple[dict[str, Any], Answer]] = [
    ({"refusal": None, "is_applied": True}, APPLIED),
    ({"refusal": None, "is_applied": False}, NotApplied()),
    ({"refusal": None, "is_applied": False, "because": "LATE"}, NotApplied(WhyNot.LATE)),
    ({"refusal": "it is over", "is_applied": True}, Refusal(Reason.OWNER_TOO_OLD, "it is over")),
    (
        {"refusal": None, "is_applied": True, "heartbeat": {"timeout_seconds": 2.0, "fresh_seconds": 0.5}},
        HeartbeatTaken(2.0, 0.5),
    ),
]


def test_every_verb_and_every_answer_has_a_name() -> None:
    assert set(ASKED.values()) == set(get_args(Asked))
    assert set(ANSWERS.values()) == set(get_args(Answer)) == {type(answer) for _, answer in ANSWERED_BY_0_1_0}


@pytest.mark.parametrize(("body", "asked"), ASKED_BY_0_1_0)
def test_a_letter_of_0_1_0_is_read_and_ours_says_all_that_it_does(body: dict[str, Any], asked: Asked) -> None:
    assert asked_in(body) == asked
    written = asked_body(asked)
    assert written | body == written
    assert asked_in(written) == asked


def test_an_outcome_keeps_all_that_it_says() -> None:
    refused = OutcomeReported("charge", ACTION, Refused(DECLINED, is_explicit=True, retry_after_seconds=2.0))
    unknown = OutcomeReported("charge", ACTION, Unknown(DECLINED, 3.0, was_sent=False))
    assert [asked_in(asked_body(each)) for each in (refused, unknown)] == [refused, unknown]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "teleport"},
        {"kind": "cancel"},
        {"kind": "cancel", "reason": "", "requested_by": "", "evidence": "a letter"},
        {"kind": "report", "step": "charge", "operation": "action", "outcome": "halved"},
    ],
)
def test_what_a_later_version_asks_is_not_half_done(body: dict[str, Any]) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        asked_in(body)


def test_a_field_of_a_later_version_may_be_empty() -> None:
    body = {"kind": "cancel", "reason": "why not", "requested_by": "anna", "act_id": "", "evidence": None}
    assert asked_in(body) == CancelAsked("why not", "anna")


@pytest.mark.parametrize(("body", "answer"), ANSWERED_BY_0_1_0)
def test_an_answer_of_0_1_0_is_read_and_ours_says_all_that_it_does(
    body: dict[str, Any], answer: Answer
) -> None:
    assert answer_in(body) == answer
    written = answer_body(answer)
    assert written | body == written
    assert answer_in(written) == answer


@pytest.mark.parametrize("why", WhyNot)
def test_why_nothing_moved_is_told_in_words_that_0_1_0_knows(why: WhyNot) -> None:
    written = answer_body(NotApplied(why))
    assert written["because"] in {"REPEATED", "LATE", "EARLY", "OTHER_ATTEMPT"}
    assert answer_in(written) == NotApplied(why)


def test_an_answer_that_only_a_later_version_knows_keeps_its_words() -> None:
    told = {"refusal": "it is over", "is_applied": True}
    assert answer_in(
        {**told, "kind": "refusal", "reason": "NOT_KNOWN_YET", "message": "it is over"}
    ) == Refusal(Reason.OWNER_TOO_OLD, "it is over")
    assert answer_in({**told, "refusal": None, "kind": "planned", "calls": 3}) == APPLIED
