"""Some sagas, some coordinators and one seed: the same every time."""

from __future__ import annotations

import gc
import hashlib
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from proof.definitions import EVERYTHING, Focus, random_definition, random_input
from proof.simulation.commits import CommitRefused, FailingCommits
from proof.simulation.database import EPOCH, Rates, SimulatedDatabase, register
from proof.simulation.definitions import TASTE
from proof.simulation.history import Call, History, Start
from proof.simulation.loop import SimulatedLoop
from proof.simulation.nemesis import Cluster, Nemesis, Surroundings, Violence
from proof.simulation.participants import SimulatedParticipants, Weather
from proof.simulation.peers import Exchange
from proof.simulation.streams import Network
from proof.simulation.tables import Row
from proof.simulation.visitors import Visitors
from proof.simulation.wire import Wire
from proof.simulation.workers import Crew
from proof.simulation.workload import Clients
from saga_coordinator import lifecycle
from saga_coordinator.api import worker_service
from saga_coordinator.engine import (
    adopting,
    children,
    claiming,
    coordinator,
    drive,
    lease_keeper,
    mail,
    performing,
)
from saga_coordinator.engine.housekeeping import chores
from saga_coordinator.participants.calls import gates
from saga_coordinator.participants.workers import elsewhere, forwarding
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.store import journal

SAGAS_PER_BATCH = 100
_STARTS_WITHIN_SECONDS = 12.0
CALM_AT_SECONDS = 18.0
_PATIENCE_SECONDS = 600.0
"""How long after the last fault everything may take to settle. Backoffs and waits for reports are part of it."""
_DEFINITIONS = 6
_STALLED_SECONDS = 100.0
"""Longer than any delay, deadline or patience of those a saga may wait for."""
_OF_STALLED = frozenset({"attempt_pending", "saga_adopted"})
"""What a saga goes on to write that asks about its child again and again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch left behind."""

    seed: int
    history: History
    database: SimulatedDatabase
    steps: int

    def digest(self) -> str:
        """A fingerprint of everything that happened."""
        return hashlib.sha256("\n".join(self._lines()).encode()).hexdigest()

    def _lines(self) -> Iterator[str]:
        yield f"{self.steps} {sorted(self.history.faults.items())}"
        for saga_id, log in self.database.logs.items():
            for row in log:
                yield f"{saga_id} {row}"
        for calls in self.history.calls.values():
            yield from map(_told, calls)
        yield from map(str, self.history.starts)
        yield from map(str, self.history.cancels)
        yield from map(str, self.history.published.values())
        yield from map(str, self.history.signals.values())
        yield from map(str, self.history.approvals.values())


def _told(call: Call) -> str:
    """A call in words; the keys of what was answered have no order on the wire."""
    answer = None if call.outcome is None else asdict(call.outcome)
    kind = type(call.outcome).__name__
    return f"{replace(call, outcome=None)} {kind} {orjson.dumps(answer, option=orjson.OPT_SORT_KEYS)!r}"


