"""The lives of single sagas, from their start to their end, on one coordinator."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import SagaStarted
from saga_coordinator.saga.machine.inputs import OutcomeReported
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotFound, NotPossibleNow
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import Cause, Outcome, Pending, Succeeded
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.engine.conftest import (
    ORDER,
    Engine,
    Query,
    StartEngine,
    a_definition,
    a_step,
)
from tests.integration.engine.participants import (
    ACTION,
    COMPENSATION,
    Gate,
    Participants,
    refusing,
    unknown,
)

COMPLETED, COMPENSATED, NEEDS_ATTENTION = (
    SagaStatus.COMPLETED,
    SagaStatus.COMPENSATED,
    SagaStatus.NEEDS_ATTENTION,
)


async def test_a_saga_completes(engine: Engine, participants: Participants) -> None:
    saga = await engine.run(input={"order": 7}, labels={"tenant": "acme"})
    assert (saga.status, saga.failure, saga.remaining, saga.owner) == (COMPLETED, None, (), None)
    assert participants.books.effects[saga.saga_id] == ["reserve", "charge", "ship"]
    assert [call.attempt for call in participants.calls()] == [1, 1, 1]
    assert {call.input["order"] for call in participants.calls()} == {7}
    assert await engine.story(saga.saga_id) == [
        "saga_started",
        "attempt_started reserve action 1",
        "attempt_succeeded reserve action 1",
        "attempt_started charge action 1",
        "attempt_succeeded charge action 1",
        "attempt_started ship action 1",
        "attempt_succeeded ship action 1",
        "saga_completed",
    ]
    assert engine.drives == set()


async def test_an_outcome_and_the_next_intent_are_one_commit(engine: Engine, query: Query) -> None:
    """Four commits for three steps: the start with the first intent, and each outcome with what follows from it."""
    saga = await engine.run()
    written = "SELECT count(*) FROM saga.log WHERE saga_id = %s GROUP BY xmin::text ORDER BY min(sequence)"
    assert await query(written, saga.saga_id) == [(2,), (2,), (2,), (2,)]


async def test_p6_what_justifies_a_call_is_committed_before_it_is_made(
    engine: Engine, participants: Participants, query: Query
) -> None:
    found: list[int] = []

    async def look(call: Invoke) -> None:
        found.append(len(await query("SELECT 1 FROM saga.log WHERE type = 'attempt_started'")))

    for step in ("reserve", "charge", "ship"):
        participants.on(step, look)
    await engine.run()
    assert found == [1, 2, 3]


async def test_p3_a_saga_is_undone_in_reverse(engine: Engine, participants: Participants) -> None:
    participants.on("ship", refusing("no such address"))
    saga = await engine.run(input={"order": 7})
    assert saga.status is COMPENSATED
    assert saga.failure is not None
    assert (saga.failure.step, saga.failure.code) == ("ship", "FAILED_PRECONDITION")
    assert saga.failure.message == "no such address"
    assert participants.books.effects[saga.saga_id] == ["reserve", "charge", "-charge", "-reserve"]
    undoing = participants.calls(operation=COMPENSATION)
    assert [call.input for call in undoing] == [
        {"done": step, "by": idempotency_key(saga.saga_id, step, ACTION)} for step in ("charge", "reserve")
    ]
    assert {call.failure for call in undoing} == {saga.failure}


async def test_p2_a_compensation_that_does_not_succeed_parks_the_saga_and_says_what_remains(
    engine: Engine, participants: Participants
) -> None:
    participants.on("ship", refusing())
    participants.on("charge", refusing("refunds are closed"), COMPENSATION)
    with capture_logs() as logs:
        saga = await engine.run()
    assert (saga.status, saga.remaining, saga.ended_at) == (NEEDS_ATTENTION, ("reserve", "charge"), None)
    assert participants.books.standing(saga.saga_id) == ["reserve", "charge"]
    (told,) = [line for line in logs if line["event"] == "saga_needs_attention"]
    assert told["log_level"] == "warning"
    assert (told["saga_id"], told["remaining"]) == (saga.saga_id, ("reserve", "charge"))
    assert (told["failure_code"], told["failure_step"]) == ("FAILED_PRECONDITION", "ship")
    assert (told["blocked_by"], told["blocked_code"]) == ("charge", "FAILED_PRECONDITION")
    assert told["blocked_message"] == "the compensation did not succeed: refunds are closed"
    assert saga.blocked_by == Cause("FAILED_PRECONDITION", told["blocked_message"], "charge")


async def test_the_end_of_a_saga_is_no_news(engine: Engine, participants: Participants) -> None:
    """There may be thousands a second, and the database has them all."""
    with capture_logs() as logs:
        await engine.run()
        participants.on("ship", refusing())
        await engine.run()
    settled = [line for line in logs if line["event"] == "saga_settled"]
    assert [line["status"] for line in settled] == [COMPLETED, COMPENSATED]
    assert {line["log_level"] for line in settled} == {"debug"}


async def test_who_wants_to_watch_is_told_when_sagas_start_turn_and_end(
    start_engine: StartEngine, participants: Participants
) -> None:
    engine = await start_engine(log_sagas=True)
    with capture_logs() as logs:
        well = await engine.run()
        participants.on("ship", refusing("no trucks"))
        undone = await engine.run()
    told = [line for line in logs if line["event"].startswith("saga_")]
    assert {line["log_level"] for line in told} == {"info"}
    assert {line["definition"] for line in told} == {"order"}
    assert [(line["event"], line["saga_id"], line["start_key"]) for line in told] == [
        ("saga_started", well.saga_id, well.start_key),
        ("saga_settled", well.saga_id, well.start_key),
        ("saga_started", undone.saga_id, undone.start_key),
        ("saga_turned", undone.saga_id, undone.start_key),
        ("saga_settled", undone.saga_id, undone.start_key),
    ]
    _, ended, _, turned, last = told
    assert (ended["status"], "failure_code" in ended) == (COMPLETED, False)
    assert (turned["status"], last["status"]) == ("COMPENSATING", COMPENSATED)
    for line in (turned, last):
        assert (line["failure_step"], line["failure_message"]) == ("ship", "no trucks")
    assert well.ended_at is not None
    assert ended["seconds"] == pytest.approx((well.ended_at - well.started_at).total_seconds(), abs=0.01)


async def test_the_input_of_a_step_may_come_from_the_steps_before(
    engine: Engine, participants: Participants
) -> None:
    given = {"order": "${input.order}", "by": "${steps.reserve.output.by}"}
    await engine.register(
        a_definition(
            a_step("reserve", "inventory"),
            a_step("charge", "payments", action={"input": given}),
            name="linked",
        ),
    )
    saga = await engine.run("linked", input={"order": [1, 2]})
    assert saga.status is COMPLETED
    (call,) = participants.calls("charge")
    assert call.input == {"order": [1, 2], "by": idempotency_key(saga.saga_id, "reserve", ACTION)}


async def test_a_saga_that_fails_at_its_very_start_is_settled_with_it(engine: Engine, query: Query) -> None:
    step = a_step("reserve", "inventory", action={"input": "${input.order.card}"})
    await engine.register(a_definition(step, name="hopeless"))
    saga = await engine.run("hopeless", input={"order": 7})
    assert saga.status is COMPENSATED
    assert await query("SELECT count(DISTINCT xmin::text) FROM saga.log") == [(1,)]


# Cancelling.


async def test_a_cancelled_saga_is_undone_once_its_call_has_ended(
    engine: Engine, participants: Participants
) -> None:
    saga_id, gate = await engine.halted_at("charge")
    await engine.cancel(saga_id, "ordered twice", "ada")
    await engine.cancel(saga_id, "ordered twice", "ada")
    saga = await engine.saga(saga_id)
    assert saga.status is SagaStatus.COMPENSATING
    assert not participants.calls(operation=COMPENSATION)
    gate.open()
    saga = await engine.settled(saga_id)
    assert saga.status is COMPENSATED
    assert saga.failure is not None
    assert (saga.failure.code, saga.failure.message, saga.failure.requested_by) == (
        "CANCELLED",
        "ordered twice",
        "ada",
    )
    assert participants.books.effects[saga_id] == ["reserve", "charge", "-charge", "-reserve"]
    assert not participants.calls("ship")


async def test_cancelling_is_refused_once_there_is_no_way_back(
    engine: Engine, participants: Participants
) -> None:
    await engine.register(
        a_definition(
            a_step("reserve", "inventory"),
            a_step("charge", "payments", pivot=True),
            a_step("ship", "shipping", irreversible=True),
            name="pivoted",
        ),
    )
    saga_id, gate = await engine.halted_at("ship", "pivoted")
    with pytest.raises(NotPossibleNow, match="pivot `charge` has been attempted"):
        await engine.cancel(saga_id)
    gate.open()
    assert (await engine.settled(saga_id)).status is COMPLETED
    with pytest.raises(NotPossibleNow, match="nothing left to cancel"):
        await engine.cancel(saga_id)


async def test_cancelling_what_is_undone_already_changes_nothing(
    engine: Engine, participants: Participants
) -> None:
    participants.on("ship", refusing())
    saga = await engine.run()
    await engine.cancel(saga.saga_id)
    assert await engine.saga(saga.saga_id) == saga


async def test_cancelling_what_nobody_knows_is_not_found(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await engine.cancel("00000000-0000-7000-8000-000000000000")


async def test_a_sleeping_saga_wakes_to_be_cancelled(engine: Engine, participants: Participants) -> None:
    participants.on("charge", Pending())
    saga_id = await engine.start()
    await eventually(lambda: not engine.drives and participants.calls("charge"), "the saga to sleep")
    await engine.cancel(saga_id)
    saga = await engine.settled(saga_id)
    assert saga.status is COMPENSATED
    assert participants.books.effects[saga_id] == ["reserve", "-reserve"]


# Reports.


@pytest.mark.parametrize("is_asleep", [True, False], ids=["asleep", "awake"])
async def test_a_pending_outcome_is_reported(
    is_asleep: bool, engine: Engine, participants: Participants
) -> None:
    seconds = "60s" if is_asleep else "4s"
    charge = a_step("charge", "payments", action={"pending_timeout": seconds})
    await engine.register(
        a_definition(a_step("reserve", "inventory"), charge, a_step("ship", "shipping"), name="patient"),
    )
    participants.on("charge", Pending())
    saga_id = await engine.start("patient")
    pending = "attempt_pending charge action 1"

    async def waits() -> bool:
        return pending in await engine.story(saga_id) and (saga_id in engine.drives) is not is_asleep

    await eventually(waits, "the outcome to be pending")

    async def report(saga_id: str, step: str, operation: OperationKind, outcome: Outcome) -> bool:
        return (await engine.coordinator.ask(saga_id, OutcomeReported(step, operation, outcome))).is_applied

    with pytest.raises(NotPossibleNow, match="no step `refund`"):
        await report(saga_id, "refund", ACTION, Succeeded())
    with pytest.raises(NotPossibleNow, match="action of step `ship` has not been attempted"):
        await report(saga_id, "ship", ACTION, Succeeded())
    with pytest.raises(NotPossibleNow, match="compensation of step `charge` has not been attempted"):
        await report(saga_id, "charge", COMPENSATION, Succeeded())
    assert await report(saga_id, "charge", ACTION, Succeeded({"receipt": 9}))
    assert not await report(saga_id, "charge", ACTION, Succeeded({"receipt": 9}))
    saga = await engine.settled(saga_id)
    assert saga.status is COMPLETED
    assert not await report(saga_id, "charge", ACTION, Succeeded({"receipt": 9}))
    story = await engine.story(saga_id)
    assert story.count("attempt_succeeded charge action 1") == 1
    assert len(participants.calls("charge")) == 1


async def test_a_refusal_that_is_reported_turns_the_saga(engine: Engine, participants: Participants) -> None:
    participants.on("charge", Pending())
    saga_id = await engine.start()
    await eventually(lambda: participants.calls("charge"), "the charge to be called")
    assert await engine.report(saga_id, "charge", refusing("declined"))
    saga = await engine.settled(saga_id)
    assert saga.status is COMPENSATED
    assert [call.step for call in participants.calls(operation=COMPENSATION)] == ["reserve"]


async def test_a_report_may_be_faster_than_the_answer(engine: Engine, participants: Participants) -> None:
    gate = Gate(Pending())
    participants.on("charge", gate)
    saga_id = await engine.start()
    await eventually(lambda: gate.waiting, "the charge to be in flight")
    assert await engine.report(saga_id, "charge", Succeeded({"receipt": 9}))
    assert (await engine.settled(saga_id)).status is COMPLETED
    gate.open()
    await eventually(lambda: not engine.coordinator._drive._performing._calls, "the call to end")
    assert (await engine.story(saga_id))[-1] == "saga_completed"


async def test_p9_a_late_report_is_kept_and_moves_nothing(engine: Engine, participants: Participants) -> None:
    participants.on("charge", unknown())
    saga = await engine.run()
    assert saga.status is COMPENSATED
    assert not await engine.report(saga.saga_id, "charge", refusing("declined"))
    assert not await engine.report(saga.saga_id, "charge", refusing("declined"))
    story = await engine.story(saga.saga_id)
    assert [line for line in story if line.startswith("outcome_late")] == ["outcome_late charge action 3"]
    assert (await engine.saga(saga.saga_id)).status is COMPENSATED


async def test_p2_a_report_about_a_parked_saga_shortens_what_remains(
    engine: Engine, participants: Participants, query: Query
) -> None:
    """A report may settle what the saga was parked for; the summary says so too."""
    participants.on("charge", Pending())
    participants.on("reserve", refusing("keep it"), COMPENSATION)
    saga_id = await engine.start()
    await eventually(lambda: participants.calls("charge"), "the charge to be called")
    await engine.cancel(saga_id)
    saga = await engine.settled(saga_id)
    assert saga.status is NEEDS_ATTENTION
    before = saga.remaining
    await engine.coordinator.ask(saga_id, OutcomeReported("charge", ACTION, refusing("declined")))
    after = await engine.saga(saga_id)
    assert after.remaining == fold(saga_id, await engine.entries(saga_id)).remaining
    assert set(after.remaining) <= set(before)


async def test_what_was_started_is_what_the_log_says(engine: Engine) -> None:
    saga = await engine.run(input={"order": 7}, labels={"tenant": "acme"}, deadline_seconds=36_000.0)
    first = (await engine.entries(saga.saga_id))[0]
    assert isinstance(first, SagaStarted)
    assert (first.definition, first.version, first.input, first.labels) == (
        ORDER["name"],
        1,
        {"order": 7},
        {"tenant": "acme"},
    )
    assert saga.deadline_at is not None
    assert first.deadline_at == pytest.approx(saga.deadline_at.timestamp(), abs=1e-5)
    assert abs((saga.deadline_at - saga.started_at).total_seconds() - 36_000) < PATIENCE_SECONDS
