"""The front of the engine: it builds the parts, starts and stops them in order, and passes on what it is asked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import structlog

from saga_coordinator.engine.admission import Admission
from saga_coordinator.engine.adopting import Adopting
from saga_coordinator.engine.advance import Advance
from saga_coordinator.engine.asking import Answered, Asking
from saga_coordinator.engine.awaited import Awaited, Published
from saga_coordinator.engine.children import Children
from saga_coordinator.engine.claiming import Claiming
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.housekeeping.chores import Housekeeping
from saga_coordinator.engine.housekeeping.forgetting import forgetting
from saga_coordinator.engine.housekeeping.stranded_groups import StrandedGroups
from saga_coordinator.engine.housekeeping.waking import Waking
from saga_coordinator.engine.lease import Lease, boot_seconds
from saga_coordinator.engine.lease_keeper import LeaseKeeper
from saga_coordinator.engine.left_to_others import LeftToOthers
from saga_coordinator.engine.log_lines import LogLines
from saga_coordinator.engine.mail import Mailbox
from saga_coordinator.engine.performers import PerformersByKind
from saga_coordinator.engine.ports import Directory, Participants, Stores
from saga_coordinator.engine.reading import Plan, Reading
from saga_coordinator.engine.room import Room
from saga_coordinator.engine.room_watch import RoomWatch
from saga_coordinator.engine.runs import Runs
from saga_coordinator.engine.settings import EngineSettings
from saga_coordinator.engine.settled import SettledSagas
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.engine.waiting import Settled, Waiting
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.lifecycle import Background, Service, Services
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.available import AvailableAct
from saga_coordinator.saga.machine.inputs import Asked
from saga_coordinator.saga.machine.preview import Preview
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.records import Event

_RETIRE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class _NamesOf:
    """The directory if nobody puts participants at other coordinators: it has the names that `Participants` knows."""

    def __init__(self, participants: Participants) -> None:
        self._participants = participants

    @property
    def known(self) -> frozenset[str]:
        return self._participants.names

    async def look_now(self) -> None:
        """Does nothing: there are no other names to learn."""


class Coordinator(Service):
    """One coordinator. It owns sagas, drives them, and also answers requests about sagas of other coordinators."""

    def __init__(
        self,
        stores: Stores,
        participants: Participants,
        settings: EngineSettings,
        dice: random.Random,
        *,
        clock: Callable[[], float] = boot_seconds,
        thread_time: Callable[[], float] = time.thread_time,
        lease_in_thread: bool = True,
        directory: Directory | None = None,
    ) -> None:
        """If `lease_in_thread` is true, a thread renews the lease. In a simulation, only the event loop has time, so it is false.

        `directory`: where participants are put at other coordinators too.
        `clock` and `thread_time` are seconds: those that pass, and those that the event loop's thread has worked.
        """
        self.coordinator_id = stores.coordinator_id
        self._ownership = stores.ownership
        self._runs = runs = Runs()
        self._wakeup = wakeup = Wakeup()
        self._lease = lease = Lease(settings.lease_seconds, clock=clock)
        self._journal = Journal(
            stores.log, stores.coordinator_id, on_recovered=wakeup.reconcile_soon, thread_time=thread_time
        )
        self._advance = advance = Advance(self._journal, lease, dice=dice)
        self._children = children = Children(self)
        self._awaited = Awaited(stores.events, self.ask)
        performers = PerformersByKind(participants, children, self._awaited, lease)
        log_lines = LogLines(is_chatty=settings.log_sagas)
        self._drive = drive = Drive(advance, performers, children, runs, wakeup, lease, log_lines)

        directory = directory or _NamesOf(participants)
        room = Room(
            runs,
            LeftToOthers(directory),
            sagas_max=settings.sagas_in_memory_max,
            backlog_max=settings.backlog_max,
        )
        self._admission = Admission(stores, directory, advance, drive, room, lease, dice)
        poll_seconds = settings.poll_seconds
        adopting = Adopting(stores, drive, runs, room, wakeup)
        self._claiming = claiming = Claiming(
            stores, adopting, runs, room, wakeup, lease, poll_seconds=poll_seconds
        )
        self._keeper = LeaseKeeper(
            lease, stores.ownership.renewing, on_regained=claiming.reconcile, in_thread=lease_in_thread
        )
        self._mailbox = Mailbox(stores, drive, runs, claiming, lease, poll_seconds=poll_seconds)
        settled = SettledSagas(stores, advance, children, wakeup)
        self._asking = Asking(stores, drive, runs, settled, claiming, self._mailbox, lease)
        self._waiting = Waiting(runs, stores.sagas)
        self._reading = Reading(runs, stores.sagas, stores.definitions, lease)

        waking = Waking(stores.ownership, wakeup)
        self._room_watch = RoomWatch(participants, drive, waking)
        chores = [*forgetting(stores), StrandedGroups(stores.ownership).chore, waking.chore]
        self._housekeeping = Housekeeping(chores, lease)
        self._looking = Services(self._mailbox, claiming, self._room_watch, self._housekeeping)
        """The services that find work for this coordinator."""
        self._retiring = Background()
        self._has_begun = False
        self._is_stopping = False

    @property
    def problems(self) -> Iterator[str]:
        """The problems that now keep starts from being taken or sagas from being driven."""
        if self._is_stopping:
            yield "the coordinator is stopping"
        for part in (
            self._journal,
            self._keeper,
            self._claiming,
            self._mailbox,
            self._room_watch,
            self._housekeeping,
        ):
            yield from part.problems

    @property
    def is_accepting(self) -> bool:
        """Tells whether a start would be taken now, and its saga driven."""
        return next(self.problems, None) is None

    async def start(self) -> None:
        """Takes the lease and begins to look for sagas to drive. Raises Unavailable."""
        self._has_begun = True
        await self._keeper.start()
        await self._journal.start()
        await self._looking.start()
        _log.info("coordinator_started")

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Takes no new work, gives calls in flight their time, commits their outcomes, and hands all sagas over."""
        self._is_stopping = True
        self._admission.close()
        self._advance.stop_calling()
        await self._looking.stop()
        await self._admission.finish(grace_seconds)
        await self._drive.finish_calls(grace_seconds)
        await self._children.stop()
        self._drive.drop_idle()
        await self._journal.stop()
        await self._drive.finish_moves()
        self._drive.drop_all()
        await self._keeper.stop()
        if not self._has_begun:
            return
        self._has_begun = False
        self._retiring.spawn("retiring", self._retire())
        await self._retiring.finish(_RETIRE_SECONDS)
        await self._retiring.stop()

    async def _retire(self) -> None:
        try:
            released = await self._ownership.retire()
        except Unavailable as error:
            _log.warning("coordinator_stopped", reason=f"its sagas wait for its lease to end: {error}")
        else:
            _log.info("coordinator_stopped", sagas_handed_over=released)

    async def start_saga(self, request: StartSaga) -> tuple[str, bool]:
        """As `Admission.start_saga`."""
        return await self._admission.start_saga(request)

    async def wait(self, saga_id: str, timeout_seconds: float) -> Settled | None:
        """As `Waiting.settled`."""
        return await self._waiting.settled(saga_id, timeout_seconds)

    async def changed(self, saga_id: str, timeout_seconds: float) -> None:
        """As `Waiting.changed`."""
        await self._waiting.changed(saga_id, timeout_seconds)

    def version_of(self, saga_id: str) -> int | None:
        """As `Reading.version_of`."""
        return self._reading.version_of(saga_id)

    def known(self, saga_id: str) -> tuple[Definition, SagaState] | None:
        """As `Reading.known`."""
        return self._reading.known(saga_id)

    async def state_of(self, saga_id: str) -> SagaState:
        """As `Reading.state_of`."""
        return await self._reading.state_of(saga_id)

    async def namespace_of(self, saga_id: str) -> Namespace:
        """As `Reading.namespace_of`."""
        return await self._reading.namespace_of(saga_id)

    async def id_of(self, namespace: Namespace, start_key: str) -> str | None:
        """As `Reading.id_of`."""
        return await self._reading.id_of(namespace, start_key)

    async def preview_compensation(self, saga_id: str) -> Preview:
        """As `Reading.preview_compensation`."""
        return await self._reading.preview_compensation(saga_id)

    async def plan(self, saga_id: str, asked: Asked) -> Plan:
        """As `Reading.plan`."""
        return await self._reading.plan(saga_id, asked)

    async def available_acts(self, saga_id: str) -> tuple[int, list[AvailableAct]]:
        """As `Reading.available_acts`."""
        return await self._reading.available_acts(saga_id)

    async def ask(self, saga_id: str, asked: Asked) -> Answered:
        """As `Asking.ask`."""
        return await self._asking.ask(saga_id, asked)

    async def publish(self, namespace: Namespace, event: Event) -> Published:
        """As `Awaited.publish`."""
        return await self._awaited.publish(namespace, event)
