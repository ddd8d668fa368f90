"""Starting and waiting: duplicates are answers, and everybody who waits hears of the end."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import Any

import psycopg
import pytest

from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.inputs import OutcomeReported
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.schema.input_schema import InputSchema
from saga_coordinator.saga.words.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    NotPossibleNow,
    Overloaded,
    Unavailable,
)
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Pending, Succeeded
from saga_coordinator.store.commits import Commits
from saga_coordinator.store.records import Claim
from tests.eventually import eventually
from tests.integration.engine.conftest import ORDER, Engine, Query, StartEngine, a_definition, a_step
from tests.integration.engine.participants import ACTION, COMPENSATION, Gate, Participants, refusing

FIRST = StartSaga("order", "order 7", input={"n": 1, "m": [1.5, None]}, labels={"tenant": "acme"})


async def test_p9_the_same_start_again_is_the_same_saga(engine: Engine, query: Query) -> None:
    saga_id, is_new = await engine.coordinator.start_saga(FIRST)
    assert is_new
    same = StartSaga("order", "order 7", input={"m": [1.5, None], "n": 1}, labels={"tenant": "acme"})
    assert await engine.coordinator.start_saga(same) == (saga_id, False)
    await engine.settled(saga_id)
    assert await engine.coordinator.start_saga(FIRST) == (saga_id, False)
    assert await query("SELECT count(*) FROM saga.sagas") == [(1,)]


@pytest.mark.parametrize(
    "other",
    [
        StartSaga("order", "order 7", input={"n": 2}, labels={"tenant": "acme"}),
        StartSaga("order", "order 7", input=FIRST.input, labels={"tenant": "other"}),
        StartSaga("order", "order 7", input=FIRST.input, labels={"tenant": "acme"}, deadline_seconds=9.0),
        StartSaga("order", "order 7", input=FIRST.input, labels={"tenant": "acme"}, version=1),
        StartSaga("refund", "order 7", input=FIRST.input, labels={"tenant": "acme"}),
    ],
    ids=["input", "labels", "deadline", "version", "definition"],
)
async def test_p9_a_different_start_with_the_same_key_is_refused(
    other: StartSaga, engine: Engine, participants: Participants, query: Query
) -> None:
    await engine.register(a_definition(a_step("refund", "payments"), name="refund"))
    saga_id, _ = await engine.coordinator.start_saga(FIRST)
    with pytest.raises(AlreadyExists, match=f"start key 'order 7' belongs to saga {saga_id}"):
        await engine.coordinator.start_saga(other)
    await engine.settled(saga_id)
    assert await query("SELECT count(*) FROM saga.sagas") == [(1,)]
    assert len(participants.calls()) == 3


async def test_p9_many_starts_at_once_on_two_coordinators_make_one_saga(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    other = await start_engine("there")
    starts = [each.coordinator.start_saga(FIRST) for each in (engine, other) * 20]
    results = await asyncio.gather(*starts)
    assert len({saga_id for saga_id, _ in results}) == 1
    assert sum(is_new for _, is_new in results) == 1
    await engine.settled(results[0][0])
    assert [call.step for call in participants.calls()] == ["reserve", "charge", "ship"]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 100}}, "required": ["n"]}


@pytest.mark.parametrize(
    "newer",
    [
        {"input_schema": SCHEMA},
        {"input_schema": {"required": ["customer"]}},
        {"labels": {"sum": "${input.n + input.m}"}},
        {"steps": [a_step("reserve", "warehouse")]},
    ],
    ids=["narrower schema", "schema", "label", "participant"],
)
async def test_p9_what_would_be_refused_if_it_were_new_is_the_saga_that_it_started(
    newer: dict[str, Any], engine: Engine, start_engine: StartEngine, query: Query
) -> None:
    saga_id, _ = await engine.coordinator.start_saga(FIRST)
    await engine.register({**ORDER, **newer})
    other = (await start_engine("there")).coordinator  # which remembers no definition
    with pytest.raises((InvalidRequest, NotPossibleNow)):
        await other.start_saga(dataclasses.replace(FIRST, start_key="order 8"))
    with pytest.raises((InvalidRequest, NotPossibleNow)):
        await other.start_saga(dataclasses.replace(FIRST, input={"n": 2, "m": []}))
    assert await other.start_saga(FIRST) == (saga_id, False)
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    assert await query("SELECT count(*) FROM saga.sagas") == [(1,)]


async def test_p9_a_start_is_known_again_when_too_many_wait_for_new_ones(start_engine: StartEngine) -> None:
    engine = await start_engine(sagas_in_memory_max=0, backlog_max=1, poll_seconds=600.0)
    saga_id, _ = await engine.coordinator.start_saga(FIRST)
    with pytest.raises(Overloaded):
        await engine.coordinator.start_saga(dataclasses.replace(FIRST, start_key="order 8"))
    assert await engine.coordinator.start_saga(FIRST) == (saga_id, False)


class HeldAnswers:
    """What the journal commits is answered only when the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._let = asyncio.Event()
        self.committed = asyncio.Event()
        write = Commits._write

        async def write_and_wait(*given: Any) -> Any:
            written = await write(*given)
            self.committed.set()
            await self._let.wait()
            return written

        monkeypatch.setattr(Commits, "_write", write_and_wait)

    def let(self) -> None:
        self._let.set()