def run_batch(seed: int, sagas: int = SAGAS_PER_BATCH, focus: Focus = EVERYTHING) -> Batch:
    """Runs until everything has settled, or `_PATIENCE_SECONDS` after the last fault."""
    dice = random.Random(seed)
    random.seed(seed)  # the journal's pauses
    history = History()
    loop = SimulatedLoop(random.Random(dice.random()), is_fifo=dice.random() < 0.5)
    commits = FailingCommits(random.Random(f"{seed} commits"), history.faults)
    database = SimulatedDatabase(loop, random.Random(dice.random()), history.faults, commits)
    database.on_impossible = history.defects.append
    clients = Clients(loop, random.Random(dice.random()), database, history)
    visitors = Visitors(loop, random.Random(dice.random()), database, history, clients)
    participants = SimulatedParticipants(
        loop, random.Random(dice.random()), database, history, Weather(), clients.report, clients.beat
    )
    surroundings = _surround(loop, dice, database, participants)
    room = dice.choice((10_000, 10_000, 30, 10))
    cluster = Cluster(loop, random.Random(dice.random()), database, surroundings, clients, history, room)
    violence = _climate(dice, database, participants)
    if focus.pending is not None:
        participants.weather.pending = focus.pending
    Nemesis(
        loop,
        random.Random(dice.random()),
        cluster,
        database,
        surroundings,
        history,
        violence,
        CALM_AT_SECONDS,
    )
    for _ in range(dice.choice((2, 3, 3, 4))):
        cluster.boot()
    surroundings.crew.hire()
    _make_definitions(database, dice, focus)
    _plan_starts(sagas, loop, dice, clients, visitors, history, focus.sharing)

    def is_over() -> bool:
        return (
            loop.now > CALM_AT_SECONDS
            and not clients.asking
            and not participants.deliveries
            and all(
                (row.owner is None and row.wake_at is None) or _is_stalled(database, row)
                for row in database.sagas.values()
            )
        )

    with _quiet(history.defects):
        is_settled = loop.run(is_over, CALM_AT_SECONDS + _PATIENCE_SECONDS)
        history.ended_at = loop.now
        if not is_settled:
            history.unsettled = [
                row.saga_id
                for row in database.sagas.values()
                if (row.owner is not None or row.wake_at is not None) and not _is_stalled(database, row)
            ]
            if not history.unsettled:
                history.defects.append(
                    f"{clients.asking} questions and {participants.deliveries} deliveries never ended"
                )
        # A copy: how coroutines end that are closed where they stand is nobody's defect.
        history.defects = [*history.defects, *loop.failures]
        loop.close()
    return Batch(seed, history, database, loop.steps)


def _surround(
    loop: SimulatedLoop, dice: random.Random, database: SimulatedDatabase, participants: SimulatedParticipants
) -> Surroundings:
    wire = Wire(loop, random.Random(dice.random()), database, participants.history, participants)
    network = Network(loop, random.Random(dice.random()), wire)
    exchange = Exchange(loop, random.Random(dice.random()), wire)
    return Surroundings(wire, network, exchange, Crew(network, participants, random.Random(dice.random())))


def _make_definitions(database: SimulatedDatabase, dice: random.Random, focus: Focus) -> None:
    """Each may run those made before it as sagas of its own."""
    names: list[str] = []
    for number in range(_DEFINITIONS):
        spec = random_definition(f"definition-{number}", dice, TASTE, tuple(names[-2:]), focus)
        register(database, parse_definition(spec), spec)
        names.append(spec["name"])


def _is_stalled(database: SimulatedDatabase, row: Row) -> bool:
    """Whether nothing has come of a saga for long that has a child which needs a person, or has such a child itself."""
    moved_at = max(
        (
            entry.recorded_at
            for entry in reversed(database.logs[row.saga_id])
            if entry.type not in _OF_STALLED
        ),
        default=0.0,
    )
    return moved_at + _STALLED_SECONDS < database.now and any(
        child.status is SagaStatus.NEEDS_ATTENTION
        or (child.status not in SETTLED and _is_stalled(database, child))
        for child in database.children_of(row.saga_id)
    )


