"""A payload has one form: the same for whatever says the same, and the form of itself."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given

from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.entries import AttemptSucceeded, BlockOpened
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    EventArrived,
    OutcomeReported,
    StartRequested,
    canonical_input,
)
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode
from saga_coordinator.saga.words.canonical import (
    WHOLE_MAX,
    WHOLE_MIN,
    NotCanonical,
    _rebuilt,
    canonical,
    canonical_bytes,
    digest_bytes,
)
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Succeeded
from tests.payloads import payloads


@pytest.mark.parametrize(
    ("given", "form"),
    [
        (1.0, 1),
        (-0.0, 0),
        (2.5, 2.5),
        (1e-9, 1e-9),
        (9007199254740991.0, 9007199254740991),
        (9007199254740992.0, 9007199254740992),
        (9007199254740993, 9007199254740993),
        (1e16, 10_000_000_000_000_000),
        (1234567890123456789.0, 1234567890123456800),
        (1234567890123456789, 1234567890123456789),
        (2.0**63, 9223372036854776000),
        (-(2.0**63), -(2.0**63)),
        (2.0**64, 2.0**64),
        (WHOLE_MAX, WHOLE_MAX),
        (WHOLE_MIN, WHOLE_MIN),
        (2**64, 2.0**64),
        (10**23, 1e23),
        (1e23, 1e23),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (5e-324, 5e-324),
        ({"b": 1, "a": {"d": 1.0, "c": None}}, {"a": {"c": None, "d": 1}, "b": 1}),
        ({"zeta": 1, "é": 2, "😀": 3, "Z": 4, "": 5}, {"": 5, "Z": 4, "zeta": 1, "é": 2, "😀": 3}),
        ([1.0, (2.0, "3.0"), True], [1, [2, "3.0"], True]),
    ],
)
def test_each_value_has_one_form(given: Any, form: Any) -> None:
    # Written down, because Python holds 1, 1.0 and True to be equal, and objects whatever the order of their keys.
    assert json.dumps(canonical(given)) == json.dumps(form)
    assert json.dumps(canonical(form)) == json.dumps(form)


@given(payloads())
@example([1.0, {"e": "5e3", "1.0": "2.0"}, -0.0, 1e-7, 12345678901234567890])
def test_the_form_is_its_own_form_and_says_the_same(payload: Any) -> None:
    form = canonical(payload)
    assert canonical(form) is form
    assert orjson.dumps(_rebuilt(form)) == orjson.dumps(form), "what is not built anew would be another"
    assert form == payload or _as_doubles(form) == _as_doubles(payload)


def _as_doubles(value: Any) -> Any:
    """What is said when all numbers are doubles, as for most who read JSON."""
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_doubles(item) for item in value]
    return float(value) if type(value) is int else value


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (float("nan"), "must be a finite number"),
        ({"a": [float("inf")]}, "must be a finite number"),
        (10**400, "must be within the range of a double"),
        ({1: 2}, "must have keys that are strings"),
        ({"a": object()}, "must be a JSON value, not object"),
        ([b"bytes"], "must be a JSON value, not bytes"),
    ],
)
def test_what_has_no_form_is_refused(given: Any, complaint: str) -> None:
    with pytest.raises(NotCanonical, match=complaint):
        canonical(given)


def test_bytes_tell_what_python_does_not() -> None:
    assert {"a": True} == {"a": 1}
    assert canonical_bytes({"a": True}) != canonical_bytes({"a": 1})
    assert canonical_bytes({"a": 1.0, "b": 2}) == canonical_bytes({"b": 2, "a": 1})


ACTION = OperationKind.ACTION
MESSY = {"zeta": 1.0, "b": 1234567890123456789.0}
TIDY = '{"b": 1234567890123456800, "zeta": 1}'


def test_what_happens_to_a_saga_gets_its_form_before_it_is_decided_on() -> None:
    for happened in (
        canonical_input(AttemptEnded("a", ACTION, 1, Succeeded(MESSY))),
        canonical_input(OutcomeReported("a", ACTION, Succeeded(MESSY))),
    ):
        assert isinstance(happened, AttemptEnded | OutcomeReported)
        assert isinstance(happened.outcome, Succeeded)
        assert json.dumps(happened.outcome.output) == TIDY
    arrived = canonical_input(EventArrived("e", "paid", "", MESSY))
    assert isinstance(arrived, EventArrived)
    assert json.dumps(arrived.payload) == TIDY
    started = canonical_input(
        StartRequested("s", 1, MESSY, {"tenant": "acme", "city": "Oslo"}, headers={"b": "1", "a": "2"})
    )
    assert isinstance(started, StartRequested)
    assert json.dumps(started.input) == TIDY
    assert list(started.labels) == ["city", "tenant"]
    assert list(started.headers or ()) == ["a", "b"]


def test_a_log_as_postgres_gives_it_back_leads_to_the_form() -> None:
    body = {"output": {"zeta": 1.0, "longer": 2, "b": 10**23}}
    entry = decode(StoredEntry("attempt_succeeded", "a", "action", 1, body))
    assert isinstance(entry, AttemptSucceeded)
    assert json.dumps(entry.output) == '{"b": 1e+23, "longer": 2, "zeta": 1}'
    opened = decode(StoredEntry("block_opened", "a", "action", 0, {"items": [{"z": 1, "a": 2.0}]}))
    assert isinstance(opened, BlockOpened)
    assert json.dumps(opened.items) == '[{"a": 2, "z": 1}]'


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        # As version 0.1.0 made them: a request and its repetition may meet an upgrade between them.
        ({"amount": 12, "id": 1.2345678901234568e18}, {"amount": 12, "id": 1234567890123456800}),
        ([1e16, 1e23, 0.5], [10_000_000_000_000_000, 1e23, 0.5]),
    ],
)
def test_digests_are_those_of_the_version_before(given: Any, digest: Any) -> None:
    request = StartSaga("order", "k", input=digest).prepared()[0]
    said: tuple[Any, ...] = ("order", 0, given, {}, None)
    before = hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()
    assert request.digest() == before


def test_digests_tell_whole_numbers_apart_that_are_one_double() -> None:
    assert digest_bytes([9007199254740993]) != digest_bytes([9007199254740992])
    assert digest_bytes([1234567890123456789]) != digest_bytes([1234567890123456800])
