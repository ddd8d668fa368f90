"""A statement that Postgres does not take at once: the driver's wait goes on where ours has stopped."""

from collections.abc import Generator
from typing import Any

import pytest
from psycopg.waiting import Ready, Wait

from saga_coordinator.store.log_writer import _continued


def steps(given: list[Ready]) -> Generator[Wait, Ready, list[Any]]:
    """Steps that take an answer to each wait, as those of the driver in C do, and none that is no number."""
    given.append(Ready((yield Wait.RW)))
    given.append(Ready((yield Wait.RW)))
    given.append(Ready((yield Wait.R)))
    return ["the result"]


def test_steps_that_have_begun_are_taken_on() -> None:
    given: list[Ready] = []
    begun: Any = steps(given)
    rest = _continued(begun, next(begun))
    assert next(rest) is Wait.RW
    assert rest.send(Ready.W) is Wait.RW
    assert rest.send(Ready.RW) is Wait.R
    with pytest.raises(StopIteration) as done:
        rest.send(Ready.R)
    assert done.value.value == ["the result"]
    assert given == [Ready.W, Ready.RW, Ready.R]
