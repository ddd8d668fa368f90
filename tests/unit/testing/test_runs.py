"""Runs of sagas against plain functions: what fakes are asked, how calls can end, and who drives."""

from __future__ import annotations

from typing import Any

import pytest

from proof.core.definitions import step
from saga_coordinator.saga.words.errors import InvalidRequest, NotPossibleNow
from saga_coordinator.testing import (
    Call,
    Decided,
    NoAnswer,
    NoFake,
    Participants,
    Pending,
    PromiseBroken,
    Refused,
    Unavailable,
    begin,
    rehearse,
)

ANYTHING = Participants(otherwise=lambda call: None)


def source(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "order", "steps": list(steps), **fields}


def test_fakes_are_told_what_participants_are_told() -> None:
    seen: list[Call] = []

    def perform(call: Call) -> Any:
        seen.append(call)
        return {"id": 7}

    participants = {"p.a": perform, "p.b": refuse}
    run = rehearse(source(step("a"), step("b")), {"x": 1}, participants)
    action, undo = seen
    assert (action.name, action.input, action.attempt, action.at) == ("a", {"x": 1}, 1, 0.0)
    assert (undo.name, undo.input) == ("undo a", {"id": 7})
    assert undo.failure == {"code": "FAILED_PRECONDITION", "message": "no", "step": "b"}
    assert action.key != undo.key
    assert run.calls[0] == action


def refuse(call: Call) -> Any:
    raise Refused("no")


def test_full_methods_go_by_their_last_part() -> None:
    action = {"participant": "p", "method": "shop.v1.Shop/Buy"}
    run = rehearse(source(step("a", action=action, read_only=True)), participants={"p.Buy": lambda call: 1})
    assert run.step("a").output == 1


def test_a_call_without_a_fake_says_what_to_write() -> None:
    with pytest.raises(NoFake, match=r"@participants\.action\('p\.a'\)"):
        rehearse(source(step("a")), participants=Participants())
    participants = Participants()
    participants.action("p.a")(lambda call: None)
    with pytest.raises(NoFake, match=r"`undo a` .*@participants\.compensation\('p\.a'\)"):
        rehearse(source(step("a"), step("b")), participants=participants, faults={"b": Refused()})


def test_a_child_saga_is_one_function() -> None:
    participants = Participants()
    child = {"name": "refund", "saga": {"definition": "refund", "version": 2}}

    @participants.saga("refund")
    def refund(call: Call) -> Any:
        return {"refunded": call.input}

    run = rehearse(source(child, step("last")), 5, participants, faults={"last": Refused()})
    assert run.names == ["refund", "last", "undo refund"]
    assert run.step("refund").output == {"refunded": 5}


