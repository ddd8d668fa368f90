"""Parked sagas that go on by themselves once evidence has taken away what they were parked for."""

from __future__ import annotations

import pytest

from saga_coordinator.saga.machine.inputs import RecallAsked
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Pending, Succeeded
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, Query, StartEngine, a_definition, a_step
from tests.integration.engine.participants import COMPENSATION, Participants, refusing, unknown

NEEDS_ATTENTION = SagaStatus.NEEDS_ATTENTION
ONCE = {"retry": {"max_attempts": 1}}
LATE_UNDO = a_definition(
    a_step("reserve", "inventory"),
    a_step("charge", "payments", compensation={"pending_timeout": "0.2s", **ONCE}),
    a_step("ship", "shipping"),
    name="late",
)
PIVOT = a_definition(
    a_step("reserve", "inventory"),
    a_step("charge", "payments", pivot=True, action={"pending_timeout": "0.2s", **ONCE}),
    {"name": "ship", "action": {"participant": "shipping"}},
    name="late",
)


async def parked(engine: Engine) -> str:
    """A saga of the definition `late` that needs attention."""
    saga = await engine.run("late")
    assert saga.status is NEEDS_ATTENTION, await engine.story(saga.saga_id)
    return saga.saga_id


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_an_undo_goes_on_when_the_compensation_that_held_it_up_is_reported_done(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query, where: str
) -> None:
    await engine.register(LATE_UNDO)
    participants.on("ship", refusing())
    participants.on("charge", Pending(), COMPENSATION)
    saga_id = await parked(engine)
    saga = await engine.saga(saga_id)
    assert saga.remaining == ("reserve", "charge")
    teller = engine if where == "here" else await start_engine("elsewhere")
    assert await teller.report(saga_id, "charge", Succeeded(), COMPENSATION)
    await engine.reaches(saga_id, SagaStatus.COMPENSATED)
    saga = await engine.saga(saga_id)
    assert (saga.remaining, saga.owner) == ((), None)
    assert saga.failure is not None
    assert saga.failure.step == "ship"
    assert participants.books.effects[saga_id] == ["reserve", "charge", "-reserve"]
    assert (await engine.story(saga_id))[-5:] == [
        "attempt_succeeded charge compensation 1",
        "undo_unparked",
        "attempt_started reserve compensation 1",
        "attempt_succeeded reserve compensation 1",
        "saga_compensated",
    ]
    # Told once more, it is told so.
    assert not await teller.report(saga_id, "charge", Succeeded(), COMPENSATION)
    assert await query("SELECT count(*) FROM saga.log WHERE type = 'undo_unparked'") == [(1,)]


@pytest.mark.parametrize("answer", [unknown(), Pending()], ids=["unknown", "pending"])
async def test_a_pivot_in_doubt_that_is_reported_done_lets_the_saga_go_forward(
    engine: Engine, participants: Participants, answer: object
) -> None:
    await engine.register(PIVOT)
    participants.on("charge", answer)  # type: ignore[arg-type]
    saga_id = await parked(engine)
    assert await engine.report(saga_id, "charge", Succeeded({"receipt": 5}))
    await engine.reaches(saga_id, SagaStatus.COMPLETED)
    saga = await engine.saga(saga_id)
    assert (saga.failure, saga.remaining) == (None, ())
    assert participants.calls("ship")


async def test_a_pivot_that_was_accepted_and_is_reported_refused_lets_the_saga_go_back(
    engine: Engine, participants: Participants
) -> None:
    await engine.register(PIVOT)
    participants.on("charge", Pending())
    saga_id = await parked(engine)
    assert await engine.report(saga_id, "charge", refusing("account closed"))
    await engine.reaches(saga_id, SagaStatus.COMPENSATED)
    saga = await engine.saga(saga_id)
    assert saga.failure is not None
    assert (saga.failure.code, saga.failure.message) == ("FAILED_PRECONDITION", "account closed")
    assert participants.books.effects[saga_id] == ["reserve", "-reserve"]


