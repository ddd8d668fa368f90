"""Admits sagas: checks a start, finds it room or a place in the queue, and has it made durable."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from saga_coordinator.engine.advance import Advance, Starting
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.grace import give_time
from saga_coordinator.engine.input_checks import InputChecks
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.ports import Directory, Stores
from saga_coordinator.engine.room import Room
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.definition.labelling import labels_of
from saga_coordinator.saga.definition.model import Definition, RunnableDefinition
from saga_coordinator.saga.machine.inputs import StartRequested
from saga_coordinator.saga.words.errors import InvalidRequest, NotPossibleNow, Overloaded, Unavailable
from saga_coordinator.saga.words.identity import uuid7
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import StartKeyTaken
from saga_coordinator.wire.conversion import convert, size_of


class Admission:
    """Takes the starts of one coordinator."""

    def __init__(
        self,
        stores: Stores,
        directory: Directory,
        advance: Advance,
        drive: Drive,
        room: Room,
        lease: Lease,
        dice: random.Random,
    ) -> None:
        self._sagas = stores.sagas
        self._definitions = stores.definitions
        self._directory = directory
        self._advance = advance
        self._drive = drive
        self._room = room
        self._lease = lease
        self._dice = dice
        self._input_checks = InputChecks()
        self._on_their_way: set[asyncio.Future[float | None]] = set()
        self._is_stopping = False

    def close(self) -> None:
        """Takes no more starts."""
        self._is_stopping = True

    async def finish(self, grace_seconds: float) -> None:
        """Gives the starts that are on their way time to become durable."""
        await give_time(self._all_ended, grace_seconds, self._lease)

    async def _all_ended(self, seconds: float) -> bool:
        if self._on_their_way:
            await asyncio.wait(self._on_their_way, timeout=seconds)
        return not self._on_their_way

    async def start_saga(self, request: StartSaga) -> tuple[str, bool]:
        """Starts a saga. Returns its identity, and False if the same request had started it before (P9).

        Raises:
            NotFound: no such definition or version.
            NotPossibleNow: the version is deprecated, or a participant is not in the directory.
            InvalidRequest: the input or a label does not fit the definition's schema. The error names every fault.
            StartKeyTaken: the start key belongs to a different request.
            Unavailable: the database is away. Repeating the request with the same start key is safe.
            Overloaded: more sagas wait for a coordinator with room than may.
        """
        if self._is_stopping:
            raise Unavailable(Reason.COORDINATOR_STOPPING, "the coordinator is stopping")
        if not self._lease.may_act:
            raise self._lease.run_out()
        request, digest = await convert(size_of(request.input), request.prepared)
        try:
            return await self._start(await self._checked(request), request, digest)
        except (InvalidRequest, NotPossibleNow, Overloaded):
            # A start that would be refused if it were new may have been taken when the same request came first.
            started = await self._sagas.started_by(request.namespace, request.start_key)
            if started is None or started[1] != digest:
                raise
            return started[0], False

    async def _checked(self, request: StartSaga) -> RunnableDefinition:
        """The definition to start with. Raises as `start_saga`."""
        if request.recalled_for is not None:
            # Such a start only makes sure that nothing starts, whatever was decided about the version meanwhile.
            return await self._definitions.get(request.namespace, request.definition, request.version)
        registered = await self._definitions.for_start(request.namespace, request.definition, request.version)
        definition = registered.definition
        await self._check_known(definition)
        await self._input_checks.check(definition.input_schema, request.input)
        return registered

    async def _check_known(self, definition: Definition) -> None:
        """Raises NotPossibleNow if the directory lacks a participant, even after another look at what was put elsewhere."""
        if definition.participants <= self._directory.known:
            return
        await self._directory.look_now()
        missing = sorted(definition.participants - self._directory.known)
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise NotPossibleNow(
                Reason.NO_SUCH_PARTICIPANT,
                f"no participant {names} is in the participants file or was put into the directory, and definition "
                f"`{definition.name}` calls it: add it to the file, which is read again, or put it by PutParticipant",
                definition=definition.name,
                participant=missing[0],
            )

    async def _start(
        self, registered: RunnableDefinition, request: StartSaga, digest: bytes
    ) -> tuple[str, bool]:
        saga_id = uuid7(self._lease.now(), self._dice.getrandbits)
        definition = registered.definition
        labels = request.labels or {}
        if request.recalled_for is None:
            size = size_of(request.input) if definition.labels else 0
            labels = await convert(size, labels_of, definition, saga_id, request.input, labels)
        started = StartRequested(
            saga_id,
            registered.version,
            request.input,
            labels,
            request.deadline_seconds,
            request.headers,
            request.parent,
            request.recalled_for,
        )
        has_room = self._room.has_room_for(definition.name)
        if not has_room:
            self._room.count_queued()
        self._room.keep_for_start(saga_id, definition.name)
        try:
            starting = await self._begin(
                request.namespace, definition, started, request.start_key, digest, has_room=has_room
            )
            self._on_their_way.add(starting.committed)
            # Once the journal has a start, the start may become durable. So it is seen through even if the caller goes away, and
            # before the caller is told.
            starting.committed.add_done_callback(
                partial(self._ended, starting, request.start_key, self._lease.term)
            )
            await asyncio.shield(starting.committed)
        except StartKeyTaken as taken:
            if taken.request_digest != digest:
                raise
            return taken.saga_id, False
        return saga_id, True

    async def _begin(
        self,
        namespace: Namespace,
        definition: Definition,
        started: StartRequested,
        start_key: str,
        digest: bytes,
        *,
        has_room: bool,
    ) -> Starting:
        try:
            decision = await self._advance.first(definition, started, may_call=has_room)
            return self._advance.start(
                namespace, definition, started, decision, start_key, digest, may_call=has_room
            )
        except BaseException:
            self._room.end_start(started.saga_id)
            raise

    def _ended(
        self, starting: Starting, start_key: str, term: int, committed: asyncio.Future[float | None]
    ) -> None:
        self._on_their_way.discard(committed)
        self._room.end_start(starting.run.saga_id)
        if committed.cancelled() or committed.exception() is not None:
            return
        starting.run.started(start_key, committed.result())
        if self._lease.term == term:
            self._drive.take(starting.run, starting.advanced)
        else:
            self._drive.leave(starting.run)
