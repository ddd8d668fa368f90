"""Expressions that calculate, and the bounds that hold for them on any input."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga_coordinator.saga.expressions.calculation import NODES_READ_MAX, RESULT_BYTES_MAX
from saga_coordinator.saga.expressions.cost import PATTERN_WEIGHT_MAX, pattern_weight
from saga_coordinator.saga.expressions.expression import parse_expression
from saga_coordinator.saga.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Entries,
    Items,
    Name,
    Node,
    Select,
    read,
    write,
)
from saga_coordinator.saga.words.errors import ExpressionError

SCOPE: dict[str, Any] = {
    "input": {
        "total": 3,
        "rate": 2.5,
        "cents": 19.99,
        "id": 2**60,
        "name": "Ada",
        "none": None,
        "at": "2026-01-31T00:00:00Z",
        "lines": [{"sku": "AB1", "n": 1}, {"sku": "CD2", "n": 2}],
        "numbers": [0, 1, 2],
    },
    "steps": {"reserve": {"output": {"id": 12}}},
    "output": None,
    "index": 1,
}


def evaluate(source: str, scope: dict[str, Any] | None = None) -> Any:
    return parse_expression(source).evaluate(SCOPE if scope is None else scope)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("input.total * 2", 6),
        ("input.total * 2.0", 6),
        ("input.total / 2", 1.5),
        ("input.rate * 2", 5),
        ("-input.total", -3),
        ("7.5 % 2", 1.5),
        ("input.total % 2 == 1", True),
        ("input.total > 2.5 && input.rate < 3", True),
        ("size(input.lines) > 1", True),
        ("input.lines.size() * 1.5", 3),
        ("size('héé') + size([1, 2])", 5),
        ("input.lines[index].sku", "CD2"),
        ("input.lines[index - 1].n + 1", 2),
        ("[1, 2][1.0]", 2),
        ("input.total in input.numbers", False),
        ("input.rate - 0.5 in input.numbers", True),
        ("int(2.9) + int('3')", 5),
        ("1u + 0x10", 17),
        ("has(input.nope) ? input.nope : 'none'", "none"),
        ("has(input.name) && has(steps.reserve.output.id)", True),
        ("input.nope == 1 || true", True),
        ("'n: ' + string(input.total) + ' ' + string(input.rate) + ' ' + string(true)", "n: 3 2.5 true"),
        ("string(123456789)", "123456789"),
        ("input.lines.exists(line, line.n == 2)", True),
        ("input.lines.all(line, line.sku.matches('^[A-Z]{2}[0-9]$'))", True),
        ("input.lines.exists_one(line, line.n > 1)", True),
        ("input.lines.exists(input, input.n == 2)", True),
        ("[1, 2.50, 'x', null, true, {'b': 1, 'a': []}]", [1, 2.5, "x", None, True, {"a": [], "b": 1}]),
        ("{'id': input.id}", {"id": 2**60}),
        ("input.id == 1152921504606846976", True),
        ("9007199254740993 == 9007199254740992", False),
        ("timestamp(input.at) + duration('36h')", "2026-02-01T12:00:00Z"),
        ("timestamp(1700000000)", "2023-11-14T22:13:20Z"),
        ("timestamp(input.at).getFullYear() + 1", 2027),
        ("int(timestamp(input.at))", 1769817600),
        ("duration('3.5s')", "3.5s"),
        ("duration('90m')", "5400s"),
        ("string(duration('-1500ms'))", "-1.5s"),
        ("type(input.total) == double && type(input.name) == string", True),
        ("'}' + \"{\" // a comment }", "}{"),
        ("true", True),
        ("null", None),
        ("-0.0", 0),
        ("int(19.99 * 100)", 1999),
        ("int(input.cents * 100)", 1999),
        ("0.1 + 0.2 == 0.3", False),
        ("exact(0.1 + 0.2) == 0.3", True),
        ("exact(-(1.1 + 2.2) * input.total)", -9.9),
        ("exact(1.1 * 1.15)", 1.265),
        ("int(1 / 3 * 3)", 1),
        ("int('1' + '2')", 12),
        ("int(timestamp(input.at) + duration('1s')) - int(timestamp(input.at))", 1),
        ("exact(7.5 % 2)", 1.5),
        ("[round(2.5), round(-2.5), round(1.005, 2), round(1250, -2)]", [3, -3, 1.01, 1300]),
        ("[floor(-1.5), ceil(-1.5), floor(2), round(1e300, 2) / 1e300]", [-2, -1, 2, 1]),
        ("sum([0.1, 0.2]) + sum([])", 0.3),
        ("input.lines.sum(line, line.n * 0.1)", 0.3),
        ("input.lines.map(line, line.n * input.rate)", [2.5, 5]),
        ("input.lines.filter(line, line.n > 1).map(line, line.sku)", ["CD2"]),
        ("input.lines.map(line, line.n > 1, line.sku)", ["CD2"]),
        ("sum(input.lines.map(line, line.n / 10))", 0.3),
        ("input.lines.count(line, line.n > 1) + input.lines.count(line, line.n > 9)", 1),
        ("[min(3, input.total, 5), max(input.numbers)]", [3, 2]),
        ("input.lines.min(line, line.sku) + input.lines.max(line, line.sku)", "AB1CD2"),
        ("{'b': 1, 'a': 2, 'c': 3}.map(key, key)", ["a", "b", "c"]),
        ("input.lines[0].map(key, key + '!')", ["n!", "sku!"]),
    ],
)  # fmt: skip
def test_expression_has_its_result(source: str, value: Any) -> None:
    result = evaluate(source)
    assert result == value
    assert json.dumps(result) == json.dumps(value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("input.name + 1", "`+` does not take string and number; `input.name` is a string"),
        ("input.nope > 1", "no field 'nope' in `input`, which is an object with"),
        ("input.id + 1", "number too large to calculate with"),
        ("1 / (input.total - 3)", "division by zero; `input.total` is a number"),
        ("1 % 0", "division by zero"),
        ("input.name ? 1 : 2", "is no boolean; `input.name` is a string"),
        ("input.lines[index + 1]", "index=2 size=2"),
        ("input.name.exists(x, true)", "goes through lists and objects only"),
        ("size(input.total) > 1", "`input.total` is a number, which has no size"),
        ("1e300 * 1e300", "no finite number"),
        ("b'abc'", "bytes, which JSON does not know"),
        ("type(input)", "a result that JSON does not know"),
        ("{input.total: 1}", "Invalid map key"),
        ("timestamp('soon')", "Timestamp conversion failed"),
        ("timestamp(input.rate)", "whole number of seconds"),
        ("nope + 1", "there is no `nope` here"),
        ("int('9007199254740993')", "9007199254740993 is too large a whole number to calculate with"),
        ("input.nope + 1", "ask `has(input.nope)` first"),
        ("input.lines[7].n + 1", "ask `size(input.lines) > 7` first"),
        ("input['odd key'] + 1", "ask `'odd key' in input` first"),
        ("input.lines.map(line, line.nope)", "ask `has(...)` first, as in `has(line.nope)`"),
        ("min([])", "`min` of no items; ask for the list's size first"),
        ("max(input.numbers + ['a'])", "it is given a number and a text"),
        ("min(timestamp(input.at), timestamp(0))", "it is given a timestamp"),
        ("sum([1, 'a'])", "`sum` adds numbers; item 1 is a text"),
        ("exact(input.name * 2)", "`*` does not take a text and a number"),
        ("exact(1 / (input.total - 3))", "division by zero"),
        ("exact(input.id + 1)", "too large a whole number to calculate with"),
        ("exact(1e300 * 1e300)", "no finite number"),
        ("round(1, 0.5)", "a whole number of digits, from -15 to 15"),
        ("round(input.name)", "`round` does not take string and number"),
        ("[1].map(x, timestamp(x))", "write `string(...)` around a time"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_told_with_what_was_there(source: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert str(caught.value).startswith(f"${{{source}}}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 +", "is not CEL from character 4 on: mismatched input '<EOF>'"),
        ("1 +\n* 2", "from line 2, character 1 on"),
        ("é", "is not CEL from character 1"),
        ("", "is empty"),
        ("'x' + '" + "x" * 4096 + "'", "longer than 4096"),
        ("input.lines.map(x, input.lines.filter(y, y == x))", "cannot be nested"),
        ("input.lines.sum(line.n)", "`input.lines.sum(line, line.n)`; `sum(list)` takes a list as it is"),
        ("input.lines.count()", "`size(list)` takes a list as it is"),
        ("round()", "0 argument(s); it takes 1 to 2"),
        ("input.lines.all(x, input.lines.exists(y, y == x))", "cannot be nested"),
        ("foo(1)", "no function `foo`"),
        ("math.greatest(1, 2)", "no method `greatest`"),
        ("size(1, 2)", "2 argument(s); it takes 1"),
        ("input.name.matches(input.name)", "computed pattern"),
        (r"'a'.matches('[\\p{L}]{500}')", "too large a pattern"),
        ("{1: 2}", "the keys of a JSON object are strings"),
        ("google.protobuf.Duration{seconds: 1}", "makes a message"),
        ("(" * 60 + "1" + ")" * 60, "nested too deeply"),
        ("1" + " + 1" * 60, "nested too deeply"),
        ("[" + "1," * 700 + "1]", "600 are the most"),
        ("9223372036854775808", "invalid int literal"),
        ("'\ud800'", "is not CEL"),
    ],
)  # fmt: skip
def test_what_is_not_available_is_told_before_it_runs(source: str, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(source)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("source", "references"),
    [
        ("input.a + input['b c'][0].d", ["input.a", "input.b c[0].d"]),
        ("has(input.a.b) && input.a.b > 1", ["input.a.b"]),
        ("steps.reserve.output.lines.exists(x, x.n == input.n)", ["steps.reserve.output.lines", "input.n"]),
        ("input.lines.exists(input, input.n == 1)", ["input.lines"]),
        ("input.lines[index + 1].n", ["input.lines", "index"]),
        ("'steps.nope' + r'input.x' // saga.z", []),
        ("size(steps) > 1", ["steps"]),
        ("type(input.a) == string", ["input.a"]),
        (".input.a == 1", ["input.a"]),
        ("input.name.startsWith('a')", ["input.name"]),
        ("{'steps': saga.id}.steps", ["saga.id"]),
    ],
)
def test_expression_says_what_it_reads(source: str, references: list[str]) -> None:
    assert [str(each) for each in parse_expression(source).references] == references


def test_what_reads_an_output_never_known_and_cannot_be_evaluated_is_null() -> None:
    assert evaluate("output.amount * 2") is None
    assert evaluate("output.amount == null ? 'unknown' : 'known'") == "unknown"
    assert evaluate("has(output.amount)") is False
    assert evaluate("output.amount * 2", {"output": {"amount": 2}}) == 4
    with pytest.raises(ExpressionError, match="no field 'amount' in `output`"):
        evaluate("output.amount * 2", {"output": {}})
    with pytest.raises(ExpressionError, match="does not take"):
        evaluate("input.none * 2")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


MEBIBYTE = "ab" * (1 << 19)
MANY = list(range(NODES_READ_MAX - 1))


@pytest.mark.parametrize(
    ("source", "value", "told"),
    [
        ("input + input + input + input + input + input", MEBIBYTE, "too long"),
        ("[" + "input," * 100 + "input]", MEBIBYTE, "too long"),
        ("input.matches('(a|b)*c')", MEBIBYTE, "too long"),
        ("input == input", MANY * 2, "more than 10000 values"),
        ("input.exists(x, x < 0)", MANY * 30, "more than 10000 values"),
        ("input.all(x, x in input)", MANY, "too long"),
        ("input.exists(x, " + " || ".join(["x < 0"] * 60) + ")", MANY, "too long"),
        ("(input + input).exists(x, x < 0)", MANY, "too long"),
        ("input.exists(x, x.matches('[a-z]{1,100}'))", ["a"] * 5000, "too long"),
        ("input.all(x, string(x) == '')", MANY, "too long"),
        ("input.map(x, x * 2)", MANY, "too long"),
        ("input.filter(x, true).map(x, [x, x, x])", MANY[:3000], "too long"),
        ("input.sum(x, x * 1.19)", MANY[:3000], "too long"),
        ("[1, 2, 3].map(x, input)", MANY, "too long"),
        ("input + input", MEBIBYTE[:600_000], f"larger than {RESULT_BYTES_MAX}"),
        ("input == null", nested(400), "nested deeper than 64"),
        ("input + 1", 2**70, "too large a number"),
    ],
)
def test_what_would_hold_up_all_sagas_is_refused(source: str, value: Any, told: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source, {"input": value})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("source", "value", "result"),
    [
        ("input.contains('bb')", MEBIBYTE, False),
        ("size(input) > 3", MANY * 30, True),
        ("has(input.a)", {"a": MANY * 30}, True),
        ("input[0] + 1", MANY * 30, 1),
        ("input.exists(x, x < 0)", MANY, False),
        ("input.all(x, x in input)", list(range(300)), True),
        ("input.all(line, line.price > 0 && line.sku != '')", [{"sku": "a", "price": 1}] * 1000, True),
        ("input.all(x, x.matches('^[A-Z]{2}[0-9]{4}$'))", ["AB1234"] * 100, True),
        ("input.sum(line, line.price * line.n)", [{"price": 19.99, "n": 3}] * 500, 29985),
        ("sum(input)", [0.1] * 3000, 300),
        ("size(input.map(x, x + 1).filter(x, x > 1))", MANY[:600], 599),
        ("input.count(x, x > 1)", MANY, NODES_READ_MAX - 3),
    ],
)
def test_what_large_inputs_allow(source: str, value: Any, result: Any) -> None:
    assert evaluate(source, {"input": value}) == result


@pytest.mark.parametrize(
    ("pattern", "is_light"),
    [
        (r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", True),
        (r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$", True),
        (r"^\d{4}-\d{2}-\d{2}$", True),
        (r"(a{100}){100}", False),
        (r"((a{20}){20}){20}", False),
        (r"\pL{10}", False),
        (r"[^\P{Greek}]{3}", False),
        (r".{1,500}", False),
        (r"(?i)[a-z]{50}", True),
        (r"(?i)[\p{L}]x", False),
    ],
)
def test_weight_of_a_pattern_grows_with_what_it_compiles_to(pattern: str, is_light: bool) -> None:
    assert (pattern_weight(pattern) <= PATTERN_WEIGHT_MAX) is is_light


def test_every_example_of_the_documentation_has_the_result_it_says() -> None:
    text = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text()
    written = re.search(r"With the input `(\{.*?\})`:", text, re.DOTALL)
    assert written
    scope = {"input": json.loads(written.group(1))}
    examples = re.findall(r"^\| `(.+)` \| `(.+)` \|$", text, re.MULTILINE)
    assert len(examples) > 20
    for source, result in examples:
        assert evaluate(source, scope) == json.loads(result), source


# ---------------------------------------------------------------------------------------------------------------------
# Properties

OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
small_numbers = st.integers(-1000, 1000) | st.floats(-1e6, 1e6).map(lambda number: round(number, 3))


@given(small_numbers, small_numbers, st.sampled_from(sorted(OPERATORS)))
def test_numbers_calculate_alike_however_they_are_written(left: float, right: float, sign: str) -> None:
    sources = [f"input.l {sign} input.r", f"({left!r}) {sign} input.r", f"input.l {sign} ({right!r})"]
    scope = {"input": {"l": left, "r": right}}
    if sign in "/%" and right == 0:
        for source in sources:
            with pytest.raises(ExpressionError):
                evaluate(source, scope)
        return
    expected = OPERATORS[sign](left, right)
    for source in sources:
        assert evaluate(source, scope) == pytest.approx(expected, rel=1e-12, abs=1e-9)


prices = st.decimals(-100_000, 100_000, places=2).map(float)


@given(prices, prices, prices)
def test_money_is_calculated_as_on_paper(left: float, right: float, third: float) -> None:
    scope = {"input": {"a": left, "b": right, "c": third}}
    a, b, c = (Fraction(repr(each)) for each in (left, right, third))
    assert evaluate("exact(input.a * input.b - input.c)", scope) == float(a * b - c)
    assert evaluate("int(input.a * 100)", scope) == a * 100
    assert evaluate("sum([input.a, input.b, input.c])", scope) == float(a + b + c)
    cents = abs(a * b) * 100
    half_up = (cents + Fraction(1, 2)).__floor__() * (1 if a * b >= 0 else -1)
    assert evaluate("round(input.a * input.b, 2)", scope) == half_up / 100


names = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
literals = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3)
)


def _extended(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(inner, max_size=3).map(tuple)
    return (
        st.builds(Select, inner, names, st.booleans())
        | st.builds(Call, names, several, st.none() | inner)
        | st.builds(Items, several)
        | st.builds(Entries, st.lists(st.tuples(inner, inner), max_size=2).map(tuple))
        | st.builds(Comprehension, names, inner, names, inner, inner, inner, inner)
    )


trees = st.recursive(st.builds(Constant, literals) | st.builds(Name, names), _extended, max_leaves=12)


@given(trees)
def test_any_tree_is_read_as_it_was_written(tree: Node) -> None:
    assert read(write(tree)) == tree


TOKENS = """
input input.a input.b[0] output steps.x.output item + - * / % == != < in && || ! ? : ( ) [ ] { } , . 1 2.5 0 'a' "b" true null
has( size( string( int( timestamp( duration( .exists(x, .all(x, .map(x, x .matches( r'a*' b'x' 1u 0x1F 1e999 -1 '1s' ''' \\ //
'1970-01-01T00:00:00Z' .getHours() type( .contains(
"""
tokens = st.sampled_from([*TOKENS.split(), "\n"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("ab") | st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


OPERANDS = "input|input.a|input.b|input.a.b|input.b[0]|1|2.5|'a'|true|null|[1, 'a']|{'a': 1}|output.a"
operands = st.sampled_from(OPERANDS.split("|"))
formulas = st.recursive(
    operands,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "%", "==", "<", "in", "&&", "||"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        )
        | st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} ? {parts[1]} : {parts[2]})")
        | st.tuples(st.sampled_from(["size", "string", "int", "double", "timestamp", "duration", "bool"]), inner).map(
            lambda parts: f"{parts[0]}({parts[1]})"
        )
        | st.tuples(inner, st.sampled_from(["exists", "all", "exists_one", "filter", "map", "count", "sum", "min"]), operands)
        .map(lambda parts: f"{parts[0]}.{parts[1]}(x, x == {parts[2]})")
        | st.tuples(st.sampled_from(["sum", "min", "max", "round", "floor", "ceil", "exact"]), inner).map(
            lambda parts: f"{parts[0]}({parts[1]})"
        )
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=200)
@given(
    formulas | st.lists(tokens, max_size=25).map(" ".join) | st.text(max_size=60), json_values, json_values
)
def test_any_formula_or_text_on_any_values_has_a_json_result_or_is_an_error(
    source: str, value: Any, output: Any
) -> None:
    scope = {"input": value, "output": output, "steps": {"x": {"output": value}}, "item": value}
    before = json.dumps(scope)
    try:
        result = evaluate(source, scope)
    except ExpressionError:
        return
    assert json.dumps(result, allow_nan=False) == json.dumps(evaluate(source, scope), allow_nan=False)
    assert json.dumps(scope) == before
