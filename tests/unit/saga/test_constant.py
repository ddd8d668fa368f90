"""What an expression computes of constants alone fails when the definition is registered, not when a saga comes there."""

from __future__ import annotations

from typing import Any

import pytest

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS
from tests.unit.saga.definition_faults import faults_of


def spec(**fields: Any) -> dict[str, Any]:
    action = {"participant": "shop", "input": fields.pop("input", None)}
    return {"name": "order", "steps": [{"name": "pay", "action": action, "read_only": True, **fields}]}


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("duration('99999999999999h') > duration('1s')", "above maximum allowed duration"),
        ("timestamp('2026-13-45T00:00:00Z')", "Timestamp conversion failed"),
        ("timestamp(input.at) > timestamp('2026-13-45T00:00:00Z')", "Timestamp conversion failed"),
        (
            "has(input.at) ? input.at : string(timestamp('2026-02-30T00:00:00Z'))",
            "Timestamp conversion failed",
        ),
        ("input.lines.exists(line, line.n > [1, 2][5])", "index=5 size=2"),
        ("[1, 2].exists(x, x > duration('1q'))", "Duration conversion failed"),
        ("input.total / (1 / 0)", "division by zero"),
        ("input.name.matches('[a-')", "invalid regular expression"),
        ("timestamp(input.at).getHours('Europe/Nowhere')", "Invalid timezone"),
        ("{'a': 1}.b", "Key not found"),
        ("bytes('a')", "bytes, which JSON does not know"),
        ("1e400", "no finite number"),
        ("int('9007199254740993') == input.id", "too large a whole number to calculate with"),
        ("input.id == 9007199254740993", "would be 9007199254740992 here; write it as a string"),
        ("18446744073709551615u > input.id", "18446744073709551615 cannot be kept as a number"),
    ],
)
def test_constants_that_fail_are_a_fault(source: str, told: str) -> None:
    (path, description), *others = faults_of(spec(input={"a": f"${{{source}}}"})).items()
    assert not others
    assert path == "steps[0].action.input"
    assert source in description
    assert told in description


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"when": "1 + 1"}, "steps[0].when", "must be true or false; it is a number"),
        ({"when": "duration('1q') > duration('1s')"}, "steps[0].when", "Duration conversion failed"),
    ],
)
def test_a_constant_of_the_wrong_type_is_a_fault(fields: dict[str, Any], path: str, told: str) -> None:
    assert told in faults_of(spec(**fields))[path]


@pytest.mark.parametrize("until", ["'2026-13-45T00:00:00Z'", "timestamp('2026-13-45T00:00:00Z')", "1e300"])
def test_an_instant_that_never_comes_is_a_fault(until: str) -> None:
    assert "steps[0].until" in faults_of({"name": "order", "steps": [{"name": "pause", "until": until}]})


@pytest.mark.parametrize(
    "source",
    [
        "duration('36h') > duration('1s')",
        "timestamp(input.at) + duration('36h')",
        "input.lines.exists(line, line.n > 1)",
        "type(input.total) == string",
        "input.name.matches('^[A-Z]+$') && 1 in [1, 2]",
        "timestamp(input.at).getHours('Europe/Berlin')",
        "has({'a': 1}.b)",
        "input.total > 9007199254740992",
        "true",
        "'text'",
    ],
)
def test_sound_constants_are_none(source: str) -> None:
    assert isinstance(parse_definition(spec(input={"a": f"${{{source}}}"})), Definition)


def test_what_was_registered_before_stays_valid() -> None:
    source = spec(input={"a": "${timestamp('2026-13-45T00:00:00Z')}", "b": "${9007199254740993}"})
    assert isinstance(parse_definition(source, DEFAULT_LIMITS.for_registered()), Definition)
