"""Every limit of a definition is a setting, and what was registered under another stays valid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proof.core.definitions import step as a_step
from proof.core.story import Story, ok
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import InvalidDefinition
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits


def loop(*steps: dict[str, Any], name: str = "loop") -> dict[str, Any]:
    return {"name": name, "for_each": {"items": "input.items", "steps": list(steps)}}


@pytest.mark.parametrize(
    ("steps", "limits", "what"),
    [
        ([a_step("a"), a_step("b")], Limits(steps=1), "there must be 1 to 1"),
        ([loop(a_step("a"))], Limits(steps=1), "a definition has at most 1"),
        ([loop(loop(a_step("a"), name="inner"))], Limits(block_nesting=1), "nested deeper than 1"),
        (
            [a_step("a", when="input.a == input.b")],
            Limits(expression_characters=10),
            "expression of more than 10 characters",
        ),
    ],
)
def test_a_limit_of_definitions(steps: list[dict[str, Any]], limits: Limits, what: str) -> None:
    source = {"name": "limited", "steps": steps}
    with pytest.raises(InvalidDefinition, match=what):
        parse_definition(source, limits)
    assert parse_definition(source, limits.for_registered()) == parse_definition(source)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (replace(DEFAULT_LIMITS, items=2), "has 3 items; at most 2 are allowed"),
        (replace(DEFAULT_LIMITS, log_entries=2), "has 2 entries"),
    ],
)
def test_a_limit_of_sagas_is_the_steps_failure_and_undoes_it(limits: Limits, what: str) -> None:
    source = {"name": "limited", "steps": [a_step("first"), loop(a_step("each"))]}
    state = decided(source, limits)
    assert state.status is SagaStatus.COMPENSATED
    assert state.failure is not None
    assert (state.failure.code, state.failure.step) == ("LIMIT_EXCEEDED", "loop")
    assert what in state.failure.message


TEXT = "x" * 600
TWICE = ["${input.text}", "${input.text}"]


def decided(source: dict[str, Any], limits: Limits) -> SagaState:
    """Where a saga with a text of 600 bytes ends up when every call succeeds and returns that text."""
    story = Story(parse_definition(source, limits), payload={"text": TEXT, "items": [1, 2, 3]})
    while open_calls := [key for key, each in story.state.steps.items() if each.is_in_flight]:
        story.ends(open_calls[0], ok(TEXT))
    return story.state


@pytest.mark.parametrize(
    ("step", "code", "what"),
    [
        (a_step("b", action={"participant": "p", "input": TWICE}), "INPUT_INVALID", "the input"),
        (
            {"name": "b", "saga": {"definition": "child", "input": {"parts": TWICE}}},
            "INPUT_INVALID",
            "the input",
        ),
        (
            {"name": "b", "for_each": {"items": "[input.text, input.text]", "steps": [a_step("each")]}},
            "EXPRESSION_INVALID",
            "the list of items",
        ),
        (
            {"name": "b", "for_each": {"items": "[1, 2]", "steps": [a_step("each")]}},
            "EXPRESSION_INVALID",
            "the list of the items' outputs",
        ),
        (
            {"name": "b", "for_each": {"items": "[1]", "steps": [a_step("each")], "output": TWICE}},
            "EXPRESSION_INVALID",
            "the output of the block",
        ),
        (
            {"name": "b", "approval": {"show": {"both": TWICE}, "timeout": "1s"}},
            "EXPRESSION_INVALID",
            "what is shown for approval",
        ),
        (
            {
                "name": "b",
                "await_event": {"event": "e", "correlation": "${input.text}${input.text}", "timeout": "1s"},
            },
            "EXPRESSION_INVALID",
            "the correlation",
        ),
    ],
)
def test_whatever_a_saga_computes_has_the_limit_of_payloads(
    step: dict[str, Any], code: str, what: str
) -> None:
    source = {"name": "limited", "steps": [a_step("a"), step]}
    state = decided(source, replace(DEFAULT_LIMITS, payload_bytes=1000))
    assert state.status is SagaStatus.COMPENSATED
    assert state.failure is not None
    assert (state.failure.code, state.failure.step.partition("[")[0]) == (code, "b")
    assert f"{what} is more than 1000 bytes as protobuf, which is the limit" in state.failure.message
    without_limit = decided(source, replace(DEFAULT_LIMITS, payload_bytes=2000))
    assert without_limit.failure is None


def test_an_output_that_is_too_large_leaves_the_saga_completed() -> None:
    """What is done is done."""
    source = {"name": "limited", "steps": [a_step("a")], "output": TWICE}
    state = decided(source, replace(DEFAULT_LIMITS, payload_bytes=1000))
    assert (state.status, state.output) == (SagaStatus.COMPLETED, None)
    assert state.output_problem is not None
    assert "the output of the saga is more than 1000 bytes as protobuf" in state.output_problem


def test_a_compensation_whose_input_is_too_large_waits_for_a_person() -> None:
    undo = {"participant": "p", "input": {"all": ["${output}", "${input.text}"]}}
    steps = [a_step("a", compensation=undo), a_step("b", action={"participant": "p", "input": TWICE})]
    state = decided({"name": "limited", "steps": steps}, replace(DEFAULT_LIMITS, payload_bytes=1000))
    assert state.status is SagaStatus.NEEDS_ATTENTION
    assert state.remaining == ("a",)
