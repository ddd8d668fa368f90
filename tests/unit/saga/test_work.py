"""Budgets of work, and what checking a definition or a declaration may take of it."""

from __future__ import annotations

from typing import Any

import pytest

from saga_coordinator.saga.definition.declared import declaration_faults, expanded
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.errors import InvalidDefinition
from saga_coordinator.saga.words.limits import DEFINITION_BYTES_MAX, Limits
from saga_coordinator.saga.words.work import DEFINITION_WORK_MAX, TooMuchWork, budget, spend
from tests.unit.saga.definition_faults import faults_of


def test_what_is_spent_comes_out_of_the_budgets_around_it_too() -> None:
    with budget(100) as outer:
        spend(10)
        with budget(50) as inner:
            spend(30)
            assert inner.left == 20
        assert outer.left == 60
        with pytest.raises(TooMuchWork, match="more than 50 units"), budget(50):
            spend(51)
        assert outer.left == 9
        with pytest.raises(TooMuchWork, match="more than 100 units"), budget(50):
            spend(10)
    spend(10**9)  # nobody counts


def _with_input(payload: Any) -> dict[str, Any]:
    action = {"participant": "shop", "method": "m", "input": payload}
    return {"name": "order", "steps": [{"name": "sell", "action": action, "irreversible": True}]}


def test_a_definition_of_too_many_expressions_is_refused_with_the_limit() -> None:
    (said,) = faults_of(
        _with_input([f"${{input.a + input.b + {number}}}" for number in range(29_000)])
    ).values()
    assert f"takes more than {DEFINITION_WORK_MAX} units of work to check" in said


def test_the_work_of_a_definition_is_the_same_wherever_it_is_counted() -> None:
    definition = _with_input([f"${{input.a + {number}}}" for number in range(50)])
    spent = []
    for _ in range(2):
        with budget(10**9) as given:
            assert isinstance(parse_definition(definition), Definition)
        spent.append(10**9 - given.left)
    assert spent[0] == spent[1] > 50 * 100


def test_a_definition_of_too_many_bytes_is_refused_with_the_limit() -> None:
    (said,) = faults_of(_with_input("x" * DEFINITION_BYTES_MAX)).values()
    assert f"{DEFINITION_BYTES_MAX} is the limit" in said
    (said,) = faults_of(_with_input([[1] * 15_000, {str(key): key for key in range(15_000)}])).values()
    assert "more than 30000 items and fields" in said


def test_a_definition_that_was_registered_before_stays_valid() -> None:
    large = _with_input(["x" * DEFINITION_BYTES_MAX, *(f"${{input.a{number}}}" for number in range(20))])
    assert parse_definition(large, Limits().for_registered()).name == "order"


LARGE = {"properties": {f"p{number}": {"type": "string", "maxLength": 10} for number in range(1_000)}}


def _declared(name: str, schema: Any) -> dict[str, Any]:
    return {"name": name, "action": {}, "irreversible": True, "input_schema": schema}


def test_declarations_of_too_large_schemas_are_refused_with_the_limit() -> None:
    assert declaration_faults("shop", [_declared(f"sell_{number}", LARGE) for number in range(10)]) == []
    faults = declaration_faults("shop", [_declared(f"sell_{number}", LARGE) for number in range(200)])
    assert [fault.path for fault in faults] == ["steps"]
    assert f"takes more than {DEFINITION_WORK_MAX} units of work" in faults[0].description


def test_using_a_large_declared_step_time_and_again_is_refused_with_the_limit() -> None:
    steps = [
        {"name": f"sell_{number}", "use": "shop.sell", "action": {"input": {"p1": "x"}}}
        for number in range(200)
    ]
    declared = {"shop.sell": _declared("sell", LARGE)}
    with pytest.raises(
        InvalidDefinition, match=f"takes more than {DEFINITION_WORK_MAX} units of work to fill in"
    ):
        expanded({"name": "order", "steps": steps}, declared)
