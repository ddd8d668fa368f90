"""What the simulation found in the program and is too rare to be found again each time, told as small stories.

Each took one or two of a hundred thousand sagas. What it found more often is kept as a mutant.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest

from proof.simulation.batch import SAGAS_PER_BATCH, run_batch
from proof.simulation.checker import judge
from proof.simulation.loop import Node, SimulatedLoop
from proof.simulation.run import seed_of
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.awaited import Awaited
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.lease_keeper import LeaseKeeper
from saga_coordinator.participants.workers.stream import Greeting
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.answers import APPLIED, Accepted, NotApplied
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, Invoke, SetTimer
from saga_coordinator.saga.machine.entries import AttemptPending, AttemptStarted, Entry, OutcomeLate
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    EventArrived,
    OutcomeReported,
    OwnershipGained,
    StartRequested,
    TimerFired,
)
from saga_coordinator.saga.machine.stored_entry import StoredEntry, encode
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotPossibleNow, OwnershipLost, Unavailable
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome, Pending, Refused, Succeeded
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.appends import Append, Conflict, WrittenAppend
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.records import Event, KeptEvent

STARTED = AttemptStarted("pay", OperationKind.ACTION, 2)
PENDING = AttemptPending("pay", OperationKind.ACTION, 1, 12.5)


class ForgetfulLog:
    """The first write's answer gets lost; after that the log holds what somebody of our own name wrote."""

    def __init__(self, written: Entry) -> None:
        self._written = [("us", encode(written))]
        self._writes = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ForgetfulLog]:
        yield self

    async def write(self, appends: Sequence[WrittenAppend]) -> None:
        self._writes += 1
        if self._writes == 1:
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the connection broke")
        raise Conflict("entry 4")

    async def taken(self, appends: Sequence[Append]) -> list[int]:
        return list(range(len(appends)))

    async def written(self, saga_id: str, sequence: int, count: int) -> list[tuple[str, StoredEntry]]:
        return self._written[:count]

    async def start_key_holder(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        raise AssertionError("no saga is started here")

    async def ping(self) -> None:
        pass


async def test_p7_an_append_in_doubt_knows_its_own_entries_from_those_of_an_earlier_view_of_the_saga() -> (
    None
):
    """Both were this coordinator's: it had lost the saga and claimed it again while its first append was in doubt."""
    journal = Journal(ForgetfulLog(written=PENDING), "us")
    await journal.start()
    with pytest.raises(OwnershipLost):
        await journal.append(Append("saga", DEFAULT_NAMESPACE, 4, [STARTED]))
    await journal.stop()


async def test_an_append_in_doubt_that_had_been_committed_is_known_again() -> None:
    journal = Journal(ForgetfulLog(written=PENDING), "us")
    await journal.start()
    await journal.append(Append("saga", DEFAULT_NAMESPACE, 4, [PENDING]))
    await journal.stop()


class Renewals:
    """Answers each renewal when it is told to."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Callable[[], Awaitable[float]]] = asyncio.Queue()

    async def renew(self, lease_seconds: float) -> float:
        return await (await self.answers.get())()


async def test_p8_a_regained_lease_may_be_acted_on_only_after_what_was_lost_is_known() -> None:
    """A coordinator that froze must not go on with what others have claimed, in the moment between renewal and review."""
    clock = [0.0]
    seen: list[tuple[bool, int]] = []

    async def regained() -> None:
        seen.append((lease.may_act, lease.term))

    async def now() -> float:
        return 1000.0

    renewals = Renewals()
    lease = Lease(0.03, clock=lambda: clock[0])
    keeper = LeaseKeeper(lease, lambda: nullcontext(renewals), on_regained=regained, in_thread=False)
    renewals.answers.put_nowait(now)
    await keeper.start()
    clock[0] = 1.0  # far beyond its end, though only a moment has passed outside
    renewals.answers.put_nowait(now)
    await asyncio.wait_for(lease.wait_until_valid(), 10)
    await keeper.stop()
    assert seen == [(False, 2)]


REFUSED = Refused(Cause("FAILED_PRECONDITION", "no"))


def begun(spec: Any, *ended: tuple[str, Outcome], now: float = 0.0) -> tuple[Definition, Decision]:
    """The definition, and the last decision of a saga whose actions have ended so."""
    definition = parse_definition(spec)
    decision = decide(definition, None, StartRequested("s", 1, {}, {}), 0.0, 0.5)
    for step, outcome in ended:
        told = AttemptEnded(step, OperationKind.ACTION, 1, outcome)
        decision = decide(definition, decision.state, told, now, 0.5)
    return definition, decision


UNDONE_AS_FAR_AS_POSSIBLE = {
    "name": "order",
    "steps": [
        {"name": "reserve", "action": {"participant": "stock"}, "compensation": {"participant": "stock"}},
        {
            "name": "notify",
            "action": {"participant": "mail"},
            "compensation": {
                "participant": "mail",
                "input": {"who": "${input.missing}"},
                "on_failure": "continue",
            },
        },
        {"name": "ship", "action": {"participant": "courier"}, "irreversible": True},
    ],
}


def test_p1_what_comes_before_a_compensation_without_input_is_undone_at_once() -> None:
    """With nothing in flight and nothing due, nobody would have come back to this saga."""
    _, decision = begun(
        UNDONE_AS_FAR_AS_POSSIBLE, ("reserve", Succeeded()), ("notify", Succeeded()), ("ship", REFUSED)
    )
    assert [call.step for call in decision.effects if isinstance(call, Invoke)] == ["reserve"]


SLOW_TO_UNDO = {
    "name": "order",
    "steps": [
        {
            "name": "reserve",
            "deadline": "1s",
            "action": {"participant": "stock"},
            "compensation": {"participant": "stock", "pending_timeout": "60s"},
        },
        {"name": "ship", "action": {"participant": "courier"}, "irreversible": True},
    ],
}


def test_a_compensation_may_be_pending_after_the_deadline_of_its_steps_action() -> None:
    definition, decision = begun(SLOW_TO_UNDO, ("reserve", Succeeded()), ("ship", REFUSED), now=10.0)
    pending = AttemptEnded("reserve", OperationKind.COMPENSATION, 1, Pending())
    decision = decide(definition, decision.state, pending, 10.0, 0.5)
    assert [effect.due_at for effect in decision.effects if isinstance(effect, SetTimer)] == [70.0]


class SlowTable:
    """Where workers are: the first statement is given up after a moment and carried out seconds later."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.told: Mapping[str, frozenset[str]] = {}
        self._loop = loop
        self._statements = 0

    async def publish(self, served: Mapping[str, frozenset[str]]) -> None:
        self._statements += 1
        if self._statements == 1:
            self._loop.later(5.0, setattr, self, "told", served)
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "nothing was heard of the database for a while")
        self.told = served

    async def methods_of(self, participant: str) -> frozenset[str] | None:
        return None

    async def find(self, participant: str, method: str) -> str | None:
        return None

    async def forward(
        self, coordinator_id: str, participant: str, task: Task, ends_at: float
    ) -> Outcome | None:
        return None

    async def stop(self, grace_seconds: float = 0.0) -> None:
        pass


