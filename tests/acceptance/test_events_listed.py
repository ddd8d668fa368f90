"""Events that nobody took do not vanish from sight, and what no step can await is refused."""

import uuid

import pytest
from google.protobuf.duration_pb2 import Duration

from saga_coordinator.api.pages import page_token
from saga_coordinator.pb.saga.v1.definition_service_pb2 import RegisterDefinitionRequest
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    Event,
    ListEventsRequest,
    PublishedEvent,
    PublishEventRequest,
    SignalSagaRequest,
)
from tests.acceptance.conftest import Client
from tests.acceptance.test_rpc import Refused, pages_of, value
from tests.eventually import PATIENCE_SECONDS


def publish(client: Client, name: str, correlation: str, keep_seconds: int = 60) -> str:
    event = Event(event_id=str(uuid.uuid4()), name=name, correlation=correlation, payload=value({"n": 1}))
    request = PublishEventRequest(event=event, keep_for=Duration(seconds=keep_seconds))
    client.sagas.PublishEvent(request, timeout=PATIENCE_SECONDS)
    return event.event_id


def listed(client: Client, request: ListEventsRequest) -> list[PublishedEvent]:
    return [event for page in pages_of(client.sagas.ListEvents, request) for event in page.events]


@pytest.mark.parametrize("name", ["1 x", "-", "paid ", "a\u00e4", ".", "paid\n"])
def test_a_name_that_no_step_can_await_is_refused(client: Client, name: str) -> None:
    event = Event(event_id="e", name=name, correlation="order 7")
    published = Refused(lambda: client.sagas.PublishEvent(PublishEventRequest(event=event)))
    assert published.paths == ["event.name"]
    signal = SignalSagaRequest(saga_id=str(uuid.uuid4()), event=event)
    assert Refused(lambda: client.sagas.SignalSaga(signal)).paths == ["event.name"]


def test_what_nobody_took_is_listed_newest_first(client: Client) -> None:
    name = f"mistyped.{uuid.uuid4().hex}"
    published = [publish(client, name, f"order {number % 2}") for number in range(5)]
    gone = publish(client, name, "order 0", keep_seconds=0)
    found = listed(client, ListEventsRequest(untaken=True, name=name, page_size=2))
    assert [each.event.event_id for each in found] == [gone, *reversed(published)]
    assert [each.HasField("kept_until") for each in found] == [False] + [True] * 5
    assert not any(each.HasField("taken_at") or each.taken_by for each in found)
    assert found[0].event.payload == value({"n": 1})
    of_one = listed(client, ListEventsRequest(untaken=True, name=name, correlation="order 1"))
    assert [each.event.event_id for each in of_one] == [published[3], published[1]]
    newest = client.sagas.ListEvents(ListEventsRequest(untaken=True, page_size=1), timeout=PATIENCE_SECONDS)
    assert newest.events[0].published_at.ToNanoseconds() >= found[0].published_at.ToNanoseconds()


def test_what_a_saga_took_is_not_untaken(client: Client) -> None:
    name, correlation = f"paid.{uuid.uuid4().hex}", "order 7"
    definition_name = f"paying_{uuid.uuid4().hex}"
    text = f"name: {definition_name}\nsteps: [{{name: wait, await_event: {{event: {name}, correlation: order 7}}}}]"
    client.definitions.RegisterDefinition(RegisterDefinitionRequest(text=text), timeout=PATIENCE_SECONDS)
    saga_id = client.start(definition_name).saga_id
    event_id = publish(client, name, correlation)
    client.settled(saga_id)
    (taken,) = listed(client, ListEventsRequest(name=name))
    assert (taken.event.event_id, taken.HasField("taken_at")) == (event_id, True)
    assert not taken.HasField("kept_until")
    assert listed(client, ListEventsRequest(untaken=True, name=name)) == []


def test_filters_that_cannot_be(client: Client) -> None:
    request = ListEventsRequest(correlation="order 7", page_size=-1)
    assert Refused(lambda: client.sagas.ListEvents(request)).paths == ["correlation", "page_size"]
    for token in ("x", page_token(ListEventsRequest(), "soon a"), page_token(ListEventsRequest(), "9" * 17)):
        of_token = ListEventsRequest(page_token=token)
        assert Refused(lambda request=of_token: client.sagas.ListEvents(request)).paths == ["page_token"]  # type: ignore[misc]