async def test_p5_a_saga_whose_start_is_on_its_way_is_not_taken_for_a_forgotten_one(
    engine: Engine, participants: Participants, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldAnswers(monkeypatch)
    starting = asyncio.create_task(engine.start())
    await held.committed.wait()
    (saga_id,) = await engine.stores.ownership.owned()
    await engine.coordinator._claiming.reconcile()
    await engine.coordinator._claiming._adopting.adopt(
        [Claim(saga_id, DEFAULT_NAMESPACE, engine.coordinator_id)]
    )
    assert not engine.drives
    held.let()
    assert await starting == saga_id
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    assert "saga_adopted" not in await engine.story(saga_id)
    assert [call.step for call in participants.calls()] == ["reserve", "charge", "ship"]


async def test_p1_a_stop_waits_for_starts_and_gives_their_calls_their_time(
    engine: Engine, start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldAnswers(monkeypatch)
    starting = asyncio.create_task(engine.start())
    await held.committed.wait()
    engine.is_running = False
    stopping = asyncio.create_task(engine.coordinator.stop(60.0))
    await eventually(lambda: not engine.coordinator._claiming._background, "it to have stopped claiming")
    for _ in range(20):
        await asyncio.sleep(0)  # the stop goes as far as it can without the answer
    held.let()
    saga_id = await starting
    await stopping
    other = await start_engine("there")
    assert (await other.settled(saga_id)).status is SagaStatus.COMPLETED
    log = await other.sagas.log(saga_id)
    assert [(entry.entry.type, entry.recorded_by) for entry in log[:3]] == [
        ("saga_started", engine.coordinator_id),
        ("attempt_started", engine.coordinator_id),
        ("attempt_succeeded", engine.coordinator_id),
    ]


async def test_who_stops_waiting_for_a_start_has_started_it_all_the_same(
    engine: Engine, database_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_dsn) as lock:
        await lock.execute("LOCK TABLE saga.sagas IN SHARE MODE")
        starting = asyncio.create_task(engine.coordinator.start_saga(FIRST))
        await eventually(lambda: engine.coordinator._admission._on_their_way, "the start to be on its way")
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    saga_id, is_new = await engine.coordinator.start_saga(FIRST)
    assert not is_new
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED


async def test_a_saga_stays_with_the_version_it_started_with(
    engine: Engine, participants: Participants
) -> None:
    first, gate = await engine.halted_at("reserve")
    await engine.register(a_definition(a_step("reserve", "inventory")))
    gate.open()
    assert (await engine.settled(first)).version == 1
    assert participants.books.effects[first] == ["reserve", "charge", "ship"]
    second = await engine.run(version=2)
    assert participants.books.effects[second.saga_id] == ["reserve"]


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (StartSaga("nothing", "key"), NotFound, "there is no definition `nothing`"),
        (StartSaga("order", "key", version=9), NotFound, "there is no version 9 of definition `order`"),
        (
            StartSaga("unreachable", "key"),
            NotPossibleNow,
            "no participant `insurance`, `mail` is in the participants file",
        ),
    ],
)
async def test_a_start_that_cannot_be_is_refused(
    request_: StartSaga, error: type[Exception], said: str, engine: Engine, query: Query
) -> None:
    steps = (a_step("insure", "insurance"), a_step("reserve", "inventory"), a_step("tell", "mail"))
    await engine.register(a_definition(*steps, name="unreachable"))
    with pytest.raises(error, match=said):
        await engine.coordinator.start_saga(request_)
    assert await query("SELECT count(*) FROM saga.sagas") == [(0,)]