def test_p1_where_workers_are_is_known_though_a_statement_of_long_ago_is_carried_out_last() -> None:
    """Nobody else would ever have sent a task there."""
    loop = SimulatedLoop(random.Random(1), is_fifo=True)
    node = Node(loop, "coordinator", offset=0.0, pace=1.0)
    table = SlowTable(loop)

    async def serve() -> None:
        workers = Workers(table)
        await workers.start()
        for participant in ("depot", "kiosk"):
            workers.admit(workers.connect(Greeting(participant, frozenset(), 1, "w", ""), nothing, nothing))
            await asyncio.sleep(0.5)

    node.spawn(serve())
    loop.run(lambda: loop.now > 6.0, 6.0)
    assert set(table.told) == {"depot"}
    loop.run(lambda: loop.now > 60.0, 60.0)
    assert set(table.told) == {"depot", "kiosk"}
    loop.close()


class Search(SlowTable):
    """Finds nobody, after a while, and the next time whom it is told to; what it is asked to forward it takes down."""

    def __init__(self, loop: SimulatedLoop, seconds: float, found: str | None = None) -> None:
        super().__init__(loop)
        self._seconds = seconds
        self._found = [None, found]
        self.forwarded: list[str] = []

    async def methods_of(self, participant: str) -> frozenset[str] | None:
        return None

    async def find(self, participant: str, method: str) -> str | None:
        await asyncio.sleep(self._seconds)
        return self._found.pop(0) if len(self._found) > 1 else self._found[0]

    async def forward(
        self, coordinator_id: str, participant: str, task: Task, ends_at: float
    ) -> Outcome | None:
        self.forwarded.append(task.step)
        return Succeeded()


