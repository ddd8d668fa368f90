"""Every limit of a definition is a setting, and what was registered under another stays valid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from saga_coordinator.saga.decide import AttemptEnded, StartRequested, decide
from saga_coordinator.saga.effects import Invoke
from saga_coordinator.saga.errors import InvalidDefinition
from saga_coordinator.saga.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.saga.outcome import Succeeded
from saga_coordinator.saga.parsing import parse_definition
from saga_coordinator.saga.transitions import SagaStatus

ACTION = {"participant": "p"}


def a_step(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "action": ACTION, "compensation": ACTION, **more}


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
        (replace(DEFAULT_LIMITS, log_entries=4), "has 4 entries"),
    ],
)
def test_a_limit_of_sagas_is_the_steps_failure_and_undoes_it(limits: Limits, what: str) -> None:
    source = {"name": "limited", "steps": [a_step("first"), loop(a_step("each"))]}
    definition = parse_definition(source, limits)
    decision = decide(definition, None, StartRequested("s", 1, {"items": [1, 2, 3]}, {}), 0.0, 0.0)
    calls = [effect for effect in decision.effects if isinstance(effect, Invoke)]
    while calls:
        call = calls.pop(0)
        ended = AttemptEnded(call.step, call.operation, call.attempt, Succeeded())
        decision = decide(definition, decision.state, ended, 0.0, 0.0)
        calls += [effect for effect in decision.effects if isinstance(effect, Invoke)]
    assert decision.state.status is SagaStatus.COMPENSATED
    assert decision.state.failure is not None
    assert decision.state.failure.code == "LIMIT_EXCEEDED"
    assert what in decision.state.failure.message
