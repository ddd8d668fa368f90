"""Operators find sagas by filters: over gRPC, with a real database."""

from __future__ import annotations

import uuid

import pytest

from saga_coordinator.pb.saga.v1 import definition_service_pb2 as definitions
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as sagas
from saga_coordinator.pb.saga.v1.operator_service_pb2_grpc import OperatorServiceStub
from tests.acceptance.conftest import Client
from tests.acceptance.test_rpc import Refused, pages_of

SECONDS = 20

PARKED = """
steps:
  - {name: reserve, action: {participant: shop, method: quick}, compensation: {participant: shop, method: refuse}}
  - {name: ship, irreversible: true, action: {participant: shop, method: refuse}}
"""


@pytest.fixture
def parked(client: Client) -> tuple[str, list[str]]:
    """A definition, and the identities of five sagas of it that need a person: the newest first."""
    name = f"found_{uuid.uuid4().hex[:8]}"
    request = definitions.RegisterDefinitionRequest(text=f"name: {name}\n{PARKED}")
    client.definitions.RegisterDefinition(request, timeout=SECONDS)
    starts = (
        sagas.StartSagaRequest(
            definition=name, start_key=f"{name}/{number}", labels={"number": str(number)}, wait=True
        )
        for number in range(5)
    )
    started = [client.sagas.StartSaga(start, timeout=60).saga.saga_id for start in starts]
    return name, sorted(started, reverse=True)


def test_sagas_are_listed_by_a_filter_page_by_page(client: Client, parked: tuple[str, list[str]]) -> None:
    name, saga_ids = parked
    text = f'start_key.startsWith("{name}/") && blocked_by.step == "reserve" && labels["number"] != "9" && idle < duration("1h")'
    request = sagas.ListSagasRequest(filter=text, page_size=2)
    pages = list(pages_of(client.sagas.ListSagas, request))
    assert [saga.saga_id for page in pages for saga in page.sagas] == saga_ids
    token = pages[0].next_page_token
    other = sagas.ListSagasRequest(filter="version == 1", page_size=2, page_token=token)
    assert Refused(lambda: client.sagas.ListSagas(other, timeout=SECONDS)).paths == ["page_token"]


def test_a_count_equals_its_list(client: Client, parked: tuple[str, list[str]]) -> None:
    name, saga_ids = parked
    operators = OperatorServiceStub(client.channel)
    for text, number in (
        (f'definition == "{name}"', len(saga_ids)),
        (f'definition == "{name}" && status == "COMPLETED"', 0),
        (f'saga_id in ["{saga_ids[0]}", "{saga_ids[3]}"]', 2),
    ):
        counted = operators.CountSagas(pb.CountSagasRequest(filter=text), timeout=SECONDS)
        listed = client.sagas.ListSagas(sagas.ListSagasRequest(filter=text), timeout=SECONDS).sagas
        assert (counted.count, counted.exact) == (len(listed), True) == (number, True)
    refused = Refused(lambda: operators.CountSagas(pb.CountSagasRequest(filter="x == 1"), timeout=SECONDS))
    assert refused.paths == ["filter"]


def test_failures_are_grouped_by_what_they_have_in_common(
    client: Client, parked: tuple[str, list[str]]
) -> None:
    name, saga_ids = parked
    operators = OperatorServiceStub(client.channel)
    request = pb.GroupFailuresRequest(filter=f'definition == "{name}"')
    request.failed_within.FromSeconds(3600)
    answer = operators.GroupFailures(request, timeout=SECONDS)
    (group,) = answer.groups
    assert (answer.more_groups, answer.at_least) == (False, False)
    assert (group.definition, group.step, group.participant, group.method) == (
        name,
        "reserve",
        "shop",
        "refuse",
    )
    assert (group.operation, group.needs_attention) == (saga_pb2.OPERATION_KIND_COMPENSATION, True)
    assert (group.count, group.example_saga_id) == (len(saga_ids), saga_ids[0])
    saga = client.sagas.GetSaga(sagas.GetSagaRequest(saga_id=saga_ids[0]), timeout=SECONDS).saga
    assert group.code == saga.blocked_by.code
    assert group.first_at.ToDatetime() <= group.last_at.ToDatetime()
    wrong = pb.GroupFailuresRequest(filter="x == 1", limit=201)
    wrong.failed_within.FromSeconds(-1)
    assert Refused(lambda: operators.GroupFailures(wrong, timeout=SECONDS)).paths == [
        "filter",
        "failed_within",
        "limit",
    ]


def test_every_fault_of_a_filter_is_told_with_its_position(client: Client) -> None:
    request = sagas.ListSagasRequest(filter='statu == "X" ||\n version == "1"', page_size=-1)
    refused = Refused(lambda: client.sagas.ListSagas(request, timeout=SECONDS))
    assert refused.paths == ["filter", "filter", "page_size"]
    told = [violation.description for violation in refused.details["BadRequest"].field_violations]
    assert told[0].startswith("line 1: character 1: there is no field `statu`; did you mean `status`?")
    assert told[1].startswith("line 2: character 13: `version` is a whole number")
