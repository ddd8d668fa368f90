"""The composition root: builds everything from the settings, serves until told to stop, and stops in order.

Signals: SIGTERM and SIGINT stop gracefully, a second one at once (nothing accepted is lost by that either, P1); SIGHUP reads the
participants file again, or stops what is not to outlive its terminal.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial

from saga_coordinator import __version__, collector, telemetry
from saga_coordinator.api import directory_service
from saga_coordinator.api.definition_service import DefinitionService
from saga_coordinator.api.directory_service import DirectoryService
from saga_coordinator.api.listening import SocketRights
from saga_coordinator.api.operator_service import OperatorService
from saga_coordinator.api.peer_server import PeerServer
from saga_coordinator.api.saga_service import SagaService
from saga_coordinator.api.server import Served, Server
from saga_coordinator.api.worker_service import WorkerService
from saga_coordinator.catalog.catalog import Catalog
from saga_coordinator.config import Settings, masked_url
from saga_coordinator.control.definitions import DefinitionActs
from saga_coordinator.control.participants import ParticipantActs
from saga_coordinator.control.sagas import SagaActs
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.engine.ports import DefinitionStore, Stores
from saga_coordinator.engine.settings import EngineSettings
from saga_coordinator.lifecycle import Background, Service, Services, Together
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.files import CallersFiles
from saga_coordinator.participants.directory.watched_file import DirectoryFile, DirectoryWatch
from saga_coordinator.participants.live_directory import LiveDirectory
from saga_coordinator.participants.workers.forwarding import Peers
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.retrying import DATABASE_PAUSES, retried
from saga_coordinator.saga.words.errors import SagaError, Unavailable
from saga_coordinator.saga.words.limits import Limits
from saga_coordinator.store import schema
from saga_coordinator.store.acts import ActRows
from saga_coordinator.store.database import Database
from saga_coordinator.store.events import EventRows
from saga_coordinator.store.lists import AT_ONCE, Lists
from saga_coordinator.store.log_writer import PostgresLog
from saga_coordinator.store.mail import Listener, MailRows
from saga_coordinator.store.ownership import OwnershipRows
from saga_coordinator.store.participants import ParticipantRows
from saga_coordinator.store.sagas import SagaRows
from saga_coordinator.store.tables import DEFAULT_GROUP
from saga_coordinator.store.workers import WorkerRows
from saga_coordinator.turns import Turns
from saga_coordinator.views.failures import FailureViews
from saga_coordinator.views.participant import ParticipantViews
from saga_coordinator.views.saga_views import SagaViews

_CHECK_SECONDS = 30.0
log = telemetry.logger()

Announce = Callable[[tuple[str, ...]], None]
"""A function that is told the addresses once they are served."""


def run(
    settings: Settings,
    announce: Announce | None = None,
    *,
    shares_port: bool = False,
    ends_with_terminal: bool = False,
) -> None:
    """Serves until a signal says to stop, SIGHUP too if `ends_with_terminal`; on a port that other coordinators serve too, if
    `shares_port`.

    Raises:
        SagaError: it cannot start; the message says why and what to do.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            app = App(settings, shares_port=shares_port)
            runner.run(_serve(app, announce, ends_with_terminal=ends_with_terminal))
        except SagaError:
            raise
        except Exception as error:
            log.critical("crashed", exc_info=error)
            raise SystemExit(1) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes uvloop's event loop if uvloop is installed, which it is not on every platform."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


SWITCH_SECONDS = 0.001
"""The seconds for which a thread that converts a large payload keeps the interpreter while the event loop wants it.

Python's default of 5 ms would be felt, because one call takes several turns of the loop.
"""


