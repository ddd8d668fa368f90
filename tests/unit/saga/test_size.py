"""The size of a payload is that of the message that carries it, and measuring stops where the limit is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.saga.words.size import Measure, TooLarge
from saga_coordinator.wire.payload import to_value

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
payloads = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=100) | st.dictionaries(texts, inner, max_size=30),
    max_leaves=200,
)


@given(payloads)
def test_it_is_the_size_of_the_message_to_the_byte(payload: Any) -> None:
    size = to_value(payload).ByteSize()
    assert Measure(size).check(payload) == size
    with pytest.raises(TooLarge, match=f"more than {size - 1} bytes"):
        Measure(size - 1).check(payload)


@given(st.lists(payloads, min_size=2, max_size=5))
def test_what_was_seen_before_counts_as_much_as_the_first_time(parts: list[Any]) -> None:
    large = [*parts, *range(100)]
    twice = {"first": large, "again": [large, large]}
    size = to_value(twice).ByteSize()
    measure = Measure(size)
    assert measure.check(twice) == measure.check(twice) == size


@pytest.mark.parametrize(
    "payload",
    [
        [0] * 9,
        [None] * 9,
        {str(n): {} for n in range(9)},
        [[[[[[[[[[]]]]]]]]]],
        {"a": [1, 2, 3], "b": [4, 5, 6], "c": 7},
    ],
)
def test_each_value_in_it_counts(payload: Any) -> None:
    Measure(1000, values_max=10).check(payload)
    with pytest.raises(TooLarge, match="more than 9 values"):
        Measure(1000, values_max=9).check(payload)


def test_values_that_were_seen_before_are_counted_again() -> None:
    large = list(range(100))
    Measure(10_000, values_max=304).check([large, large, large])
    with pytest.raises(TooLarge, match="more than 303 values"):
        Measure(10_000, values_max=303).check([large, large, large])
