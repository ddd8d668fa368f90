"""What expressions see of other steps, and that it does not change under them."""

from __future__ import annotations

from typing import Any

import pytest

from proof.core.definitions import definition, step
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, Invoke
from saga_coordinator.saga.machine.inputs import AttemptEnded, OutcomeReported, StartRequested, TimerFired
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Outcome, Refused, Succeeded, Unknown

GONE = Unknown(Cause("UNAVAILABLE", "gone"))
NO = Refused(Cause("FAILED_PRECONDITION", "no"))
ACTION = OperationKind.ACTION


def optional(name: str, **fields: Any) -> dict[str, Any]:
    once = {"max_attempts": 1}
    return step(name, action={"participant": "p", "on_failure": "continue", "retry": once}, **fields)


def reading(payload: Any) -> dict[str, Any]:
    return step("reader", action={"participant": "p", "input": payload, "retry": {"initial_backoff": "5s"}})


def after_first(saga: Definition, outcome: Outcome) -> Decision:
    started = decide(saga, None, StartRequested("s", 1, {}, {}), 0.0, 0.5)
    return decide(saga, started.state, AttemptEnded("first", ACTION, 1, outcome), 1.0, 0.5)


def call(decision: Decision) -> Invoke:
    [invoke] = [effect for effect in decision.effects if isinstance(effect, Invoke)]
    return invoke


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (Succeeded({"id": 7}), {"output": {"id": 7}, "status": "SUCCEEDED", "failure": None}),
        (NO, {"output": None, "status": "FAILED", "failure": {"code": "FAILED_PRECONDITION", "message": "no"}}),
        (GONE, {"output": None, "status": "FAILED", "failure": {"code": "UNAVAILABLE", "message": "gone"}}),
    ],
)  # fmt: skip
def test_step_tells_what_it_came_to_and_why_it_failed(outcome: Outcome, seen: dict[str, Any]) -> None:
    payload = {name: f"${{steps.first.{name}}}" for name in ("output", "status", "failure")}
    saga = definition(optional("first"), reading(payload))
    assert call(after_first(saga, outcome)).input == seen


def test_output_that_was_reported_late_does_not_change_the_input_of_a_later_attempt() -> None:
    """P5: the second attempt has the key of the first, so it must have its input."""
    saga = definition(optional("first"), reading({"seen": "${steps.first.output}"}))
    turn = after_first(saga, GONE)
    assert call(turn).input == {"seen": None}
    late = decide(saga, turn.state, OutcomeReported("first", ACTION, Succeeded({"id": 7})), 2.0, 0.5)
    assert late.state.step("first").effect is EffectKnown.CERTAIN
    lost = decide(saga, late.state, AttemptEnded("reader", ACTION, 1, GONE), 3.0, 0.5)
    assert call(decide(saga, lost.state, TimerFired(), 60.0, 0.5)).input == {"seen": None}
