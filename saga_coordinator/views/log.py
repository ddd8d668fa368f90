"""The log of a saga, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.saga.machine.rows import PAYLOADS
from saga_coordinator.saga.machine.state import SagaState, fold
from saga_coordinator.saga.machine.stored_entry import decode
from saga_coordinator.store.sagas import LogEntry
from saga_coordinator.wire.enumerations import OPERATION_NUMBERS
from saga_coordinator.wire.payload import NESTING_MAX, fill_object
from saga_coordinator.wire.times import timestamp_of

_BODY_NESTING_MAX = NESTING_MAX + 1
"""A body holds payloads, each as deeply nested as a payload may be."""


def folded(saga_id: str, log: Iterable[LogEntry]) -> SagaState:
    """The state that the entries lead to."""
    return fold(saga_id, (decode(logged.entry) for logged in log))


def write_entry(logged: LogEntry, message: saga_pb2.Entry) -> None:
    """Writes an entry into an empty message."""
    entry = logged.entry
    message.sequence = logged.sequence
    message.entry_type = entry.type
    message.step = entry.step or ""
    message.operation = OPERATION_NUMBERS.get(entry.operation or "", saga_pb2.OPERATION_KIND_UNSPECIFIED)
    message.attempt = entry.attempt
    fill_object(message.body, entry.body, depth_max=_BODY_NESTING_MAX)
    message.recorded_at.CopyFrom(timestamp_of(logged.recorded_at))
    message.recorded_by = logged.recorded_by
    message.payload_omitted = logged.is_payload_omitted


def leave_payload_out(entry: saga_pb2.Entry) -> None:
    """Takes the payloads out of an entry, where one entry alone is more than an answer holds."""
    for name in PAYLOADS:
        if name in entry.body.fields:
            del entry.body.fields[name]
    entry.payload_omitted = True
