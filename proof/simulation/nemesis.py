"""What goes wrong with coordinators and the database, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from proof.simulation import stores as simulated
from proof.simulation.database import Rates, SimulatedDatabase
from proof.simulation.directory import NAMES, WORKERS, random_directory, without
from proof.simulation.history import History
from proof.simulation.loop import Node, SimulatedLoop
from proof.simulation.participants import SimulatedParticipants, Weather
from proof.simulation.peers import Exchange, Whereabouts
from proof.simulation.streams import Network
from proof.simulation.wire import PAYLOAD_BYTES_MAX, Room, Wire
from proof.simulation.workers import Crew
from proof.simulation.workload import Clients
from saga_coordinator.api.forward_service import ForwardService
from saga_coordinator.api.worker_service import WorkerService
from saga_coordinator.catalog.declared_steps import DeclaredSteps
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.engine.ports import Stores
from saga_coordinator.engine.settings import EngineSettings
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.participants.workers.forwarding import Peers
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.store.lists import Lists

_STOP_SECONDS_MAX = 60.0


@dataclass(slots=True)
class Violence:
    """How many seconds pass on average between two faults of a kind; and what one commit or call means for its node."""

    crash: float = 8.0
    freeze: float = 8.0
    stop: float = 12.0
    outage: float = 15.0
    disk_full: float = 25.0
    cut_off: float = 12.0
    deaf: float = 10.0
    sick: float = 10.0
    mute: float = 15.0
    worker_crash: float = 6.0
    worker_hang: float = 8.0
    worker_goodbye: float = 8.0
    stream_loss: float = 6.0
    force: float = 12.0
    limits: float = 12.0
    crash_at_commit: float = 0.002
    freeze_at_commit: float = 0.002
    crash_at_call: float = 0.001
    freeze_at_call: float = 0.001


@dataclass(slots=True)
class Surroundings:
    """What coordinators reach beside the database, and what reaches them."""

    wire: Wire
    network: Network
    exchange: Exchange
    crew: Crew


class Cluster:
    """The coordinators. One that ends is followed by another, with a new identity, as a supervisor would see to."""

    def __init__(
        self,
        loop: SimulatedLoop,
        dice: random.Random,
        database: SimulatedDatabase,
        surroundings: Surroundings,
        clients: Clients,
        history: History,
        sagas_in_memory_max: int,
    ) -> None:
        self.nodes: list[Node] = []
        self.directory = random_directory(dice)
        self._missing_chance = dice.choice((0.0, 0.0, 0.2, 0.6))
        self._missing: dict[str, frozenset[str]] = {}
        """The participants that a coordinator's file does not name, by coordinator."""
        self.forced: dict[str, Forced] = {}
        self._rooms: dict[str, tuple[Room, Workers, WorkerService]] = {}
        """By coordinator, what it has beside its engine."""
        self._loop = loop
        self._dice = dice
        self._database = database
        self._surroundings = surroundings
        self._clients = clients
        self._history = history
        self._settings = EngineSettings(sagas_in_memory_max=sagas_in_memory_max)
        self._born = 0
        self._kept: list[Coordinator] = []
        self._stopping: list[Node] = []

    def boot(self) -> None:
        self._born += 1
        dice, database = self._dice, self._database
        node = Node(
            self._loop,
            f"coordinator-{self._born}",
            offset=dice.uniform(0, 1e6),
            pace=1 + dice.uniform(-1e-4, 1e-4),
        )
        stores = Stores(
            coordinator_id=node.id,
            log=simulated.LogWriter(database, node.id),
            ownership=simulated.Ownership(database, node.id),
            sagas=simulated.SimulatedSagas(database),
            definitions=simulated.SimulatedDefinitions(database),
            mail=simulated.SimulatedMail(database),
            listener=simulated.Ears(database),
            events=simulated.SimulatedEvents(database),
        )
        room, workers = self._make_room(node)
        coordinator = Coordinator(
            stores,
            room,
            self._settings,
            random.Random(dice.random()),
            clock=node.clock,
            # Simulated threads are always busy: whether a rest is cut short must not hang on the real processor.
            thread_time=self._loop.time,
            lease_in_thread=False,
        )
        service = WorkerService(
            coordinator,
            room,
            workers,
            declared_steps=cast("DeclaredSteps", None),  # nothing is declared here
            lists=cast("Lists", None),  # nor listed
            coordinator_id=node.id,
            payload_bytes_max=PAYLOAD_BYTES_MAX,
        )
        self._rooms[node.id] = (room, workers, service)
        self._kept.append(coordinator)
        self.nodes.append(node)
        node.spawn(self._begin(node, coordinator))

    def _make_room(self, node: Node) -> tuple[Room, Workers]:
        exchange = self._surroundings.exchange
        peers = Peers(
            Whereabouts(self._database, node.id), payload_bytes_max=PAYLOAD_BYTES_MAX, dial=exchange.dial
        )
        workers = Workers(peers)
        exchange.servers[node.id] = (node, ForwardService(workers, node.id))
        if self._missing_chance:
            chance, dice = self._missing_chance, self._dice
            self._missing[node.id] = frozenset(name for name in sorted(NAMES) if dice.random() < chance)
        return Room(node, self._directory_of(node), workers, self._surroundings.wire), workers

    def _directory_of(self, node: Node) -> Directory:
        return without(self.directory, self._missing.get(node.id, frozenset()))

    def change_directory(self) -> None:
        """Gives every participant other limits, wherever it is known."""
        self.directory = random_directory(self._dice)
        self._tell_directories()

    def complete_one_directory(self) -> None:
        """Has one coordinator know every participant, and those that begin from now on; the others know what they knew."""
        self._missing_chance = 0.0
        alive = [node for node in self.nodes if node.is_alive]
        if alive:
            self._missing.pop(alive[0].id, None)
            self._tell_directories()

    def _tell_directories(self) -> None:
        for node in self.nodes:
            if node.is_alive:
                self._loop.call_soon(self._tell_directory, node, context=node.context.copy())

    def _tell_directory(self, node: Node) -> None:
        """Gives a coordinator the directory of this moment, as a file that is read again: it may have been frozen meanwhile."""
        self._rooms[node.id][0].replace(self._directory_of(node))

    async def _begin(self, node: Node, coordinator: Coordinator) -> None:
        """As `app.App.start`."""
        room, workers, service = self._rooms[node.id]
        room.force(self.forced)
        try:
            await coordinator.start()
        except Unavailable:
            self.crash(node)
        else:
            await workers.start()
            self._note(f"{node.id} serves")
            self._clients.nodes.append((node, coordinator))
            self._surroundings.network.serving.append((node, service))

    def tell_all(self, tell: Callable[[Room], None]) -> None:
        """Has every coordinator that lives hear of something about participants."""
        for node in self.nodes:
            if node.is_alive:
                self._loop.call_soon(tell, self._rooms[node.id][0], context=node.context.copy())

    def crash(self, node: Node) -> None:
        """The process is gone, and replaced after a while."""
        if node.is_alive:
            self._note(f"{node.id} is gone")
            node.crash()
            self._surroundings.network.forget(node)
            self._loop.later(0.05 + 4 * self._dice.random() ** 2, self._replace, node)

    def _replace(self, node: Node) -> None:
        self.nodes.remove(node)
        self._clients.nodes = [each for each in self._clients.nodes if each[0] is not node]
        self.boot()

    def freeze(self, node: Node) -> None:
        """The process stands still, longer than its lease in most cases, and then goes on as if nothing had been."""
        if not node.is_frozen:
            node.is_frozen = True
            seconds = 0.2 + 9 * self._dice.random()
            self._note(f"{node.id} is frozen for {seconds:.3f} s")
            self._loop.later(seconds, node.thaw)

    def stop(self, node: Node) -> None:
        """A clean stop, as for an upgrade."""
        found = [coordinator for each, coordinator in self._clients.nodes if each is node]
        if not found or node in self._stopping:
            return
        self._stopping.append(node)
        self._note(f"{node.id} is told to stop")
        self._surroundings.network.forget(node)
        task = node.spawn(self._stop(node, found[0], self._dice.choice((0.0, 0.5, 5.0))))
        task.add_done_callback(lambda _: self.crash(node), context=node.context.copy())
        self._loop.later(_STOP_SECONDS_MAX, self._must_have_stopped, node)

    async def _stop(self, node: Node, coordinator: Coordinator, grace_seconds: float) -> None:
        """As `app.App.stop`."""
        room, workers, service = self._rooms[node.id]
        service.hand_out_no_more()
        await coordinator.stop(grace_seconds)
        await room.stop()
        await workers.stop()

    def _note(self, what: str) -> None:
        self._history.events.append((self._loop.now, what))

    def _must_have_stopped(self, node: Node) -> None:
        if node.is_alive:
            self._history.defects.append(f"{node.id} did not stop within {_STOP_SECONDS_MAX:g} s")


