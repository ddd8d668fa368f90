"""Each smell is found where it is, and not where it is not."""

from __future__ import annotations

from typing import Any

import pytest

from saga_coordinator.advice.lint import RULES, Smell, lint
from saga_coordinator.saga.definition.parsing import parse_definition

CALL = {"participant": "p", "timeout": "1s"}


def step(name: str, action: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    source: dict[str, Any] = {"name": name, "action": {**CALL, **(action or {})}, **fields}
    if not any(fields.get(excuse) for excuse in ("pivot", "read_only", "irreversible", "late")):
        source.setdefault("compensation", CALL)
    source.pop("late", None)
    return source


def smells(*steps: dict[str, Any], **fields: Any) -> list[Smell]:
    source = {"name": "order", "steps": list(steps), **fields}
    return lint(parse_definition(source), source)


def found(*steps: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
    return [(smell.rule, smell.path) for smell in smells(*steps, **fields)]


WAIT = {"name": "paid", "await_event": {"event": "paid"}}
APPROVAL = {"name": "agree", "approval": {"timeout": "60s"}}
UNDO_BY_OUTPUT = {**CALL, "input": {"id": "${output.id}"}}
LOOP = {"items": "input.people", "steps": [step("transfer")]}
NEVER = {"cases": [{"when": "1 > 2", "steps": [step("b")]}, {"when": "input.x", "steps": [step("c")]}]}
ALWAYS = {
    "cases": [{"when": "input.x", "steps": [step("b")]}, {"when": "true", "steps": [step("c")]}],
    "otherwise": {"steps": [step("d")]},
}

MAYBE = {"cases": [{"when": "input.x", "steps": [step("c")]}]}


def reading_a(expression: str = "steps.a.output.id", **fields: Any) -> dict[str, Any]:
    return step("b", {"input": {"id": f"${{{expression}}}"}}, **fields)


SMELLY: list[tuple[str, str, list[dict[str, Any]], dict[str, Any]]] = [
    ("default-timeout", "steps[0].action", [{**step("a"), "action": {"participant": "p"}}], {}),
    ("default-timeout", "steps[0].compensation", [step("a", compensation={"participant": "p"})], {}),
    ("attempts-outlast-deadline", "steps[0].action", [step("a", {"timeout": "20s"})], {"deadline": "60s"}),
    ("attempts-outlast-deadline", "steps[0].action", [step("a", deadline="2s")], {}),
    ("wait-outlasts-deadline", "steps[0]", [{"name": "nap", "delay": "3600s"}], {"deadline": "60s"}),
    ("wait-outlasts-deadline", "steps[0]", [APPROVAL], {"deadline": "60s"}),
    ("wait-without-end", "steps[0]", [WAIT], {}),
    ("wait-without-end", "steps[1]", [step("a", pivot=True), WAIT], {"deadline": "60s"}),
    ("output-may-be-null", "steps[0].compensation.input", [step("a", compensation=UNDO_BY_OUTPUT)], {}),
    ("repeated-by-retries", "steps[0].action", [step("a", {"method": "shop.v1.Stock/AddItem"})], {}),
    ("repeated-by-retries", "steps[0].action", [step("a", {"method": "send_mail"})], {}),
    ("compensated-though-reading", "steps[0].compensation", [step("a", {"method": "GetPrice"})], {}),
    ("never-runs", "steps[0].when", [step("a", when="1 > 2")], {}),
    ("never-runs", "steps[0].switch.cases[0]", [{"name": "s", "switch": NEVER}], {}),
    ("never-runs", "steps[0].switch.otherwise", [{"name": "s", "switch": ALWAYS}], {}),
    ("skipped-output-read", "steps[1]", [step("a", when="input.x"), reading_a()], {}),
    ("skipped-output-read", "steps[1]", [step("a", when="input.x"), reading_a(when="input.y")], {}),
    ("skipped-output-read", "steps[1]", [{"name": "a", "switch": MAYBE}, reading_a()], {}),
    ("irreversible-too-early", "steps[0]", [step("a", irreversible=True), step("b")], {}),
    ("irreversible-too-early", "steps[0]", [step("a", irreversible=True), step("b", pivot=True)], {}),
    ("for-each-without-limit", "steps[0].for_each", [{"name": "pay", "for_each": LOOP}], {}),
    (
        "gives-up-early",
        "steps[0].compensation",
        [step("a", compensation={**CALL, "retry": {"max_attempts": 1}})],
        {},
    ),
    (
        "gives-up-early",
        "steps[1].action",
        [step("a", pivot=True), step("b", {"retry": {"max_attempts": 2}}, late=True)],
        {},
    ),
    (
        "doubt-taken-for-no",
        "steps[0].action.outcomes",
        [step("a", {"outcomes": {"UNAVAILABLE": "refused"}})],
        {},
    ),
]


@pytest.mark.parametrize(("rule", "path", "steps", "fields"), SMELLY)
def test_what_smells_is_found(
    rule: str, path: str, steps: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    assert found(*steps, **fields) == [(rule, path)]


def test_every_rule_is_tested() -> None:
    assert {rule for rule, *_ in SMELLY} == set(RULES)


HANDLED = {**CALL, "input": {"id": "${output == null ? '' : output.id}"}}
FRESH: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
    ([step("a"), step("b", pivot=True), step("c", late=True)], {"deadline": "600s"}),
    (
        [{**step("a"), "action": {"participant": "p"}, "compensation": {"participant": "p"}}],
        {"defaults": {"timeout": "1s"}},
    ),
    ([step("a", pivot=True, action={"timeout": "20s"})], {"deadline": "60s"}),
    ([WAIT], {"deadline": "60s"}),
    ([{**WAIT, "await_event": {"event": "paid", "timeout": "60s"}}], {}),
    ([step("a", compensation={**CALL, "input": {"id": "${output.id}", "order": "${input.order}"}})], {}),
    ([step("a", compensation=HANDLED)], {}),
    ([step("a", {"method": "AddressOf"})], {}),
    ([step("add_item", {"retry": {"max_attempts": 1}})], {}),
    ([step("a", {"method": "send", "retry": {"max_attempts": 1}})], {}),
    ([step("a", {"method": "GetPrice"}, read_only=True)], {}),
    ([step("a", when="input.x > 2")], {}),
    ([step("a", when="input.x"), reading_a(when="input.x && input.y")], {}),
    ([step("a", when="input.x"), reading_a(when="steps.a.status == 'SUCCEEDED'")], {}),
    ([step("a", when="input.x"), reading_a("steps.a.output == null ? '' : steps.a.output.id")], {}),
    ([step("a", when="input.x"), reading_a("steps.a.output")], {}),
    ([step("a"), step("b", irreversible=True)], {}),
    ([step("a", irreversible=True), step("b", {"on_failure": "continue"}, read_only=True)], {}),
    ([{"name": "pay", "for_each": {**LOOP, "max_parallel": 5}}], {}),
    ([{"name": "pay", "for_each": {**LOOP, "items": "[1, 2]"}}], {}),
    ([{"name": "pay", "forEach": {**LOOP, "maxParallel": 5}}], {}),
    ([step("a", {"outcomes": {"ABORTED": "refused"}})], {}),
    ([{"name": "child", "saga": {"definition": "other"}}], {}),
]


@pytest.mark.parametrize(("steps", "fields"), FRESH)
def test_what_does_not_smell_is_left_alone(steps: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    assert found(*steps, **fields) == []


def test_a_smell_says_where_what_and_how_to_mend_it() -> None:
    (smell,) = smells(step("a", {"timeout": "20s"}), deadline="60s")
    assert str(smell) == (
        "steps[0].action: its 5 attempts can take 101.5 s with their pauses, and the saga's deadline is 60 s: the last ones will "
        "never be made; lower `timeout`, `max_attempts` or the backoff, or allow more time [attempts-outlast-deadline]"
    )
