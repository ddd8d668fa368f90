"""Timeouts and retries that a participant has of its own, written into definitions that do not say otherwise."""

from __future__ import annotations

from typing import Any

from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.definition.participant_defaults import check_defaults, with_defaults
from saga_coordinator.saga.words.errors import Fault

MAIL: dict[str, Any] = {
    "timeout": "2s",
    "retry": {"max_attempts": 3, "initial_backoff": "0.2s"},
    "compensation_retry": {"max_backoff": "60s"},
}
OF = {"mail": MAIL}


def step(name: str, participant: str = "mail", **action: Any) -> dict[str, Any]:
    compensation = {"participant": participant}
    return {"name": name, "action": {"participant": participant, **action}, "compensation": compensation}


def filled(*steps: dict[str, Any], **definition: Any) -> list[dict[str, Any]]:
    spec = with_defaults({"name": "send", "steps": list(steps), **definition}, OF)
    parse_definition(spec)
    found: list[dict[str, Any]] = spec["steps"]
    return found


def test_what_nobody_says_is_the_participants() -> None:
    (sent,) = filled(step("send"))
    assert sent["action"] == {"participant": "mail", "timeout": "2s", "retry": MAIL["retry"]}
    undone = {"participant": "mail", "timeout": "2s", "retry": MAIL["compensation_retry"]}
    assert sent["compensation"] == undone


def test_an_operation_prevails_and_then_the_definition() -> None:
    own = {"timeout": "9s", "retry": {"max_attempts": 4}}
    (said, unsaid) = filled(
        step("said", timeout="1s", retry={"max_attempts": 7}), step("unsaid"), defaults=own
    )
    assert said["action"]["timeout"] == "1s"
    assert said["action"]["retry"] == {"max_attempts": 7, "initial_backoff": "0.2s"}
    assert "timeout" not in unsaid["action"], "the definition's own is found there by itself"
    assert unsaid["action"]["retry"] == {"max_attempts": 4, "initial_backoff": "0.2s"}


def test_listed_pauses_and_computed_ones_replace_each_other() -> None:
    listed, computed = filled(
        step("listed", retry={"pauses": ["3s"]}), step("computed"), defaults={"retry": {"multiplier": 3}}
    )
    assert listed["action"]["retry"] == {"max_attempts": 3, "pauses": ["3s"]}
    assert computed["action"]["retry"] == {"max_attempts": 3, "initial_backoff": "0.2s", "multiplier": 3}


def test_others_and_the_given_definition_stay_as_they_were() -> None:
    other, inner = step("other", "ledger"), step("inner")
    loop = {"name": "each", "for_each": {"items": "input", "steps": [inner]}}
    other_filled, loop_filled = filled(other, loop)
    assert other_filled == other
    assert loop_filled["for_each"]["steps"][0]["action"]["timeout"] == "2s"
    assert inner == step("inner")


def test_faults() -> None:
    faults: list[Fault] = []
    check_defaults({"timeout": "9999s", "retry": {"max_attempts": -1}, "recovery": "forward"}, "at", faults)
    assert sorted(fault.path for fault in faults) == ["at.recovery", "at.retry.max_attempts", "at.timeout"]