def _climate(
    dice: random.Random, database: SimulatedDatabase, participants: SimulatedParticipants
) -> Violence:
    """Each batch has its own mixture: from hardly anything to everything at once."""

    def often(rate: float) -> float:
        return rate * dice.choice((0.0, 0.5, 1.0, 1.0, 2.0))

    def pause(seconds: float) -> float:
        return seconds * dice.choice((0.5, 1.0, 1.0, 2.0, 1000.0))

    database.rates = Rates(
        refused=often(0.01), answer_lost=often(0.01), hanging=often(0.004), slow=often(0.02)
    )
    participants.weather = Weather(
        request_lost=often(0.03),
        reply_lost=often(0.04),
        repeated=often(0.04),
        slow=often(0.03),
        very_late=often(0.01),
        broken=often(0.03),
        fails_before=often(0.05),
        fails_after=often(0.03),
        pending=often(0.1),
        never_reported=often(0.1),
        refuses=often(0.06),
        refuses_to_undo=often(0.03),
        forgets=often(0.02),
        heart_stops=often(0.2),
        gives_up=often(0.1),
        misreported=often(0.1),
        task_returned=often(0.04),
        task_slow=often(0.04),
        task_told_twice=often(0.05),
        task_made_up=often(0.01),
        forward_lost=often(0.03),
    )
    return Violence(
        crash=pause(8.0),
        freeze=pause(8.0),
        stop=pause(12.0),
        outage=pause(15.0),
        disk_full=pause(25.0),
        cut_off=pause(12.0),
        deaf=pause(10.0),
        sick=pause(10.0),
        mute=pause(15.0),
        worker_crash=pause(6.0),
        worker_hang=pause(8.0),
        worker_goodbye=pause(8.0),
        stream_loss=pause(6.0),
        force=pause(12.0),
        limits=pause(12.0),
        crash_at_commit=often(0.002),
        freeze_at_commit=often(0.002),
        crash_at_call=often(0.001),
        freeze_at_call=often(0.001),
    )


def _plan_starts(
    sagas: int,
    loop: SimulatedLoop,
    dice: random.Random,
    clients: Clients,
    visitors: Visitors,
    history: History,
    sharing: float,
) -> None:
    for number in range(sagas):
        values = random_input(number, dice, begins_at=EPOCH, sharing=sharing)
        start = Start(
            start_key=f"order-{number}",
            definition=f"definition-{dice.randrange(_DEFINITIONS)}",
            input=values,
            deadline_seconds=dice.choice((0.2, 1.0, 6.0)) if dice.random() < 0.1 else None,
        )
        history.starts.append(start)
        at = _STARTS_WITHIN_SECONDS * dice.random()
        visitors.come(values["order"], at)
        loop.later(at, _begin, clients, start, dice.random() < 0.95, 0)
        if dice.random() < 0.15:
            history.faults["start_repeated"] += 1
            loop.later(at + 2 * dice.random() ** 4, _begin, clients, start, dice.random() < 0.5, 0)
        if dice.random() < 0.05:
            history.faults["start_key_misused"] += 1
            loop.later(at + 2 * dice.random() ** 2, _begin, clients, start, dice.random() < 0.5, 1)


def _begin(clients: Clients, start: Start, is_patient: bool, body: int) -> None:
    clients.start(start, is_patient=is_patient, body=body)


class _Log:
    """Nothing is printed; what would be logged with a traceback is a defect, unless the database gave reason for it."""

    def __init__(self, defects: list[str]) -> None:
        self._defects = defects

    def info(self, event: str, **_: Any) -> None:
        pass

    debug = warning = info

    def error(self, event: str, exc_info: Any = None, **bound: Any) -> None:
        if isinstance(exc_info, BaseException) and not isinstance(exc_info, CommitRefused):
            self._defects.append(f"{event} {bound or ''}: {exc_info!r}")

    def exception(self, event: str, exc_info: Any = True, **bound: Any) -> None:
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        if not isinstance(error, CommitRefused):
            self._defects.append(f"{event} {bound or ''}: {error!r}")


@contextmanager
def _quiet(defects: list[str]) -> Iterator[None]:
    """No log lines; no garbage collection while nodes lie dead, because it would run their `finally`s on other nodes."""
    modules: list[Any] = [
        adopting,
        children,
        chores,
        claiming,
        coordinator,
        drive,
        elsewhere,
        forwarding,
        gates,
        journal,
        lease_keeper,
        lifecycle,
        mail,
        performing,
    ]
    logs = [module._log for module in modules]
    service_log = worker_service.log
    was_enabled, hook = gc.isenabled(), sys.unraisablehook
    gc.disable()
    for module in modules:
        module._log = _Log(defects)
    worker_service.log = _Log(defects)  # type: ignore[assignment]
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # coroutines of crashed nodes were never awaited
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
        for module, log in zip(modules, logs, strict=True):
            module._log = log
        worker_service.log = service_log
        if was_enabled:
            gc.enable()
