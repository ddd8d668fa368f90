"""The database goes away under running sagas: nothing accepted is lost, nothing new is accepted, and nobody dies of it."""

from __future__ import annotations

import asyncio
import random

import pytest

from saga_coordinator.engine import coordinator
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store import journal
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.engine.conftest import Engine, Query, StartEngine
from tests.integration.engine.participants import Gate, Participants
from tests.integration.proxy import Proxy, answers_append

COMPLETED = SagaStatus.COMPLETED
WHOLE = ["reserve", "charge", "ship"]


@pytest.fixture
async def engine(start_engine: StartEngine, proxy: Proxy) -> Engine:
    """One whose way to the database can fail."""
    return await start_engine(dsn=proxy.dsn, lease_seconds=3.0)


async def test_p1_what_was_accepted_survives_an_outage_longer_than_the_lease(
    engine: Engine, proxy: Proxy, participants: Participants
) -> None:
    gates = {step: Gate() for step in WHOLE}
    for step, gate in gates.items():
        participants.on(step, gate)
    sagas = [await engine.start() for _ in range(5)]
    await eventually(lambda: len(gates["reserve"].waiting) == 5, "the reservations to be in flight")
    await proxy.shut()
    gates["reserve"].open()
    await eventually(lambda: not engine.coordinator.is_accepting, "the outage to be noticed")
    with pytest.raises(Unavailable):
        await engine.start_at_once()
    await eventually(lambda: not engine.coordinator._lease.may_act, "the lease to be over")
    assert not participants.calls("charge")
    with pytest.raises(Unavailable):
        await engine.start_at_once()
    proxy.open()
    for gate in gates.values():
        gate.open()
    for saga_id in sagas:
        assert (await engine.settled(saga_id)).status is COMPLETED
        assert participants.books.effects[saga_id] == WHOLE
        assert "attempt_unknown" not in " ".join(await engine.story(saga_id))
    assert set(participants.books.applied.values()) == {1}
    await eventually(lambda: engine.coordinator.is_accepting, "starts to be taken again")
    assert (await engine.run()).status is COMPLETED


async def test_p1_a_start_in_doubt_is_driven_if_it_was_committed(
    engine: Engine, proxy: Proxy, participants: Participants
) -> None:
    request = StartSaga("order", "order 7", input={"n": 1})
    await engine.catalog.runnable.get(DEFAULT_NAMESPACE, "order")
    starting = asyncio.create_task(engine.coordinator.start_saga(request))
    await proxy.cut_and_shut_instead_of_answer(answers_append)
    with pytest.raises(Unavailable):
        await starting
    proxy.open()
    await eventually(lambda: participants.calls("ship"), "the saga to be driven, though nobody asks")
    await eventually(lambda: engine.coordinator.is_accepting, "starts to be taken again")
    saga_id, is_new = await engine.coordinator.start_saga(request)
    assert not is_new
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE


async def test_p1_an_outcome_in_doubt_is_applied_once(
    engine: Engine, proxy: Proxy, participants: Participants
) -> None:
    saga_id, gate = await engine.halted_at("charge")
    proxy.cut_instead_of_answer(answers_append)
    gate.open()
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert proxy.cuts == 1
    assert participants.books.effects[saga_id] == WHOLE
    assert len(await engine.story(saga_id)) == len(set(await engine.story(saga_id)))


async def test_p1_a_claim_in_doubt_is_not_forgotten(
    engine: Engine, proxy: Proxy, participants: Participants, query: Query
) -> None:
    """It was committed, so nobody else will claim the saga, but who has it never heard of that."""
    saga_id, gate = await engine.halted_at("charge")
    await engine.coordinator._claiming.stop()
    engine.coordinator._drive.drop_all()
    await query("UPDATE saga.sagas SET owner = NULL, wake_at = now()")
    proxy.cut_instead_of_answer(lambda answer: saga_id.encode() in answer)
    await engine.coordinator._claiming.start()
    await eventually(lambda: proxy.cuts, "the claim's answer to be lost")
    gate.open()
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE


@pytest.mark.parametrize("seed", [1, 2])
async def test_p1_an_outage_at_any_moment_loses_nothing(
    seed: int, start_engine: StartEngine, proxy: Proxy, participants: Participants
) -> None:
    engine = await start_engine(dsn=proxy.dsn)
    dice = random.Random(seed)
    accepted: list[str] = []
    is_over = False

    async def start_many(name: str) -> None:
        number = 0
        while not is_over:
            number += 1
            accepted.append(await engine.start(key=f"{name} {number}"))
            await engine.coordinator.wait(accepted[-1], 0.01)

    clients = [asyncio.create_task(start_many(f"client {n}")) for n in range(4)]
    for outage in range(1, 6):
        wanted = 6 * outage + dice.randrange(6)
        await eventually(lambda: len(accepted) >= wanted, "sagas to be accepted")  # noqa: B023
        if outage % 2:
            await proxy.cut_and_shut_instead_of_answer(answers_append)
        else:
            await proxy.shut()
        if outage % 3 == 0:
            await eventually(lambda: not engine.coordinator.is_accepting, "the outage to be noticed")
        proxy.open()
    is_over = True
    await asyncio.gather(*clients)
    for saga_id in accepted:
        assert (await engine.settled(saga_id)).status is COMPLETED
        assert participants.books.effects[saga_id] == WHOLE
    assert set(participants.books.applied.values()) == {1}
    # What was refused in doubt and never repeated is driven too.
    await eventually(lambda: not engine.drives, "every saga to end")


async def test_a_database_that_hangs_stops_effects_and_nothing_is_lost_when_it_goes_on(
    engine: Engine, proxy: Proxy, participants: Participants
) -> None:
    saga_id, gate = await engine.halted_at("charge")
    proxy.freeze()
    gate.open()
    await eventually(lambda: not engine.coordinator.is_accepting, "the lease to be over")
    with pytest.raises(Unavailable, match="lease has run out"):
        await engine.start_at_once()
    assert not participants.calls("ship")
    proxy.thaw()
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE


@pytest.mark.parametrize("trouble", ["shut", "frozen"])
async def test_a_stop_ends_although_the_database_does_not_answer(
    trouble: str,
    engine: Engine,
    start_engine: StartEngine,
    proxy: Proxy,
    participants: Participants,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "_STOP_SECONDS", 0.5)
    monkeypatch.setattr(coordinator, "_RETIRE_SECONDS", 0.5)
    saga_id, gate = await engine.halted_at("charge")
    if trouble == "shut":
        await proxy.shut()
    else:
        proxy.freeze()
    gate.open()
    engine.is_running = False
    await asyncio.wait_for(engine.coordinator.stop(0.5), PATIENCE_SECONDS)
    await query("UPDATE saga.coordinators SET lease_until = clock_timestamp()")
    other = await start_engine("there")
    assert (await other.settled(saga_id)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE
