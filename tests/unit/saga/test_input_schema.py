"""Input schemas: what is refused at registration, what inputs are told, and that no schema or input takes long."""

from __future__ import annotations

from typing import Any

import pytest

from saga_coordinator.saga.schema.formats import FORMATS, fits
from saga_coordinator.saga.schema.input_schema import SCHEMA_BYTES_MAX, InputSchema, compile_schema
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.work import INPUT_WORK_MAX

ORDER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.org/order",
    "type": "object",
    "required": ["lines", "customer"],
    "additionalProperties": False,
    "properties": {
        "customer": {"type": "string", "pattern": "^[A-Z]+$"},
        "at": {"type": "string", "format": "date-time"},
        "total": {"type": "number", "multipleOf": 0.01, "minimum": 0},
        "lines": {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"$ref": "#/$defs/line"}},
        "discontinued": False,
    },
    "$defs": {
        "line": {
            "type": "object",
            "required": ["sku"],
            "properties": {"sku": {"type": "string", "maxLength": 5}, "quantity": {"type": "integer"}},
        }
    },
}


def compiled(schema: dict[str, Any]) -> InputSchema:
    faults: list[Fault] = []
    schema_ = compile_schema(schema, "input_schema", faults)
    assert not faults
    assert schema_ is not None
    return schema_


def refused(schema: Any) -> list[tuple[str, str]]:
    faults: list[Fault] = []
    assert compile_schema(schema, "input_schema", faults) is None
    return [(fault.path, fault.description) for fault in faults]


def said(schema: dict[str, Any], value: Any) -> list[str]:
    return [str(fault) for fault in compiled(schema).faults(value)]


def test_an_input_that_fits() -> None:
    line = {"sku": "a", "quantity": 2}
    assert (
        said(ORDER, {"customer": "ACME", "lines": [line], "total": 19.99, "at": "2026-01-31T10:00:00Z"}) == []
    )


def test_every_fault_of_an_input_has_its_place() -> None:
    lines = [{"sku": "too long"}, {"quantity": 1.5}]
    value = {"lines": lines, "odd key": 1, "at": "today", "total": 0.001, "discontinued": 1}
    assert said(ORDER, value) == [
        "input.customer: is required",
        "input['odd key']: is not known; known here: at, customer, discontinued, lines, total",
        "input.at: must be an instant such as 2026-01-31T12:30:00Z",
        "input.total: must be a multiple of 0.01",
        "input.lines[0].sku: must have at most 5 characters",
        "input.lines[1].sku: is required",
        "input.lines[1].quantity: must be an integer, not a number",
        "input.discontinued: is not allowed here",
    ]


@pytest.mark.parametrize(
    ("schema", "good", "bad", "text"),
    [
        ({"type": ["string", "null"]}, None, 1, "must be a string or null, not a number"),
        ({"enum": [1, "a"]}, 1.0, True, 'must be one of 1, "a"'),
        ({"const": {"a": [1]}}, {"a": [1.0]}, {"a": [True]}, 'must be {"a":[1]}'),
        ({"maximum": 3}, 3, 3.5, "must be at most 3"),
        ({"exclusiveMaximum": 3}, 2, 3, "must be below 3"),
        ({"minimum": 3}, 3, 2, "must be at least 3"),
        ({"exclusiveMinimum": 3}, 4, 3, "must be above 3"),
        ({"multipleOf": 3}, 9e300, 10, "must be a multiple of 3"),
        ({"minLength": 2}, "ab", "a", "must have at least 2 characters"),
        ({"minItems": 1}, [0], [], "must have at least 1 item"),
        ({"maxItems": 1}, [0], [0, 1], "must have at most 1 item"),
        ({"minProperties": 1}, {"a": 1}, {}, "must have at least 1 field"),
        ({"maxProperties": 1}, {"a": 1}, {"a": 1, "b": 1}, "must have at most 1 field"),
        (
            {"uniqueItems": True},
            [1, True, "1"],
            [{"a": 1, "b": 2}, {"b": 2, "a": 1.0}],
            "must not have the same item twice",
        ),
        ({"pattern": "^a$"}, "a", "a\n", "must match ^a$"),
        ({"format": "uuid"}, "01890a5d-ac96-774b-bcce-b302099a8057", "0189", "must be a UUID"),
        ({"not": {"type": "null"}}, 1, None, "must not fit the schema under `not`"),
        (
            {"contains": {"type": "null"}},
            [None],
            [1],
            "must have at least 1 items that fit the schema under `contains`; it has 0",
        ),
        (
            {"contains": True, "maxContains": 1},
            [1],
            [1, 2],
            "must have at most 1 items that fit the schema under `contains`; it has 2",
        ),
        (
            {"oneOf": [{"minimum": 1}, {"maximum": 3}]},
            0,
            2,
            "must fit one alternative of oneOf only; it fits 0, 1",
        ),
        (
            {"anyOf": [{"type": "null"}, {"minimum": 5}]},
            5,
            1,
            "fits none of 2 alternatives; the nearest one says: must be null, not a number",
        ),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1, "b": 1}, {"a": 1}, None),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, {}, {"a": 1}, None),
        (
            {"patternProperties": {"^n": {"type": "null"}}, "additionalProperties": {"type": "string"}},
            {"n": None, "x": ""},
            {"x": 1},
            None,
        ),
        ({"propertyNames": {"maxLength": 1}}, {"a": 1}, {"ab": 1}, "must have at most 1 character"),
        (
            {"properties": {"a": True}, "unevaluatedProperties": False},
            {"a": 1},
            {"b": 1},
            "has fields that no part of the schema knows",
        ),
        (
            {"prefixItems": [True], "unevaluatedItems": False},
            [1],
            [1, 2],
            "has items that no part of the schema knows",
        ),
        ({"prefixItems": [{"type": "null"}], "items": False}, [None], [None, 1], None),
        (
            {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "null"}},
            None,
            "",
            "must have at least 1 character",
        ),
        (
            {"$ref": "#here", "$defs": {"a/b": {"$anchor": "here", "type": "null"}}},
            None,
            1,
            "must be null, not a number",
        ),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, None, 1, "must be null, not a number"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) and value else None,
)
def test_every_keyword(schema: dict[str, Any], good: Any, bad: Any, text: str | None) -> None:
    checked = compiled({"properties": {"x": schema}} if "$ref" not in schema else schema)
    wrap = (lambda value: {"x": value}) if "$ref" not in schema else (lambda value: value)
    assert checked.faults(wrap(good)) == []
    faults = checked.faults(wrap(bad))
    assert faults
    if text is not None:
        assert [fault.description for fault in faults] == [text]


