"""What changed between two definitions, in words, and what of it is breaking."""

from __future__ import annotations

import copy
import functools
import operator
from typing import Any, cast

import pytest

from saga_coordinator.saga.definition.diff import compare_definitions
from saga_coordinator.saga.schema.diff import compare_schemas
from saga_coordinator.saga.schema.input_schema import compile_schema
from saga_coordinator.saga.words.change import Change
from saga_coordinator.saga.words.errors import Fault

ORDER: dict[str, Any] = {
    "name": "order",
    "deadline": "300s",
    "output": {"id": "${steps.charge.output.id}", "total": "${input.total}"},
    "steps": [
        {
            "name": "reserve",
            "action": {"participant": "inventory", "method": "Reserve", "timeout": "5s"},
            "compensation": {"participant": "inventory", "method": "Release"},
        },
        {
            "name": "charge",
            "action": {"participant": "payments", "input": {"method": "card"}, "retry": {"max_attempts": 4}},
            "compensation": {"participant": "payments", "method": "refund"},
        },
        {
            "name": "each_line",
            "for_each": {
                "items": "${input.lines}",
                "steps": [{"name": "pack", "action": {"participant": "store"}}],
            },
        },
    ],
}


GONE = object()
"""In the place of a value: there is none any more."""


def changed(place: str, value: object) -> dict[str, Any]:
    """The order with another value at that place."""
    after: Any = copy.deepcopy(ORDER)
    *way, last = [int(name) if name.isdigit() else name for name in place.split(".")]
    holder = functools.reduce(operator.getitem, way, after)
    if value is GONE:
        del holder[last]
    else:
        holder[last] = value
    return cast("dict[str, Any]", after)


def told(changes: list[Change]) -> list[str]:
    return [f"{'!' if each.is_breaking else ' '} {each.path}: {each.description}" for each in changes]


def test_the_same_definition_has_not_changed() -> None:
    assert compare_definitions(ORDER, copy.deepcopy(ORDER)) == []


STEPS = ORDER["steps"]
OUTPUT = '{"id":"${steps.charge.output.id}","total":"${input.total}"}'
SHIP = {"name": "ship", "action": {"participant": "post"}}


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("deadline", "60s", "  deadline: is 60s, was 300s"),
        ("deadline", GONE, "  deadline: is gone (was 300s)"),
        ("max_parallel", 3, "  max_parallel: is new: 3"),
        ("output", GONE, f"! output: is gone (was {OUTPUT})"),
        ("output.total", GONE, "! output.total: is gone (was ${input.total})"),
        ("output.total", "${1}", "  output.total: is ${1}, was ${input.total}"),
        ("output.more", "${1}", "  output.more: is new: ${1}"),
        ("steps.0.action.participant", "s", "! steps.reserve.action.participant: is s, was inventory"),
        ("steps.0.action.method", "Hold", "! steps.reserve.action.method: is Hold, was Reserve"),
        ("steps.0.action.method", GONE, "! steps.reserve.action.method: is gone (was Reserve)"),
        ("steps.0.action.timeout", "2s", "  steps.reserve.action.timeout: is 2s, was 5s"),
        ("steps.1.action.input.method", "iban", "  steps.charge.action.input.method: is iban, was card"),
        ("steps.1.action.retry.max_attempts", 5, "  steps.charge.action.retry.max_attempts: is 5, was 4"),
        ("steps.1.compensation", GONE, "! steps.charge.compensation: is gone (was payments refund)"),
        ("steps.1.irreversible", True, "  steps.charge.irreversible: is new: true"),
        ("steps.1.when", "${input.total > 0}", "  steps.charge.when: is new: ${input.total > 0}"),
        ("steps.1.what_comes_next", {"a": 1}, '  steps.charge.what_comes_next: is new: {"a":1}'),
        ("steps.0", GONE, "! steps.reserve: is gone"),
        ("steps", [*STEPS, SHIP], "  steps.ship: is new: calls post"),
        ("steps", STEPS[::-1], "  steps: come in another order: each_line, charge, reserve"),
        (
            "steps.2.for_each.steps.0.action.participant",
            "depot",
            "! steps.each_line.for_each.steps.pack.action.participant: is depot, was store",
        ),
        ("steps.2.for_each.steps.0", GONE, "! steps.each_line.for_each.steps.pack: is gone"),
        ("input_schema", {"type": "object"}, "! input: is new: inputs that do not fit it are refused now"),
    ],
)
def test_each_change_is_told(place: str, value: object, expected: str) -> None:
    assert told(compare_definitions(ORDER, changed(place, value))) == [expected]


