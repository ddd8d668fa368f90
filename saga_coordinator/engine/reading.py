"""Reads sagas from memory if they are there, and otherwise from their logs.

A log is read page by page and folded in slices, so that no long log holds up the event loop or fills the memory. At any moment
one page of entries is in memory (`store.sagas.PAGE_ENTRIES`, `PAGE_BYTES`) beside the state that it is folded into.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from saga_coordinator.engine.deciding import decided
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.ports import DefinitionStore, SagaStore
from saga_coordinator.engine.runs import Runs
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.available import AvailableAct, available_acts
from saga_coordinator.saga.machine.effects import Decision
from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.inputs import Asked
from saga_coordinator.saga.machine.preview import Preview, preview_compensation
from saga_coordinator.saga.machine.state import SagaState, apply
from saga_coordinator.saga.machine.stored_entry import decode
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotFound, Refusal
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import LoggedEntry
from saga_coordinator.turns import Turns
from saga_coordinator.wire.conversion import convert

FOLDED_AT_ONCE = 32
"""The number of entries that are folded before other tasks get their turn: milliseconds even if the state is large."""


@immutable
class Folded:
    """The result of reading a saga's log: the `state`, or the `error` that prevents it. Both are None without a log.

    `size_bytes` is the log's length as JSON, of which the state is a part.
    """

    saga_id: str
    state: SagaState | None
    error: Exception | None
    size_bytes: int


async def fold_logs(sagas: SagaStore, saga_ids: Sequence[str]) -> AsyncIterator[Folded]:
    """Reads the states of some sagas, in their order. A saga that cannot be read does not stop the others. Raises Unavailable."""
    first, after = 0, 0
    state: SagaState | None = None
    error: Exception | None = None
    size_bytes = 0
    while first < len(saga_ids):
        page = await sagas.page(saga_ids[first:], after)
        decoded = await convert(sum(logged.size_bytes for logged in page.entries), _decoded, page.entries)
        begun_with = first
        for number, (logged, entry) in enumerate(zip(page.entries, decoded, strict=True), start=1):
            while first < begun_with + logged.place:
                yield Folded(saga_ids[first], state, error, size_bytes)
                first, state, error, size_bytes = first + 1, None, None, 0
            size_bytes += logged.size_bytes
            after = logged.sequence
            if error is None:
                try:
                    state = apply(saga_ids[first], state, _readable(entry))
                except Exception as found:  # noqa: BLE001 - such as entries that only a newer version can read
                    error = found
            if number % FOLDED_AT_ONCE == 0:
                await asyncio.sleep(0)
        if not page.has_more:  # the log that was read last has ended
            yield Folded(saga_ids[first], state, error, size_bytes)
            first, after, state, error, size_bytes = first + 1, 0, None, None, 0


def _decoded(entries: Sequence[LoggedEntry]) -> list[Entry | Exception]:
    """The entries, each with its payloads in their canonical form, or what is wrong with it."""
    decoded: list[Entry | Exception] = []
    for logged in entries:
        try:
            decoded.append(decode(logged.entry))
        except Exception as error:  # noqa: BLE001 - such as an entry that only a newer version can read
            decoded.append(error)
    return decoded


def _readable(entry: Entry | Exception) -> Entry:
    """The entry. Raises what is wrong with it."""
    if isinstance(entry, Exception):
        raise entry
    return entry


async def fold_log(sagas: SagaStore, saga_id: str) -> SagaState:
    """The state of one saga. Raises NotFound, Unavailable, and what is wrong with its log."""
    async for folded in fold_logs(sagas, [saga_id]):
        if folded.error is not None:
            raise folded.error
        if folded.state is not None:
            return folded.state
    raise NotFound(Reason.NO_SUCH_SAGA, f"there is no saga {saga_id}", saga_id=saga_id)


@immutable
class Plan:
    """What a saga would decide if it were asked something: from which status, and the decision."""

    before: SagaStatus
    decision: Decision


class Reading:
    """Answers questions about the state of sagas."""

    def __init__(self, runs: Runs, sagas: SagaStore, definitions: DefinitionStore, lease: Lease) -> None:
        self._runs = runs
        self._sagas = sagas
        self._definitions = definitions
        self._lease = lease
        self._previews = Turns("previews", at_once=1, waiting_max=32, seconds_max=30.0)

    def version_of(self, saga_id: str) -> int | None:
        """The definition's version that a saga in memory pins; None if the saga is not there."""
        run = self._runs.get(saga_id)
        return None if run is None else run.state.version

    def known(self, saga_id: str) -> tuple[Definition, SagaState] | None:
        """The definition and the state of a saga in memory; None if the saga is not there."""
        run = self._runs.get(saga_id)
        return None if run is None else (run.definition, run.state)

    async def state_of(self, saga_id: str) -> SagaState:
        """The saga's state. Raises NotFound, and Unavailable when the database is away."""
        if run := self._runs.get(saga_id):
            return run.state
        return await fold_log(self._sagas, saga_id)

    async def namespace_of(self, saga_id: str) -> Namespace:
        """The namespace that the saga is in. Raises NotFound, and Unavailable when the database is away."""
        if run := self._runs.get(saga_id):
            return run.namespace
        return (await self._sagas.place(saga_id))[0]

    async def id_of(self, namespace: Namespace, start_key: str) -> str | None:
        """The saga that was started with that key; None if none was. Raises Unavailable."""
        started = await self._sagas.started_by(namespace, start_key)
        return None if started is None else started[0]

    async def plan(self, saga_id: str, asked: Asked) -> Plan:
        """What the saga would decide now. It is not asked, and nothing is written.

        Raises as `state_of`, and NotPossibleNow if the saga would refuse.
        """
        state, definition = await self._whole(saga_id)
        # A memo that is taken here would be missing in memory.
        copy = replace(state)
        decision = await decided(definition, copy, asked, self._lease.now(), 0.5, may_call=True)
        if isinstance(decision.answer, Refusal):
            raise decision.answer.error(saga_id=saga_id)
        return Plan(state.status, decision)

    async def available_acts(self, saga_id: str) -> tuple[int, list[AvailableAct]]:
        """The length of the saga's log, and what its state says to every act. Raises as `state_of`."""
        state, definition = await self._whole(saga_id)
        acts = await self._previews.in_thread(available_acts, definition, replace(state), self._lease.now())
        return state.sequence, acts

    async def _whole(self, saga_id: str) -> tuple[SagaState, Definition]:
        state = await self.state_of(saga_id)
        namespace = await self.namespace_of(saga_id)
        registered = await self._definitions.get(namespace, state.definition, state.version)
        return state, registered.definition

    async def preview_compensation(self, saga_id: str) -> Preview:
        """What would be undone if the saga failed now. Raises as `state_of`."""
        state, definition = await self._whole(saga_id)
        # A saga of many steps takes a while to foresee, in which others must go on.
        return await self._previews.in_thread(preview_compensation, definition, state, self._lease.now())
