"""Outcomes that come later, at a running coordinator: heartbeats, status methods, and reports that another one takes."""

from __future__ import annotations

import pytest

from saga_coordinator.saga.machine.answers import HeartbeatTaken, NotApplied, WhyNot
from saga_coordinator.saga.machine.inputs import HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotFound, NotPossibleNow
from saga_coordinator.saga.words.outcome import Pending, Succeeded
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, Query, StartEngine, a_definition, a_step
from tests.integration.engine.participants import ACTION, Participants, refusing, unknown
from tests.integration.engine.test_waiting import sleeps, waits


async def beating(engine: Engine, participants: Participants, silence: str) -> str:
    """A saga whose charge is pending."""
    charge = a_step("charge", "payments", action={"heartbeat_timeout": silence, "retry": {"max_attempts": 2}})
    await engine.register(a_definition(charge, name="beating"))
    participants.on("charge", Pending())
    saga_id = await engine.start("beating")
    await waits(engine, saga_id, "charge")
    return saga_id


async def test_a_heartbeat_of_a_sleeping_saga_is_told_once_and_then_answered_from_memory(
    engine: Engine, participants: Participants, query: Query
) -> None:
    saga_id = await beating(engine, participants, "60s")
    await sleeps(query, saga_id)
    beat = HeartbeatReceived("charge", ACTION, 1, "working")
    for _ in range(200):
        answer = (await engine.coordinator.ask(saga_id, beat)).answer
        assert isinstance(answer, HeartbeatTaken)
        assert answer.timeout_seconds == 60.0
    story = await engine.story(saga_id)
    assert story.count("attempt_pending charge action 1") == 2
    await sleeps(query, saga_id)
    (row,) = await query("SELECT wake_at - now() FROM saga.sagas WHERE saga_id = %s", saga_id)
    assert 60 < row[0].total_seconds() <= 90


async def test_silence_is_a_failure_of_the_attempt_which_is_made_again(
    engine: Engine, participants: Participants
) -> None:
    saga_id = await beating(engine, participants, "1s")
    participants.on("charge", Succeeded())
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    assert [call.attempt for call in participants.calls("charge")] == [1, 2]
    assert not (await engine.coordinator.ask(saga_id, HeartbeatReceived("charge", ACTION, 1))).is_applied


async def test_heartbeats_of_what_is_not_there(engine: Engine, participants: Participants) -> None:
    saga_id = await beating(engine, participants, "60s")
    with pytest.raises(NotPossibleNow, match="no step `none`"):
        await engine.coordinator.ask(saga_id, HeartbeatReceived("none", ACTION))
    with pytest.raises(NotFound):
        await engine.coordinator.ask(saga_id[:-4] + "0000", HeartbeatReceived("charge", ACTION))


async def test_heartbeats_and_reports_reach_the_saga_through_a_coordinator_that_does_not_drive_it(
    start_engine: StartEngine, participants: Participants
) -> None:
    here, there = await start_engine("here"), await start_engine("there")
    saga_id = await beating(here, participants, "3s")  # too short for the saga to be let go
    beat = HeartbeatReceived("charge", ACTION, 1)
    answer = (await there.coordinator.ask(saga_id, beat)).answer
    assert isinstance(answer, HeartbeatTaken)
    assert answer.timeout_seconds == 3.0
    again = OutcomeReported("charge", ACTION, unknown(), 7)
    assert (await there.coordinator.ask(saga_id, again)).answer == NotApplied(WhyNot.OTHER_ATTEMPT)
    assert await there.report(saga_id, "charge", Succeeded(), attempt=1)
    assert (await here.settled(saga_id)).status is SagaStatus.COMPLETED


async def test_a_status_method_is_asked_until_it_tells(engine: Engine, participants: Participants) -> None:
    status = {"method": "charge_status", "interval": "1s", "input": {"order": "${input.order}"}}
    charge = a_step("charge", "payments", action={"status": status})
    await engine.register(a_definition(charge, name="asked"))
    participants.on("charge", Pending())
    saga_id = await engine.start("asked", input={"order": 7})
    await waits(engine, saga_id, "charge")
    participants.on("charge", refusing("no such order", "NOT_FOUND"))
    await eventually(lambda: len(participants.calls("charge")) >= 2, "the first question")
    participants.on("charge", Succeeded({"receipt": 9}))
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    asked = participants.calls("charge")
    assert {call.idempotency_key for call in asked} == {asked[0].idempotency_key}
    assert [call.method for call in asked[1:]] == ["charge_status"] * (len(asked) - 1)
    assert asked[1].input == {"order": 7}
    story = await engine.story(saga_id)
    assert story.count("attempt_started charge action 1") == 1