def test_cases_of_a_switch_are_compared_by_their_place() -> None:
    def switch(*conditions: str) -> dict[str, Any]:
        cases = [{"when": when, "steps": [{"name": f"s{n}"}]} for n, when in enumerate(conditions)]
        return {"name": "order", "steps": [{"name": "choose", "switch": {"cases": cases}}]}

    assert compare_definitions(switch("${a}", "${b}"), switch("${a}", "${c}", "${d}")) == [
        Change("steps.choose.switch.cases[1].when", "is ${c}, was ${b}"),
        Change("steps.choose.switch.cases[2]", "is new"),
    ]
    (gone,) = compare_definitions(switch("${a}", "${b}"), switch("${a}"))
    assert gone == Change("steps.choose.switch.cases[1]", "is gone", is_breaking=True)


def prop(schema: Any) -> dict[str, Any]:
    return {"properties": {"a": schema}}


def with_x(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "$defs": {"x": {"type": kind}}}


REF = {"$ref": "#/$defs/x"}
NARROWER_AND_WIDER = ["! may be no string any more", "  may be null now, too"]
SHORT = {"minLength": 1}
CLOSED = {"additionalProperties": False}
BESIDE, NOT = prop({**REF, "title": "t"}), prop({"not": REF})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"type": "string"}, {"type": "null"}, NARROWER_AND_WIDER),
        ({"type": "number"}, {"type": "integer"}, ["! may be no number any more"]),
        ({"type": "integer"}, {"type": "number"}, ["  may be number now, too"]),
        ({"type": "string"}, {"type": ["string", "null"]}, ["  may be null now, too"]),
        ({"minimum": 1}, {"minimum": 2}, ["! minimum is 2, was 1"]),
        ({"minimum": 2}, {"minimum": 1}, ["  minimum is 1, was 2"]),
        ({"maxLength": 2}, {"maxLength": 1}, ["! maxLength is 1, was 2"]),
        ({"maxLength": 2}, {}, ["  maxLength is gone (was 2)"]),
        ({"enum": [1, 2]}, {"enum": [2, 3]}, ["! may not be [1] any more", "  may be [3] now, too"]),
        ({"enum": [1]}, {}, ["  may be any value now"]),
        ({}, {"pattern": "^a"}, ["! pattern is new: ^a"]),
        ({"pattern": "^a"}, {"pattern": "^b"}, ["! pattern is ^b, was ^a"]),
        ({"format": "uuid"}, {}, ["  format is gone (was uuid)"]),
        (
            {"items": {"type": "string"}},
            {"items": {"type": ["string", "null"]}},
            ["  []: may be null now, too"],
        ),
        ({}, {"items": SHORT}, ["! []: minLength is new: 1"]),
        ({"anyOf": [True]}, {"anyOf": [True, SHORT]}, ["  anyOf has 2 schemas, had 1"]),
        ({"anyOf": [True, SHORT]}, {"anyOf": [True]}, ["! anyOf has 1 schemas, had 2"]),
        ({"allOf": [SHORT]}, {}, ["  allOf has 0 schemas, had 1"]),
        ({"oneOf": [SHORT]}, {"oneOf": [{"minLength": 2}]}, ["! .oneOf[0]: minLength is 2, was 1"]),
        ({"title": "x"}, {}, ["  title changed, which refuses nothing"]),
        (True, False, ["! is refused now"]),
        (False, {"type": "null"}, ["  is allowed now"]),
        (True, {"type": "null"}, ["! must fit a schema now, and could be anything"]),
    ],
)
def test_schemas_of_a_field_are_compared(before: Any, after: Any, expected: list[str]) -> None:
    changes = told(compare_schemas(prop(before), prop(after), "input"))
    assert [each.replace("input.a: ", "").replace("input.a", "") for each in changes] == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"required": ["a"]}, ["! input.a: is required now"]),
        ({"required": ["a"]}, {}, ["  input.a: is not required any more"]),
        ({}, prop({"type": "string"}), ["  input.a: is new"]),
        (prop({}), {}, ["  input.a: is gone, and not checked any more"]),
        (prop({}) | CLOSED, CLOSED, ["! input.a: is gone, and refused now"]),
        ({}, CLOSED, ["! input: fields that the schema does not name are refused now"]),
        (CLOSED, {}, ["  input: fields that the schema does not name are accepted now"]),
        ({}, {"additionalProperties": {"maxLength": 3}}, ["! input.*: maxLength is new: 3"]),
        (with_x("number", REF), with_x("integer", REF), ["! input: may be no number any more"]),
        (with_x("integer", BESIDE), with_x("number", BESIDE), ["  input.a: may be number now, too"]),
        (with_x("number", NOT), with_x("integer", NOT), ["! input.a: what not refers to is different"]),
        (prop({"type": "string"}), with_x("string", prop(REF)), []),
        (None, None, []),
        ({}, None, ["  input: is gone: any input is accepted now"]),
    ],
)
def test_input_schemas_are_compared(before: Any, after: Any, expected: list[str]) -> None:
    assert told(compare_schemas(before, after, "input")) == expected


