"""Attempts that are held: told once, looked for without a trace, and made as soon as there is room."""

from __future__ import annotations

from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.outcome import Cause, Held
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, Query
from tests.integration.engine.participants import Participants

ABSENT = Cause("UNAVAILABLE", "no worker of `payments` is connected")
SOON, LATE = 4.9, 25.0
"""So long a saga stays in memory, and so long it sleeps, but for somebody who wakes it."""


async def test_a_hold_is_one_entry_however_often_it_is_looked(
    engine: Engine, participants: Participants
) -> None:
    participants.holding["payments"] = Held(ABSENT, 0.01)
    saga_id = await engine.start()
    await eventually(lambda: len(participants.looks) > 50, "fifty looks")
    assert (await engine.story(saga_id))[-2:] == [
        "attempt_started charge action 1",
        "attempt_held charge action 1",
    ]
    participants.holding.clear()
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    assert [call.attempt for call in participants.calls("charge")] == [1]
    assert (await engine.story(saga_id)).count("attempt_held charge action 1") == 1


async def test_who_waits_in_memory_looks_at_once_when_there_is_room(
    engine: Engine, participants: Participants
) -> None:
    participants.holding["payments"] = Held(ABSENT, SOON)
    saga_id = await engine.start()
    run = await eventually(lambda: engine.coordinator._runs.get(saga_id), "the saga")
    look = await eventually(lambda: run.held.get("charge"), "the hold")
    look.look_next(look.look_at + 3600.0)  # nothing but being told of room makes it look
    participants.holding.clear()
    engine.participants.room_news.tell("payments")
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED


async def test_who_sleeps_is_woken_when_there_is_room(
    engine: Engine, participants: Participants, query: Query
) -> None:
    participants.holding["payments"] = Held(ABSENT, LATE)
    saga_id = await engine.start()

    async def is_asleep() -> bool:
        return bool(await query("SELECT 1 FROM saga.sagas WHERE saga_id = %s AND owner IS NULL", saga_id))

    await eventually(is_asleep, "the saga to sleep")
    assert participants.looks == []
    [(due_at,)] = await query("SELECT wake_at FROM saga.sagas WHERE saga_id = %s", saga_id)
    participants.holding.clear()
    engine.participants.room_news.tell("payments")
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    [(ended_at,)] = await query("SELECT ended_at FROM saga.sagas WHERE saga_id = %s", saga_id)
    assert ended_at < due_at
