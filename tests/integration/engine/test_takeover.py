"""Coordinators that die, stop, sleep or rival: every saga goes on somewhere else, and in one place only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

import pytest

from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.inputs import CancelAsked, OutcomeReported
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotPossibleNow, Unavailable
from saga_coordinator.saga.words.identity import idempotency_key
from saga_coordinator.saga.words.outcome import Outcome, Pending, Succeeded
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import LogPage
from saga_coordinator.store.sagas import LogEntry
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.engine.conftest import RETRY, Engine, Query, StartEngine, a_definition, a_step
from tests.integration.engine.participants import (
    ACTION,
    COMPENSATION,
    Gate,
    Participants,
    refusing,
    unknown,
)

COMPLETED, COMPENSATED = SagaStatus.COMPLETED, SagaStatus.COMPENSATED
WHOLE = ["reserve", "charge", "ship"]
SOON = {"timeout": "1s"}
QUICK = a_definition(
    a_step("reserve", "inventory", action=SOON),
    a_step("charge", "payments", action=SOON),
    a_step("ship", "shipping", action=SOON),
    name="quick",
)
"""What a crash leaves in flight is over after a second."""


async def in_flight(gate: Gate, count: int = 1) -> None:
    await eventually(lambda: len(gate.waiting) >= count, f"{count} calls to be in flight")


class Hang:
    """A renewal that does not return until it is let."""

    def __init__(self, engine: Engine) -> None:
        renewal = engine.coordinator._keeper.renewal
        assert renewal is not None
        self._renew = renewal.renew
        self._let = threading.Event()
        self.asked = 0
        setattr(renewal, "renew", self)  # noqa: B010

    def let(self) -> None:
        self._let.set()

    async def __call__(self, lease_seconds: float) -> float:
        self.asked += 1
        await eventually(self._let.is_set, "the renewal to be let")  # on the event loop of another thread
        return await self._renew(lease_seconds)


# A crash.


async def test_p1_another_coordinator_takes_over_what_a_crash_left(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    saga_id, gate = await engine.halted_at("charge")
    await engine.kill()
    gate.open()
    other = await start_engine("there")
    saga = await other.settled(saga_id)
    assert saga.status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE
    assert await other.story(saga_id) == [
        "saga_started",
        "attempt_started reserve action 1",
        "attempt_succeeded reserve action 1",
        "attempt_started charge action 1",
        "saga_adopted",
        "attempt_unknown charge action 1",
        "attempt_started charge action 2",
        "attempt_succeeded charge action 2",
        "attempt_started ship action 1",
        "attempt_succeeded ship action 1",
        "saga_completed",
    ]
    log = await other.sagas.log(saga_id)
    assert log[4].entry.body == {"previous_owner": engine.coordinator_id}
    assert {entry.recorded_by for entry in log[:4]} == {engine.coordinator_id}
    assert {entry.recorded_by for entry in log[4:]} == {other.coordinator_id}


HEADERS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
    "baggage": "tier=gold",
    "x-tenant": "acme",
}


async def test_p5_the_key_and_the_starters_headers_are_the_same_from_whichever_coordinator(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    saga_id, gate = await engine.halted_at("charge", headers=HEADERS)
    await engine.kill()
    gate.open()
    await (await start_engine("there")).settled(saga_id)
    seen = [seen for seen in participants.seen if seen.call.step == "charge"]
    assert [each.coordinator for each in seen] == ["here", "there"]
    assert {each.call.idempotency_key for each in seen} == {idempotency_key(saga_id, "charge", ACTION)}
    assert participants.books.applied[idempotency_key(saga_id, "charge", ACTION)] == 1
    assert all(each.call.headers == HEADERS for each in participants.seen)


async def test_p4_what_a_crash_left_in_flight_is_not_undone_before_it_must_be_over(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    """The participant may still be at it. Nobody can hear the end, so its timeout is waited for."""
    await engine.register(QUICK)
    saga_id, _ = await engine.halted_at("reserve", "quick")
    await engine.kill()
    participants.on("reserve", refusing())
    other = await start_engine("there")
    saga = await other.settled(saga_id)
    assert saga.status is COMPENSATED
    log = await other.sagas.log(saga_id)
    lost = next(entry for entry in log if entry.entry.type == "attempt_unknown")
    undone = next(
        entry
        for entry in log
        if (entry.entry.type, entry.entry.operation) == ("attempt_started", "compensation")
    )
    assert (undone.recorded_at - lost.recorded_at).total_seconds() > 0.9


async def test_a_saga_that_a_crash_left_half_undone_is_undone(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    gate = Gate()
    participants.on("ship", refusing())
    participants.on("charge", gate, COMPENSATION)
    saga_id = await engine.start()
    await in_flight(gate)
    await engine.kill()
    gate.open()
    saga = await (await start_engine("there")).settled(saga_id)
    assert saga.status is COMPENSATED
    assert participants.books.effects[saga_id] == ["reserve", "charge", "-charge", "-reserve"]
    assert set(participants.books.applied.values()) == {1}


async def test_a_saga_between_two_attempts_goes_on_when_they_are_due(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    retry = {"max_attempts": 3, "initial_backoff": "3s", "max_backoff": "3s"}
    step = a_step("charge", "payments", action={"retry": retry})
    await engine.register(a_definition(step, name="patient"))
    participants.on("charge", [unknown()])
    saga_id = await engine.start("patient")

    async def pause() -> LogEntry | None:
        log = await engine.sagas.log(saga_id)
        return next((entry for entry in log if entry.entry.type == "attempt_unknown"), None)

    retry_at = (await eventually(pause, "the first attempt to be over")).entry.body["retry_at"]
    await engine.kill()
    other = await start_engine("there")
    assert (await other.settled(saga_id)).status is COMPLETED
    second = next(entry for entry in await other.sagas.log(saga_id) if entry.entry.attempt == 2)
    assert second.recorded_at.timestamp() >= retry_at


async def test_p1_after_a_crash_in_the_middle_of_many_sagas_all_end_and_the_books_are_right(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    await engine.register(QUICK)
    sagas: list[str] = []

    async def answer(call: Invoke) -> Outcome | None:
        await asyncio.sleep(len(participants.seen) % 7 / 1000)  # so that sagas overtake each other
        if call.input is not None and call.input.get("n", 1) % 5 == 0 and call.step == "ship":
            return refusing()
        return unknown() if len(participants.seen) % 11 == 0 else None

    for step in WHOLE:
        participants.on(step, answer)

    async def start_many() -> None:
        for n in range(1, 61):
            sagas.append(await engine.start("quick", input={"n": n}))  # noqa: PERF401  # each is known at once, not all at the end

    starting = asyncio.create_task(start_many())
    await eventually(lambda: len(participants.seen) > 90, "the middle")
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await engine.kill()
    others = [await start_engine("there"), await start_engine("elsewhere")]
    assert sagas
    for saga_id in sagas:
        saga = await others[0].settled(saga_id)
        standing = participants.books.standing(saga_id)
        assert standing == (WHOLE if saga.status is COMPLETED else []), await others[0].story(saga_id)
    assert set(participants.books.applied.values()) == {1}


async def test_a_saga_that_this_version_cannot_read_does_not_hurt_the_others(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    """One that a newer version wrote to, before it was rolled back."""
    gate = Gate()
    participants.on("charge", gate)
    sagas = [await engine.start() for _ in range(5)]
    await in_flight(gate, 5)
    await engine.kill()
    await query(
        """INSERT INTO saga.log (saga_id, sequence, type, attempt, body, recorded_by)
        SELECT saga_id, max(sequence) + 1, 'saga_teleported', 0, '{}', %s FROM saga.log WHERE saga_id = %s GROUP BY 1""",
        engine.coordinator_id,
        sagas[2],
    )
    gate.open()
    other = await start_engine("there")
    for saga_id in sagas[:2] + sagas[3:]:
        assert (await other.settled(saga_id)).status is COMPLETED
    assert (await other.run()).status is COMPLETED
    # It is let go, for somebody who can read it.
    free = "SELECT 1 FROM saga.sagas WHERE saga_id = %s AND owner IS NULL AND wake_at > now()"
    await eventually(lambda: query(free, sagas[2]), "the saga to be released")
    assert (await other.sagas.log(sagas[2]))[-1].entry.type == "saga_teleported"
    assert (await other.saga(sagas[2])).status is SagaStatus.RUNNING


# A rival.


async def test_p8_a_zombie_loses_and_drops_only_what_it_has_lost(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    gate = Gate()
    participants.on("charge", gate)
    taken, kept = await engine.start(), await engine.start()
    await in_flight(gate, 2)
    other = await start_engine("there")
    await query("UPDATE saga.sagas SET owner = %s WHERE saga_id = %s", other.coordinator_id, taken)
    other.coordinator._wakeup.reconcile_soon()
    await eventually(lambda: len(gate.waiting) == 3, "the other to have adopted it and called again")
    gate.open()
    assert (await other.settled(taken)).status is COMPLETED
    assert (await engine.settled(kept)).status is COMPLETED
    for saga_id in (taken, kept):
        assert participants.books.effects[saga_id] == WHOLE
    assert {seen.coordinator for seen in participants.seen if seen.call.saga_id == kept} == {"here"}
    assert (await other.story(taken)).count("saga_adopted") == 1, "or the zombie could still append"
    shipped = [seen.coordinator for seen in participants.seen if seen.what == ("ship", "action")]
    assert sorted(shipped) == ["here", "there"]
    await eventually(lambda: not engine.drives | other.drives, "both to be done")


async def test_p8_who_sleeps_through_its_lease_wakes_to_find_its_sagas_taken(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    gate = Gate()
    participants.on("charge", gate)
    sagas = [await engine.start() for _ in range(3)]
    await in_flight(gate, 3)
    renewal = Hang(engine)
    await eventually(lambda: renewal.asked, "a renewal to hang")
    await engine.expire()
    other = await start_engine("there")
    await in_flight(gate, 6)
    gate.open()
    for saga_id in sagas:
        assert (await other.settled(saga_id)).status is COMPLETED
        assert participants.books.effects[saga_id] == WHOLE
        story = await other.story(saga_id)
        assert story.count("saga_adopted") == 1
    assert {seen.coordinator for seen in participants.seen if seen.call.step == "ship"} == {"there"}
    renewal.let()
    await eventually(lambda: not engine.drives, "the sleeper to have dropped them")
    assert (await engine.run()).status is COMPLETED


async def test_p1_a_saga_that_was_put_to_sleep_behind_its_owners_back_is_taken_up_again(
    engine: Engine, participants: Participants, query: Query
) -> None:
    """By a statement that it had given up long ago, whose server was only slow; and the first attempt to wake it fails."""
    saga_id, gate = await engine.halted_at("charge")
    wake, failures = (
        engine.stores.ownership.wake,
        [Unavailable(Reason.DATABASE_UNAVAILABLE, "the connection broke")],
    )

    async def fail_at_first(saga_ids: list[str]) -> None:
        if failures:
            raise failures.pop()
        await wake(saga_ids)

    setattr(engine.stores.ownership, "wake", fail_at_first)  # noqa: B010
    await query("UPDATE saga.sagas SET owner = NULL, wake_at = now() + interval '1 day'")
    engine.coordinator._wakeup.reconcile_soon()
    await eventually(lambda: len(gate.waiting) == 2, "the charge to be attempted again")
    gate.open()
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE


async def test_p8_who_claims_and_then_loses_to_the_former_owner_finishes_its_row(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    """The former owner was faster by a hair, twice: its end is in the log, but the row is not its own any more."""
    saga_id, gate = await engine.halted_at("ship")
    other = await start_engine("there")
    read, waiting, go_on = other.stores.sagas.page, asyncio.Event(), asyncio.Event()

    async def read_and_dawdle(saga_ids: Sequence[str], after: int = 0) -> LogPage:
        page = await read(saga_ids, after)
        waiting.set()
        await go_on.wait()
        return page

    setattr(other.stores.sagas, "page", read_and_dawdle)  # noqa: B010
    await query("UPDATE saga.sagas SET owner = %s", other.coordinator_id)
    other.coordinator._wakeup.reconcile_soon()
    await asyncio.wait_for(waiting.wait(), PATIENCE_SECONDS)
    gate.open()

    async def is_over() -> bool:
        return (await engine.story(saga_id))[-1] == "saga_completed"

    await eventually(is_over, "the former owner to end it")
    assert (await engine.saga(saga_id)).status is SagaStatus.RUNNING  # says the row, which is the other's
    go_on.set()
    assert (await other.settled(saga_id)).status is COMPLETED
    assert (await other.story(saga_id)).count("saga_adopted") == 0
    assert participants.books.effects[saga_id] == WHOLE


async def test_a_claim_whose_log_could_not_be_read_is_not_forgotten(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    saga_id, gate = await engine.halted_at("charge")
    await engine.kill()
    gate.open()
    other = await start_engine("there", poll_seconds=30.0)
    read, failures = other.stores.sagas.page, 2

    async def fail_at_first(saga_ids: Sequence[str], after: int = 0) -> LogPage:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the pool is used up")
        return await read(saga_ids, after)

    setattr(other.stores.sagas, "page", fail_at_first)  # noqa: B010
    other.coordinator._wakeup.look_now()
    assert (await other.settled(saga_id)).status is COMPLETED


# The lease.


class Fail(Hang):
    """A renewal that fails until it is let succeed."""

    async def __call__(self, lease_seconds: float) -> float:
        if self._let.is_set():
            return await self._renew(lease_seconds)
        raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the database is away")


@pytest.mark.parametrize("trouble", [Hang, Fail])
async def test_p10_effects_stop_with_the_lease_and_go_on_with_the_next(
    trouble: type[Hang], start_engine: StartEngine, participants: Participants
) -> None:
    engine = await start_engine(lease_seconds=1.0)
    saga_id, gate = await engine.halted_at("reserve")
    renewal = trouble(engine)
    await eventually(lambda: not engine.coordinator._lease.may_act, "the lease to be over")
    assert not engine.coordinator.is_accepting
    with pytest.raises(Unavailable, match="lease has run out"):
        await engine.start_at_once()
    gate.open()

    async def is_intended() -> bool:
        return "attempt_started charge action 1" in await engine.story(saga_id)

    await eventually(is_intended, "the intent to charge")  # which is no effect
    assert not await engine.coordinator.wait(saga_id, 0.3)
    assert not participants.calls("charge")
    renewal.let()
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE
    assert len(participants.calls("charge")) == 1


# A graceful stop.


async def test_who_stops_commits_what_calls_in_flight_say_and_hands_over_at_once(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    gate = Gate()
    participants.on("charge", gate)
    sagas = [await engine.start() for _ in range(3)]
    await in_flight(gate, 3)
    stopping = asyncio.create_task(engine.coordinator.stop(10))
    engine.is_running = False
    await eventually(lambda: not engine.coordinator.is_accepting, "the stop to begin")
    with pytest.raises(Unavailable):
        await engine.start_at_once()
    await asyncio.wait({stopping}, timeout=0.05)
    assert not stopping.done()
    gate.open()
    await stopping
    assert not participants.calls("ship")
    for saga_id in sagas:
        assert (await engine.story(saga_id))[-1] == "attempt_succeeded charge action 1"
    due = "SELECT count(*) FROM saga.sagas WHERE owner IS NULL AND wake_at <= now()"
    assert await query(due) == [(3,)]
    other = await start_engine("there", lease_seconds=600.0)
    for saga_id in sagas:
        assert (await other.settled(saga_id)).status is COMPLETED
        assert not {"saga_adopted", "attempt_unknown"} & {
            line.split()[0] for line in await other.story(saga_id)
        }
        assert participants.books.effects[saga_id] == WHOLE


async def test_a_call_that_outlasts_the_grace_is_made_again_by_the_next(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    saga_id, _ = await engine.halted_at("charge")
    await asyncio.wait_for(engine.stop(0.1), PATIENCE_SECONDS)
    participants.on("charge", Succeeded())
    other = await start_engine("there")
    assert (await other.settled(saga_id, 3)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE
    assert "attempt_unknown charge action 1" in await other.story(saga_id)


async def test_who_stops_hands_over_what_waits_for_its_time_too(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    retry = {"max_attempts": 3, "initial_backoff": "1s", "max_backoff": "1s"}
    await engine.register(a_definition(a_step("charge", "payments", action={"retry": retry}), name="patient"))
    participants.on("charge", [unknown()])
    saga_id = await engine.start("patient")
    await eventually(lambda: participants.calls("charge"), "the first attempt")
    await engine.stop()
    other = await start_engine("there")
    assert (await other.settled(saga_id)).status is COMPLETED
    assert [call.attempt for call in participants.calls("charge")] == [1, 2]


async def test_p1_a_coordinator_that_has_stopped_takes_nothing_any_more(
    engine: Engine, start_engine: StartEngine, participants: Participants
) -> None:
    """A request that arrives while it stops must not give it a saga that nobody would look after."""
    participants.on("charge", Pending())
    saga_id = await engine.start(deadline_seconds=3600.0)
    await eventually(lambda: participants.calls("charge") and not engine.drives, "the saga to sleep")
    await engine.coordinator.stop(0)
    engine.is_running = False
    cancelling = asyncio.create_task(engine.coordinator.ask(saga_id, CancelAsked("", "")))
    await asyncio.wait({cancelling}, timeout=0.2)
    assert (await engine.saga(saga_id)).owner is None
    other = await start_engine("there")
    await other.cancel(saga_id)
    assert (await other.settled(saga_id)).status is COMPENSATED
    cancelling.cancel()
    await asyncio.gather(cancelling, return_exceptions=True)


# Requests about what another coordinator drives.


async def test_whichever_coordinator_is_asked_the_owner_does_it(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    charge = a_step("charge", "payments", action={"timeout": "600s"})
    await engine.register(a_definition(a_step("reserve", "inventory"), charge, name="slow"))
    gate = Gate(Pending())
    participants.on("charge", gate)
    other = await start_engine("there")
    cancelled, reported = await engine.start("slow"), await engine.start("slow")
    await in_flight(gate, 2)
    await other.cancel(cancelled, "ordered twice", "ada")
    with pytest.raises(NotPossibleNow, match="no step `refund`"):
        await other.coordinator.ask(reported, OutcomeReported("refund", ACTION, Succeeded()))
    assert await other.report(reported, "charge", Succeeded({"receipt": 9}))
    assert not await other.report(reported, "charge", Succeeded({"receipt": 9}))
    gate.open()
    assert (await other.settled(cancelled)).status is COMPENSATED
    assert (await other.settled(reported)).status is COMPLETED
    assert {seen.coordinator for seen in participants.seen} == {"here"}
    # The letter of a cancellation stays when a busy machine does not answer it within a second.
    left = "SELECT count(*) FROM saga.requests WHERE saga_id = %s OR answer IS NULL"
    await eventually(lambda: query(left + " HAVING count(*) = 0", reported), "all letters to be taken back")


async def test_a_request_survives_the_owner_it_was_left_for(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    # The payment is attempted until the letter is read, however late a busy machine comes to it.
    until_then = {"timeout": "1s", "retry": {**RETRY, "max_attempts": 1000}}
    await engine.register(a_definition(a_step("charge", "payments", action=until_then), name="patient"))
    other = await start_engine("there")
    saga_id, gate = await engine.halted_at("charge", "patient")

    async def never() -> None:
        await asyncio.Event().wait()

    setattr(engine.coordinator._mailbox, "serve", never)  # noqa: B010
    cancelling = asyncio.create_task(other.coordinator.ask(saga_id, CancelAsked("ordered twice", "ada")))
    await eventually(lambda: query("SELECT 1 FROM saga.requests"), "the request to be left")
    await engine.kill()
    with suppress(
        Unavailable
    ):  # the takeover may take longer than a caller is kept waiting; the letter stays
        await cancelling
    is_answered = "SELECT count(*) FROM saga.requests WHERE answer IS NULL HAVING count(*) = 0"
    await eventually(lambda: query(is_answered), "the request to be answered")
    gate.open()
    saga = await other.settled(saga_id)
    assert saga.status is COMPENSATED
    assert saga.failure is not None
    assert (saga.failure.code, saga.failure.message) == ("CANCELLED", "ordered twice")


async def test_a_request_that_this_version_cannot_read_does_not_hold_up_the_others(
    engine: Engine, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    saga_id, gate = await engine.halted_at("charge")
    await query(
        'INSERT INTO saga.requests (saga_id, request_id, input) VALUES (%s, gen_random_uuid(), \'{"kind": "teleport"}\')',
        saga_id,
    )
    refused = (
        "SELECT convert_from(answer, 'UTF8')::jsonb ->> 'refusal' FROM saga.requests WHERE answer IS NOT NULL"
    )
    ((refusal,),) = await eventually(lambda: query(refused), "an answer")
    assert refusal == "the coordinator that drives this saga does not know such a request; upgrade it"
    other = await start_engine("there")
    await other.cancel(saga_id)
    await other.stop()
    gate.open()
    assert (await engine.settled(saga_id)).status is COMPENSATED
    participants.on("charge", Pending())
    sleeping = await engine.start(deadline_seconds=3600.0)
    await eventually(
        lambda: not engine.drives and len(participants.calls("charge", ACTION)) == 2, "the saga to sleep"
    )
    await engine.cancel(sleeping)
    assert (await engine.settled(sleeping)).status is COMPENSATED


# Defects of our own.


async def test_a_defect_in_calling_is_an_unknown_outcome_and_not_a_silence(
    engine: Engine, participants: Participants
) -> None:
    async def break_down(call: Invoke) -> Outcome:
        if call.attempt == 1:
            raise RuntimeError("a defect")
        return Succeeded({"ok": True})

    participants.on("charge", break_down)
    saga = await engine.run()
    assert saga.status is COMPLETED
    assert "attempt_unknown charge action 1" in await engine.story(saga.saga_id)


async def test_a_saga_that_cannot_be_written_is_kept_from_the_others_and_tried_again_later(
    engine: Engine, participants: Participants, query: Query
) -> None:
    async def answer(call: Invoke) -> Outcome:
        return Succeeded({"text": "poison" if call.input == {"n": 3} else "fine"})

    await query("""
        ALTER TABLE saga.log ADD CONSTRAINT log_takes_no_poison CHECK (position(convert_to('poison', 'UTF8') IN payload) = 0)
    """)
    participants.on("charge", answer)
    sagas = [await engine.start(input={"n": n}) for n in range(6)]
    for n, saga_id in enumerate(sagas):
        if n != 3:
            assert (await engine.settled(saga_id)).status is COMPLETED
    free = (
        "SELECT 1 FROM saga.sagas WHERE saga_id = %s AND owner IS NULL AND wake_at > now() + interval '10 s'"
    )
    await eventually(lambda: query(free, sagas[3]), "the saga to be released")
    participants.on("charge", Succeeded())
    await query("UPDATE saga.sagas SET wake_at = now() WHERE saga_id = %s", sagas[3])
    assert (await engine.settled(sagas[3])).status is COMPLETED
