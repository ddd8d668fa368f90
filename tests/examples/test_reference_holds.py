"""What docs/definitions.md says of failures, waits, blocks and defaults, tried on the coordinator's own core."""

from typing import Any

import pytest

from saga_coordinator.testing import Faults, Participants, Refused, Run, Unavailable, begin, rehearse

ANYTHING = Participants(otherwise=lambda call: {"key": call.step})
LOST = Unavailable()
NO = Refused("no")
CALL: dict[str, Any] = {"participant": "p"}


def call(name: str, **fields: Any) -> dict[str, Any]:
    """A step that calls; with a compensation unless a field says that there is none."""
    action = {**CALL, **fields.pop("action", {})}
    step = {"name": name, "action": action, **fields}
    if not {"pivot", "read_only", "irreversible", "late"} & step.keys():
        step.setdefault("compensation", CALL)
    step.pop("late", None)
    return step


def run(*steps: dict[str, Any], given: Any = None, faults: Faults | None = None, **fields: Any) -> Run:
    return rehearse({"name": "page", "steps": list(steps), **fields}, given, ANYTHING, faults=faults)


# What failure means.


@pytest.mark.parametrize(
    ("on_failure", "fault", "end", "names"),
    [
        ("compensate", NO, "COMPENSATED", ["a", "b", "undo a"]),
        ("compensate", LOST, "COMPENSATED", ["a", "b", "b", "undo b", "undo a"]),
        ("pause", NO, "NEEDS_ATTENTION", ["a", "b"]),
        ("pause", LOST, "NEEDS_ATTENTION", ["a", "b", "b"]),
        ("continue", NO, "COMPLETED", ["a", "b", "c"]),
        ("continue", LOST, "COMPLETED", ["a", "b", "b", "c"]),
    ],
)
def test_failure_means_what_on_failure_says(on_failure: str, fault: Any, end: str, names: list[str]) -> None:
    tried = {"on_failure": on_failure, "retry": {"max_attempts": 2}}
    saga = run(call("a"), call("b", action=tried), call("c"), faults={"b": fault})
    assert saga.status == end
    assert saga.names == names


def test_effect_in_doubt_of_a_step_that_was_gone_on_without_is_undone_if_the_saga_fails_later() -> None:
    doubtful = call("a", action={"on_failure": "continue", "retry": {"max_attempts": 1}})
    assert run(doubtful, call("b"), faults={"a": LOST, "b": NO}).names == ["a", "b", "undo a"]
    assert run(doubtful, call("b"), faults={"a": NO, "b": NO}).names == ["a", "b"]


@pytest.mark.parametrize(
    ("faults", "end", "names"),
    [
        ({"pivot": NO}, "COMPENSATED", ["a", "pivot", "undo a"]),
        ({"pivot": LOST}, "NEEDS_ATTENTION", ["a"] + ["pivot"] * 10),
        ({"late": NO}, "NEEDS_ATTENTION", ["a", "pivot", "late"]),
        ({"late": LOST}, "NEEDS_ATTENTION", ["a", "pivot"] + ["late"] * 10),
    ],
)
def test_pivot_goes_back_only_when_refused_and_later_steps_never(
    faults: Faults, end: str, names: list[str]
) -> None:
    saga = run(call("a"), call("pivot", pivot=True), call("late", late=True), faults=faults)
    assert saga.status == end
    assert saga.names == names


@pytest.mark.parametrize(
    ("fault", "on_failure", "end", "remaining"),
    [
        (NO, "park", "NEEDS_ATTENTION", ("a", "b")),
        (NO, "continue", "NEEDS_ATTENTION", ("b",)),
        (LOST, "park", "NEEDS_ATTENTION", ("a", "b")),
        (LOST, "continue", "NEEDS_ATTENTION", ("b",)),
        (Refused(status="NOT_FOUND"), "park", "NEEDS_ATTENTION", ("a", "b")),  # a contradiction: it was there
        ([LOST, None], "park", "COMPENSATED", ()),
    ],
)
def test_compensation_that_fails_needs_a_person(
    fault: Any, on_failure: str, end: str, remaining: tuple[str, ...]
) -> None:
    undone = call("b", compensation={**CALL, "on_failure": on_failure})
    saga = run(call("a"), undone, call("c"), faults={"c": NO, "undo b": fault})
    assert saga.status == end
    assert saga.remaining == remaining


@pytest.mark.parametrize(
    ("step", "attempts"),
    [
        (call("a"), 5),
        (call("a", recovery="forward"), 10),
        (call("a", pivot=True), 10),
        (call("a", action={"retry": {"max_attempts": 3}}), 3),
        (call("a", deadline="2s", action={"retry": {"max_attempts": 100, "initial_backoff": "1s"}}), 3),
    ],
)
def test_attempts_are_as_many_as_the_page_says(step: dict[str, Any], attempts: int) -> None:
    assert len(run(step, faults={"a": LOST}).called("a")) == attempts