def nothing(told: object) -> None:
    """The transport of a worker that is never heard of."""


def a_call(step: str) -> Invoke:
    return Invoke("saga", step, OperationKind.ACTION, 1, "key", "depot", "pack", {}, 1.0, None)


def test_p4_an_attempt_whose_way_was_looked_for_too_long_is_not_made_any_more() -> None:
    """A worker had come meanwhile, and got it with no time left."""
    loop = SimulatedLoop(random.Random(1), is_fifo=True)
    node = Node(loop, "coordinator", offset=0.0, pace=1.0)
    came: list[Outcome] = []
    woken: list[float] = []

    async def serve() -> None:
        workers = Workers(Search(loop, 0.75))
        made = asyncio.create_task(workers.invoke(a_call("pack")))
        await asyncio.sleep(0.5)
        greeting = Greeting("depot", frozenset(), 1, "w", "")
        workers.admit(workers.connect(greeting, lambda _: woken.append(loop.now), nothing))
        came.append(await made)

    node.spawn(serve())
    loop.run(lambda: bool(came), 10.0)
    assert [type(outcome) for outcome in came] == [Held]
    assert not woken
    loop.close()


def test_p4_what_another_coordinator_forwarded_is_not_forwarded_again() -> None:
    """They sent it to and fro when the worker had just left, each time with all of its time before it."""
    loop = SimulatedLoop(random.Random(1), is_fifo=True)
    node = Node(loop, "coordinator", offset=0.0, pace=1.0)
    came: dict[str, Outcome] = {}
    search = Search(loop, 0.0, found="coordinator-2")

    async def serve() -> None:
        workers = Workers(search)
        leaving = workers.connect(Greeting("depot", frozenset(), 1, "w", ""), nothing, nothing)
        workers.admit(leaving)
        task = Task(saga_id="saga", step="theirs", method="pack")
        theirs = asyncio.create_task(workers.invoke_here("depot", task, 60.0))
        ours = asyncio.create_task(workers.invoke(replace(a_call("ours"), timeout_seconds=60.0)))
        await asyncio.sleep(0)
        leaving.end()
        another = asyncio.create_task(workers.invoke(replace(a_call("another"), timeout_seconds=60.0)))
        came.update(theirs=await theirs, ours=await ours, another=await another)

    node.spawn(serve())
    loop.run(lambda: len(came) == 3, 10.0)
    assert isinstance(came["theirs"], Held)
    assert sorted(search.forwarded) == ["another", "ours"]
    loop.close()


class OneEvent:
    """Keeps one event; `taken` once nobody else is to get it."""

    def __init__(self) -> None:
        self.taken = False

    async def keep(self, namespace: Namespace, event: Event) -> KeptEvent:
        return KeptEvent(not self.taken, self.taken, None, 0.0)

    async def waiting(self, namespace: Namespace, event_id: str) -> list[str]:
        return ["saga"]

    async def matched(self, namespace: Namespace, event_id: str) -> None:
        self.taken = True

    async def take(
        self, saga_id: str, name: str, correlation: str, look_back_seconds: float = 0.0
    ) -> Event | None:
        raise AssertionError("nobody looks for it here")

    async def tidy(self) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "is_taken"),
    [(APPLIED, True), (NotApplied(), True), (NotPossibleNow(Reason.SAGA_ENDED, "over"), False)],
)
async def test_p9_an_event_that_its_saga_says_it_had_before_is_not_kept_for_another(
    answer: Accepted | NotPossibleNow, *, is_taken: bool
) -> None:
    """Its coordinator took the letter up twice, and the answer to the first time got lost."""
    events = OneEvent()

    async def ask(saga_id: str, event: EventArrived) -> Answered:
        if isinstance(answer, NotPossibleNow):
            raise answer
        return Answered(answer)

    published = await Awaited(events, ask).publish(DEFAULT_NAMESPACE, Event("e", "paid", "order-1", None))
    assert (published.sagas, events.taken) == (int(answer == APPLIED), is_taken)


