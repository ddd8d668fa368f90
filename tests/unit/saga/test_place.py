"""What expressions see of other steps, and that it does not change under them."""

from __future__ import annotations

from typing import Any

import pytest

from proof.core.definitions import definition, step
from proof.core.story import MAYBE, NO, Story, ok
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.words.outcome import Outcome


def optional(name: str, **fields: Any) -> dict[str, Any]:
    once = {"max_attempts": 1}
    return step(name, action={"participant": "p", "on_failure": "continue", "retry": once}, **fields)


def reading(payload: Any) -> dict[str, Any]:
    return step("reader", action={"participant": "p", "input": payload, "retry": {"initial_backoff": "5s"}})


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (ok({"id": 7}), {"output": {"id": 7}, "status": "SUCCEEDED", "failure": None}),
        (NO, {"output": None, "status": "FAILED", "failure": {"code": "FAILED_PRECONDITION", "message": "no"}}),
        (MAYBE, {"output": None, "status": "FAILED", "failure": {"code": "UNAVAILABLE", "message": "connection reset"}}),
    ],
)  # fmt: skip
def test_step_tells_what_it_came_to_and_why_it_failed(outcome: Outcome, seen: dict[str, Any]) -> None:
    payload = {name: f"${{steps.first.{name}}}" for name in ("output", "status", "failure")}
    story = Story(definition(optional("first"), reading(payload)))
    story.ends("first", outcome)
    assert story.inputs == [seen]


def test_output_that_was_reported_late_does_not_change_the_input_of_a_later_attempt() -> None:
    """P5: the second attempt has the key of the first, so it must have its input."""
    story = Story(definition(optional("first"), reading({"seen": "${steps.first.output}"})))
    story.ends("first", MAYBE)
    assert story.inputs == [{"seen": None}]
    story.reported("first", ok({"id": 7}))
    assert story.step("first").effect is EffectKnown.CERTAIN
    story.ends("reader", MAYBE)
    story.timer_fires()
    assert story.inputs == [{"seen": None}]
