"""References inside payloads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.saga.expressions.expression import Selection, compile_template, parse_expression
from saga_coordinator.saga.expressions.reference import Metered
from saga_coordinator.saga.words.errors import ExpressionError, Fault
from saga_coordinator.saga.words.meter import Meter, TooMuchHere

SCOPE: dict[str, Any] = {
    "input": {"order_id": "A-7", "lines": [{"sku": "x", "n": 2}], "odd key": 1, "none": None},
    "steps": {"reserve": {"output": {"id": 12}}},
    "output": None,
}


def render(source: Any, scope: dict[str, Any] | None = None) -> Any:
    faults: list[Fault] = []
    template = compile_template(source, "input", faults)
    assert not faults, faults
    return template.render(SCOPE if scope is None else scope)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("${input.order_id}", "A-7"),
        ("${ input.lines[0].n }", 2),
        ('${input["odd key"]}', 1),
        ('${input.lines[0]["sku"]}', "x"),
        ("${input.lines}", [{"sku": "x", "n": 2}]),
        ("order ${input.order_id}/${steps.reserve.output.id}", "order A-7/12"),
        ("lines: ${input.lines}", 'lines: [{"sku":"x","n":2}]'),
        ("$${input.order_id}", "${input.order_id}"),
        (["$${", {"a": "$${b}"}, "$"], ["${", {"a": "${b}"}, "$"]),
        ("costs $5 {really}", "costs $5 {really}"),
        ({"a": ["${input.order_id}", 1], "b": True}, {"a": ["A-7", 1], "b": True}),
        ({"${input.order_id}": 1}, {"${input.order_id}": 1}),
        ('${input["}"]}', ExpressionError),
        ("${input.nope}", ExpressionError),
        ("${input.none.x}", ExpressionError),
        ("${input.lines[1]}", ExpressionError),
        ("${input.lines.sku}", ExpressionError),
    ],
)
def test_reference_becomes_its_value(source: Any, value: Any) -> None:
    if value is ExpressionError:
        with pytest.raises(ExpressionError):
            render(source)
    else:
        assert render(source) == value


def test_whatever_is_selected_from_an_output_never_known_is_null() -> None:
    assert render({"id": "${output.id}", "deep": "${output.lines[0].n}"}) == {"id": None, "deep": None}
    with pytest.raises(ExpressionError, match="no field 'id' in `output`"):
        render("${output.id}", {"output": {}})


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("${input.lines[3].sku}", "no item 3 in `input.lines`, which is a list of 1"),
        ("${input.order_id.x}", "no field 'x' in `input.order_id`, which is a string"),
        ("${steps.reserve.output.key}", "no field 'key' in `steps.reserve.output`, which is an object with 1 field(s): id"),
    ],
)  # fmt: skip
def test_dead_end_is_told_with_what_was_there_instead(source: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        render(source)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "source", ["${", "${}", "${1 +}", "${input.}", "${input[x}", "${input..a}", "${a b}", "a ${input.x"]
)
def test_what_is_no_reference_is_a_fault(source: str) -> None:
    faults: list[Fault] = []
    compile_template({"deep": [source]}, "input", faults)
    assert [fault.path for fault in faults] == ["input.deep[0]"]


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_an_error(source: str) -> None:
    try:
        parsed = parse_expression(source)
    except ExpressionError:
        return
    assert parse_expression(parsed.source) == parsed


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
selectors = st.lists(
    names | st.integers(0, 9) | st.text('ab }.["', max_size=3).filter(lambda key: '"' not in key)
)


@given(names, selectors)
def test_any_reference_is_read_as_it_was_written(root: str, path: list[str | int]) -> None:
    written = root + "".join(f"[{json.dumps(each)}]" for each in path)
    assert parse_expression(written) == Selection(written, root, tuple(path))


texts = st.text(alphabet="${}ab.input[]0\"'", max_size=20)
payloads = st.recursive(
    texts | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)


@given(payloads, payloads)
def test_any_payload_is_compiled_and_rendered_or_faulty(source: Any, payload: Any) -> None:
    faults: list[Fault] = []
    template = compile_template(source, "input", faults)
    if faults:
        return
    before = json.dumps(source)
    roots = {each.root for expression in template.expressions for each in expression.references}
    try:
        first = template.render(dict.fromkeys(roots, payload))
    except ExpressionError:
        return
    assert template.render(dict.fromkeys(roots, payload)) == first
    assert json.dumps(source) == before
    if not template.expressions:
        assert first == unescaped(source)


def unescaped(source: Any) -> Any:
    if isinstance(source, list):
        return [unescaped(item) for item in source]
    if isinstance(source, dict):
        return {name: unescaped(item) for name, item in source.items()}
    return source.replace("$${", "${") if isinstance(source, str) else source


def test_a_long_text_is_too_much_for_the_loop_before_it_is_whole() -> None:
    value = [-(1.0 + index) / 3e101 for index in range(95_000)]
    template = compile_template("all: ${input}", "here", [])
    meter = Meter(here_max=400_000)
    with pytest.raises(TooMuchHere):
        template.render(Metered({"input": value}, meter))
    assert meter.spent == 0
    whole = template.render(Metered({"input": value}, Meter()))
    assert whole == "all: " + json.dumps(value, separators=(",", ":"))