def test_recovery_forward_leaves_a_failure_to_a_person_and_is_undone_for_others() -> None:
    step = call("a", recovery="forward")
    assert run(step, faults={"a": NO}).status == "NEEDS_ATTENTION"
    assert run(step, call("b"), faults={"b": NO}).names == ["a", "b", "undo a"]


def test_statuses_mean_what_outcomes_says() -> None:
    step = call("a", action={"outcomes": {"ABORTED": "refused", "ALREADY_EXISTS": "succeeded"}})
    assert run(step, faults={"a": Unavailable(status="ABORTED")}).names == ["a"]
    saga = run(step, output="${[steps.a.output]}", faults={"a": Refused(status="ALREADY_EXISTS")})
    assert saga.status == "COMPLETED"
    assert saga.output == [None]


def test_output_that_cannot_be_computed_keeps_nothing_from_being_done() -> None:
    saga = run(call("a"), output="${input.gone}", given={})
    assert saga.status == "COMPLETED"
    assert saga.output is None


# Skipping and order.


def test_skipped_step_is_neither_called_nor_undone_and_those_after_it_run() -> None:
    saga = run(
        call("a", when="false"),
        call("b", action={"input": {"a": "${steps.a.output}", "how": "${steps.a.status}"}}),
        call("c"),
        faults={"c": NO},
    )
    assert saga.names == ["b", "c", "undo b"]
    assert saga.calls[0].input == {"a": None, "how": "SKIPPED"}


# Waits.


def test_instant_that_has_passed_waits_for_nothing() -> None:
    saga = run({"name": "w", "until": "input.at"}, given={"at": "2020-01-01T00:00:00Z"})
    assert saga.status == "COMPLETED"
    assert saga.seconds == 0


@pytest.mark.parametrize(
    ("wait", "code"),
    [
        ({"await_event": {"event": "paid", "timeout": "60s"}}, "EVENT_TIMEOUT"),
        ({"approval": {"timeout": "60s"}}, "APPROVAL_TIMEOUT"),
    ],
)
def test_wait_in_vain_fails_or_goes_on(wait: dict[str, Any], code: str) -> None:
    step = {"name": "w", **wait}
    saga = run(call("a"), step)
    assert saga.status == "COMPENSATED"
    assert saga.failure is not None
    assert saga.failure.code == code
    assert saga.seconds == pytest.approx(60, abs=1)
    goes_on = run({**step, "on_failure": "continue"}, output="${steps.w.status}")
    assert (goes_on.status, goes_on.output) == ("COMPLETED", "FAILED")
    [kind] = wait
    contented = {"name": "w", kind: {**wait[kind], "on_timeout": "continue"}}
    saga = run(contented, output="${[steps.w.status, steps.w.output]}")
    assert saga.output == ["SUCCEEDED", None]


def test_rejection_may_lead_another_way() -> None:
    steps = [{"name": "a", "approval": {}, "on_failure": "continue"}]
    saga = begin({"name": "page", "steps": steps, "output": "${steps.a.failure.code}"})
    assert saga.reject("a").finish().output == "REJECTED"


# Blocks and keys.


def test_keys_of_instances_are_those_on_the_page() -> None:
    check = {"name": "poll", "repeat": {"until": "number == 3", "max_passes": 3, "steps": [call("check")]}}
    branch = {"name": "route", "switch": {"cases": [{"when": "true", "steps": [call("charge")]}]}}
    saga = run(branch, {"name": "outer", "for_each": {"items": "[1]", "steps": [check]}})
    assert saga.names == ["charge", *(f"outer[0].poll[{number}].check" for number in range(3))]


def test_switch_without_a_fitting_case_is_skipped() -> None:
    switch = {"name": "s", "switch": {"cases": [{"when": "false", "steps": [call("a")]}]}}
    saga = run(switch, output="${[steps.s.status, steps.s.output]}")
    assert saga.output == ["SKIPPED", None]


@pytest.mark.parametrize(("items", "output"), [("[]", []), ("input", [{"key": "l[0].a"}, {"key": "l[1].a"}])])
def test_loop_comes_to_the_list_of_what_its_items_come_to(items: str, output: list[Any]) -> None:
    loop = {"name": "l", "for_each": {"items": items, "steps": [call("a")]}}
    assert run(loop, given=[1, 2], output="${steps.l.output}").output == output


def test_item_that_fails_does_not_stop_the_others_if_it_is_gone_on_without() -> None:
    steps = [call("a", action={"on_failure": "continue"})]
    patient = {"name": "l", "for_each": {"items": "[1, 2, 3]", "max_parallel": 1, "steps": steps}}
    saga = run(patient, faults={"l[1].a": NO}, output="${steps.l.output}")
    assert saga.output == [{"key": "l[0].a"}, None, {"key": "l[2].a"}]


def test_action_in_a_loop_gets_the_sagas_input_by_default() -> None:
    saga = run(
        {"name": "l", "for_each": {"items": "input.lines", "steps": [call("a")]}}, given={"lines": [1]}
    )
    assert saga.calls[0].input == {"lines": [1]}