async def _serve(app: App, announce: Announce | None, *, ends_with_terminal: bool) -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stopping, number)
    if ends_with_terminal:
        loop.add_signal_handler(signal.SIGHUP, _hang_up, stopping)
    else:
        loop.add_signal_handler(signal.SIGHUP, app.reload_participants)
    background = Background()
    starting = background.begin("start", app.start())
    stopped = background.begin("stop", stopping.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            addresses = starting.result()
            collector.tune()
            if announce is not None:
                announce(addresses)
            await stopped
    finally:
        await background.stop(None)
        await _stop_after(sys.exception(), app)
    log.info("stopped")


async def _stop_after(cause: BaseException | None, app: App) -> None:
    """Stops the program. If stopping fails too, `cause`, the error that ended the program, is the error that is raised."""
    try:
        await app.stop()
    except Exception as error:
        if cause is None:
            raise
        log.warning("not_stopped_in_order", reason=" ".join(str(error).split()))


def _stop(stopping: asyncio.Event, number: signal.Signals) -> None:
    if stopping.is_set():
        log.warning("stopped_at_once", signal=number.name)
        telemetry.flush(0.2)
        os._exit(128 + number)
    stopping.set()
    log.info("stopping", signal=number.name)


def _hang_up(stopping: asyncio.Event) -> None:
    """Stops because the terminal is gone. The kernel and the shell may both send SIGHUP, so a second SIGHUP, unlike a second
    Ctrl-C, does not mean impatience.
    """
    if not stopping.is_set():
        stopping.set()
        log.info("stopping", signal="SIGHUP")


class App:
    """The program: everything that one process runs. It is not started twice."""

    def __init__(self, settings: Settings, *, shares_port: bool = False) -> None:
        self._settings = settings
        self._shares_port = shares_port
        self._file = DirectoryFile(settings.participants)
        self._ground = Services(
            telemetry.Logs(log_format=settings.log_format, log_level=settings.log_level),
            self._file,
            _Schema(settings),
        )
        self._parts: _Parts | None = None

    async def start(self) -> tuple[str, ...]:
        """Returns the addresses that it serves.

        Raises:
            SchemaMismatch: the database's schema is older or newer than this program.
            Unavailable: the database cannot be reached.
            InvalidRequest: the participants file has faults.
            CannotListen: an address is taken, or is none of this machine's.
        """
        settings = self._settings
        await self._ground.start()
        self._parts = parts = _Parts(settings, self._file, shares_port=self._shares_port)
        addresses = parts.server.listen(
            settings.addresses, SocketRights(settings.socket_mode, settings.socket_group)
        )
        await parts.services.start()
        log.info(
            "serving",
            addresses=addresses,
            peer_address=parts.peer_address,
            database=masked_url(settings.database_url),
            participants=parts.directory.names,
            group=settings.group,
            coordinator_id=parts.coordinator_id,
            version=__version__,
        )
        return addresses

    async def stop(self) -> None:
        """Takes no more work, lets what is under way end within the grace, commits it, and lets go of everything."""
        started = Services(self._ground)
        if self._parts is not None:
            started.add(self._parts.services)
        await started.stop(self._settings.grace_seconds)

    def reload_participants(self) -> None:
        """Reads the participants file again, soon. If the file is faulty, the faults are logged and the former content stays in
        use.
        """
        if self._parts is not None:
            self._parts.watch.reload()


class _Schema(Service):
    """The database's schema, which has to fit before anything is served."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def start(self) -> None:
        """Waits for the database, and checks its schema. Raises SchemaMismatch and Unavailable."""
        checks = Turns("checks of the schema", at_once=1, waiting_max=1, seconds_max=_CHECK_SECONDS)
        await retried(
            partial(checks.in_thread, schema.check, self._settings.database_url),
            Unavailable,
            DATABASE_PAUSES,
            tell=lambda error: log.warning("database_awaited", reason=str(error)),
            seconds_max=self._settings.database_wait_seconds,
        )

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Does nothing: there is nothing to let go of."""


class _Parts:
    """The parts of a running coordinator, made and wired, and the services among them in the order in which they start."""

    def __init__(self, settings: Settings, file: DirectoryFile, *, shares_port: bool) -> None:
        """Raises CannotListen for the address that other coordinators call."""
        self.coordinator_id = str(uuid.uuid4())
        connect = partial(Database, settings.database_url, prepared_statements=settings.prepared_statements)
        database, self._lists = connect(pool_size=settings.pool_size), Lists(connect(pool_size=AT_ONCE))
        whereabouts = WorkerRows(database, self.coordinator_id, settings.group)
        self._workers = Workers(Peers(whereabouts, payload_bytes_max=settings.payload_bytes_max))
        peer_server = PeerServer(self._workers, self.coordinator_id)
        self.peer_address = peer_server.listen(settings.peer_address)
        self._participants = Attempts(
            file.directory, payload_bytes_max=settings.payload_bytes_max, workers=self._workers
        )
        self.directory = LiveDirectory(
            self._participants,
            file.directory,
            ParticipantRows(database),
            CallersFiles(settings.tls_folder),
        )
        self._catalog = Catalog.of(database, self._participants, _limits(settings))
        self._sagas, self._act_rows = SagaRows(database), ActRows(database)
        self._coordinator = self._make_coordinator(database, settings)
        self.watch = DirectoryWatch(file, self.directory.use_file)
        self.server = Server(
            self._make_served(settings),
            problems=self._problems,
            payload_bytes_max=settings.payload_bytes_max,
            shares_port=shares_port,
        )
        self.services = Services(
            database,
            self._lists,
            peer_server,
            self._workers,
            self._participants,
            self.directory,
            self._catalog,
            # Workers tell over the server's streams what became of the attempts that the coordinator still waits for.
            Together(self._coordinator, self.server),
            self.watch,
        )

    def _make_coordinator(self, database: Database, settings: Settings) -> Coordinator:
        stores = postgres_stores(
            database,
            self.coordinator_id,
            self._catalog.runnable,
            address=self.peer_address,
            version=__version__,
            claim_group=settings.group,
        )
        return Coordinator(
            stores,
            self._participants,
            _engine_settings(settings),
            random.Random(),  # noqa: S311  # nothing that it draws guards anything
            directory=self.directory,
        )

    def _make_served(self, settings: Settings) -> Served:
        acts = SagaActs(self._coordinator, self._act_rows)
        views = SagaViews(self._catalog.runnable, self._sagas)
        return Served(
            DefinitionService(
                self._catalog, DefinitionActs(self._catalog.versions, self._act_rows), self._lists
            ),
            SagaService(
                self._coordinator,
                acts,
                views,
                self._sagas,
                self._lists,
                payload_bytes_max=settings.payload_bytes_max,
                forward_headers=settings.forward_headers,
            ),
            WorkerService(
                self._coordinator,
                self._participants,
                self._workers,
                declared_steps=self._catalog.declared_steps,
                lists=self._lists,
                coordinator_id=self.coordinator_id,
                payload_bytes_max=settings.payload_bytes_max,
            ),
            DirectoryService(
                self.directory,
                ParticipantActs(self.directory, self._act_rows),
                ParticipantViews(self.directory, self._participants),
                self._lists,
            ),
            OperatorService(
                self._lists,
                acts,
                self._sagas,
                views,
                FailureViews(self._catalog.runnable),
                payload_bytes_max=settings.payload_bytes_max,
            ),
        )

    def _problems(self, service: str) -> Iterator[str]:
        """The problems that keep a service's requests from being answered now. Unreadable files are a problem of the directory
        alone.
        """
        for part in (self._coordinator, self._catalog, self.directory, self._workers):
            yield from part.problems
        if service == directory_service.DESCRIPTOR.full_name:
            yield from self.directory.reader.problems
            yield from self.watch.problems


def postgres_stores(
    database: Database,
    coordinator_id: str,
    definitions: DefinitionStore,
    *,
    address: str,
    version: str,
    claim_group: str = DEFAULT_GROUP,
) -> Stores:
    """The stores in which a coordinator keeps its sagas in Postgres. `address` and `version` tell operators which coordinator
    this is.

    The coordinator starts sagas for `claim_group` and claims no others.
    """
    return Stores(
        coordinator_id=coordinator_id,
        log=PostgresLog(database, coordinator_id, claim_group),
        ownership=OwnershipRows(
            database, coordinator_id, address=address, version=version, claim_group=claim_group
        ),
        sagas=SagaRows(database),
        definitions=definitions,
        mail=MailRows(database, claim_group),
        listener=Listener(database, claim_group),
        events=EventRows(database),
    )


def _engine_settings(settings: Settings) -> EngineSettings:
    return EngineSettings(
        lease_seconds=settings.lease_seconds,
        sagas_in_memory_max=settings.sagas_in_memory_max,
        backlog_max=settings.backlog_max,
        log_sagas=settings.log_sagas,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        steps=settings.steps_max,
        block_nesting=settings.block_nesting_max,
        expression_characters=settings.expression_characters_max,
        items=settings.items_max,
        payload_bytes=settings.payload_bytes_max,
        log_entries=settings.log_entries_max,
    )
