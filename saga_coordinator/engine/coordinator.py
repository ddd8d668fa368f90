"""The front of the engine: starts sagas, waits for them, and takes what is asked of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import structlog

from saga_coordinator.engine.advance import Advance, Origin, Run, Starting
from saga_coordinator.engine.asking import POLL_SECONDS, Answered, Asking
from saga_coordinator.engine.children import Children
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.events import Published, Publishing
from saga_coordinator.engine.grace import give_time
from saga_coordinator.engine.input_checks import InputChecks
from saga_coordinator.engine.lease import Lease, boot_seconds
from saga_coordinator.engine.lease_keeper import LeaseKeeper
from saga_coordinator.engine.mail import Mailbox
from saga_coordinator.engine.ownership import Claiming, EngineSettings
from saga_coordinator.engine.ports import ParticipantCalls, Stores
from saga_coordinator.engine.reading import fold_log
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.engine.telling import Telling
from saga_coordinator.lifecycle import Background
from saga_coordinator.saga.definition.labelling import labels_of
from saga_coordinator.saga.definition.model import CHILD_PARTICIPANT, Definition, RunnableDefinition
from saga_coordinator.saga.machine.effects import Invoke, LookForRoom
from saga_coordinator.saga.machine.inputs import Asked, StartRequested
from saga_coordinator.saga.machine.preview import Preview, preview_compensation
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.errors import (
    InvalidRequest,
    NotPossibleNow,
    Overloaded,
    SagaError,
    Unavailable,
)
from saga_coordinator.saga.words.outcome import Held, Outcome
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.journal import StartKeyTaken
from saga_coordinator.store.records import Event
from saga_coordinator.turns import Turns
from saga_coordinator.wire.conversion import convert, size_of

_RETIRE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settled:
    """A saga has ended or needs attention. `run` is what is known of it here, if this coordinator drove it there."""

    run: Run | None = None


def new_saga_id(now: float, dice: random.Random) -> str:
    """A UUIDv7 (RFC 9562): identities sort by the time of the start, in milliseconds."""
    bits = int(now * 1000) << 80 | 0x7 << 76 | dice.getrandbits(12) << 64 | 0b10 << 62 | dice.getrandbits(62)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Coordinator:
    """One coordinator: owns sagas, drives them, and answers for those of others too."""

    def __init__(
        self,
        stores: Stores,
        participants: ParticipantCalls,
        settings: EngineSettings,
        dice: random.Random,
        *,
        clock: Callable[[], float] = boot_seconds,
        lease_in_thread: bool = True,
    ) -> None:
        """`lease_in_thread`: where the lease is renewed; false is for time that only the event loop has."""
        self._dice = dice
        self._sagas = stores.sagas
        self._definitions = stores.definitions
        self._participants = participants
        self._ownership = stores.ownership
        self._journal = stores.journal
        self._lease = Lease(settings.lease_seconds, clock=clock)
        self._keeper = LeaseKeeper(
            self._lease,
            stores.ownership.renewing,
            on_regained=self._reconcile,
            in_thread=lease_in_thread,
        )
        self._advance = Advance(stores.journal, self._lease, dice=dice)
        self._children = Children(self)
        self._drive = Drive(self._advance, _Callers(participants, self._children, self._lease), self._lease)
        self._publishing = Publishing(stores.events, self.ask)
        self._drive.telling = Telling(is_chatty=settings.log_sagas)
        self._drive.workers = lambda: participants.worker_names
        self._drive.look_for_event = self._publishing.look
        self._drive.on_settled = self._tell_parent
        participants.on_room = self._there_is_room
        self._inbox = Mailbox(stores.mail, stores.listener, self._drive, stores.coordinator_id)
        self._claiming = Claiming(
            stores.ownership,
            stores.sagas,
            stores.definitions,
            self._drive,
            self._inbox,
            self._lease,
            settings,
            stores.coordinator_id,
        )
        self._inbox.claim_one = self._claiming.claim_one
        self._asking = Asking(
            stores, self._advance, self._drive, self._claiming, self._inbox, self._lease, self._tell_parent
        )
        self._claiming.on_tidy = stores.events.tidy
        self._journal.on_recovered = self._claiming.reconcile_soon
        self._drive.on_lost = self._claiming.reconcile_soon
        self._starts: set[asyncio.Future[float | None]] = set()
        self._messages = Background()
        self._previews = Turns("previews", at_once=1, waiting_max=32, seconds_max=30.0)
        self._retiring = Background()
        self._input_checks = InputChecks()
        self._is_stopping = False

    async def _reconcile(self) -> None:
        await self._claiming.reconcile()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps starts from being taken, or sagas from being driven, now."""
        if self._is_stopping:
            yield "the coordinator is stopping"
        for part in (self._journal, self._keeper, self._claiming, self._inbox):
            yield from part.problems

    @property
    def is_accepting(self) -> bool:
        """Whether a start would be taken now, and its saga driven."""
        return next(self.problems, None) is None

    async def start(self) -> None:
        """Takes the lease and begins to look for sagas to drive. Raises Unavailable."""
        await self._keeper.start()
        await self._journal.start()
        self._claiming.start()
        self._inbox.start(self._claiming.look_now)
        _log.info("coordinator_started")

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new work, gives calls in flight their time, commits what they meant, and hands all sagas over."""
        self._is_stopping = True
        self._advance.may_call = False
        await self._claiming.stop()
        await self._inbox.stop()
        await give_time(self._starts_ended, grace_seconds, self._lease)
        await self._drive.finish_calls(grace_seconds)
        await self._messages.stop()
        for run in tuple(self._drive.runs.values()):
            if not run.is_in_flight:
                self._drive.drop(run)
        await self._journal.stop()
        await self._drive.finish_moves()
        for run in tuple(self._drive.runs.values()):
            self._drive.drop(run)
        await self._keeper.stop()
        self._retiring.spawn("retiring", self._retire())
        await self._retiring.finish(_RETIRE_SECONDS)
        await self._retiring.stop()

    async def _starts_ended(self, seconds: float) -> bool:
        if self._starts:
            await asyncio.wait(self._starts, timeout=seconds)
        return not self._starts

    async def _retire(self) -> None:
        try:
            released = await self._ownership.retire()
        except Unavailable as error:
            _log.warning("coordinator_stopped", reason=f"its sagas wait for its lease to end: {error}")
        else:
            _log.info("coordinator_stopped", sagas_handed_over=released)

    async def start_saga(self, request: StartSaga) -> tuple[str, bool]:
        """Starts a saga; returns its identity, and False when the same request had started it before (P9).

        Raises:
            NotFound: no such definition or version.
            NotPossibleNow: the version is deprecated, or a participant is not in the directory.
            InvalidRequest: the input does not fit the definition's schema, or a label of it; with every fault.
            StartKeyTaken: the start key belongs to a different request.
            Unavailable: the database is away; repeating with the same start key is safe.
            Overloaded: more sagas wait for a coordinator with room than may.
        """
        if self._is_stopping:
            raise Unavailable(Reason.COORDINATOR_STOPPING, "the coordinator is stopping")
        if not self._lease.may_act:
            raise self._lease.run_out()
        request, digest = await convert(size_of(request.input), request.prepared)
        try:
            return await self._start(await self._allowed(request), request, digest)
        except (InvalidRequest, NotPossibleNow, Overloaded):
            # What would be refused now, were it new, may have been taken when this request came first.
            started = await self._sagas.started_by(request.start_key)
            if started is None or started[1] != digest:
                raise
            return started[0], False

    async def _allowed(self, request: StartSaga) -> RunnableDefinition:
        """The definition to start with. Raises as `start_saga`."""
        if request.recalled_for is not None:
            # It only makes sure that nothing starts, whatever was decided meanwhile.
            return await self._definitions.get(request.definition, request.version)
        registered = await self._definitions.for_start(request.definition, request.version)
        definition = registered.definition
        missing = sorted(definition.participants - self._participants.names)
        if missing:
            raise NotPossibleNow(
                Reason.NO_SUCH_PARTICIPANT,
                f"the participants file does not know {', '.join(missing)}, which definition `{definition.name}` calls; add "
                "them, and the file is read again",
                definition=definition.name,
                participant=missing[0],
            )
        await self._input_checks.check(definition.input_schema, request.input)
        return registered

    async def _start(
        self, registered: RunnableDefinition, request: StartSaga, digest: bytes
    ) -> tuple[str, bool]:
        saga_id = new_saga_id(self._lease.now(), self._dice)
        definition = registered.definition
        labels = request.labels or {}
        if request.recalled_for is None:
            labels = labels_of(definition, saga_id, request.input, labels)
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
        has_room = self._claiming.has_room_for(definition.name)
        if not has_room:
            self._claiming.count_queued()
        self._claiming.keep_room(saga_id, definition.name)
        try:
            starting = await self._begin(definition, started, request.start_key, digest, has_room=has_room)
            self._starts.add(starting.committed)
            # Handed to the journal a start may become durable, so it is seen through even if the caller goes away. This comes
            # before what the caller is told.
            starting.committed.add_done_callback(
                partial(self._start_ended, starting, request.start_key, self._lease.term)
            )
            await asyncio.shield(starting.committed)
        except StartKeyTaken as taken:
            if taken.request_digest != digest:
                raise
            return taken.saga_id, False
        return saga_id, True

    async def _begin(
        self,
        definition: Definition,
        started: StartRequested,
        start_key: str,
        digest: bytes,
        *,
        has_room: bool,
    ) -> Starting:
        try:
            decision = await self._advance.first(definition, started, may_call=has_room)
            return self._advance.start(definition, started, decision, start_key, digest, may_call=has_room)
        except BaseException:
            self._claiming.give_room_back(started.saga_id)
            raise

    def _start_ended(
        self, starting: Starting, start_key: str, term: int, committed: asyncio.Future[float | None]
    ) -> None:
        self._starts.discard(committed)
        self._claiming.give_room_back(starting.run.saga_id)
        if committed.cancelled() or committed.exception() is not None:
            return
        run = starting.run
        run.started_at = committed.result()
        run.settled_at = run.started_at if run.state.status in SETTLED else None
        run.origin = Origin(start_key, run.started_at)
        self._drive.telling.started(run)
        if self._lease.term == term:
            self._drive.take(run, starting.advanced)
        else:  # the lease ran out while this was on its way, so somebody may have claimed it
            self._claiming.reconcile_soon()

    def version_of(self, saga_id: str) -> int | None:
        """The version of a saga in this coordinator's memory; None when it is not there."""
        run = self._drive.runs.get(saga_id)
        return None if run is None else run.state.version

    def known(self, saga_id: str) -> tuple[Definition, SagaState] | None:
        """What a saga in this coordinator's memory is like; None when it is not there."""
        run = self._drive.runs.get(saga_id)
        return None if run is None else (run.definition, run.state)

    async def wait(self, saga_id: str, timeout_seconds: float) -> Settled | None:
        """Returns as soon as the saga has ended or needs attention; None when it has not after `timeout_seconds`.

        Raises:
            NotFound: no such saga.
            Unavailable: the database is away.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout_seconds
        pause, longest_pause = POLL_SECONDS
        while True:
            run = self._drive.runs.get(saga_id)
            remaining = give_up_at - loop.time()
            if run is not None:
                if run.settled is None:
                    run.settled = loop.create_future()
                done, _ = await asyncio.wait([run.settled], timeout=max(0.0, remaining))
                if not done:
                    return None
                if run.settled.result():
                    return Settled(run)
            elif await self._sagas.status(saga_id) in SETTLED:
                return Settled()
            elif remaining <= 0:
                return None
            else:
                await asyncio.sleep(min(pause, remaining))
                pause = min(2 * pause, longest_pause)

    async def changed(self, saga_id: str, timeout_seconds: float) -> None:
        """Returns when something has been appended to the saga's log, or after `timeout_seconds`; sagas of others take that."""
        run = self._drive.runs.get(saga_id)
        if run is None:
            await asyncio.sleep(timeout_seconds)
            return
        if run.changed is None:
            run.changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([run.changed], timeout=timeout_seconds)

    async def ask(self, saga_id: str, asked: Asked) -> Answered:
        """What a person, a service or another saga asks of a saga, and its answer; see `Asking.ask`, also for what is raised."""
        return await self._asking.ask(saga_id, asked)

    async def publish(self, event: Event) -> Published:
        """Sends an event to every saga that waits for it, or keeps it for the first that will.

        Raises:
            AlreadyExists: the event's identity belongs to a different one.
            Unavailable: the database is away, or a coordinator did not answer; repeating is safe.
        """
        return await self._publishing.publish(event)

    async def state_of(self, saga_id: str) -> SagaState:
        """The saga's state, from its log. Raises NotFound, and Unavailable when the database is away."""
        if run := self._drive.runs.get(saga_id):
            return run.state
        return await fold_log(self._sagas, saga_id)

    async def preview_compensation(self, saga_id: str) -> Preview:
        """What would be undone if the saga failed now. Raises as `state_of`."""
        state = await self.state_of(saga_id)
        registered = await self._definitions.get(state.definition, state.version)
        # A saga of many steps takes a while to foresee, in which others must go on.
        return await self._previews.in_thread(
            preview_compensation, registered.definition, state, self._lease.now()
        )

    async def id_of(self, start_key: str) -> str | None:
        """The saga that was started with that key; None when none was. Raises Unavailable."""
        started = await self._sagas.started_by(start_key)
        return None if started is None else started[0]

    def _there_is_room(self, participant: str) -> None:
        """Those that wait for it look at once, those that sleep among them."""
        self._drive.look_again(participant)
        self._claiming.wake_held()

    def _tell_parent(self, run: Run) -> None:
        if run.state.parent is not None:
            self._messages.spawn("message to a parent", self._tell_parent_of(run))

    async def _tell_parent_of(self, run: Run) -> None:
        try:
            await self._children.tell_parent(run)
        except SagaError as error:
            _log.info("parent_not_told", saga_id=run.saga_id, reason=f"it will ask: {error}")
        except Exception:  # noqa: BLE001 - such as a commit of the parent's that was refused: it will ask
            _log.exception("parent_not_told", saga_id=run.saga_id)


class _Callers:
    """Participants, and the coordinator itself for the steps that run other sagas."""

    def __init__(self, participants: ParticipantCalls, children: Children, lease: Lease) -> None:
        self._participants = participants
        self._children = children
        self._lease = lease

    async def invoke(self, call: Invoke) -> Outcome:
        """Makes one attempt."""
        if call.participant == CHILD_PARTICIPANT:
            return await self._children.invoke(call, self._lease.now())
        return await self._participants.invoke(call)

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        """Whether a held attempt may be made by now."""
        return await self._participants.look_for_room(wanted)