def test_the_nearest_alternative_is_shown() -> None:
    card = {
        "properties": {"kind": {"const": "card"}, "number": {"type": "string"}},
        "required": ["kind", "number"],
    }
    cash = {
        "properties": {"kind": {"const": "cash"}, "change": {"type": "number"}},
        "required": ["kind", "change"],
    }
    value = {"pay": {"kind": "card", "number": 7, "change": 1}}
    assert said({"properties": {"pay": {"oneOf": [cash, card]}}}, value) == [
        'input.pay: fits none of 2 alternatives; the nearest one says: kind must be "cash"'
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2024-02-29"], ["2023-02-29", "2024-2-9", "20240229", ""]),
        (
            "date-time",
            ["2026-01-31T12:30:00.25+02:00", "2026-01-31t23:59:60z"],
            ["2026-01-31T12:30:00", "2026-01-31 12:30:00Z"],
        ),
        ("time", ["12:30:00Z"], ["24:00:00Z", "12:30Z"]),
        ("duration", ["P1DT12H", "PT5S", "P3W"], ["P", "PT", "1D", "P1H"]),
        ("email", ["a@b"], ["a", "a@b@c", "a b@c"]),
        ("hostname", ["a-b.example"], ["-a", "a..b", "a_b", "x" * 64]),
        ("ipv4", ["127.0.0.1"], ["127.1", "256.0.0.1", "::1"]),
        ("ipv6", ["::1", "fd00::3"], ["127.0.0.1", "::1%eth0"]),
        ("uri", ["https://example.org/a?b#c", "urn:a"], ["//a", "a b:c", "http://ü"]),
        ("uuid", ["01890A5D-ac96-774b-bcce-b302099a8057"], ["01890a5dac96774bbcceb302099a8057"]),
    ],
)
def test_formats(name: str, good: list[str], bad: list[str]) -> None:
    assert all(fits(text, name) for text in good)
    assert not any(fits(text, name) for text in bad)


def test_each_format_is_tested() -> None:
    tested = test_formats.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {name for name, _, _ in tested} == set(FORMATS)


def test_a_format_that_is_not_known_is_a_remark() -> None:
    assert said({"properties": {"a": {"format": "int64"}}}, {"a": "x"}) == []


