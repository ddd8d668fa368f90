"""What is held in memory: sagas that sleep are not, and more sagas than there is room for wait their turn durably."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import Overloaded
from saga_coordinator.saga.words.outcome import Pending, Succeeded, Unknown
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, Query, StartEngine, a_definition, a_step
from tests.integration.engine.participants import Gate, Participants, unknown

ROW = "SELECT owner::text, extract(epoch FROM wake_at - clock_timestamp())::float8 FROM saga.sagas WHERE saga_id = %s"


async def test_a_saga_that_sleeps_holds_no_memory_and_no_owner(
    engine: Engine, participants: Participants, query: Query
) -> None:
    charge = a_step("charge", "payments", action={"pending_timeout": "60s"})
    await engine.register(a_definition(a_step("reserve", "inventory"), charge, name="patient"))
    participants.on("charge", Pending())
    saga_id = await engine.start("patient")
    await eventually(lambda: participants.calls("charge") and not engine.drives, "the saga to sleep")
    ((owner, seconds),) = await query(ROW, saga_id)
    assert owner is None
    assert 50 < seconds <= 60
    assert not engine.coordinator._drive._performing._calls
    assert not engine.coordinator._drive._moves
    assert await engine.report(saga_id, "charge", Succeeded())
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED


@pytest.mark.parametrize(
    "wait", [{"await_event": {"event": "paid"}}, {"approval": {}}], ids=["for an event", "for a person"]
)
async def test_a_wait_without_end_holds_no_memory_and_no_owner_either(
    wait: dict[str, Any], engine: Engine, participants: Participants, query: Query
) -> None:
    await engine.register(a_definition({"name": "decision", **wait}, name="patient"))
    saga_id = await engine.start("patient")

    async def sleeps() -> bool:
        ((owner, seconds),) = await query(ROW, saga_id)
        return owner is None and seconds > 3600

    await eventually(sleeps, "the saga to sleep")
    assert not engine.drives


async def test_a_saga_that_sleeps_wakes_when_it_is_due(
    engine: Engine, participants: Participants, query: Query
) -> None:
    await engine.register(a_definition(a_step("reserve", "inventory"), name="patient"))
    participants.on("reserve", Pending())
    saga_id = await engine.start("patient", deadline_seconds=3600.0)
    await eventually(lambda: participants.calls("reserve") and not engine.drives, "the saga to sleep")
    # Time passes: the saga's deadline, which it sleeps until, is over.
    started = "UPDATE saga.sagas SET wake_at = now() WHERE saga_id = %s"
    await query(started, saga_id)

    async def sleeps_again() -> bool:
        ((owner, seconds),) = await query(ROW, saga_id)
        return owner is None and seconds > 60

    # It was woken too soon, so it sleeps on until the time that its log says.
    await eventually(sleeps_again, "the saga to sleep again")
    assert await engine.story(saga_id) == [
        "saga_started",
        "attempt_started reserve action 1",
        "attempt_pending reserve action 1",
    ]


async def test_a_deadline_wakes_a_saga_that_sleeps(
    engine: Engine, participants: Participants, query: Query
) -> None:
    participants.on("charge", Pending())
    saga_id = await engine.start(deadline_seconds=3600.0)
    await eventually(lambda: participants.calls("charge") and not engine.drives, "the saga to sleep")
    until_then = (
        "SELECT abs(extract(epoch FROM wake_at - deadline_at)) < 60 FROM saga.sagas WHERE saga_id = %s"
    )
    assert await query(until_then, saga_id) == [(True,)]
    # An hour passes for the coordinator, and for the database.
    engine.pass_time(3600.0)
    await query("UPDATE saga.sagas SET wake_at = now() WHERE saga_id = %s", saga_id)
    saga = await engine.settled(saga_id)
    assert saga.status is SagaStatus.COMPENSATED
    assert saga.failure is not None
    assert saga.failure.code == "DEADLINE"


async def test_a_long_pause_between_attempts_is_slept_through(
    engine: Engine, participants: Participants, query: Query
) -> None:
    retry = {"max_attempts": 2, "initial_backoff": "1000s", "max_backoff": "1000s"}
    step = a_step("reserve", "inventory", action={"retry": retry})
    await engine.register(a_definition(step, name="slow"))
    participants.on("reserve", [unknown()])
    saga_id = await engine.start("slow")
    await eventually(lambda: participants.calls("reserve") and not engine.drives, "the saga to sleep")
    ((owner, seconds),) = await query(ROW, saga_id)
    assert owner is None
    assert 5 < seconds < 1000


async def test_more_sagas_than_there_is_room_for_are_queued_and_drained(
    start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    engine = await start_engine(sagas_in_memory_max=10)
    gate = Gate()
    participants.on("reserve", gate)
    sagas = await asyncio.gather(*(engine.start() for _ in range(60)))
    assert len(engine.drives) <= 10
    assert await query("SELECT count(*) FROM saga.sagas WHERE owner IS NULL AND wake_at IS NOT NULL") >= [
        (50,)
    ]
    gate.open()
    most = 0
    for saga_id in sagas:
        assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
        most = max(most, len(engine.drives))
    assert most <= 10
    assert set(participants.books.applied.values()) == {1}


async def test_a_backlog_that_is_too_long_refuses_starts(
    start_engine: StartEngine, participants: Participants
) -> None:
    engine = await start_engine(sagas_in_memory_max=4, backlog_max=5)
    gate = Gate()
    participants.on("reserve", gate)
    starts = [engine.start_at_once(key=f"one of {number}") for number in range(30)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    started = [result for result in results if isinstance(result, str)]
    refused = [result for result in results if not isinstance(result, str)]
    assert 5 <= len(started) <= 10
    assert all(isinstance(error, Overloaded) for error in refused), refused
    gate.open()
    for saga_id in started:
        assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED

    async def accepts() -> bool:
        try:
            return bool(await engine.start_at_once())
        except Overloaded:
            return False

    await eventually(accepts, "starts to be taken again")


async def test_p11_a_definition_that_hangs_leaves_room_for_the_others(
    start_engine: StartEngine, participants: Participants
) -> None:
    """Also when far more of its sagas wait than there is room for, all older than those that are well."""
    engine = await start_engine(sagas_in_memory_max=40)
    await engine.register(
        a_definition(a_step("hang", "shipping", action={"timeout": "600s"}), name="hanging")
    )
    participants.on("hang", Gate())
    await asyncio.gather(*(engine.start("hanging") for _ in range(120)))
    healthy = await asyncio.gather(*(engine.start() for _ in range(40)))
    for saga_id in healthy:
        assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    assert len(participants.calls("hang")) < 40


async def test_p11_after_a_crash_too(start_engine: StartEngine, participants: Participants) -> None:
    first = await start_engine(sagas_in_memory_max=1000)
    await first.register(a_definition(a_step("hang", "shipping", action={"timeout": "600s"}), name="hanging"))
    gate = Gate()
    participants.on("hang", gate)
    participants.on("reserve", gate)
    await asyncio.gather(*(first.start("hanging") for _ in range(120)))
    healthy = await asyncio.gather(*(first.start() for _ in range(20)))
    await first.kill()
    participants.on("hang", Gate())
    gate.open()
    second = await start_engine("there", sagas_in_memory_max=40)
    for saga_id in healthy:
        assert (await second.settled(saga_id)).status is SagaStatus.COMPLETED


@pytest.mark.parametrize("outcome", [unknown(), None], ids=["fails", "completes"])
async def test_nothing_is_left_in_memory(
    outcome: Unknown | None, engine: Engine, participants: Participants
) -> None:
    participants.on("ship", [outcome] * 3 if outcome else Succeeded())
    await asyncio.gather(*(engine.run() for _ in range(20)))
    drive = engine.coordinator._drive
    await eventually(lambda: not (drive._performing._calls or drive._moves), "everything to end")
    assert not engine.drives
    assert engine.coordinator._runs.count_of("order") == 0
    assert not engine.coordinator._claiming._room.starting
    assert not engine.coordinator._admission._on_their_way
