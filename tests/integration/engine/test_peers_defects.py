"""Defects that were reproduced in other coordinators: each must be impossible here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import AlreadyExists
from saga_coordinator.saga.words.outcome import TEXT_BYTES_MAX, Pending, Succeeded, outcome_of_failure
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.engine.conftest import ORDER, Engine, Query, StartEngine, a_definition, a_step
from tests.integration.engine.participants import ACTION, COMPENSATION, Gate, Participants, refusing, unknown

COMPLETED, COMPENSATED = SagaStatus.COMPLETED, SagaStatus.COMPENSATED


@pytest.mark.parametrize("is_recovered", [False, True], ids=["started", "recovered"])
async def test_defect_1_sagas_on_a_participant_that_hangs_do_not_hold_up_those_that_are_well(
    is_recovered: bool, engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    await engine.register(
        a_definition(a_step("hang", "shipping", action={"timeout": "600s"}), name="hanging")
    )
    participants.on("hang", Gate())
    if is_recovered:
        participants.on("reserve", Gate())
    hanging = await asyncio.gather(*(engine.start("hanging") for _ in range(40)))
    healthy = await asyncio.gather(*(engine.start() for _ in range(40)))
    if is_recovered:
        await engine.kill()
        participants.on("reserve", Succeeded())
        engine = await start_engine("there")
    for saga_id in healthy:
        assert (await engine.settled(saga_id)).status is COMPLETED
    assert {(await engine.saga(saga_id)).status for saga_id in hanging} == {SagaStatus.RUNNING}
    attempts = {call.attempt for call in participants.calls("hang")}
    assert attempts <= {1, 2}, "the healthy ones waited for those that hang"


@pytest.fixture(params=["Pacific/Kiritimati", "Etc/GMT+12"])
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is in another time zone than the database, and its clock is hours off."""
    wall = time.time
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: wall() + 9 * 3600)
    yield
    monkeypatch.undo()
    time.tzset()


async def test_defect_2_another_time_zone_and_a_wrong_clock_change_nothing(
    elsewhere: None, engine: Engine, participants: Participants, query: Query
) -> None:
    pending = a_step("charge", "payments", action={"pending_timeout": "1s"})
    await engine.register(a_definition(a_step("reserve", "inventory"), pending, name="patient"))
    participants.on("charge", [Pending()])
    saga = await engine.run("patient", deadline_seconds=600.0)
    assert saga.status is COMPLETED
    assert [call.attempt for call in participants.calls("charge")] == [1, 2]
    log = await engine.sagas.log(saga.saga_id)
    told = {entry.entry.type: entry.recorded_at for entry in log}
    assert 0.9 < (told["attempt_unknown"] - told["attempt_pending"]).total_seconds() < PATIENCE_SECONDS
    assert saga.deadline_at is not None
    assert abs((saga.deadline_at - saga.started_at).total_seconds() - 600) < PATIENCE_SECONDS
    now = "SELECT started_at BETWEEN now() - interval '1 minute' AND now() FROM saga.sagas"
    assert await query(now) == [(True,)]