RING = {"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"if": {"$ref": "#/$defs/a"}}}}


@pytest.mark.parametrize(
    ("schema", "path", "text"),
    [
        ([], "input_schema", "must be an object"),
        ({"type": "strin"}, "input_schema.type", "must be array, boolean"),
        ({"properties": {"a": {"minimum": "1"}}}, "input_schema.properties.a.minimum", "must be number"),
        ({"items": [{}]}, "input_schema.items", "must be object or boolean"),
        ({"properties": {"a": {"pattern": "(?=a)"}}}, "input_schema.properties.a.pattern", "no look-around"),
        ({"patternProperties": {"(": {}}}, "input_schema.patternProperties['(']", "RE2"),
        ({"$ref": "https://example.org/x"}, "input_schema.$ref", "leads out of the schema"),
        ({"properties": {"a": {"$ref": "other.json#/a"}}}, "input_schema.properties.a.$ref", "leads out of the schema"),
        ({"$ref": "#/$defs/gone"}, "input_schema.$ref", "leads to nothing"),
        ({"$ref": "#gone"}, "input_schema.$ref", "leads to nothing"),
        ({"$ref": "#/properties"}, "input_schema.$ref", "leads to nothing"),
        ({"$dynamicRef": "#a"}, "input_schema.$dynamicRef", "use $ref"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "input_schema.$schema", "2020-12"),
        ({"items": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}, "input_schema.items.$schema", "at the top"),
        ({"items": {"$id": "x"}}, "input_schema.items.$id", "at the top"),
        ({"$ref": "#"}, "input_schema", "checking would never end"),
        (RING, "input_schema.$defs", "checking would never end"),
        ({"patternProperties": {"a": {}}, "allOf": [{"unevaluatedProperties": False}]}, "input_schema", "use additional"),
        ({"const": "x" * SCHEMA_BYTES_MAX}, "input_schema", "65536 is the limit"),
        ({"const": float("nan")}, "input_schema.const", "double"),
        ({"const": 2**60}, "input_schema.const", "double"),
        ({"const": "\0"}, "input_schema.const", "NUL"),
        ({"properties": {1: {}}}, "input_schema.properties", "not a string"),
        ({"const": b""}, "input_schema.const", "JSON does not know"),
    ],
)  # fmt: skip
def test_what_is_no_schema_for_inputs(schema: Any, path: str, text: str) -> None:
    faults = refused(schema)
    assert any(found.startswith(path) and text in description for found, description in faults), faults


def test_a_schema_nested_too_deeply() -> None:
    schema: dict[str, Any] = {}
    for _ in range(40):
        schema = {"not": schema}
    assert "nested deeper than 32 levels" in refused(schema)[0][1]


def test_every_fault_of_a_schema_at_once() -> None:
    schema = {"properties": {"a": {"$ref": "x"}, "b": {"pattern": "("}, "c": {"$ref": "#/gone"}}}
    assert [path for path, _ in refused(schema)] == [
        "input_schema.properties.b.pattern",
        "input_schema.properties.c.$ref",
        "input_schema.properties.a.$ref",
    ]


def test_a_recursive_schema_that_goes_into_the_value() -> None:
    tree = {"properties": {"children": {"items": {"$ref": "#"}}, "name": {"type": "string"}}}
    assert said(tree, {"children": [{"children": [{"name": 1}]}]}) == [
        "input.children[0].children[0].name: must be a string, not a number"
    ]


def test_words_of_the_schema_language_are_names_of_fields_too() -> None:
    schema = {
        "properties": {name: {"type": "null"} for name in ("$ref", "$schema", "$id", "properties", "items")}
    }
    assert said(schema, {"$ref": None, "$schema": 1, "$id": None}) == [
        "input.$schema: must be null, not a number"
    ]


def test_at_most_a_hundred_faults_are_listed() -> None:
    faults = compiled({"additionalProperties": {"type": "null"}}).faults({f"f{n}": 1 for n in range(500)})
    assert len(faults) == 101
    assert faults[-1] == Fault("input", "has more faults; mend these first")


def test_faults_of_odd_names_are_fit_to_be_stored() -> None:
    (fault,) = compiled({"required": ["x" * 50_000]}).faults({})
    assert len(fault.path) < 200


def _doubling() -> dict[str, Any]:
    """Twice as much to check at each of forty levels."""
    levels = {f"a{n}": {"anyOf": 2 * [{"$ref": f"#/$defs/a{n + 1}"}]} for n in range(40)}
    return {"$ref": "#/$defs/a0", "$defs": {**levels, "a40": {"const": 2}}}


KEYS = {f"k{n}": n for n in range(5_000)}
COUNTS = [[n % 7] for n in range(9_000)]
PATTERNS: dict[str, Any] = {f"^x{n}_[a-z]+$": {} for n in range(1_000)}


def _all_of_pairs(levels: int) -> dict[str, Any]:
    """Each level asks for the next one twice."""
    steps = {f"a{n}": {"allOf": 2 * [{"$ref": f"#/$defs/a{n + 1}"}]} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{levels}": {}}}


def _unevaluated(levels: int) -> dict[str, Any]:
    inner = {"allOf": 2 * [_unevaluated(levels - 1)]} if levels else {}
    return {**inner, "unevaluatedProperties": {}}


MULTIPLICATIVE = {
    "references that double": (_doubling(), {}),
    "references that double and say nothing": (_all_of_pairs(14), {}),
    "long lists": ({"items": {"enum": [f"v{n}" for n in range(5000)]}}, ["no"] * 100_000),
    "large objects": (
        {"allOf": 2000 * [{"additionalProperties": True}]},
        {f"f{n}": 1 for n in range(10_000)},
    ),
    "patterns on keys": ({"patternProperties": PATTERNS}, KEYS),
    "patterns beside others": (
        {"patternProperties": dict(list(PATTERNS.items())[:200]), "additionalProperties": {}},
        KEYS,
    ),
    "long constants": (
        {"allOf": 40 * [{"$ref": "#/$defs/long"}], "$defs": {"long": {"const": COUNTS}}},
        COUNTS,
    ),
    "items of an empty schema": ({"items": {}}, [1] * 500_000),
    "contained in an empty schema": ({"contains": {}}, [1] * 500_000),
    "multiples of large steps": (
        {"items": {"multipleOf": 1e-300}},
        [1e300 + n * 1e290 for n in range(30_000)],
    ),
    "unique items": ({"uniqueItems": True}, [[n, [n] * 20] for n in range(25_000)]),
    "a pattern of many states": ({"pattern": "a.{900}c"}, "ab" * 200_000),
    "unevaluated in unevaluated": (_unevaluated(6), {f"k{n}": n for n in range(100)}),
    "unevaluated items": ({"prefixItems": [{}], "unevaluatedItems": {}}, [1] * 20_000),
}


@pytest.mark.parametrize("name", MULTIPLICATIVE)
def test_work_that_multiplies_is_refused_before_it_is_done(name: str) -> None:
    schema, value = MULTIPLICATIVE[name]
    (fault,) = compiled(schema).faults(value)
    assert f"takes more than {INPUT_WORK_MAX} units of work" in fault.description


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"multipleOf": 0.01}}, [n + 0.07 for n in range(49_000)]),
        ({"items": {"type": "integer", "minimum": 0}}, list(range(30_000))),
        ({"patternProperties": dict(list(PATTERNS.items())[:20])}, KEYS),
        ({"allOf": 20 * [{"$ref": "#/$defs/long"}], "$defs": {"long": {"const": COUNTS}}}, [[1]]),
        ({"pattern": "^[ab]+$"}, "ab" * 500_000),
    ],
    ids=["amounts", "integers", "some patterns", "constants that differ at once", "a long text"],
)
def test_large_inputs_are_checked(schema: dict[str, Any], value: Any) -> None:
    assert not any("units of work" in fault.description for fault in compiled(schema).faults(value))