WORK = {
    "name": "order",
    "steps": [
        {
            "name": "pack",
            "action": {"participant": "depot", "timeout": "3s"},
            "compensation": {"participant": "depot", "timeout": "5s"},
        },
        {"name": "ship", "action": {"participant": "courier"}, "irreversible": True},
    ],
}
DEPOT = frozenset({"depot"})


def calls_of(decision: Decision) -> list[tuple[str, OperationKind, int]]:
    return [
        (each.step, each.operation, each.attempt) for each in decision.effects if isinstance(each, Invoke)
    ]


@pytest.mark.parametrize("previous_owner", ["another", "itself", None])
def test_p8_a_task_that_a_worker_may_be_at_is_not_made_again_however_often_its_saga_is_adopted(
    previous_owner: str | None,
) -> None:
    """Coordinators took a saga from each other, and from themselves, and each handed its task to one more worker."""
    definition, decision = begun(WORK)
    assert calls_of(decision) == [("pack", OperationKind.ACTION, 1)]
    for now in (1.0, 2.0, 3.9):  # it was handed out by 1.0 at the latest, for 3 s
        decision = decide(definition, decision.state, OwnershipGained(previous_owner, DEPOT), now, 0.5)
        assert calls_of(decision) == []
        assert [effect.due_at for effect in decision.effects if isinstance(effect, SetTimer)] == [4.0]
    decision = decide(definition, decision.state, TimerFired(), 4.0, 0.5)
    assert calls_of(decision) == [("pack", OperationKind.ACTION, 2)]


def test_p8_the_same_of_a_task_that_undoes() -> None:
    definition, decision = begun(WORK, ("pack", Succeeded()), ("ship", REFUSED))
    assert calls_of(decision) == [("pack", OperationKind.COMPENSATION, 1)]
    for now in (1.0, 5.9):
        decision = decide(definition, decision.state, OwnershipGained("another", DEPOT), now, 0.5)
        assert calls_of(decision) == []
    decision = decide(definition, decision.state, TimerFired(), 6.0, 0.5)
    assert calls_of(decision) == [("pack", OperationKind.COMPENSATION, 2)]


def test_a_task_of_a_lost_coordinator_whose_outcome_is_reported_is_not_waited_for() -> None:
    definition, decision = begun(WORK)
    decision = decide(definition, decision.state, OwnershipGained("another", DEPOT), 1.0, 0.5)
    reported = OutcomeReported("pack", OperationKind.ACTION, Succeeded(), 1)
    decision = decide(definition, decision.state, reported, 1.5, 0.5)
    assert calls_of(decision) == [("ship", OperationKind.ACTION, 1)]


def test_what_is_called_is_attempted_again_at_once_by_whoever_takes_over() -> None:
    definition, decision = begun(WORK)
    decision = decide(definition, decision.state, OwnershipGained("another", frozenset({"kiosk"})), 1.0, 0.5)
    assert calls_of(decision) == [("pack", OperationKind.ACTION, 2)]


def test_p9_a_success_that_is_told_again_after_the_saga_was_compensated_is_not_applied_a_second_time() -> (
    None
):
    definition, decision = begun(WORK, ("pack", Succeeded()), ("ship", REFUSED))
    undone = AttemptEnded("pack", OperationKind.COMPENSATION, 1, Succeeded())
    decision = decide(definition, decision.state, undone, 0.0, 0.5)
    assert decision.state.status is SagaStatus.COMPENSATED
    reported = OutcomeReported("ship", OperationKind.ACTION, Succeeded(), 1)
    first = decide(definition, decision.state, reported, 1.0, 0.5)
    again = decide(definition, first.state, reported, 2.0, 0.5)
    assert [type(entry) for entry in (*first.entries, *again.entries)] == [OutcomeLate]


@pytest.mark.proof
@pytest.mark.parametrize(("seed", "batch"), [(31015, 52), (31017, 38), (1, 10), (1, 35)])
def test_p8_batches_in_which_a_task_went_to_a_worker_while_another_had_it(seed: int, batch: int) -> None:
    assert not judge(run_batch(seed_of(seed, batch), SAGAS_PER_BATCH)).violations