async def test_defect_3_one_key_with_two_bodies_runs_one_of_them(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    other = await start_engine("there")
    starts = [
        each.coordinator.start_saga(StartSaga("order", "order 7", input={"body": body}))
        for each in (engine, other)
        for body in ("one", "two")
        for _ in range(5)
    ]
    results = await asyncio.gather(*starts, return_exceptions=True)
    refused = [result for result in results if isinstance(result, AlreadyExists)]
    accepted = {result[0] for result in results if isinstance(result, tuple)}
    assert len(refused) == 10
    assert len(accepted) == 1
    saga = await engine.settled(accepted.pop())
    assert {call.input["body"] for call in participants.calls()} == {saga.input["body"]}
    assert len(participants.calls()) == 3
    assert await query("SELECT count(*) FROM saga.sagas") == [(1,)]


async def test_defect_4_a_step_is_not_undone_while_its_call_is_in_flight(
    engine: Engine, participants: Participants
) -> None:
    await engine.register(
        a_definition(
            a_step("left", "inventory"),
            a_step("right", "payments"),
            a_step("join", "shipping", after=["left", "right"]),
            name="parallel",
        ),
    )
    participants.on("right", refusing())
    saga_id, slow = await engine.halted_at("left", "parallel")
    await engine.reaches(saga_id, SagaStatus.COMPENSATING)
    assert not participants.calls(operation=COMPENSATION)
    slow.open()
    saga = await engine.settled(saga_id)
    assert saga.status is COMPENSATED
    assert participants.books.effects[saga_id] == ["left", "-left"]
    assert participants.books.standing(saga_id) == []
    assert not participants.calls("join")


async def test_defect_5_the_retry_limit_has_pauses(engine: Engine, participants: Participants) -> None:
    retry = {"max_attempts": 4, "initial_backoff": "0.1s", "multiplier": 2, "max_backoff": "0.3s"}
    step = a_step("charge", "payments", action={"retry": retry})
    await engine.register(a_definition(step, name="pausing"))
    participants.on("charge", unknown())
    saga = await engine.run("pausing")
    assert saga.status is COMPENSATED
    seen = [seen.at for seen in participants.seen if seen.call.operation is ACTION]
    assert len(seen) == 4
    log = await engine.sagas.log(saga.saga_id)
    drawn = [
        entry.entry.body["retry_delay_seconds"] for entry in log if entry.entry.type == "attempt_unknown"
    ]
    assert len(drawn) == 3
    for delay, longest, before, after in zip(drawn, (0.1, 0.2, 0.3), seen, seen[1:], strict=False):
        assert 0 <= delay <= longest
        assert after - before >= delay - 0.01


async def test_defect_5_answers_that_say_still_running_do_not_use_the_limit_up(
    engine: Engine, participants: Participants
) -> None:
    retry = {"max_attempts": 2, "initial_backoff": "0.01s", "max_backoff": "0.01s"}
    step = a_step("charge", "payments", action={"retry": retry, "pending_timeout": "60s"})
    await engine.register(a_definition(step, name="patient"))
    participants.on("charge", [unknown(), Pending()])
    saga_id = await engine.start("patient")

    async def is_pending() -> bool:
        return (await engine.story(saga_id))[-1] == "attempt_pending charge action 2"

    await eventually(is_pending, "the second attempt to be pending")
    for _ in range(5):  # however often somebody asks whether it is done
        assert not participants.calls(operation=COMPENSATION)
        assert (await engine.saga(saga_id)).status is SagaStatus.RUNNING
    assert await engine.report(saga_id, "charge", Succeeded({"receipt": 9}))
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert len(participants.calls()) == 2


@pytest.mark.parametrize("length", [2_000, 20_000, 2_000_000])
async def test_defect_7_a_long_error_keeps_its_reason_and_delays_nothing(
    length: int, engine: Engine, participants: Participants
) -> None:
    message = ("card declined: ü\0\ud800 " + "x" * length)[:length]

    participants.on("charge", outcome_of_failure("FAILED_PRECONDITION", message))
    saga = await engine.run()
    assert saga.status is COMPENSATED
    assert saga.failure is not None
    assert saga.failure.message.startswith("card declined: ü")
    assert len(saga.failure.message.encode()) <= TEXT_BYTES_MAX
    assert saga.failure.message.endswith("x") is (length <= TEXT_BYTES_MAX)
    assert ("cut" in saga.failure.message) is (length > TEXT_BYTES_MAX)
    assert len(participants.calls("charge")) == 1
    assert "saga_adopted" not in await engine.story(saga.saga_id)


async def test_defect_8_a_deadline_fires_on_time_although_a_call_is_in_flight(
    engine: Engine, participants: Participants
) -> None:
    step = a_step("charge", "payments", action={"timeout": "600s"})
    await engine.register(a_definition(ORDER["steps"][0], step, name="slow"))
    gate = Gate()
    participants.on("charge", gate)
    saga_id = await engine.start("slow", deadline_seconds=1.0)

    async def has_turned() -> bool:
        return (await engine.saga(saga_id)).status is not SagaStatus.RUNNING

    await eventually(has_turned, "the deadline to fire")
    gate.open()
    saga = await engine.settled(saga_id)
    assert saga.status is COMPENSATED
    assert saga.failure is not None
    assert saga.failure.code == "DEADLINE"
    assert saga.deadline_at is not None
    assert (saga.deadline_at - saga.started_at).total_seconds() <= 1.0
    # The call gets no more time than the saga has, so it may be over before the participant has done anything.
    assert participants.books.effects[saga_id] in (
        ["reserve", "charge", "-charge", "-reserve"],
        ["reserve", "-reserve"],
        [],  # on a machine so busy that the reservation was not made in time
    )


async def test_defect_8_steps_that_never_started_are_not_undone(
    engine: Engine, participants: Participants
) -> None:
    retry = {"max_attempts": 1000, "initial_backoff": "0.3s", "multiplier": 1, "max_backoff": "0.3s"}
    step = a_step("reserve", "inventory", action={"retry": retry})
    await engine.register(a_definition(step, *ORDER["steps"][1:], name="late"))
    participants.on("reserve", unknown())
    saga_id = await engine.start("late", deadline_seconds=3600.0)
    await eventually(lambda: participants.calls("reserve"), "an attempt")
    engine.pass_time(3600.0)
    saga = await engine.settled(saga_id)
    assert saga.status is COMPENSATED
    assert {call.step for call in participants.calls()} == {"reserve"}
    # Its effect was unknown, so it alone was asked to undo.
    assert [call.step for call in participants.calls(operation=COMPENSATION)] == ["reserve"]