class Nemesis:
    """Draws faults until `calm_at`, then lets everything heal."""

    def __init__(
        self,
        loop: SimulatedLoop,
        dice: random.Random,
        cluster: Cluster,
        database: SimulatedDatabase,
        surroundings: Surroundings,
        history: History,
        violence: Violence,
        calm_at: float,
    ) -> None:
        self._loop = loop
        self._dice = dice
        self._cluster = cluster
        self._database = database
        self._participants: SimulatedParticipants = surroundings.wire.participants
        self._network = surroundings.network
        self._crew = surroundings.crew
        self._faults = history.faults
        self._events = history.events
        self._violence = violence
        self._calm_at = calm_at
        for pause, act in (
            (violence.crash, self._crash),
            (violence.freeze, self._freeze),
            (violence.stop, self._stop),
            (violence.outage, self._outage),
            (violence.disk_full, self._disk_full),
            (violence.cut_off, self._cut_off),
            (violence.deaf, self._deafen),
            (violence.sick, self._sicken),
            (violence.mute, self._silence),
            (violence.worker_crash, self._crash_worker),
            (violence.worker_hang, self._hang_worker),
            (violence.worker_goodbye, self._leave),
            (violence.stream_loss, self._lose_stream),
            (violence.force, self._force),
            (violence.limits, self._change_limits),
        ):
            self._again(pause, act)
        database.on_commit = lambda node: self._strike(
            node, violence.crash_at_commit, violence.freeze_at_commit
        )
        surroundings.wire.on_sent = lambda node: self._strike(
            node, violence.crash_at_call, violence.freeze_at_call
        )
        loop.later(calm_at, self._calm)

    def _again(self, pause: float, act: Callable[[], None]) -> None:
        delay = self._dice.expovariate(1 / pause)
        if self._loop.now + delay < self._calm_at:
            self._loop.later(delay, self._happen, pause, act)

    def _happen(self, pause: float, act: Callable[[], None]) -> None:
        act()
        self._again(pause, act)

    def _strike(self, identity: str, crash: float, freeze: float) -> None:
        """The worst moment: something is committed or sent, and its node does not know yet."""
        chance = self._dice.random()
        if chance > crash + freeze or self._loop.now > self._calm_at:
            return
        for node in self._cluster.nodes:
            if node.id == identity and node.is_alive:
                if chance < crash:
                    self._faults["crash_at_the_worst_moment"] += 1
                    self._cluster.crash(node)
                else:
                    self._faults["freeze_at_the_worst_moment"] += 1
                    self._cluster.freeze(node)

    def _any_node(self) -> Node:
        return self._dice.choice(self._cluster.nodes)

    def _crash(self) -> None:
        self._faults["crash"] += 1
        self._cluster.crash(self._any_node())

    def _freeze(self) -> None:
        self._faults["freeze"] += 1
        self._cluster.freeze(self._any_node())

    def _stop(self) -> None:
        self._faults["stop"] += 1
        self._cluster.stop(self._any_node())

    def _outage(self) -> None:
        self._faults["outage"] += 1
        self._database.is_down = True
        self._events.append((self._loop.now, "the database is down"))
        self._database.break_listeners()
        self._loop.later(0.1 + 6 * self._dice.random() ** 2, self._end_outage)

    def _end_outage(self) -> None:
        self._events.append((self._loop.now, "the database is up"))
        self._database.is_down = False

    def _disk_full(self) -> None:
        self._faults["disk_filled"] += 1
        self._database.is_full = True
        self._events.append((self._loop.now, "the disk is full"))
        self._loop.later(0.1 + 5 * self._dice.random(), self._end_disk_full)

    def _end_disk_full(self) -> None:
        self._database.is_full = False

    def _cut_off(self) -> None:
        self._faults["partition"] += 1
        node = self._any_node().id
        seconds = 0.2 + 8 * self._dice.random()
        self._events.append((self._loop.now, f"{node} cannot reach the database for {seconds:.3f} s"))
        self._database.cut_off.add(node)
        self._loop.later(seconds, self._database.cut_off.discard, node)

    def _deafen(self) -> None:
        self._faults["listeners_cut"] += 1
        self._database.break_listeners()

    def _sicken(self) -> None:
        self._faults["participant_sick_period"] += 1
        name = self._dice.choice(sorted(NAMES))
        self._participants.sick.add(name)
        self._loop.later(0.5 + 6 * self._dice.random(), self._participants.sick.discard, name)

    def _silence(self) -> None:
        self._faults["participant_mute_period"] += 1
        name = self._dice.choice(sorted(NAMES - set(WORKERS)))
        self._participants.mute.add(name)
        self._loop.later(0.5 + 4 * self._dice.random(), self._participants.mute.discard, name)

    def _crash_worker(self) -> None:
        self._faults["worker_crash"] += 1
        self._crew.any().crash()

    def _hang_worker(self) -> None:
        self._faults["worker_hang"] += 1
        self._crew.any().hang(self._dice.choice((0.5, 3.0, 40.0)))

    def _leave(self) -> None:
        self._faults["worker_goodbye"] += 1
        self._crew.any().take_leave()

    def _lose_stream(self) -> None:
        if self._network.streams:
            self._faults["stream_lost"] += 1
            self._dice.choice(self._network.streams).lose()

    def _force(self) -> None:
        """An operator sets a breaker by hand, and takes that back after a while."""
        self._faults["breaker_forced"] += 1
        name = self._dice.choice(sorted(NAMES))
        self._cluster.forced[name] = self._dice.choice((Forced.OPEN, Forced.OPEN, Forced.CLOSED))
        self._tell_forced()
        self._loop.later(0.5 + 6 * self._dice.random(), self._end_force, name)

    def _end_force(self, name: str) -> None:
        self._cluster.forced.pop(name, None)
        self._tell_forced()

    def _tell_forced(self) -> None:
        forced = dict(self._cluster.forced)
        self._cluster.tell_all(lambda room: room.force(forced))

    def _change_limits(self) -> None:
        self._faults["limits_changed"] += 1
        self._cluster.change_directory()

    def _calm(self) -> None:
        """From now on everything works. What participants decide is still theirs."""
        self._cluster.forced.clear()
        self._cluster.complete_one_directory()
        self._tell_forced()
        for program in self._crew.programs:
            program.recover()
        self._end_outage()
        self._end_disk_full()
        self._database.rates = Rates()
        self._database.commits.heal()
        self._database.cut_off.clear()
        self._participants.sick.clear()
        self._participants.mute.clear()
        weather = self._participants.weather
        self._participants.weather = Weather(
            pending=weather.pending,
            refuses=weather.refuses,
            refuses_to_undo=weather.refuses_to_undo,
            forgets=weather.forgets,
        )