def test_what_is_checked_at_once_is_little_work() -> None:
    schema = compiled({"items": {"type": "integer"}})
    assert schema.faults_soon([1] * 100) == []
    assert schema.faults_soon(["x"] * 3) == schema.faults(["x"] * 3)
    many = [1] * 10_000
    assert schema.faults_soon(many) is None
    assert schema.faults(many) == []


@pytest.mark.parametrize(
    ("value", "step", "is_one"),
    [
        (19.99, 0.01, True),
        (19.995, 0.01, False),
        (1e300, 1e-300, True),
        (1e300, 3e-300, False),
        (7, 3.5, True),
        (-6, 4, False),
        (2**53, 1, True),
        (0, 0.1, True),
        (1e-7, 1e-8, True),
        (1.5, 1e-320, True),
    ],
)
def test_multiples(value: float, step: float, is_one: bool) -> None:
    assert (said({"multipleOf": step}, value) == []) is is_one


def test_patterns_that_backtrack_elsewhere_do_not_here() -> None:
    """Python's own expressions would take longer than the universe has."""
    assert said({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 100_000 + "!"}) == [
        "input.a: must match ^(a+)+$"
    ]


def test_different_items_are_not_compared_each_with_each() -> None:
    assert said({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"n": n} for n in range(20_000)]}) == []


def test_references_that_lead_on_and_on() -> None:
    chain = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(900)}
    (fault,) = compiled({"$ref": "#/$defs/a0", "$defs": {**chain, "a900": True}}).faults({})
    assert "too many levels" in fault.description


def test_one_check_does_not_pay_for_another() -> None:
    schema = compiled({"items": {"type": "integer"}})
    for _ in range(5):
        assert schema.faults([1] * 40_000) == []
