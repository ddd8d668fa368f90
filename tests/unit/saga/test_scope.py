"""Names that expressions may read where they stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.definition.scope import InScope, check_expression
from saga_coordinator.saga.expressions.expression import parse_expression
from saga_coordinator.saga.words.errors import InvalidDefinition

IN_SCOPE = InScope(
    frozenset({"input", "steps", "saga", "failure"}),
    {"reserve": None, "ship": "which is not sure to have ended before `charge` starts"},
)


@pytest.mark.parametrize(
    "source",
    [
        "input.a + 1 > input.b",
        "steps.reserve.output.id",
        "steps.reserve.status == 'SKIPPED' ? 0 : steps.reserve.output.total * 2",
        "has(steps.reserve.output.id)",
        "size(saga.labels) > 1 && saga.id != ''",
        "failure.code == 'DEADLINE' || failure == null",
        "input.lines.exists(event, event.n > 1)",
    ],
)
def test_what_is_in_scope_may_be_read(source: str) -> None:
    assert check_expression(parse_expression(source), IN_SCOPE) is None


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("output.id", "refers to `output`; in scope here: input, steps, saga, failure"),
        ("input.a > nope", "refers to `nope`; in scope here"),
        ("1 + steps.nope.output.a", "a step that does not exist, `nope`; there are: reserve, ship"),
        (
            "steps.ship.output.a == 1",
            "refers to `ship`, which is not sure to have ended before `charge` starts",
        ),
        ("steps.ship.status", "refers to `ship`, which is not sure"),
        ("steps.reserve.status.x", "`steps.reserve.status.x`; it must have the form `steps.NAME.output...`"),
        ("size(steps) > 1", "must have the form"),
        ("steps[input.name].output", "must have the form"),
        ("has(steps.reserve)", "must have the form"),
        ("'a' + saga.name", "it must be `saga.id`"),
        ("failure.cause", "it must be `failure`"),
        ("input.lines.exists(x, x == event)", "refers to `event`"),
    ],
)
def test_what_is_not_in_scope_is_told(source: str, told: str) -> None:
    problem = check_expression(parse_expression(source), IN_SCOPE)
    assert problem is not None
    assert told in problem


@given(st.text(max_size=30) | st.text("inputse.[]{}()$\"'/+ 0", max_size=30))
def test_any_text_in_a_definition_is_accepted_or_a_fault(text: str) -> None:
    action = {"participant": "p", "input": {"a": f"${{{text}}}", "b": text}}
    step = {"name": "a", "irreversible": True, "action": action}
    try:
        parse_definition({"name": "d", "steps": [step]})
    except InvalidDefinition as error:
        places = {fault.path.split(".")[0] for fault in error.faults}
    else:
        places = {"steps[0]"}
    assert places == {"steps[0]"}
