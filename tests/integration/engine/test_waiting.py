"""Sagas that wait: for time, events, people and other sagas."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from saga_coordinator.engine import advance
from saga_coordinator.saga.machine.entries import EventReceived, SagaRecalled
from saga_coordinator.saga.machine.inputs import ApprovalDecided, EventArrived
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.errors import AlreadyExists, NotPossibleNow
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Succeeded
from saga_coordinator.store.records import Event
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.engine.conftest import Engine, Query, StartEngine, a_definition, a_step
from tests.integration.engine.participants import Gate, Participants, refusing, unknown

COMPLETED, COMPENSATED, NEEDS_ATTENTION = (
    SagaStatus.COMPLETED,
    SagaStatus.COMPENSATED,
    SagaStatus.NEEDS_ATTENTION,
)


async def waits(engine: Engine, saga_id: str, step: str) -> None:
    async def is_waiting() -> bool:
        return (await engine.coordinator.state_of(saga_id)).step(step).status is StepStatus.WAITING

    await eventually(is_waiting, f"{step} to wait")


async def sleeps(query: Query, saga_id: str) -> None:
    """The saga holds no memory and no owner."""

    async def has_no_owner() -> bool:
        rows = await query("SELECT owner FROM saga.sagas WHERE saga_id = %s", saga_id)
        return rows[0][0] is None

    await eventually(has_no_owner, "the saga to be let go")


# Events.

PAYMENT: dict[str, Any] = a_definition(
    a_step("reserve", "inventory"),
    {
        "name": "paid",
        "await_event": {"event": "payment.received", "correlation": "${input.order}", "timeout": "60s"},
    },
    a_step("ship", "shipping", action={"input": {"amount": "${steps.paid.output.amount}"}}),
    name="payment",
)


@pytest.fixture
async def payment(engine: Engine) -> Engine:
    await engine.register(PAYMENT)
    return engine


async def has_looked(engine: Engine, query: Query, saga_id: str, step: str = "paid") -> None:
    """It waits, and has looked for events that came before: what comes from now on it has to be told of."""
    await waits(engine, saga_id, step)
    await sleeps(query, saga_id)


def received(order: str, event_id: str = "e1", amount: int = 5) -> Event:
    return Event(event_id, "payment.received", order, {"amount": amount})


async def test_a_published_event_wakes_the_sagas_that_wait_for_it_and_no_others(
    payment: Engine, participants: Participants, query: Query
) -> None:
    mine = await payment.start("payment", input={"order": "A"})
    theirs = await payment.start("payment", input={"order": "B"})
    for saga_id in (mine, theirs):
        await waits(payment, saga_id, "paid")
        await sleeps(query, saga_id)
    assert (await payment.publish(received("A"))).sagas == 1
    assert (await payment.settled(mine)).status is COMPLETED
    assert [call.input for call in participants.calls(step="ship")] == [{"amount": 5}]
    assert (await payment.saga(theirs)).status is SagaStatus.RUNNING


async def test_an_event_that_came_before_anybody_waited_is_kept_and_counts_for_the_first(
    payment: Engine, participants: Participants, query: Query
) -> None:
    gate = Gate()
    participants.on("reserve", gate)
    first = await payment.start("payment", input={"order": "C"})
    published = await payment.publish(received("C"))
    assert (published.sagas, published.is_duplicate) == (0, False)
    assert published.kept_until is not None
    assert published.kept_until == pytest.approx(published.remembered_until)
    second = await payment.start("payment", input={"order": "C"})
    again = await payment.publish(received("C"))
    assert (again.is_duplicate, again.kept_until) == (True, published.kept_until)
    gate.open()
    assert (await payment.settled(first)).status is COMPLETED
    await has_looked(payment, query, second)
    late = await payment.publish(received("C"))
    assert (late.sagas, late.kept_until, late.is_duplicate) == (0, None, True)
    told = await payment.publish(received("C", "e2"))
    assert (told.sagas, told.kept_until, told.is_duplicate) == (1, None, False)
    assert (await payment.settled(second)).status is COMPLETED


async def test_an_event_that_came_for_an_earlier_saga_does_not_pay_for_the_next(
    payment: Engine, participants: Participants, query: Query
) -> None:
    """Its saga had ended when it came."""
    ended = await payment.start("payment", input={"order": "M"})
    await has_looked(payment, query, ended)
    await payment.cancel(ended, "changed my mind", "me")
    assert (await payment.settled(ended)).status is COMPENSATED
    late = await payment.publish(received("M"))
    assert (late.sagas, late.kept_until is not None) == (0, True)
    following = await payment.start("payment", input={"order": "M"})
    await has_looked(payment, query, following)
    assert not participants.calls("ship")
    assert (await payment.publish(received("M", "e2"))).sagas == 1
    assert (await payment.settled(following)).status is COMPLETED


async def test_a_step_that_looks_back_takes_an_event_that_came_before_its_saga(
    payment: Engine, query: Query
) -> None:
    paid = {"name": "paid", "await_event": {**PAYMENT["steps"][1]["await_event"], "look_back": "600s"}}
    await payment.register(a_definition(paid, name="patient"))
    for event_id, minutes in (("long ago", 11), ("before", 9)):
        await payment.publish(received("N", event_id, amount=minutes))
        await query(
            "UPDATE saga.events SET published_at = now() - make_interval(mins => %s) WHERE event_id = %s",
            minutes,
            event_id,
        )
    saga = await payment.run("patient", input={"order": "N"})
    assert saga.status is COMPLETED
    assert [
        entry.event_id for entry in await payment.entries(saga.saga_id) if isinstance(entry, EventReceived)
    ] == ["before"]


async def test_an_event_is_kept_no_longer_than_its_publisher_asked_for(
    payment: Engine, participants: Participants, query: Query
) -> None:
    gate = Gate()
    participants.on("reserve", gate)
    saga_id = await payment.start("payment", input={"order": "O"})
    now_or_never = dataclasses.replace(received("O"), keep_seconds=0.0)
    published = await payment.publish(now_or_never)
    assert (published.sagas, published.kept_until) == (0, None)
    for_an_hour = dataclasses.replace(received("O", "e2"), keep_seconds=3600.0)
    published = await payment.publish(for_an_hour)
    assert published.kept_until is not None
    week = 7 * 24 * 3600.0
    assert published.remembered_until - published.kept_until == pytest.approx(week - 3600)
    await query("UPDATE saga.events SET expires_at = now() WHERE event_id = 'e2'")
    gate.open()
    await has_looked(payment, query, saga_id)
    assert not participants.calls("ship")
    heard = dataclasses.replace(received("O", "e3"), keep_seconds=0.0)
    assert (await payment.publish(heard)).sagas == 1
    assert (await payment.settled(saga_id)).status is COMPLETED


async def test_who_began_to_wait_while_an_event_was_kept_finds_it_though_its_owner_died_before_it_looked(
    payment: Engine, query: Query
) -> None:
    saga_id = await payment.start("payment", input={"order": "P"})
    await has_looked(payment, query, saga_id)
    kept = dataclasses.replace(received("P"), keep_seconds=0.0)
    await payment.stores.events.keep(DEFAULT_NAMESPACE, kept)  # here the publisher's coordinator ends, too
    assert await payment.stores.events.take(saga_id, kept.name, kept.correlation) is not None


async def test_an_event_that_was_told_to_those_who_waited_is_nobodys_who_waits_later(
    payment: Engine, participants: Participants, query: Query
) -> None:
    waiting = await payment.start("payment", input={"order": "Q"})
    await has_looked(payment, query, waiting)
    gate = Gate()
    participants.on("reserve", gate)
    later = await payment.start("payment", input={"order": "Q"})
    assert (await payment.publish(received("Q"))).sagas == 1
    gate.open()
    await has_looked(payment, query, later)
    assert (await payment.settled(waiting)).status is COMPLETED
    assert [call.saga_id for call in participants.calls("ship")] == [waiting]


async def test_a_saga_that_waited_gets_an_event_whose_publisher_went_away_and_that_another_took_since(
    payment: Engine, participants: Participants, query: Query
) -> None:
    waiting = await payment.start("payment", input={"order": "H"})
    await has_looked(payment, query, waiting)
    gate = Gate()
    participants.on("reserve", gate)
    later = await payment.start("payment", input={"order": "H"})
    await payment.stores.events.keep(
        DEFAULT_NAMESPACE, received("H")
    )  # here the publisher's coordinator ends
    gate.open()
    assert (await payment.settled(later)).status is COMPLETED
    assert (await payment.publish(received("H"))).sagas == 1
    assert (await payment.settled(waiting)).status is COMPLETED
    third = await payment.start("payment", input={"order": "H"})
    await waits(payment, third, "paid")
    assert (await payment.publish(received("H"))).sagas == 0


async def test_an_event_is_nobody_elses_though_the_saga_that_got_it_has_ended_before_its_publisher_knew(
    payment: Engine, query: Query
) -> None:
    first = await payment.start("payment", input={"order": "J"})
    await has_looked(payment, query, first)
    await payment.stores.events.keep(DEFAULT_NAMESPACE, received("J"))
    told = received("J")
    arrived = EventArrived(told.event_id, told.name, told.correlation, told.payload)
    assert (await payment.coordinator.ask(first, arrived)).is_applied
    assert (await payment.settled(first)).status is COMPLETED  # and here the publisher's coordinator ends
    assert (await payment.publish(told)).sagas == 0
    second = await payment.start("payment", input={"order": "J"})
    await waits(payment, second, "paid")
    assert await payment.stores.events.take(second, "payment.received", "J") is None


async def test_an_event_that_was_taken_for_a_saga_that_ended_without_it_is_the_next_ones(
    payment: Engine, query: Query
) -> None:
    first, second = [await payment.start("payment", input={"order": "K"}) for _ in range(2)]
    for saga_id in (first, second):
        await has_looked(payment, query, saga_id)
    kept = received("K", "e2")
    await payment.stores.events.keep(DEFAULT_NAMESPACE, kept)
    assert await payment.stores.events.take(first, "payment.received", "K") == kept
    assert await payment.stores.events.take(second, "payment.received", "K") is None
    await payment.cancel(first, "changed my mind", "me")
    assert (await payment.settled(first)).status is COMPENSATED
    assert await payment.stores.events.take(second, "payment.received", "K") == kept
    assert await payment.stores.events.take(first, "payment.received", "K") is None


async def test_what_a_saga_took_and_never_received_is_not_left_to_the_next_when_another_had_it(
    payment: Engine, query: Query
) -> None:
    first, other = [await payment.start("payment", input={"order": "L"}) for _ in range(2)]
    for saga_id in (first, other):
        await has_looked(payment, query, saga_id)
    kept = received("L", "e3")
    await payment.stores.events.keep(DEFAULT_NAMESPACE, kept)
    assert await payment.stores.events.take(first, "payment.received", "L") == kept
    arrived = EventArrived(kept.event_id, kept.name, kept.correlation, kept.payload)
    assert (await payment.coordinator.ask(other, arrived)).is_applied
    await payment.cancel(first, "changed my mind", "me")
    assert (await payment.settled(first)).status is COMPENSATED
    third = await payment.start("payment", input={"order": "L"})
    await has_looked(payment, query, third)
    assert await payment.stores.events.take(third, "payment.received", "L") is None


async def test_events_that_were_taken_and_never_counted_are_found_by_the_next_owner(
    start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    """The first owner had them in its hands when it ended."""
    paid = {"name": "paid", "await_event": {"event": "payment.received", "correlation": "${input.order}"}}
    loop = {"name": "all", "for_each": {"items": "input.parts", "steps": [paid]}}
    first = await start_engine("first")
    await first.register(a_definition(loop, name="parts"))
    saga_id = await first.start("parts", input={"order": "I", "parts": [1, 2, 3]})
    await has_looked(first, query, saga_id, "all[2].paid")
    assert (await first.publish(received("I"))).sagas == 1
    await first.kill()
    for event_id in ("e2", "e3"):
        await first.stores.events.keep(DEFAULT_NAMESPACE, received("I", event_id))
        taken = await first.stores.events.take(saga_id, "payment.received", "I")
        assert taken is not None
        assert taken.event_id == event_id
    owned = "UPDATE saga.sagas SET owner = %s, wake_at = NULL WHERE saga_id = %s"
    await query(owned, first.coordinator_id, saga_id)
    second = await start_engine("second")
    assert (await second.settled(saga_id)).status is COMPLETED


async def test_an_event_counts_once_however_often_it_is_published(payment: Engine, query: Query) -> None:
    saga_id = await payment.start("payment", input={"order": "D"})
    await has_looked(payment, query, saga_id)
    published = await asyncio.gather(*(payment.publish(received("D")) for _ in range(5)))
    assert sum(each.sagas for each in published) == 1
    await payment.settled(saga_id)
    assert sum(isinstance(entry, EventReceived) for entry in await payment.entries(saga_id)) == 1
    with pytest.raises(AlreadyExists):
        await payment.publish(received("D", amount=6))


async def test_a_signal_reaches_a_saga_before_its_step_waits(
    payment: Engine, participants: Participants
) -> None:
    gate = Gate()
    participants.on("reserve", gate)
    saga_id = await payment.start("payment", input={"order": "E"})
    assert (
        await payment.coordinator.ask(saga_id, EventArrived("s", "payment.received", "", {"amount": 7}))
    ).is_applied
    assert not (
        await payment.coordinator.ask(saga_id, EventArrived("s", "payment.received", "", {"amount": 7}))
    ).is_applied
    gate.open()
    assert (await payment.settled(saga_id)).status is COMPLETED
    assert [call.input for call in participants.calls(step="ship")] == [{"amount": 7}]
    with pytest.raises(NotPossibleNow, match="COMPLETED"):
        await payment.coordinator.ask(saga_id, EventArrived("t", "payment.received"))


async def test_an_event_that_never_comes_is_a_refusal(engine: Engine, participants: Participants) -> None:
    paid = {"name": "paid", "await_event": {"event": "payment.received", "timeout": "0.2s"}}
    await engine.register(a_definition(a_step("reserve", "inventory"), paid, name="hasty"))
    saga = await engine.run("hasty")
    assert saga.status is COMPENSATED
    assert saga.failure is not None
    assert (saga.failure.code, saga.failure.step) == ("EVENT_TIMEOUT", "paid")
    assert participants.books.effects[saga.saga_id] == ["reserve", "-reserve"]


async def test_an_event_is_found_by_the_owner_who_comes_after_a_crash(
    start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    first = await start_engine("first")
    await first.register(PAYMENT)
    saga_id = await first.start("payment", input={"order": "F"})
    await has_looked(first, query, saga_id)
    await first.kill()
    second = await start_engine("second")
    assert (await second.publish(received("F"))).sagas == 1
    assert (await second.settled(saga_id)).status is COMPLETED


async def test_an_event_reaches_a_saga_that_another_coordinator_drives(
    start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    here, there = await start_engine("here"), await start_engine("there")
    await here.register(PAYMENT)
    gate = Gate()
    participants.on("ship", gate)
    saga_id = await here.start("payment", input={"order": "G"})
    await has_looked(here, query, saga_id)
    assert (await there.publish(received("G"))).sagas == 1
    gate.open()
    assert (await there.settled(saga_id)).status is COMPLETED


# People.

LOAN = a_definition(
    a_step("check", "inventory"),
    {
        "name": "decision",
        "approval": {"approvers": ["ann", "bob"], "show": {"amount": "${input.amount}"}, "timeout": "30s"},
    },
    a_step("pay_out", "payments"),
    name="loan",
)


async def test_an_approval_lets_the_saga_go_on_and_a_rejection_undoes_it(
    engine: Engine, participants: Participants
) -> None:
    await engine.register(LOAN)
    yes, no = await engine.start("loan", input={"amount": 9}), await engine.start("loan", input={"amount": 8})
    for saga_id in (yes, no):
        await waits(engine, saga_id, "decision")

    async def decide(saga_id: str, decided_by: str, comment: str, *, is_approved: bool) -> bool:
        asked = ApprovalDecided("decision", is_approved, decided_by, comment)
        return (await engine.coordinator.ask(saga_id, asked)).is_applied

    with pytest.raises(NotPossibleNow, match="ann, bob"):
        await decide(yes, "eve", "", is_approved=True)
    assert await decide(yes, "ann", "fine", is_approved=True)
    assert not await decide(yes, "ann", "fine", is_approved=True)
    with pytest.raises(NotPossibleNow, match="SUCCEEDED"):
        await decide(yes, "bob", "", is_approved=False)
    assert await decide(no, "bob", "too much", is_approved=False)
    assert (await engine.settled(yes)).status is COMPLETED
    rejected = await engine.settled(no)
    assert rejected.status is COMPENSATED
    assert rejected.failure is not None
    assert (rejected.failure.code, rejected.failure.message, rejected.failure.requested_by) == (
        "REJECTED",
        "too much",
        "bob",
    )
    wait = (await engine.coordinator.state_of(yes)).step("decision").wait
    assert wait is not None
    assert wait.shown == {"amount": 9}
    assert participants.books.standing(no) == []


# Time.


async def test_a_delay_is_durable_and_holds_nothing(
    engine: Engine, participants: Participants, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advance, "SLEEP_AFTER_SECONDS", 0.1)
    await engine.register(
        a_definition({"name": "nap", "delay": "1s"}, a_step("ship", "shipping"), name="napping"),
    )
    saga_id = await engine.start("napping")
    await sleeps(query, saga_id)
    assert saga_id not in engine.drives
    await query("UPDATE saga.sagas SET wake_at = now() - interval '1 hour' WHERE saga_id = %s", saga_id)
    assert not participants.calls(step="ship"), "woken too early, it must not go on too early"
    assert (await engine.settled(saga_id)).status is COMPLETED
    rows = await query(
        "SELECT max(recorded_at) FILTER (WHERE type = 'attempt_started') - min(recorded_at) >= interval '0.9 s' "
        "FROM saga.log WHERE saga_id = %s",
        saga_id,
    )
    assert rows == [(True,)]


# Other sagas.

ORDER_CHILD = a_definition(
    a_step("pack", "inventory"),
    a_step("hand_over", "shipping"),
    name="parcel",
    output={"parcel": "${saga.id}"},
)
PARENT = a_definition(
    a_step("reserve", "inventory"),
    {"name": "parcel", "saga": {"definition": "parcel", "input": {"order": "${input.order}"}}},
    a_step("bill", "payments", action={"input": {"parcel": "${steps.parcel.output.parcel}"}}),
    name="parent",
)


@pytest.fixture
async def family(engine: Engine) -> Engine:
    await engine.register(ORDER_CHILD)
    await engine.register(PARENT)
    return engine


async def child_of(engine: Engine, saga_id: str) -> str:
    child = await engine.coordinator.id_of(DEFAULT_NAMESPACE, f"{saga_id}/parcel/action")
    assert child is not None
    return child


async def test_a_child_runs_and_its_output_is_the_steps(family: Engine, participants: Participants) -> None:
    saga = await family.run("parent", input={"order": 1})
    child = await child_of(family, saga.saga_id)
    assert saga.status is COMPLETED
    assert [call.input for call in participants.calls(step="bill")] == [{"parcel": child}]
    assert (await family.saga(child)).labels == {"parent_saga_id": saga.saga_id}


async def test_a_child_that_fails_compensates_itself_and_fails_the_step(
    family: Engine, participants: Participants
) -> None:
    participants.on("hand_over", refusing("no van"))
    saga = await family.run("parent", input={"order": 2})
    child = await child_of(family, saga.saga_id)
    assert saga.status is COMPENSATED
    assert saga.failure is not None
    assert (saga.failure.code, saga.failure.step) == ("CHILD_FAILED", "parcel")
    assert "no van" in saga.failure.message
    assert participants.books.effects[child] == ["pack", "-pack"]
    assert participants.books.effects[saga.saga_id] == ["reserve", "-reserve"]


async def test_a_completed_child_is_undone_from_its_log(family: Engine, participants: Participants) -> None:
    participants.on("bill", refusing())
    saga = await family.run("parent", input={"order": 3})
    child = await child_of(family, saga.saga_id)
    assert saga.status is COMPENSATED
    assert (await family.saga(child)).status is COMPENSATED
    assert participants.books.effects[child] == ["pack", "hand_over", "-hand_over", "-pack"]
    assert any(isinstance(entry, SagaRecalled) for entry in await family.entries(child))


@pytest.mark.parametrize(("mark", "end"), [("read_only", COMPENSATED), ("irreversible", NEEDS_ATTENTION)])
async def test_a_completed_child_of_which_nothing_can_be_undone_is_shown_as_what_it_is_at_once(
    engine: Engine, participants: Participants, mark: str, end: SagaStatus
) -> None:
    await engine.register(a_definition(a_step("pack", "inventory", **{mark: True}), name="parcel"))
    await engine.register(PARENT)
    participants.on("bill", refusing())
    saga_id = await engine.start("parent", input={"order": 8})

    async def is_shown() -> bool:
        child = await engine.coordinator.id_of(DEFAULT_NAMESPACE, f"{saga_id}/parcel/action")
        return child is not None and (await engine.saga(child)).status is end

    await eventually(is_shown, f"the child to be {end}")


async def test_cancelling_the_parent_undoes_a_running_child(
    family: Engine, participants: Participants
) -> None:
    gate = Gate()
    participants.on("hand_over", gate)
    saga_id = await family.start("parent", input={"order": 4})

    async def is_at_work() -> bool:
        return bool(gate.waiting)

    await eventually(is_at_work, "the child to be at work")
    await family.cancel(saga_id, "changed their mind", "ann")
    gate.open()
    saga = await family.settled(saga_id)
    child = await family.settled(await child_of(family, saga_id))
    assert (saga.status, child.status) == (COMPENSATED, COMPENSATED)
    assert child.failure is not None
    assert child.failure.code == "PARENT_FAILED"
    assert participants.books.standing(child.saga_id) == []


async def test_a_child_that_cannot_go_back_leaves_its_step_to_a_person(
    engine: Engine, participants: Participants
) -> None:
    pivot = a_definition(a_step("pack", "inventory", pivot=True), name="parcel")
    await engine.register(pivot)
    await engine.register(PARENT)
    participants.on("bill", refusing())
    saga = await engine.run("parent", input={"order": 5})
    assert saga.status is NEEDS_ATTENTION
    assert saga.remaining == ("reserve", "parcel")


async def test_the_deadline_reaches_the_child(engine: Engine, participants: Participants) -> None:
    await engine.register(ORDER_CHILD)
    await engine.register(PARENT)
    participants.on("hand_over", unknown())
    saga_id = await engine.start("parent", input={"order": 6}, deadline_seconds=36_000)
    await engine.settled(saga_id)
    parent, child = (
        await engine.saga(saga_id),
        await engine.saga(await child_of(engine, saga_id)),
    )
    assert parent.deadline_at is not None
    assert child.deadline_at is not None
    assert abs((parent.deadline_at - child.deadline_at).total_seconds()) < PATIENCE_SECONDS


async def test_a_parent_finds_out_by_itself_what_became_of_a_child_that_could_not_tell(
    family: Engine, participants: Participants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family.coordinator._children, "child_settled", lambda run: None)
    assert (await family.run("parent", input={"order": 7})).status is COMPLETED


async def test_items_of_a_list_are_undone_one_by_one(engine: Engine, participants: Participants) -> None:
    transfer = a_step("transfer", "payments", action={"input": {"to": "${person}"}})
    pay = {
        "name": "pay",
        "for_each": {"items": "input.people", "as": "person", "steps": [transfer], "max_parallel": 2},
    }
    await engine.register(
        a_definition(
            pay, a_step("report", "shipping"), name="payroll", output={"paid": "${steps.pay.output}"}
        ),
    )
    participants.on("report", refusing())
    saga = await engine.run("payroll", input={"people": ["ann", "bob", "cid"]})
    assert saga.status is COMPENSATED
    effects = participants.books.effects[saga.saga_id]
    assert sorted(effects) == sorted(f"{sign}pay[{i}].transfer" for i in range(3) for sign in ("", "-"))


async def test_the_output_of_a_saga(engine: Engine, participants: Participants) -> None:
    participants.on("a", Succeeded({"n": 2}))
    await engine.register(
        a_definition(
            a_step("a", "inventory"),
            name="double",
            output="${steps.a.output.n * 2}",
            labels={"who": "${input.who}"},
        ),
    )
    saga = await engine.run("double", input={"who": "ann"})
    assert (await engine.coordinator.state_of(saga.saga_id)).output == 4
    assert saga.labels == {"who": "ann"}
