"""Definitions: whatever JSON comes, either it becomes a Definition or every fault is told, with its place."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proof.core.definitions import random_source, step
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import FAULTS_MAX, parse_definition
from saga_coordinator.saga.definition.parsing_actions import PAYLOAD_NESTING_MAX
from saga_coordinator.saga.words.errors import InvalidDefinition
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS
from saga_coordinator.saga.words.outcome import TEXT_BYTES_MAX


def faults(*steps: Any, **fields: Any) -> dict[str, str]:
    return faults_of({"name": "order", "steps": list(steps), **fields})


def faults_of(source: Any) -> dict[str, str]:
    with pytest.raises(InvalidDefinition) as caught:
        parse_definition(source)
    return {fault.path: fault.description for fault in caught.value.faults}


def taking(payload: Any, name: str = "a") -> dict[str, Any]:
    return step(name, action={"participant": "p", "input": payload})


def undoing(payload: Any) -> dict[str, Any]:
    return step("a", compensation={"participant": "p", "input": payload})


def retrying(policy: dict[str, Any]) -> dict[str, Any]:
    return step("a", action={"participant": "p", "retry": policy})


# Anything at all.

texts = st.text(max_size=12) | st.sampled_from(
    ["${input.a}", "${steps.a.output", "$${", "5s", "1e9s", "-1s", "a", "b", "p", "\0", "\ud800"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400)
FIELDS = """name steps after action compensation participant input retry max_attempts maxAttempts timeout deadline pivot read_only
    initial_backoff max_backoff multiplier irreversible method description pending_timeout compensate_on_refusal x \0 \ud800"""
keys = st.sampled_from(FIELDS.split())
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=150)
@given(anything)
def test_any_json_is_a_definition_or_a_list_of_faults(source: Any) -> None:
    assert_parses_or_tells(source)


@settings(max_examples=200)
@given(st.data(), st.integers(0, 2**32))
def test_any_valid_definition_with_anything_put_in_its_place_is_too(data: st.DataObject, seed: int) -> None:
    """Near misses reach deeper than noise does."""
    source = random_source(Random(seed), flat_share=1.0)
    for _ in range(data.draw(st.integers(1, 4))):
        node: Any = source
        while True:
            places = list(node) if isinstance(node, dict) else list(range(len(node)))
            place = data.draw(st.sampled_from(places)) if places else None
            if place is None:
                break
            if not isinstance(node[place], dict | list) or data.draw(st.booleans()):
                node[place] = data.draw(anything)
                break
            node = node[place]
    assert_parses_or_tells(source)


def assert_parses_or_tells(source: Any) -> None:
    try:
        parsed = parse_definition(source)
    except InvalidDefinition as error:
        found = error.faults
    else:
        assert isinstance(parsed, Definition)
        return
    assert 0 < len(found) <= FAULTS_MAX + 1
    assert len(set(found)) == len(found), "each fault is told once"
    for text in (text for fault in found for text in (fault.path, fault.description)):
        assert len(text.encode()) <= TEXT_BYTES_MAX
        assert "\0" not in text


@given(st.integers(0, 2**32))
def test_valid_definition_means_the_same_in_any_spelling(seed: int) -> None:
    """Through JSON, and with the lower camel case names that protobuf's JSON form has."""
    source = random_source(Random(seed), flat_share=1.0)
    parsed = parse_definition(source)
    again = parse_definition(camel(json.loads(json.dumps(source))))
    assert described(again) == described(parsed)
    assert parsed.participants == {"p"}
    for each in parsed.steps:
        assert all(other in [earlier.name for earlier in parsed.steps] for other in each.after)


def camel(node: Any) -> Any:
    if isinstance(node, list):
        return [camel(each) for each in node]
    if not isinstance(node, dict):
        return node
    head = {name: name.split("_")[0] + "".join(part.title() for part in name.split("_")[1:]) for name in node}
    return {head[name]: value if name == "input" else camel(value) for name, value in node.items()}


def described(definition: Definition) -> Any:
    def operation(each: Any) -> Any:
        return each and (
            each.participant,
            each.method,
            each.input and each.input.source,
            each.timeout_seconds,
            each.retry,
        )

    return (
        definition.name,
        definition.deadline_seconds,
        [
            (
                each.name,
                each.after,
                operation(each.action),
                operation(each.compensation),
                each.is_pivot,
                each.is_read_only,
            )
            for each in definition.steps
        ],
    )


# Faults.


def test_every_fault_is_told_at_once_with_its_place() -> None:
    found = faults(
        {
            "name": "Reserve",
            "action": {"participant": "inventory"},
            "compensation": {"participant": "inventory"},
        },
        {
            "name": "charge",
            "action": {"participant": "pay ments", "timeout": "2"},
            "compensation": {"participant": "p"},
        },
        {"name": "ship", "after": ["charge", "nowhere"], "action": {"participant": "p"}},
        {
            "name": "mail",
            "action": {"participant": "p", "input": "${input."},
            "read_only": "yes",
            "colour": 1,
        },
        {
            "name": "pay",
            "action": {"participant": "p", "retry": {"max_attempts": 0.5, "multiplier": 0.1}},
            "irreversible": True,
        },
        {
            "name": "tell",
            "action": {"participant": "p", "input": {"a": "${steps.gone.output}"}},
            "pivot": True,
        },
        description=7,
        deadline="0s",
    )
    assert found.keys() == {
        "description",
        "deadline",
        "steps[0].name",
        "steps[1].action.participant",
        "steps[1].action.timeout",
        "steps[2].after[1]",
        "steps[3].read_only",
        "steps[3].colour",
        "steps[3].action.input",
        "steps[4].action.retry.max_attempts",
        "steps[4].action.retry.multiplier",
        "steps[5].action.input",
    }
    assert all(found.values())


