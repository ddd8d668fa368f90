"""What changed between two definitions, in words, and what of it is breaking."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

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


def told(change: Callable[[dict[str, Any]], object]) -> list[str]:
    after = copy.deepcopy(ORDER)
    change(after)
    return [
        f"{'!' if each.is_breaking else ' '} {each.path}: {each.description}"
        for each in compare_definitions(ORDER, after)
    ]


def step(definition: dict[str, Any], index: int) -> Any:
    return definition["steps"][index]


def test_the_same_definition_has_not_changed() -> None:
    assert told(lambda after: None) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.update(deadline="60s"), "  deadline: is 60s, was 300s"),
        (lambda d: d.pop("deadline"), "  deadline: is gone (was 300s)"),
        (lambda d: d.update(max_parallel=3), "  max_parallel: is new: 3"),
        (
            lambda d: d.pop("output"),
            '! output: is gone (was {"id":"${steps.charge.output.id}","total":"${input.total}"})',
        ),
        (lambda d: d["output"].pop("total"), "! output.total: is gone (was ${input.total})"),
        (lambda d: d["output"].update(total="${1}"), "  output.total: is ${1}, was ${input.total}"),
        (lambda d: d["output"].update(more="${1}"), "  output.more: is new: ${1}"),
        (
            lambda d: step(d, 0)["action"].update(participant="stock"),
            "! steps.reserve.action.participant: is stock, was inventory",
        ),
        (
            lambda d: step(d, 0)["action"].update(method="Hold"),
            "! steps.reserve.action.method: is Hold, was Reserve",
        ),
        (
            lambda d: step(d, 0)["action"].pop("method"),
            "! steps.reserve.action.method: is gone (was Reserve)",
        ),
        (
            lambda d: step(d, 0)["action"].update(timeout="2s"),
            "  steps.reserve.action.timeout: is 2s, was 5s",
        ),
        (
            lambda d: step(d, 1)["action"].update(input={"method": "iban"}),
            "  steps.charge.action.input.method: is iban, was card",
        ),
        (
            lambda d: step(d, 1)["action"]["retry"].update(max_attempts=5),
            "  steps.charge.action.retry.max_attempts: is 5, was 4",
        ),
        (
            lambda d: step(d, 1).pop("compensation"),
            "! steps.charge.compensation: is gone (was payments refund)",
        ),
        (lambda d: step(d, 1).update(irreversible=True), "  steps.charge.irreversible: is new: true"),
        (
            lambda d: step(d, 1).update(when="${input.total > 0}"),
            "  steps.charge.when: is new: ${input.total > 0}",
        ),
        (
            lambda d: step(d, 1).update(what_comes_next={"a": 1}),
            '  steps.charge.what_comes_next: is new: {"a":1}',
        ),
        (lambda d: d["steps"].pop(0), "! steps.reserve: is gone"),
        (
            lambda d: d["steps"].append({"name": "ship", "action": {"participant": "post"}}),
            "  steps.ship: is new: calls post",
        ),
        (lambda d: d["steps"].reverse(), "  steps: come in another order: each_line, charge, reserve"),
        (
            lambda d: step(d, 2)["for_each"]["steps"][0]["action"].update(participant="depot"),
            "! steps.each_line.for_each.steps.pack.action.participant: is depot, was store",
        ),
        (lambda d: step(d, 2)["for_each"]["steps"].pop(), "! steps.each_line.for_each.steps.pack: is gone"),
        (
            lambda d: d.update(input_schema={"type": "object"}),
            "! input: is new: inputs that do not fit it are refused now",
        ),
    ],
)
def test_each_change_is_told(change: Callable[[dict[str, Any]], object], expected: str) -> None:
    assert told(change) == [expected]


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


DEFS_OLD = {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}
DEFS_NEW = {"$ref": "#/$defs/x", "$defs": {"x": {"type": "null"}}}
BESIDE_OLD = {**prop({"$ref": "#/$defs/x", "title": "t"}), "$defs": {"x": {"type": "string"}}}
BESIDE_NEW = {**prop({"$ref": "#/$defs/x", "title": "t"}), "$defs": {"x": {"type": "null"}}}
NOT_OLD = {**prop({"not": {"$ref": "#/$defs/x"}}), "$defs": {"x": {"type": "string"}}}
NOT_NEW = {**prop({"not": {"$ref": "#/$defs/x"}}), "$defs": {"x": {"type": "null"}}}
INLINED = prop({"type": "string"})
REFERRED = {**prop({"$ref": "#/$defs/x"}), "$defs": {"x": {"type": "string"}}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"required": ["a"]}, ["! input.a: is required now"]),
        ({"required": ["a"]}, {}, ["  input.a: is not required any more"]),
        (
            prop({"type": "string"}),
            prop({"type": "null"}),
            ["! input.a: may be no string any more", "  input.a: may be null now, too"],
        ),
        (prop({"type": "number"}), prop({"type": "integer"}), ["! input.a: may be no number any more"]),
        (prop({"type": "integer"}), prop({"type": "number"}), ["  input.a: may be number now, too"]),
        (prop({"type": "string"}), prop({"type": ["string", "null"]}), ["  input.a: may be null now, too"]),
        ({}, prop({"type": "string"}), ["  input.a: is new"]),
        (prop({}), {}, ["  input.a: is gone, and not checked any more"]),
        (
            prop({}) | {"additionalProperties": False},
            {"additionalProperties": False},
            ["! input.a: is gone, and refused now"],
        ),
        (
            {},
            {"additionalProperties": False},
            ["! input: fields that the schema does not name are refused now"],
        ),
        (
            {"additionalProperties": False},
            {},
            ["  input: fields that the schema does not name are accepted now"],
        ),
        ({}, {"additionalProperties": {"maxLength": 3}}, ["! input.*: maxLength is new: 3"]),
        (prop({"minimum": 1}), prop({"minimum": 2}), ["! input.a: minimum is 2, was 1"]),
        (prop({"minimum": 2}), prop({"minimum": 1}), ["  input.a: minimum is 1, was 2"]),
        (prop({"maxLength": 2}), prop({"maxLength": 1}), ["! input.a: maxLength is 1, was 2"]),
        (prop({"maxLength": 2}), prop({}), ["  input.a: maxLength is gone (was 2)"]),
        (
            prop({"enum": [1, 2]}),
            prop({"enum": [2, 3]}),
            ["! input.a: may not be [1] any more", "  input.a: may be [3] now, too"],
        ),
        (prop({"enum": [1]}), prop({}), ["  input.a: may be any value now"]),
        (prop({}), prop({"pattern": "^a"}), ["! input.a: pattern is new: ^a"]),
        (prop({"pattern": "^a"}), prop({"pattern": "^b"}), ["! input.a: pattern is ^b, was ^a"]),
        (prop({"format": "uuid"}), prop({}), ["  input.a: format is gone (was uuid)"]),
        (
            prop({"items": {"type": "string"}}),
            prop({"items": {"type": ["string", "null"]}}),
            ["  input.a[]: may be null now, too"],
        ),
        (prop({}), prop({"items": {"minLength": 1}}), ["! input.a[]: minLength is new: 1"]),
        (
            prop({"anyOf": [{"type": "null"}]}),
            prop({"anyOf": [{"type": "null"}, {"minLength": 1}]}),
            ["  input.a: anyOf has 2 schemas, had 1"],
        ),
        (
            prop({"anyOf": [{"type": "null"}, {"minLength": 1}]}),
            prop({"anyOf": [{"type": "null"}]}),
            ["! input.a: anyOf has 1 schemas, had 2"],
        ),
        (prop({"allOf": [{"minLength": 1}]}), prop({}), ["  input.a: allOf has 0 schemas, had 1"]),
        (
            prop({"oneOf": [{"minLength": 1}]}),
            prop({"oneOf": [{"minLength": 2}]}),
            ["! input.a.oneOf[0]: minLength is 2, was 1"],
        ),
        (prop({"title": "x"}), prop({}), ["  input.a: title changed, which refuses nothing"]),
        (prop(True), prop(False), ["! input.a: is refused now"]),
        (prop(False), prop({"type": "null"}), ["  input.a: is allowed now"]),
        (prop(True), prop({"type": "null"}), ["! input.a: must fit a schema now, and could be anything"]),
        (DEFS_OLD, DEFS_NEW, ["! input: may be no string any more", "  input: may be null now, too"]),
        (BESIDE_OLD, BESIDE_NEW, ["! input.a: may be no string any more", "  input.a: may be null now, too"]),
        (NOT_OLD, NOT_NEW, ["! input.a: what not refers to is different"]),
        (INLINED, REFERRED, []),
        (None, None, []),
        ({}, None, ["  input: is gone: any input is accepted now"]),
    ],
)
def test_input_schemas_are_compared(before: Any, after: Any, expected: list[str]) -> None:
    changes = compare_schemas(before, after, "input")
    assert [
        f"{'!' if each.is_breaking else ' '} {each.path}: {each.description}" for each in changes
    ] == expected


def test_schemas_that_refer_to_themselves_are_compared_to_an_end() -> None:
    def tree(kind: str) -> dict[str, Any]:
        return {"properties": {"children": {"items": {"$ref": "#"}}, "name": {"type": kind}}}

    assert compare_schemas(tree("string"), tree("null"), "input") == [
        Change("input.name", "may be no string any more", is_breaking=True),
        Change("input.name", "may be null now, too"),
    ]


VALUES = [
    None,
    True,
    0,
    1,
    1.5,
    7,
    "",
    "a",
    "abc",
    [],
    [1],
    [1, "a"],
    ["a", "a"],
    {},
    {"a": 1},
    {"a": "x", "b": None},
]
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