def test_a_mistake_in_a_fake_fails_the_test() -> None:
    with pytest.raises(ZeroDivisionError):
        rehearse(source(step("a")), participants={"p.a": lambda call: 1 // 0})
    with pytest.raises(TypeError, match=r"p\.a"):
        rehearse(source(step("a")), participants={"p.a": lambda call: {1, 2}})


def test_one_failure_stands_for_every_attempt_and_several_for_one_each() -> None:
    run = rehearse(source(step("a")), participants=ANYTHING, faults={"a": Unavailable()})
    assert (run.status, len(run.called("a"))) == ("COMPENSATED", 5)
    run = rehearse(source(step("a")), participants=ANYTHING, faults={"a": [Unavailable(), None]})
    assert (run.status, len(run.called("a"))) == ("COMPLETED", 2)


def test_instances_of_a_loop_fail_by_their_key_or_all_by_their_name() -> None:
    loop = {"name": "pay", "for_each": {"items": "input", "steps": [step("transfer")]}}
    one = rehearse(source(loop), [1, 2], ANYTHING, faults={"pay[1].transfer": Refused()})
    assert one.names == ["pay[0].transfer", "pay[1].transfer", "undo pay[0].transfer"]
    every = rehearse(source(loop), [1, 2], ANYTHING, faults={"transfer": Refused()})
    assert every.names == ["pay[0].transfer", "pay[1].transfer"]


def test_what_happened_without_an_answer_did_call_the_fake() -> None:
    done: list[int] = []
    participants = {"p.a": lambda call: done.append(call.attempt)}
    rehearse(source(step("a")), participants=participants, faults={"a": [NoAnswer(happened=True)]})
    assert done == [1, 2]
    done.clear()
    rehearse(source(step("a")), participants=participants, faults={"a": [NoAnswer()]})
    assert done == [2]


def test_no_answer_takes_the_attempts_time() -> None:
    action = {"participant": "p", "timeout": "7s", "retry": {"max_attempts": 1}}
    run = rehearse(source(step("a", action=action)), participants=ANYTHING, faults={"a": NoAnswer()})
    assert 7 <= run.called("undo a")[0].at < 8


def test_pending_is_reported_later_or_never() -> None:
    run = rehearse(
        source(step("a")), participants=ANYTHING, faults={"a": Pending({"id": 1}, after_seconds=600)}
    )
    assert run.step("a").output == {"id": 1}
    assert 600 <= run.seconds < 601
    refused = rehearse(source(step("a")), participants=ANYTHING, faults={"a": Pending(Refused("no"))})
    assert refused.names == ["a"]
    waiting = begin(source(step("a")), participants=ANYTHING, faults={"a": Pending()}).run_until_waiting()
    assert waiting.waiting == ("a",)
    waiting.report("a", {"id": 2})
    assert waiting.status == "COMPLETED"


def test_events_and_decisions_come_by_step() -> None:
    steps = (
        {"name": "agree", "approval": {"approvers": ["ann"]}},
        {"name": "paid", "await_event": {"event": "paid"}},
    )
    run = rehearse(
        source(*steps, output="${steps.paid.output}"), events={"paid": 3}, approvals={"agree": True}
    )
    assert (run.status, run.output) == ("COMPLETED", 3)
    rejected = rehearse(source(*steps), approvals={"agree": Decided(False, comment="too dear")})
    assert rejected.failure is not None
    assert (rejected.status, rejected.failure.message) == ("COMPENSATED", "too dear")
    left = rehearse(source(*steps))
    assert (left.status, left.waiting) == ("RUNNING", ("agree",))


def test_only_those_who_may_decide_do() -> None:
    run = begin(source({"name": "agree", "approval": {"approvers": ["ann"]}}))
    with pytest.raises(NotPossibleNow, match="ann"):
        run.approve("agree", by="bob")
    assert run.approve("agree", by="ann").status == "COMPLETED"


def test_published_events_reach_those_that_await_them_now_or_later() -> None:
    wait = {"name": "paid", "await_event": {"event": "paid", "correlation": "${input.order}"}}
    early = begin(source(step("a"), wait), {"order": "o1"}, ANYTHING)
    early.publish("paid", 1, correlation="o1").publish("paid", 2, correlation="o2")
    assert early.finish().step("paid").output == 1
    late = begin(source(wait), {"order": "o1"}).publish("paid", 2, correlation="o2")
    assert late.waiting == ("paid",)
    assert late.publish("paid", 1, correlation="o1").status == "COMPLETED"
    forgotten = begin(source({"name": "nap", "delay": "60s"}, wait), {"order": "o1"}, ANYTHING)
    forgotten.publish("paid", 1, correlation="o1", keep_seconds=30)
    assert forgotten.advance(90).waiting == ("paid",)


def test_time_passes_only_as_it_is_told_to() -> None:
    run = begin(source({"name": "nap", "delay": "3600s"}, step("a")), participants=ANYTHING)
    assert run.advance(minutes=59).names == []
    assert run.advance(minutes=2).status == "COMPLETED"
    assert run.seconds == 61 * 60


def test_a_cancelled_saga_goes_back() -> None:
    run = begin(source(step("a"), step("b")), participants=ANYTHING)
    run.run_until(lambda: "b" in run.names)
    run.cancel("changed my mind", by="ann")
    assert run.finish().names == ["a", "b", "undo b", "undo a"]


def test_what_never_comes_fails_the_test() -> None:
    run = begin(source(step("a")), participants=ANYTHING)
    with pytest.raises(AssertionError, match="never came"):
        run.run_until(lambda: "b" in run.names)


def test_misspelt_names_are_told() -> None:
    with pytest.raises(ValueError, match="`chrage` is no step"):
        rehearse(source(step("a")), participants=ANYTHING, faults={"chrage": Refused()})
    with pytest.raises(ValueError, match="events: `a` is no step"):
        rehearse(source(step("a")), participants=ANYTHING, events={"a": 1})
    with pytest.raises(ValueError, match="FAILED_PRECONDITION is an answer"):
        Unavailable(status="FAILED_PRECONDITION")


def test_the_input_is_checked_as_at_a_start() -> None:
    schema = {"type": "object", "required": ["order"]}
    with pytest.raises(InvalidRequest, match="order"):
        rehearse(source(step("a"), input_schema=schema), {}, ANYTHING)


def test_each_run_is_judged() -> None:
    run = begin(source(step("a"), step("b")), participants=ANYTHING, faults={"b": Refused()})
    run.run_until(lambda: "undo a" in run.names)
    run._rehearsal.calls[-1].started_at = 0.0  # as if the core had called it at once
    with pytest.raises(PromiseBroken, match="P4"):
        run.finish()


def test_the_fixture_has_participants_of_its_own(saga: Any) -> None:
    saga.participants.action("p.a")(lambda call: "done")
    assert saga(source(step("a"), output="${steps.a.output}")).output == "done"
    assert saga.begin(source(step("a"))).run_until_waiting().status == "COMPLETED"
