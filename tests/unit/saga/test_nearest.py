"""The name that somebody probably meant."""

import pytest

from saga_coordinator.saga.words.nearest import did_you_mean

FIELDS = ["participant", "method", "input", "timeout", "retry"]


@pytest.mark.parametrize(
    ("written", "meant"), [("metod", "method"), ("partisipant", "participant"), ("timeot", "timeout")]
)
def test_what_is_close_is_meant(written: str, meant: str) -> None:
    assert did_you_mean(written, FIELDS) == f"; did you mean `{meant}`?"


@pytest.mark.parametrize("written", ["", "colour", "x" * 100_000])
def test_what_is_close_to_nothing_is_not(written: str) -> None:
    assert did_you_mean(written, FIELDS) == ""
    assert did_you_mean(written, []) == ""
