"""A payload's size is that of its message, where a control character counts as the six bytes that it is kept as."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.saga.words.size import Measure, TooLarge, text_bytes
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


LONG = {character: f"<{character:04}>" for character in range(32) if chr(character) not in "\b\t\n\f\r"}


def written_out(payload: Any) -> Any:
    """The payload with six characters instead of each that JSON writes as six."""
    if isinstance(payload, str):
        return payload.translate(LONG)
    if isinstance(payload, list):
        return [written_out(item) for item in payload]
    if isinstance(payload, dict):
        return {written_out(key): written_out(item) for key, item in payload.items()}
    return payload


@given(payloads)
def test_it_is_the_size_of_the_message_to_the_byte(payload: Any) -> None:
    size = to_value(written_out(payload)).ByteSize()
    assert Measure(size).check(payload) == size
    with pytest.raises(TooLarge, match=f"more than {size - 1} bytes"):
        Measure(size - 1).check(payload)


@given(st.lists(payloads, min_size=2, max_size=5))
def test_what_was_seen_before_counts_as_much_as_the_first_time(parts: list[Any]) -> None:
    large = [*parts, *range(100)]
    twice = {"first": large, "again": [large, large]}
    size = to_value(written_out(twice)).ByteSize()
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


@pytest.mark.parametrize("length", [100, 1000])
def test_text_is_never_much_longer_as_json_than_it_counts(length: int) -> None:
    """Quotes and backslashes are twice as long, and nothing is more."""
    for character in map(chr, range(1, 0x300)):
        text = character * length
        assert len(orjson.dumps(text)) - 2 <= 2 * text_bytes(text)
