"""Published events, and what became of them."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1 import saga_service_pb2
from saga_coordinator.store.lists import PublishedEvent
from saga_coordinator.wire.payload import fill
from saga_coordinator.wire.times import timestamp_of


def write_published(event: PublishedEvent, message: saga_service_pb2.PublishedEvent) -> None:
    """Writes into an empty message what was published, and what became of it."""
    message.event.event_id = event.event_id
    message.event.name = event.name
    message.event.correlation = event.correlation
    message.published_at.CopyFrom(timestamp_of(event.published_at))
    message.taken_by = event.taken_by or ""
    message.payload_omitted = event.is_payload_omitted
    if event.payload is not None:
        fill(message.event.payload, event.payload)
    if event.kept_until is not None:
        message.kept_until.CopyFrom(timestamp_of(event.kept_until))
    if event.taken_at is not None:
        message.taken_at.CopyFrom(timestamp_of(event.taken_at))