async def test_an_input_that_is_long_to_check_is_checked_elsewhere_and_others_go_on(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await start_engine()
    schema = {"properties": {"lines": {"items": {"type": "integer"}}}}
    await engine.register({**ORDER, "input_schema": schema})
    may_go_on, checked_in = threading.Event(), []
    check = InputSchema.faults

    def slowly(self: InputSchema, value: Any, path: str = "input") -> Any:
        checked_in.append(threading.current_thread())
        assert may_go_on.wait(30)
        return check(self, value, path)

    monkeypatch.setattr(InputSchema, "faults", slowly)
    large = StartSaga("order", "large", input={"lines": [1] * 20_000})
    starting = asyncio.ensure_future(engine.coordinator.start_saga(large))
    await eventually(lambda: checked_in, "the check")
    await engine.settled(await engine.start(input={"lines": [1, 2]}))
    may_go_on.set()
    assert (await starting)[1]
    assert checked_in
    assert threading.main_thread() not in checked_in


# Waiting.


async def test_everybody_who_waits_hears_of_the_end_at_once(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    gate = Gate()
    participants.on("ship", gate)
    other = await start_engine("there")
    saga_id = await engine.start()
    waits = [asyncio.create_task(each.coordinator.wait(saga_id, 10)) for each in (engine, engine, other)]
    await eventually(lambda: gate.waiting, "the shipping to be in flight")
    assert not any(wait.done() for wait in waits)
    gate.open()
    assert all(await asyncio.gather(*waits))
    assert await engine.coordinator.wait(saga_id, 0)


async def test_waiting_ends_with_its_time_and_leaves_the_saga_alone(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    gate = Gate()
    participants.on("ship", gate)
    other = await start_engine("there")
    saga_id = await engine.start()
    for each in (engine, other):
        assert not await each.coordinator.wait(saga_id, 0)
        assert not await each.coordinator.wait(saga_id, 0.05)
    leaving = asyncio.create_task(engine.coordinator.wait(saga_id, 10))
    await asyncio.wait({leaving}, timeout=0.01)
    leaving.cancel()
    gate.open()
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED


async def test_who_waits_for_a_saga_that_needs_a_person_is_told(
    engine: Engine, participants: Participants
) -> None:
    participants.on("ship", refusing())
    participants.on("charge", refusing(), COMPENSATION)
    saga_id = await engine.start()
    assert await engine.coordinator.wait(saga_id, 10)
    assert (await engine.saga(saga_id)).status is SagaStatus.NEEDS_ATTENTION


async def test_who_waits_for_a_sleeping_saga_is_told_when_it_ends(
    engine: Engine, participants: Participants
) -> None:
    participants.on("charge", Pending())
    saga_id = await engine.start()
    await eventually(lambda: not engine.drives and participants.calls("charge"), "the saga to sleep")
    waiting = asyncio.create_task(engine.coordinator.wait(saga_id, 10))
    await asyncio.wait({waiting}, timeout=0.05)
    assert not waiting.done()
    await engine.coordinator.ask(saga_id, OutcomeReported("charge", ACTION, Succeeded()))
    assert await waiting


async def test_a_coordinator_that_stops_takes_no_starts(engine: Engine) -> None:
    await engine.coordinator.stop(0)
    assert not engine.coordinator.is_accepting
    with pytest.raises(Unavailable, match="stopping"):
        await engine.coordinator.start_saga(FIRST)
    engine.is_running = False
