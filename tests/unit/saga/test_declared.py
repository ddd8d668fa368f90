"""Declared steps: what a definition gets from them, what it may not say beside them, and which changes are missed."""

from __future__ import annotations

from typing import Any

import pytest

from proof.core.story import ACTION
from saga_coordinator.saga.definition.declared import (
    breaking_changes,
    declaration_faults,
    expanded,
    used_steps,
)
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.errors import InvalidDefinition

RESERVE: dict[str, Any] = {
    "name": "reserve",
    "description": "puts goods aside",
    "action": {"method": "shop.v1.Inventory/Reserve", "timeout": "2s", "retry": {"max_attempts": 3}},
    "compensation": {"method": "shop.v1.Inventory/Release", "input": {"id": "${output.id}"}},
    "input_schema": {
        "type": "object",
        "required": ["sku"],
        "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}},
        "additionalProperties": False,
    },
}
COUNT: dict[str, Any] = {"name": "count", "action": {}, "read_only": True}
SHIP: dict[str, Any] = {"name": "ship", "action": {}}
DECLARED = {"inventory.reserve": RESERVE, "inventory.count": COUNT, "inventory.ship": SHIP}


def using(*steps: dict[str, Any]) -> dict[str, Any]:
    return expanded({"name": "order", "steps": list(steps)}, DECLARED)


def faults_of(*steps: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidDefinition) as caught:
        parse_definition(using(*steps))
    return [str(fault) for fault in caught.value.faults]


def test_a_definition_gets_what_it_does_not_say_itself() -> None:
    given = {"sku": "${input.sku}"}
    (step,) = using(
        {"name": "hold", "use": "inventory.reserve", "action": {"input": given, "timeout": "9s"}}
    )["steps"]
    assert step == {
        "name": "hold",
        "use": "inventory.reserve",
        "action": {
            "participant": "inventory",
            "method": "shop.v1.Inventory/Reserve",
            "input": given,
            "timeout": "9s",
            "retry": {"max_attempts": 3},
        },
        "compensation": {
            "participant": "inventory",
            "method": "shop.v1.Inventory/Release",
            "input": {"id": "${output.id}"},
        },
    }


def test_expanding_changes_neither_the_declaration_nor_what_was_expanded_before() -> None:
    source = {"name": "order", "steps": [{"name": "hold", "use": "inventory.reserve"}]}
    once = expanded(source, DECLARED)
    assert source["steps"] == [{"name": "hold", "use": "inventory.reserve"}]
    assert expanded(once, DECLARED) == once


def test_the_method_is_the_declared_name_and_not_that_of_the_step() -> None:
    definition = parse_definition(using({"name": "how_many", "use": "inventory.count"}))
    (step,) = definition.steps
    assert (step.operation(ACTION).method, step.is_read_only) == ("count", True)


@pytest.mark.parametrize("flag", ["pivot", "irreversible"])
def test_a_step_that_is_never_undone_leaves_the_compensation_out(flag: str) -> None:
    (step,) = parse_definition(using({"name": "hold", "use": "inventory.reserve", flag: True})).steps
    assert step.compensation is None


def test_after_the_pivot_the_declared_compensation_means_nothing() -> None:
    definition = parse_definition(
        using(
            {"name": "pay", "action": {"participant": "bank"}, "pivot": True},
            {"name": "hold", "use": "inventory.reserve"},
        )
    )
    assert definition.step("hold").compensation is None


def test_steps_in_blocks_are_expanded_too() -> None:
    hold = {"name": "hold", "use": "inventory.reserve"}
    count = {"name": "tally", "use": "inventory.count"}
    spec = {
        "name": "order",
        "steps": [
            {"name": "each", "for_each": {"items": "input.lines", "steps": [hold]}},
            {
                "name": "route",
                "switch": {
                    "cases": [{"when": "true", "steps": [count]}],
                    "otherwise": {"steps": [{**count, "name": "other"}]},
                },
            },
        ],
    }
    assert used_steps(spec) == {"inventory.reserve", "inventory.count"}
    assert parse_definition(expanded(spec, DECLARED)).participants == {"inventory"}


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (
            {"use": "inventory.pack"},
            "steps[0].use: participant `inventory` has declared no step `inventory.pack`",
        ),
        ({"use": "inventory.pack"}, "it has: inventory.count, inventory.reserve, inventory.ship"),
        ({"use": "inventory.reserve", "action": {"method": "x"}}, "steps[0].action.method: is `x`"),
        ({"use": "inventory.reserve", "action": {"participant": "x"}}, "steps[0].action.participant: is `x`"),
        ({"use": "inventory.reserve", "action": "x"}, "steps[0].action: must be an object"),
        ({"use": "inventory.reserve", "compensation": {"method": "x"}}, "steps[0].compensation.method"),
        ({"use": "inventory.reserve", "action": {"input": {"qty": "${input.n}"}}}, "lacks `sku`"),
        ({"use": "inventory.reserve", "action": {"input": {"sku": "${input.s}", "qty": 1}}}, "has `qty`"),
        ({"use": "inventory.reserve", "action": {"input": {"sku": 7}}}, "steps[0].action.input.sku"),
        ({"use": "inventory.reserve", "delay": "1s"}, "cannot stand beside"),
        ({"use": "inventory.ship"}, "steps[0].compensation: is missing"),
    ],
)
def test_what_does_not_fit(step: dict[str, Any], says: str) -> None:
    assert any(says in fault for fault in faults_of({"name": "a", **step}))


def test_without_a_coordinator_a_use_means_nothing() -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse_definition({"name": "order", "steps": [{"name": "a", "use": "inventory.reserve"}]})
    (fault,) = caught.value.faults
    assert fault.path == "steps[0].use"
    assert "only a coordinator knows" in fault.description


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": "Reserve"}, "steps[0].name"),
        ({"action": {"input": 1}}, "steps[0].action.input"),
        ({"action": {"participant": "other"}}, "steps[0].action.participant"),
        ({"action": {"timeout": "soon"}}, "steps[0].action.timeout"),
        ({"compensation": {"input": "${steps.other.output}"}}, "steps[0].compensation.input"),
        ({"input_schema": {"type": "objekt"}}, "steps[0].input_schema.type"),
        ({"output_schema": {"type": 1}}, "steps[0].output_schema.type"),
    ],
)
def test_faults_of_a_declaration(change: dict[str, Any], path: str) -> None:
    found = declaration_faults("inventory", [{**RESERVE, **change}])
    assert path in [fault.path for fault in found]
    assert declaration_faults("inventory", DECLARED.values()) == []
    assert [fault.path for fault in declaration_faults("inventory", [SHIP, SHIP])] == ["steps[1].name"]


def test_what_is_missed() -> None:
    wider = {**RESERVE, "input_schema": {"type": "object"}, "action": {"method": "other"}}
    assert breaking_changes(DECLARED, {**DECLARED, "inventory.reserve": wider, "inventory.new": SHIP}) == {}
    narrower = {**RESERVE, "input_schema": {**RESERVE["input_schema"], "required": ["sku", "quantity"]}}
    undone = {key: value for key, value in RESERVE.items() if key != "compensation"}
    for changed, says in (
        ({"inventory.reserve": narrower}, "takes less"),
        ({"inventory.reserve": undone}, "no compensation"),
    ):
        (missed,) = breaking_changes(DECLARED, {**DECLARED, **changed}).items()
        assert missed[0] == "inventory.reserve"
        assert says in missed[1]
    assert breaking_changes(DECLARED, {}) == dict.fromkeys(DECLARED, "is gone")
