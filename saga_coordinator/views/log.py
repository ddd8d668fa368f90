"""The log of a saga, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.saga.machine.rows import PAYLOADS
from saga_coordinator.saga.machine.state import SagaState, fold
from saga_coordinator.saga.machine.stored_entry import decode
from saga_coordinator.store.sagas import LogEntry
from saga_coordinator.wire.enumerations import OPERATION_NUMBERS
from saga_coordinator.wire.payload import NESTING_MAX, to_value
from saga_coordinator.wire.times import timestamp_of

_BODY_NESTING_MAX = NESTING_MAX + 1
"""A body holds payloads, each as deeply nested as a payload may be."""


def folded(saga_id: str, log: Iterable[LogEntry]) -> SagaState:
    """The state that the entries lead to."""
    return fold(saga_id, (decode(logged.entry) for logged in log))


def entry_message(logged: LogEntry) -> saga_pb2.Entry:
    entry = logged.entry
    return saga_pb2.Entry(
        sequence=logged.sequence,
        entry_type=entry.type,
        step=entry.step or "",
        operation=OPERATION_NUMBERS.get(entry.operation or "", saga_pb2.OPERATION_KIND_UNSPECIFIED),
        attempt=entry.attempt,
        body=to_value(entry.body, depth_max=_BODY_NESTING_MAX).struct_value,
        recorded_at=timestamp_of(logged.recorded_at),
        recorded_by=logged.recorded_by,
        payload_omitted=logged.is_payload_omitted,
    )


def without_payload(entry: saga_pb2.Entry) -> saga_pb2.Entry:
    """The entry without its payloads, where one entry alone is more than an answer holds."""
    for name in PAYLOADS:
        if name in entry.body.fields:
            del entry.body.fields[name]
    entry.payload_omitted = True
    return entry
