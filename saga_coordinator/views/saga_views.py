"""One saga as answers show it: read, folded and written down in pieces, none of which holds anything else up.

An answer about one saga never exceeds what gRPC clients take by default, whatever the saga holds, also when it was written before
payloads had the limits of today. What does not fit is left out, and a field says so: first the outputs of steps, then the input,
then the payload of a single entry.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from saga_coordinator.catalog.runnable import RunnableDefinitions
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.store.sagas import SagaRecord, SagaRows, ShownEntry
from saga_coordinator.views.log import folded, leave_payload_out, write_entry
from saga_coordinator.views.room import RESPONSE_BYTES_MAX
from saga_coordinator.views.saga import add_progress, leave_payloads_out, saga_message
from saga_coordinator.wire.conversion import AT_ONCE_BYTES_MAX, convert, size_of
from saga_coordinator.wire.pieces import size_at_most

LOG_ENTRIES_AT_ONCE = 100
"""Entries in one answer to a watcher."""

LOG_ENTRIES_MAX = 1000
"""Entries in one answer, and in one read."""


_STEP_BYTES = 500
"""About what one step is in an answer: it decides where the answer is written."""


class SagaViews:
    """Reads sagas for answers. Every method raises Unavailable when the database is away."""

    def __init__(self, definitions: RunnableDefinitions, sagas: SagaRows) -> None:
        self._definitions = definitions
        self._sagas = sagas

    async def saga(
        self,
        record: SagaRecord,
        known: tuple[Definition, SagaState] | None = None,
        into: saga_pb2.Saga | None = None,
    ) -> saga_pb2.Saga:
        """The saga with its steps, as it was when its log had as many entries as the record says, or some more.

        It is written `into` an empty message, if that is given. If the saga is `known` in memory as the record has it, its log is
        not read.
        """
        if known is not None and known[1].status is record.status and known[1].sequence >= record.sequence:
            definition, state = known
            size = record.input_bytes + len(state.steps) * _STEP_BYTES
            size += size_of([state.output, *(step.output for step in state.steps.values())])
            return await convert(size, _known_saga, record, definition, state, into)
        registered = await self._definitions.get(record.namespace, record.definition, record.version)
        log = await self._log(record)
        size = record.input_bytes + _size(log)
        return await convert(size, _saga, record, registered.definition, log, into)

    async def saga_and_log(self, record: SagaRecord, after: int) -> pb.GetSagaResponse:
        """The saga with its steps, and as much of its log behind the sequence `after` as fits, but at least one entry."""
        response = pb.GetSagaResponse()
        await self.saga(record, into=response.saga)
        log = await self._shown_of(record, after, LOG_ENTRIES_MAX)
        size = size_at_most(response.saga, enough=AT_ONCE_BYTES_MAX) + _size(log)
        await convert(size, _add_entries, response.saga, response.log, log)
        return response

    async def news(self, record: SagaRecord, after: int) -> pb.WatchSagaResponse:
        """The saga without its steps, and as much of its log behind the sequence `after` as fits, but at least one entry."""
        log = await self._shown_of(record, after, LOG_ENTRIES_AT_ONCE)
        return await convert(record.input_bytes + _size(log), _news, record, log)

    async def _shown_of(self, record: SagaRecord, after: int, limit: int) -> list[ShownEntry]:
        """The entries to show: as many as one answer could hold, and only those that the record counts."""
        limit = min(limit, record.sequence - after)
        if limit <= 0:
            return []
        found = await self._sagas.shown_log(record.saga_id, after, limit)
        log: list[ShownEntry] = []
        size = 0
        for shown in found:
            is_shown = 0 < shown.payload_bytes <= RESPONSE_BYTES_MAX
            size += shown.size_bytes + (shown.payload_bytes if is_shown else 0)
            if log and size > RESPONSE_BYTES_MAX:
                break
            log.append(shown)
        return await self._sagas.with_payloads(record.saga_id, log, RESPONSE_BYTES_MAX)

    async def _log(self, record: SagaRecord) -> list[ShownEntry]:
        """The whole log, as far as the record counts it, with no more of its payloads than an answer shows."""
        log: list[ShownEntry] = []
        while len(log) < record.sequence:
            limit = min(LOG_ENTRIES_MAX, record.sequence - len(log))
            read = await self._sagas.shown_log(record.saga_id, len(log), limit)
            if not read:  # what a record counts is there; should it not be, this must not go on for ever
                break
            log += read
        # The entry that starts a saga repeats its input, which the record has.
        start, rest = log[:1], log[1:]
        if sum(shown.payload_bytes for shown in rest) > RESPONSE_BYTES_MAX:
            return log
        return start + await self._sagas.with_payloads(record.saga_id, rest, RESPONSE_BYTES_MAX)


def _size(log: Sequence[ShownEntry]) -> int:
    return sum(shown.size_bytes for shown in log)


def _known_saga(
    record: SagaRecord, definition: Definition, state: SagaState, into: saga_pb2.Saga | None
) -> saga_pb2.Saga:
    message = saga_message(record, into)
    message.sequence = state.sequence
    add_progress(message, definition, state)
    return message


def _saga(
    record: SagaRecord, definition: Definition, log: Sequence[ShownEntry], into: saga_pb2.Saga | None
) -> saga_pb2.Saga:
    message = saga_message(record, into)
    state = folded(record.saga_id, (shown.logged() for shown in log))
    add_progress(message, definition, state, is_whole=not any(shown.payload_bytes for shown in log[1:]))
    payloads = [state.input, state.output, *(step.output for step in state.steps.values())]
    del state
    while (
        payloads
    ):  # one after another, since freeing seven large ones at once holds the interpreter for 50 ms
        payloads.pop()
    return message


def _add_entries(
    saga: saga_pb2.Saga, into: RepeatedCompositeFieldContainer[saga_pb2.Entry], log: Sequence[ShownEntry]
) -> None:
    """Adds the entries that fit into an answer beside the saga. If the first does not fit, the saga's payloads make way."""
    room = RESPONSE_BYTES_MAX - size_at_most(saga)
    for count, shown in enumerate(log):
        entry = into.add()
        write_entry(shown.logged(), entry)
        size = entry.ByteSize()
        if not count and size > room:
            if size < RESPONSE_BYTES_MAX:
                leave_payloads_out(saga, RESPONSE_BYTES_MAX - size)
                room = RESPONSE_BYTES_MAX - size_at_most(saga)
            if size > room:
                leave_payload_out(entry)
                size = entry.ByteSize()
        room -= size
        if room < 0 and count:
            del into[-1]
            return


def _news(record: SagaRecord, log: Sequence[ShownEntry]) -> pb.WatchSagaResponse:
    response = pb.WatchSagaResponse()
    saga_message(record, response.saga)
    leave_payloads_out(response.saga, RESPONSE_BYTES_MAX)
    _add_entries(response.saga, response.entries, log)
    return response