async def test_a_pivot_that_may_have_happened_stays_a_persons_when_another_attempt_is_refused(
    engine: Engine, participants: Participants
) -> None:
    await engine.register(PIVOT)
    participants.on("charge", unknown())
    saga_id = await parked(engine)
    assert not await engine.report(saga_id, "charge", refusing())
    saga = await engine.saga(saga_id)
    assert (saga.status, saga.remaining) == (NEEDS_ATTENTION, ("reserve", "charge"))
    assert (await engine.story(saga_id))[-2:] == ["saga_parked", "outcome_late charge action 1"]


async def test_a_step_after_the_pivot_that_is_reported_done_lets_the_saga_complete(
    engine: Engine, participants: Participants
) -> None:
    await engine.register(PIVOT)
    participants.on("ship", refusing("no such address"))
    saga_id = await parked(engine)
    assert await engine.report(saga_id, "ship", Succeeded())
    await engine.reaches(saga_id, SagaStatus.COMPLETED)


async def test_the_parent_hears_of_a_child_that_was_parked_and_went_on(
    engine: Engine, participants: Participants
) -> None:
    await engine.register(PIVOT)
    child = {"name": "fulfil", "saga": {"definition": "late"}, "irreversible": True}
    await engine.register(a_definition(child, name="parent"))
    participants.on("charge", unknown())
    parent_id = await engine.start("parent")

    async def child_id() -> str | None:
        return await engine.coordinator.id_of(DEFAULT_NAMESPACE, f"{parent_id}/fulfil/action")

    saga_id = await eventually(child_id, "the child")
    await engine.reaches(saga_id, NEEDS_ATTENTION)
    assert await engine.report(saga_id, "charge", Succeeded())
    assert (await engine.settled(parent_id)).status is SagaStatus.COMPLETED


async def test_a_parked_saga_that_was_left_with_nothing_to_wait_for_goes_on_when_it_is_told_again(
    engine: Engine, participants: Participants, query: Query
) -> None:
    """Version 0.1.0 took the report, and left the saga where it was."""
    await engine.register(LATE_UNDO)
    participants.on("ship", refusing())
    participants.on("charge", Pending(), COMPENSATION)
    saga_id = await parked(engine)
    await query(
        """
        INSERT INTO saga.log (saga_id, sequence, type, step, operation, attempt, body, recorded_by)
        SELECT saga_id, max(sequence) + 1, 'attempt_succeeded', 'charge', 'compensation', 1, '{}', %s
        FROM saga.log WHERE saga_id = %s GROUP BY saga_id
        """,
        engine.coordinator_id,
        saga_id,
    )
    assert not await engine.report(saga_id, "charge", Succeeded(), COMPENSATION)
    await engine.reaches(saga_id, SagaStatus.COMPENSATED)
    assert participants.books.effects[saga_id] == ["reserve", "charge", "-reserve"]


async def test_a_recall_reaches_a_child_that_is_parked_once_it_goes_on(
    engine: Engine, participants: Participants
) -> None:
    """What is asked while it is parked moves nothing; whoever asks, asks again."""
    held_up = a_definition(
        a_step("reserve", "inventory"),
        a_step("charge", "payments", action={"on_failure": "pause", **ONCE}),
        a_step("ship", "shipping", action={"pending_timeout": "60s"}),
        name="late",
    )
    await engine.register(held_up)
    participants.on("charge", unknown())
    participants.on("ship", Pending())
    participants.on("charge", Succeeded({"undone": True}), COMPENSATION)
    saga_id = await parked(engine)
    cause = Cause(CauseCode.PARENT_FAILED, "the parent turned")
    await engine.ask(saga_id, RecallAsked(cause))
    assert (await engine.saga(saga_id)).status is NEEDS_ATTENTION
    assert await engine.report(saga_id, "charge", Succeeded())
    await engine.reaches(saga_id, SagaStatus.RUNNING)
    await engine.ask(saga_id, RecallAsked(cause))
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPENSATED
