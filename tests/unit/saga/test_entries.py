"""Entries come back from the store as they went in, also from one that knows more than we do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.saga.machine.entries import ENTRY_TYPES, AttemptRefused, Entry
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode, encode, entry_type
from saga_coordinator.saga.words.canonical import canonical
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause
from tests.payloads import payloads

instants = st.floats(0, 1e12)
by_field: dict[str, st.SearchStrategy[Any]] = {
    "input": payloads().map(canonical),
    "output": payloads().map(canonical),
    "labels": st.dictionaries(st.text(), st.text(), max_size=2),
    "retry_delay_seconds": instants,
    "retry_at": instants,
    "pending_until": instants,
    "settles_at": st.none() | instants,
    "deadline_at": st.none() | instants,
}


def entries(kind: type[Entry]) -> st.SearchStrategy[Any]:
    return st.builds(
        kind, **{name: each for name, each in by_field.items() if name in kind.__dataclass_fields__}
    )


@given(st.sampled_from(ENTRY_TYPES).flatmap(entries))
def test_entry_survives_the_store(entry: Entry) -> None:
    stored = encode(entry)
    assert stored.type == entry_type(entry)
    back = replace(stored, body=json.loads(json.dumps(stored.body)))
    assert decode(back) == entry
    assert encode(decode(back)) == encode(entry)


def test_entry_about_an_operation_is_stored_with_its_columns() -> None:
    entry = AttemptRefused("charge", OperationKind.ACTION, 2, Cause("NOT_FOUND", "no such card"))
    body = {"cause": {"code": "NOT_FOUND", "message": "no such card"}}
    assert encode(entry) == StoredEntry("attempt_refused", "charge", "action", 2, body)


def test_type_of_a_newer_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"saga_painted.*upgrade"):
        decode(StoredEntry("saga_painted", None, None, 0, {}))
