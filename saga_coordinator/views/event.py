"""Published events, and what became of them."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1 import saga_service_pb2
from saga_coordinator.store.lists import PublishedEvent
from saga_coordinator.wire.payload import to_value
from saga_coordinator.wire.times import timestamp_of


def published_message(event: PublishedEvent) -> saga_service_pb2.PublishedEvent:
    """What was published, and what became of it."""
    message = saga_service_pb2.PublishedEvent(
        event=saga_service_pb2.Event(event_id=event.event_id, name=event.name, correlation=event.correlation),
        published_at=timestamp_of(event.published_at),
        taken_by=event.taken_by or "",
        payload_omitted=event.is_payload_omitted,
    )
    if event.payload is not None:
        message.event.payload.CopyFrom(to_value(event.payload))
    if event.kept_until is not None:
        message.kept_until.CopyFrom(timestamp_of(event.kept_until))
    if event.taken_at is not None:
        message.taken_at.CopyFrom(timestamp_of(event.taken_at))
    return message
