"""Reads requests about events and checks them whole: InvalidRequest has every fault of a request."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1 import saga_service_pb2
from saga_coordinator.saga.machine.inputs import EventArrived
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.store.lists import EventFilter
from saga_coordinator.store.records import Event
from saga_coordinator.wire.field_checks import (
    CORRELATION_CHARACTERS_MAX,
    EVENT_ID_CHARACTERS_MAX,
    FieldChecks,
)


def signal_saga(
    request: saga_service_pb2.SignalSagaRequest, payload_bytes_max: int
) -> tuple[str, EventArrived]:
    """The saga's id, and the event."""
    checks = FieldChecks()
    found = checks.saga_id(request.saga_id)
    event = _event(checks, request.event, payload_bytes_max, is_correlated=False)
    checks.done()
    return found, event


def publish_event(request: saga_service_pb2.PublishEventRequest, payload_bytes_max: int) -> Event:
    checks = FieldChecks()
    event = _event(checks, request.event, payload_bytes_max, is_correlated=True)
    keep_seconds = None
    if request.HasField("keep_for"):
        keep_seconds = checks.seconds("keep_for", request.keep_for, may_be_zero=True)
        if keep_seconds > EVENT_KEPT_SECONDS:
            checks.add(
                "keep_for", f"must be at most {EVENT_KEPT_SECONDS:.0f}s, after which events are forgotten"
            )
    checks.done()
    return Event(event.event_id, event.name, event.correlation, event.payload, keep_seconds)


def _event(
    checks: FieldChecks, event: saga_service_pb2.Event, payload_bytes_max: int, *, is_correlated: bool
) -> EventArrived:
    correlation = checks.line(
        "event.correlation", event.correlation, CORRELATION_CHARACTERS_MAX, is_required=is_correlated
    )
    return EventArrived(
        checks.line("event.event_id", event.event_id, EVENT_ID_CHARACTERS_MAX, is_required=True),
        checks.event_name("event.name", event.name),
        correlation,
        checks.payload("event.payload", event.payload, payload_bytes_max)
        if event.HasField("payload")
        else None,
    )


def event_list(request: saga_service_pb2.ListEventsRequest) -> tuple[EventFilter, int]:
    """The filter, and how many events to list."""
    checks = FieldChecks()
    wanted = EventFilter(
        is_untaken=request.untaken,
        name=checks.name("name", request.name),
        correlation=checks.line("correlation", request.correlation, CORRELATION_CHARACTERS_MAX),
    )
    if request.correlation and not request.name:
        checks.add("correlation", "needs a name beside it")
    page_size = checks.page_size(request.page_size)
    checks.done()
    return wanted, page_size
