"""Expressions that are a field by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from saga_coordinator.saga.expressions.condition import (
    compile_condition,
    evaluate_condition,
    evaluate_instant,
    evaluate_list,
)
from saga_coordinator.saga.expressions.expression import Expression
from saga_coordinator.saga.words.errors import ExpressionError, Fault

SCOPE: dict[str, Any] = {
    "input": {"n": 3, "lines": [1, 2], "at": "2026-01-31T09:00:00.5+01:00", "name": "Ada"}
}


def compiled(text: str) -> Expression:
    faults: list[Fault] = []
    expression = compile_condition(text, "when", faults)
    assert expression is not None, faults
    return expression


@pytest.mark.parametrize(
    "text", ["input.n > 2", "${input.n > 2}", "  ${ input.n > 2 }\n", "${{'a': input.n}.a > 2}"]
)
def test_condition_is_bare_or_wrapped(text: str) -> None:
    assert evaluate_condition(compiled(text), SCOPE) is True


@pytest.mark.parametrize(
    "text", ["", "${}", "${input.n", "${input.n} > 2", "${input.n} ${input.n}", "x ${input.n}"]
)
def test_anything_else_is_a_fault(text: str) -> None:
    faults: list[Fault] = []
    assert compile_condition(text, "steps[1].when", faults) is None
    assert [fault.path for fault in faults] == ["steps[1].when"]


def test_result_of_another_type_is_told() -> None:
    with pytest.raises(ExpressionError, match=r"\$\{input.n\} must be true or false; it is a number"):
        evaluate_condition(compiled("input.n"), SCOPE)
    with pytest.raises(ExpressionError, match="must be a list; it is an object"):
        evaluate_list(compiled("input"), SCOPE)
    with pytest.raises(ExpressionError, match=r"must be a time.* the string 'Ada'"):
        evaluate_instant(compiled("input.name"), SCOPE)


@pytest.mark.parametrize(("text", "items"), [("input.lines", [1, 2]), ("${input.lines + [3]}", [1, 2, 3])])
def test_list_is_the_list(text: str, items: list[Any]) -> None:
    assert evaluate_list(compiled(text), SCOPE) == items


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("input.at", 1769846400.5),
        ("timestamp(input.at) + duration('1h')", 1769850000.5),
        ("1769846400", 1769846400.0),
        ("'1970-01-01T00:00:00.000000001Z'", 1e-9),
        ("-1.5", -1.5),
    ],
)
def test_instant_is_in_seconds_since_1970(text: str, seconds: float) -> None:
    assert evaluate_instant(compiled(text), SCOPE) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "'2026-01-31'",
        "'2026-01-31T09:00:00'",
        "'2026-02-30T09:00:00Z'",
        "'2026-W05'",
        "true",
        "null",
        "1769846400000",
    ],
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate_instant(compiled(text), SCOPE)
