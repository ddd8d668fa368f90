"""Sagas whose COMMIT fails, at their start and half way: nobody is told what is not there, and no entry is missing."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from saga_coordinator.saga.machine.transitions import SagaStatus
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, Query, StartEngine
from tests.integration.engine.participants import Gate, Participants, refusing

FAILING = """
CREATE FUNCTION saga.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not write to file: No space left on device' USING ERRCODE = '{code}';
END $$;
CREATE CONSTRAINT TRIGGER failing AFTER INSERT ON saga.{table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION saga.fail();
"""
MENDED = "DROP FUNCTION saga.fail CASCADE"


async def has_no_gap(query: Query, saga_id: str) -> bool:
    rows = await query("SELECT sequence FROM saga.log WHERE saga_id = %s ORDER BY 1", saga_id)
    return [row[0] for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("code", ["53100", "40001"])
@pytest.mark.parametrize("is_undone", [False, True], ids=["completes", "is undone"])
async def test_p7_a_commit_that_fails_in_mid_saga_leaves_no_gap(
    code: str, is_undone: bool, engine: Engine, participants: Participants, query: Query
) -> None:
    gate = Gate()
    participants.on("charge", gate)
    if is_undone:
        participants.on("ship", refusing())
    saga_id = await engine.start()
    await eventually(lambda: gate.waiting, "the call")
    await query(FAILING.format(code=code, table="log", when="NEW.step = 'charge'"))
    gate.open()
    await eventually(lambda: not engine.coordinator._journal.is_available, "the commit to fail")
    assert not participants.calls("ship"), "called before the outcome that it follows from was committed (P6)"
    await query(MENDED)
    settled = await engine.settled(saga_id)
    assert settled.status is (SagaStatus.COMPENSATED if is_undone else SagaStatus.COMPLETED)
    assert await has_no_gap(query, saga_id)
    assert set(participants.books.applied.values()) == {1}


async def test_a_commit_that_is_refused_for_one_saga_keeps_no_other(
    start_engine: StartEngine, participants: Participants, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No outage: its turn comes again, and until then its row is as it was."""
    monkeypatch.setattr("saga_coordinator.engine.claiming.STUCK_SECONDS", 0.2)
    engine = await start_engine()
    stuck, gate = await engine.halted_at("charge")
    await query(FAILING.format(code="P0001", table="log", when=f"NEW.saga_id = '{stuck}'"))
    gate.open()
    others = await asyncio.gather(*(engine.start() for _ in range(8)))
    for saga_id in others:
        assert (await engine.settled(saga_id)).status is SagaStatus.COMPLETED
    await eventually(partial(_is_let_go, engine, stuck), "the saga to be let go")
    assert await has_no_gap(query, stuck)
    await query(MENDED)
    assert (await engine.settled(stuck)).status is SagaStatus.COMPLETED
    assert await has_no_gap(query, stuck)
    assert set(participants.books.applied.values()) == {1}


async def _is_let_go(engine: Engine, saga_id: str) -> bool:
    return (await engine.saga(saga_id)).owner is None
