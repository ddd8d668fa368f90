"""Made-up inputs and outputs: they fit what reads them, what is given stays as it is, and a schema's sketch fits the schema."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest

from proof.core.definitions import definition, random_source, step
from saga_coordinator.rehearsal.answers import make_answers
from saga_coordinator.rehearsal.pattern import text_matching
from saga_coordinator.rehearsal.scenarios import simulate
from saga_coordinator.rehearsal.schema import sketch_of
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.schema.input_schema import compile_schema
from saga_coordinator.saga.words.errors import Fault


def reading(expression: str, **fields: Any) -> Definition:
    return definition(step("a", action={"participant": "p", "input": expression}, **fields))


def made_up(source: Definition) -> Any:
    return make_answers(source).input.value()


def test_fields_that_are_read_are_there() -> None:
    source = reading("${input.customer.name} ${input.customer.is_new} ${input.total_cents}")
    assert made_up(source) == {"customer": {"name": "name", "is_new": True}, "total_cents": 100}
    assert made_up(definition(step("a"))) == {}


@pytest.mark.parametrize(
    "condition",
    [
        "input.amount > 1000",
        "input.tier == 'gold'",
        "input.is_vip && input.lines.size() > 1",
        "input.lines.all(line, line.quantity >= 3)",
        "input.name.startsWith('Mr')",
        "timestamp(input.at) < timestamp('2030-01-01T00:00:00Z')",
        "has(input.note) && input.note != ''",
        "input.x in ['a', 'b']",
    ],
)
def test_conditions_hold(condition: str) -> None:
    source = definition(step("a", when=condition))
    answers = make_answers(source)
    assert answers.unsolved == []
    happy = simulate(source, answers, in_pairs=False, limit=1, is_forcing=False).stories[0]
    assert [call.name for call in happy.calls] == ["a"]


def test_lists_have_items_with_what_is_read_of_them() -> None:
    loop = {
        "name": "pay",
        "for_each": {
            "items": "input.people",
            "as": "person",
            "steps": [step("send", action={"participant": "p", "input": "${person.iban}"})],
        },
    }
    source = definition(loop)
    answers = make_answers(source)
    assert [set(person) for person in answers.input.value()["people"]] == [{"iban"}] * 2
    happy = simulate(source, answers, in_pairs=False, limit=1, is_forcing=False).stories[0]
    assert [call.invoke.input for call in happy.calls] == ["iban-1", "iban-2"]


def test_outputs_are_made_up_from_what_later_steps_read() -> None:
    source = definition(
        step("a"), step("b", action={"participant": "p", "input": {"id": "${steps.a.output.order.id}"}})
    )
    assert make_answers(source).output("a") == {"order": {"id": "id"}}


def test_what_is_given_is_taken_as_it_is() -> None:
    source = reading("${input.a} ${input.b}")
    assert make_answers(source, given_input={"a": 1}).input.value() == {"a": 1}
    assert make_answers(source, sketch={"a": 1}).input.value() == {"a": 1, "b": "b"}
    assert make_answers(source, outputs={"a": [7]}).output("a") == [7]


@pytest.mark.parametrize("seed", range(40))
def test_most_sagas_run_to_their_end_on_what_was_made_up(seed: int) -> None:
    source = parse_definition(random_source(Random(seed), flat_share=0.0))
    answers = make_answers(source)
    happy = simulate(source, answers, in_pairs=False, limit=1, is_forcing=True).stories[0]
    assert happy.end in (SagaStatus.COMPLETED, SagaStatus.NEEDS_ATTENTION)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 5, "maximum": 7}},
        "required": ["n"],
    },
    {"type": "object", "properties": {"n": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5}}},
    {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 7, "minimum": 10}}},
    {"type": "object", "properties": {"n": {"type": "integer", "maximum": -3}}},
    {"properties": {"l": {"items": {"enum": ["x", "y"]}, "minItems": 3}}, "required": ["l"]},
    {"properties": {"l": {"type": "array", "maxItems": 1, "items": {"type": "boolean"}}}},
    {
        "properties": {"l": {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False}},
        "required": ["l"],
    },
    {
        "properties": {
            "when": {"type": "string", "format": "date-time"},
            "mail": {"type": "string", "format": "email"},
        }
    },
    {"properties": {"s": {"type": "string", "minLength": 9}, "t": {"type": "string", "maxLength": 1}}},
    {
        "properties": {
            "c": {"const": {"x": 1}},
            "d": {"default": 5},
            "e": {"examples": ["E-1"], "pattern": "^E-"},
        }
    },
    {"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "integer"}}}], "type": "object"},
    {
        "type": "object",
        "properties": {"v": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["v"],
    },
    {"type": ["object", "null"], "properties": {"v": {"type": ["integer", "null"]}}},
    {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/tree"}},
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/tree"}, "name": {"type": "string"}},
            }
        },
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_sketch_fits_its_schema(schema: dict[str, Any]) -> None:
    faults: list[Fault] = []
    compiled = compile_schema(schema, "input_schema", faults)
    assert compiled is not None, faults
    assert compiled.faults(sketch_of(schema)) == []


@pytest.mark.parametrize(
    "pattern",
    [
        "^[0-9]{4}-[0-9]{2}$",
        "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$",
        r"^\d+(\.\d{2})?$",
        "^(EUR|USD)$",
        "^order-[a-z]+?-x*$",
        "^(?:a|b){3}c$",
        "^[^a-z]+$",
        "^[^0-9a-zA-Z]$",
        r"^[\w.-]+@[\w.]+$",
        "",
        "plain",
    ],
)
def test_a_text_matches_its_pattern(pattern: str) -> None:
    text = text_matching(pattern)
    assert text is not None
    assert re.search(pattern, text)


@pytest.mark.parametrize("pattern", [r"^\p{L}+$", "(?i)x", "[a", "(a", "a)"])
def test_an_involved_pattern_is_left_alone(pattern: str) -> None:
    assert text_matching(pattern) is None