def test_schemas_that_refer_to_themselves_are_compared_to_an_end() -> None:
    def tree(kind: str) -> dict[str, Any]:
        return {"properties": {"children": {"items": {"$ref": "#"}}, "name": {"type": kind}}}

    assert compare_schemas(tree("string"), tree("null"), "input") == [
        Change("input.name", "may be no string any more", is_breaking=True),
        Change("input.name", "may be null now, too"),
    ]


PLAIN = [None, True, 0, 1, 1.5, 7, "", "a", "abc"]
VALUES = [*PLAIN, [], [1], [1, "a"], ["a", "a"], {}, {"a": 1}, {"a": "x", "b": None}]
SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "string"},
    {"type": ["integer", "null"]},
    {"type": "number", "minimum": 1},
    {"minimum": 1, "maximum": 3},
    {"exclusiveMaximum": 3},
    {"enum": [1, "a", None]},
    {"const": "a"},
    {"items": {"type": "integer"}},
    {"items": {"type": ["integer", "string"]}, "minItems": 1},
    {"uniqueItems": True},
    {"required": ["a"]},
    {"properties": {"a": {"type": "integer"}}, "additionalProperties": False},
    {"properties": {"a": {"type": "integer"}}},
    {"additionalProperties": {"type": "null"}},
    {"anyOf": [{"type": "string"}, {"minimum": 1}]},
    {"oneOf": [{"type": "string"}, {"minimum": 1}, {"type": "null"}]},
    {"allOf": [{"type": "string"}, {"minLength": 1}]},
    {"not": {"type": "string"}},
    {"contains": {"type": "integer"}, "minContains": 0},
    {"contains": {"type": "integer"}},
    {"if": {"type": "string"}, "then": {"minLength": 2}},
    {"prefixItems": [{"type": "integer"}]},
    {"pattern": "^a$"},
    {"dependentRequired": {"a": ["b"]}},
]


def _takes(schema: dict[str, Any], value: Any) -> bool:
    faults: list[Fault] = []
    compiled = compile_schema({"properties": {"x": schema}}, "input_schema", faults)
    assert compiled is not None, faults
    return not compiled.faults({"x": value})


@pytest.mark.parametrize("before", SCHEMAS, ids=str)
def test_a_change_that_is_not_breaking_refuses_nothing_that_was_taken(before: dict[str, Any]) -> None:
    """But for one thing, which docs/versions.md says: a field that is new may have been sent before, and be refused now."""
    taken = [value for value in VALUES if _takes(before, value)]
    for after in SCHEMAS:
        changes = compare_schemas(before, after, "input")
        if any(each.is_breaking or each.description == "is new" for each in changes):
            continue
        refused = [value for value in taken if not _takes(after, value)]
        assert not refused, (after, changes)