def test_faulty_order_hides_no_other_fault_and_invents_none() -> None:
    """Without an order nobody can tell what comes after the pivot, so nothing is said about that."""
    found = faults(
        step("reserve", after=["shipping"]),
        step("pay", after=["reserve"], pivot=True),
        {"name": "ship", "after": ["pay"], "action": {"participant": "p", "input": "${nothing.x}"}},
    )
    assert found.keys() == {"steps[0].after[0]", "steps[2].action.input"}


def test_cycle_is_shown_as_one_walks_it() -> None:
    found = faults(
        step("a"),
        step("b", after=["a", "d"]),
        step("c", after=["b"]),
        step("d", after=["c"]),
        step("e", after=["d"]),
    )
    assert found == {"steps[1].after": "is a cycle: b after d after c after b"}


@pytest.mark.parametrize(
    ("steps", "path", "message"),
    [
        ([step("a"), step("a")], "steps[1].name", "is the name of an earlier step too"),
        ([step("a", after=["a"])], "steps[0].after[0]", "cannot come after itself"),
        ([step("a"), step("b", after=["a", "a"])], "steps[1].after[1]", "is listed twice"),
        ([step("a", after=[["a"]])], "steps[0].after[0]", "must be the name of a step"),
        ([step("a", after=["a"] * 201)], "steps[0].after", "lists 201 steps"),
        ([{}, {}], "steps[1].name", "is required"),
        ([{"name": "a", "action": {"participant": "p"}}], "steps[0].compensation", "is missing"),
        ([step("a", pivot=True, compensation={"participant": "p"})], "steps[0].compensation", "is the pivot"),
        ([step("a", pivot=True), step("b")], "steps[1].compensation", "comes after the pivot"),
        ([step("a", pivot=True), step("b", pivot=True)], "steps", "several pivots (a, b)"),
        ([step("a"), step("b", after=["a"]), step("c", after=["a"], pivot=True)], "steps", "`b` may run beside the pivot"),
        ([step("a", read_only=True, compensate_on_refusal=True)], "steps[0].compensate_on_refusal", "needs a compensation"),
        ([step("a", action={"participant": "p", "method": "/shop.v1.A/B"})], "steps[0].action.method", "is no full gRPC"),
        ([step("a", action={"participant": "p", "method": "shop..A/B"})], "steps[0].action.method", "is no full gRPC"),
        ([taking({1: 2})], "steps[0].action.input", "key that is not a string"),
        ([taking(10**400)], "steps[0].action.input", "no double can hold"),
        ([taking("\ud800")], "steps[0].action.input", "lone surrogates"),
        ([taking("a\0")], "steps[0].action.input", "NUL"),
        ([taking("${saga.id.x}")], "steps[0].action.input", "must be `saga.id`"),
        ([taking("${output}")], "steps[0].action.input", "refers to `output`"),
        ([undoing("${failure.why}")], "steps[0].compensation.input", "must be `failure`"),
        ([undoing("${steps.a.output}")], "steps[0].compensation.input", "not sure to have ended"),
        ([step("a"), taking("${steps.a}", "b")], "steps[1].action.input", "must have the form"),
        ([retrying({"max_attempts": False})], "steps[0].action.retry.max_attempts", "must be a number"),
        ([retrying({"max_attempts": 10**400})], "steps[0].action.retry.max_attempts", "must be a number"),
        ([retrying({"maxAttempts": 1, "max_attempts": 2})], "steps[0].action.retry.max_attempts", "is given twice"),
        ([step("a", action={"participant": "p", "timeout": "٣s"})], "steps[0].action.timeout", "must be a duration"),
        ([step("a", action={"participant": "p", "pending_timeout": "9e9s"})], "steps[0].action.pending_timeout", "duration"),
        ([step("a")], "deadline", 'between "0.001s" and "316224000s"'),
    ],
)  # fmt: skip
def test_fault_says_what_is_wrong_and_where(steps: list[Any], path: str, message: str) -> None:
    assert message in faults(*steps, **({"deadline": "999999999s"} if path == "deadline" else {}))[path]


@pytest.mark.parametrize(
    "source", [None, 7, "name: order", [], {"name": "order"}, {"name": "order", "steps": {}}]
)
def test_what_is_no_definition_at_all_is_told_so(source: Any) -> None:
    assert faults_of(source)


def test_number_of_steps_is_limited() -> None:
    assert "1 to 200" in faults(*[step(f"s{index}") for index in range(DEFAULT_LIMITS.steps + 1)])["steps"]


def test_largest_definition_is_parsed_without_delay() -> None:
    """Every step after all earlier ones: 19,900 edges, which a careless closure takes seconds for."""
    names = [f"s{index}" for index in range(DEFAULT_LIMITS.steps)]
    steps = [step(name, after=names[:index]) for index, name in enumerate(names)]
    parsed = parse_definition({"name": "order", "steps": steps})
    assert parsed.block.dependents["s0"] == set(names[1:])


def test_flood_of_faults_is_cut() -> None:
    found = faults(step("a", **{f"field{index}": 1 for index in range(FAULTS_MAX + 50)}))
    assert len(found) == FAULTS_MAX + 1
    assert found[""] == "has 50 more faults; mend these first"


def test_payload_may_be_nested_and_not_endlessly() -> None:
    payload: Any = "core"
    for _ in range(PAYLOAD_NESTING_MAX - 1):
        payload = [payload]
    parse_definition({"name": "order", "steps": [taking(payload)]})
    found = faults(step("a", action={"participant": "p", "input": [payload]}))
    assert "nested deeper" in found["steps[0].action.input"]
