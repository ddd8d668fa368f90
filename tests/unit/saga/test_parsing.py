"""Definitions: whatever JSON comes, either it becomes a Definition or every fault is told, with its place."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proof.core.definitions import random_source, step
from saga_coordinator.saga.definition.model import Definition, Operation, all_steps
from saga_coordinator.saga.definition.parsing import FAULTS_MAX, parse_definition
from saga_coordinator.saga.definition.parsing_actions import PAYLOAD_NESTING_MAX
from saga_coordinator.saga.words.errors import InvalidDefinition
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS
from saga_coordinator.saga.words.outcome import TEXT_BYTES_MAX
from tests.unit.saga.definition_faults import faults, faults_of
from tests.unit.saga.test_parsing_blocks import EVERYTHING


def taking(payload: Any, name: str = "a") -> dict[str, Any]:
    return step(name, action={"participant": "p", "input": payload})


def undoing(payload: Any) -> dict[str, Any]:
    return step("a", compensation={"participant": "p", "input": payload})


def retrying(policy: dict[str, Any]) -> dict[str, Any]:
    return step("a", action={"participant": "p", "retry": policy})


# Anything at all.

WORDS = """a b p item input.x steps.a.output number>1 ${item} ${input.a} ${steps.a.output} ${steps.a.output ${ $${ 5s 0s 1e9s -1s
    compensate continue pause park fail forward p.S/M paid ABORTED refused \0 \ud800"""
FIELDS = """name steps after when action compensation pivot read_only irreversible delay until await_event approval saga switch
    for_each repeat cases otherwise items as max_parallel max_passes output outcomes on_failure recovery defaults labels
    input_schema event correlation timeout on_timeout approvers show definition version participant input retry maxParallel x
    pauses retry_on max_attempts maxAttempts deadline initial_backoff max_backoff multiplier method description pending_timeout
    compensate_on_refusal \0 \ud800"""
words, fields = st.sampled_from(WORDS.split(" ")), st.sampled_from(FIELDS.split())
numbers = st.integers() | st.integers(-2, 2000) | st.floats() | st.just(10**400)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=12) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields, inner, max_size=5),
    max_leaves=30,
)
valid = st.just(EVERYTHING) | st.integers(0, 2**32).map(lambda seed: random_source(Random(seed)))


@settings(max_examples=300)
@given(anything)
def test_any_json_is_a_definition_or_a_list_of_faults(source: Any) -> None:
    assert_parses_or_tells(source)


@settings(max_examples=500)
@given(st.data(), valid)
def test_any_valid_definition_with_anything_put_in_its_place_is_too(
    data: st.DataObject, source: dict[str, Any]
) -> None:
    """Near misses reach deeper than noise does."""
    changed = copy.deepcopy(source)
    for _ in range(data.draw(st.integers(1, 4))):
        put_anything(changed, data)
    assert_parses_or_tells(changed)


def put_anything(source: Any, data: st.DataObject) -> None:
    """Replaces, adds or removes something somewhere below."""
    node = source
    while True:
        places = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not places or (isinstance(node, dict) and data.draw(st.integers(0, 9)) == 0):
            if isinstance(node, dict):
                node[data.draw(fields)] = data.draw(anything)
            return
        place = data.draw(st.sampled_from(places))
        if not isinstance(node[place], dict | list) or data.draw(st.integers(0, 4)) == 0:
            if data.draw(st.booleans()):
                node[place] = data.draw(anything)
            else:
                del node[place]
            return
        node = node[place]


def assert_parses_or_tells(source: Any) -> None:
    try:
        definition = parse_definition(source)
    except InvalidDefinition as error:
        found = error.faults
    else:
        assert [each.name for each in all_steps(definition.block)]
        return
    assert 0 < len(found) <= FAULTS_MAX + 1
    assert len(set(found)) == len(found), "each fault is told once"
    assert all(fault.description for fault in found)
    for text in (text for fault in found for text in (fault.path, fault.description)):
        assert len(text.encode()) <= TEXT_BYTES_MAX
        assert "\0" not in text


@given(valid)
def test_valid_definition_means_the_same_in_any_spelling(source: dict[str, Any]) -> None:
    """Through JSON, and with the lower camel case names that protobuf's JSON form has."""
    spelled = camel(json.loads(json.dumps(source)))
    assert described(parse_definition(spelled)) == described(parse_definition(source))


def camel(node: Any) -> Any:
    """The keys of payloads, labels and schemas are the author's."""
    kept = {"labels", "input_schema", "output", "input", "show", "outcomes"}
    if isinstance(node, list):
        return [camel(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        "".join((first, *(part.title() for part in rest))): value if name in kept else camel(value)
        for name, value in node.items()
        for first, *rest in [name.split("_")]
    }


def described(definition: Definition) -> Any:
    def action(each: Any) -> Any:
        if not isinstance(each, Operation):
            return type(each)
        template = each.input and each.input.source
        return each.participant, each.method, template, each.timeout_seconds, each.retry

    steps = [
        (
            each.name,
            each.after,
            action(each.action),
            action(each.compensation),
            each.is_pivot,
            each.on_failure,
        )
        for each in all_steps(definition.block)
    ]
    return definition.name, definition.deadline_seconds, list(definition.labels), steps


# Faults.


def test_every_fault_is_told_at_once_with_its_place() -> None:
    call = {"participant": "p"}
    found = faults(
        {"name": "Reserve", "action": call, "compensation": call},
        {"name": "charge", "action": {"participant": "pay ments", "timeout": "2"}, "compensation": call},
        {"name": "ship", "after": ["charge", "nowhere"], "action": call},
        {"name": "mail", "action": {**call, "input": "${input."}, "read_only": "yes", "colour": 1},
        step("pay", action={**call, "retry": {"max_attempts": 0.5, "multiplier": 0.1}}, irreversible=True),
        step("tell", action={**call, "input": {"a": "${steps.gone.output}"}}, pivot=True),
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
        ([retrying({"pauses": ["1s", "soon"]})], "steps[0].action.retry.pauses[1]", "must be a duration in seconds"),
        ([retrying({"pauses": ["1s"], "max_backoff": "2s"})], "steps[0].action.retry.pauses", "beside `max_backoff`"),
        ([retrying({"pauses": ["1s"] * 101})], "steps[0].action.retry.pauses", "at most 100"),
        ([retrying({"retry_on": ["UNAVAILBLE"]})], "steps[0].action.retry.retry_on[0]", "did you mean `UNAVAILABLE`"),
        ([retrying({"retry_on": ["NOT_FOUND"]})], "steps[0].action.retry.retry_on", "NOT_FOUND: unknown"),
        ([retrying({"retry_on": ["ABORTED"] * 99})], "steps[0].action.retry.retry_on", "lists 99 causes"),
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
