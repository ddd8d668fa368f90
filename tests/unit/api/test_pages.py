"""Page tokens: good for the list and the filter they were given for, and for nothing else."""

import re

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from saga_coordinator.api.pages import ANY, NUMBER, page_token, position_of
from saga_coordinator.pb.saga.v1.definition_service_pb2 import ListDefinitionsRequest
from saga_coordinator.pb.saga.v1.saga_pb2 import SAGA_STATUS_RUNNING
from saga_coordinator.pb.saga.v1.saga_service_pb2 import ListSagasRequest
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.saga.words.identity import SAGA_ID

FILTER = ListSagasRequest(definition="order", labels={"a": "1", "b": "2"}, page_size=10)


def refused(request: Message, token: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        position_of(request, token)
    assert [fault.path for fault in caught.value.faults] == ["page_token"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_a_token_leads_back_to_its_position(position: str) -> None:
    assert position_of(FILTER, page_token(FILTER, position)) == position


@pytest.mark.parametrize(
    ("position", "pattern"),
    [("a\0", ANY), ("x", NUMBER), ("0", NUMBER), ("-1", NUMBER), ("9" * 10, NUMBER), ("x", SAGA_ID)],
)
def test_a_position_that_the_list_cannot_have_is_refused(position: str, pattern: re.Pattern[str]) -> None:
    """Anybody can make a token whose digest is right."""
    with pytest.raises(InvalidRequest):
        position_of(FILTER, page_token(FILTER, position), pattern)


def test_the_empty_token_is_the_first_page() -> None:
    assert position_of(FILTER, "") is None


def test_the_page_size_may_change_between_pages() -> None:
    token = page_token(FILTER, "x")
    other = ListSagasRequest(definition="order", labels={"b": "2", "a": "1"}, page_size=500, page_token=token)
    assert position_of(other, token) == "x"


@pytest.mark.parametrize(
    "other",
    [
        ListSagasRequest(),
        ListSagasRequest(definition="order", labels={"a": "1"}),
        ListSagasRequest(definition="order", labels={"a": "1", "b": "2"}, statuses=[SAGA_STATUS_RUNNING]),
        ListDefinitionsRequest(),
    ],
)
def test_a_token_is_not_good_for_another_list(other: Message) -> None:
    refused(other, page_token(FILTER, "x"))


def test_lists_without_filters_do_not_share_tokens() -> None:
    refused(ListDefinitionsRequest(), page_token(ListSagasRequest(), "x"))


@given(st.text())
def test_whatever_else_is_refused(token: str) -> None:
    if token:
        refused(FILTER, token)


@given(st.integers(min_value=0), st.characters(codec="ascii"))
def test_a_token_with_one_character_changed_is_refused(place: int, character: str) -> None:
    token = page_token(FILTER, "order-7")
    place %= len(token)
    if token[place] != character:
        refused(FILTER, token[:place] + character + token[place + 1 :])
