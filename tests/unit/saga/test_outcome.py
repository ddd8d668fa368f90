"""What a gRPC status means, the texts that are kept, keys, and pauses."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import (
    TEXT_BYTES_MAX,
    Cause,
    CauseCode,
    OutcomeKind,
    Refused,
    Succeeded,
    Unknown,
    clip,
    outcome_of_failure,
    reclassified,
)
from saga_coordinator.saga.words.retry import RetryPolicy

# The table of docs/concepts.md, written out once more on purpose.
REFUSED = {"FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "OUT_OF_RANGE"}
UNKNOWN = {
    *("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "ABORTED"),
    *("RESOURCE_EXHAUSTED", "DATA_LOSS", "UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"),
}


def test_a_cause_holds_plain_text_however_it_was_given() -> None:
    """Inputs of compensations are computed from it, and what a participant is sent may hold no member of an enum."""
    assert type(Cause(CauseCode.CANCELLED, "why").code) is str
    assert Cause(CauseCode.CANCELLED, "why") == Cause("CANCELLED", "why")


def test_table_names_every_status_of_grpc() -> None:
    assert {status.name for status in grpc.StatusCode} == REFUSED | UNKNOWN | {"OK"}


@pytest.mark.parametrize("status", sorted(REFUSED | UNKNOWN))
def test_status_means_what_the_table_says(status: str) -> None:
    expected = (Refused if status in REFUSED else Unknown)(Cause(status, "why"))
    assert outcome_of_failure(status, "why") == expected


@given(st.text())
def test_status_that_nobody_knows_yet_leaves_open_whether_it_happened(status: str) -> None:
    assert status in REFUSED or isinstance(outcome_of_failure(status, ""), Unknown)


@given(
    st.text() | st.text(alphabet="aé漢\ud83d\0", min_size=TEXT_BYTES_MAX // 4, max_size=TEXT_BYTES_MAX + 9)
)
def test_text_is_kept_whole_or_cut_with_a_mark(text: str) -> None:
    kept = clip(text)
    assert len(kept.encode()) <= TEXT_BYTES_MAX
    assert "\0" not in kept
    whole = text.replace("\0", "\ufffd").encode("utf-8", "replace")
    if len(whole) <= TEXT_BYTES_MAX:
        assert kept.encode() == whole
    else:
        start, _, mark = kept.partition("... [cut, ")
        assert mark == f"{len(whole)} bytes in all]"
        assert whole.startswith(start.encode())
        assert len(kept.encode()) > TEXT_BYTES_MAX - 4, "as much is kept as fits"


def test_keys_differ_between_operations_and_stay_the_same_otherwise() -> None:
    keys = [
        idempotency_key(saga, step, operation)
        for saga in ("s1", "s2")
        for step in ("reserve", "charge")
        for operation in OperationKind
    ]
    assert len(set(keys)) == 8
    assert keys[0] == "s1/reserve/action"


seconds = st.floats(0.001, 1e9)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), seconds, st.floats(1, 100), seconds)
def test_pause_is_capped_and_never_overflows(
    failures: int, jitter: float, initial: float, multiplier: float, cap: float
) -> None:
    policy = RetryPolicy(5, initial, multiplier, cap)
    pause = policy.backoff_seconds(failures, jitter)
    assert 0 <= pause <= cap
    assert policy.backoff_seconds(1, jitter) == jitter * min(initial, cap)
    assert pause <= policy.backoff_seconds(failures + 1, jitter), "pauses do not get shorter"


def test_pause_grows_by_the_multiplier_up_to_the_cap() -> None:
    policy = RetryPolicy(5, 0.5, 2.0, 3.0)
    assert [policy.backoff_seconds(failures, 1.0) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@given(st.lists(seconds, min_size=1, max_size=5), st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_listed_pauses_are_made_as_they_are_and_the_last_one_again(
    pauses: list[float], failures: int, jitter: float
) -> None:
    policy = RetryPolicy(5, pauses=tuple(pauses))
    assert policy.backoff_seconds(failures, jitter) == [*pauses, *[pauses[-1]] * failures][failures - 1]


def test_only_the_causes_that_are_named_are_tried_again() -> None:
    policy = RetryPolicy(3, retry_on=frozenset({"UNAVAILABLE"}))
    assert [policy.allows(code, failures) for code, failures in (("UNAVAILABLE", 2), ("UNAVAILABLE", 3), ("INTERNAL", 1))] == [
        True, False, False,
    ]  # fmt: skip
    assert RetryPolicy(3).allows("INTERNAL", 2)


@pytest.mark.parametrize(
    "said",
    [Refused(Cause("ABORTED", "no"), is_explicit=True), Unknown(Cause("ABORTED", "?"), is_explicit=True)],
)
def test_what_was_said_in_words_is_not_judged_by_its_status(said: Refused | Unknown) -> None:
    for meaning in OutcomeKind:
        assert reclassified(said, {"ABORTED": meaning}) == said
        assert (
            reclassified(replace(said, is_explicit=False), {"ABORTED": OutcomeKind.SUCCEEDED}) == Succeeded()
        )


def test_a_rest_that_was_asked_for_outlives_the_definitions_own_table() -> None:
    asked = Unknown(Cause("RESOURCE_EXHAUSTED", "busy"), retry_after_seconds=30.0)
    assert reclassified(asked, {"RESOURCE_EXHAUSTED": OutcomeKind.UNKNOWN}) == asked
