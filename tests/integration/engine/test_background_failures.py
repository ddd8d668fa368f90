"""Errors that are no outage meet what runs in the background: it goes on when they have passed, and says what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from saga_coordinator.engine.runs import Run
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.records import Event
from tests.eventually import eventually
from tests.integration.engine.conftest import Query, StartEngine

COMPLETED = SagaStatus.COMPLETED

FAIL = """
    CREATE FUNCTION saga.fail() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{code}'; END $$;
    CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON saga.{table} FOR EACH ROW EXECUTE FUNCTION saga.fail()
"""


async def fail(query: Query, table: str, code: str) -> Callable[[], Any]:
    """Has every write to the table fail with the code, until what is returned is called."""
    if code == "42P01":
        await query(f"ALTER TABLE saga.{table} RENAME TO gone")
        return lambda: query(f"ALTER TABLE saga.gone RENAME TO {table}")
    await query(FAIL.format(table=table, code=code))
    return lambda: query(f"DROP TRIGGER fail ON saga.{table}")


@pytest.mark.parametrize("code", ["XX000", "42501", "42P01", "54000"])
async def test_a_lease_outlives_errors_that_are_no_outage(
    code: str, start_engine: StartEngine, query: Query
) -> None:
    engine = await start_engine(lease_seconds=0.5)
    heal = await fail(query, "coordinators", code)
    with capture_logs() as logs:
        # The former alone would do but for busy machines, which may let a lease run out before its renewal has failed.
        await eventually(
            lambda: (
                not engine.coordinator._lease.may_act
                and "lease_not_renewed" in {line["event"] for line in logs}
            ),
            "the lease to be over, and said to be",
        )
    assert not engine.coordinator.is_accepting
    said = "gone" if code == "42P01" else "injected"
    assert any(
        ("lease has run out" in problem and (said in problem or "does not exist" in problem))
        for problem in engine.coordinator.problems
    )
    with pytest.raises(Unavailable, match="lease has run out") as refused:
        await engine.start_at_once()
    assert "cannot reach" not in str(refused.value)
    await heal()
    await eventually(lambda: engine.coordinator.is_accepting, "starts to be taken again")
    assert (await engine.run()).status is COMPLETED


async def test_a_look_for_work_outlives_them_too(start_engine: StartEngine, query: Query) -> None:
    engine = await start_engine(poll_seconds=0.05)
    with capture_logs() as logs:
        heal = await fail(query, "requests", "42P01")
        await eventually(lambda: list(engine.coordinator._mailbox.problems), "the failure to be told")
    failed = [line for line in logs if line["event"] == "background_failed"]
    assert {line["task"] for line in failed} == {"mail"}
    await heal()
    await eventually(lambda: engine.coordinator.is_accepting, "starts to be taken again")
    assert (await engine.run()).status is COMPLETED


async def test_requests_are_heard_of_again_after_a_failure(start_engine: StartEngine) -> None:
    engine = await start_engine()
    mailbox, failures = engine.coordinator._mailbox, 1
    listen, heard = mailbox._listener.listen, False

    async def fail_once(owner: str, on_request: Callable[[], None]) -> None:
        nonlocal failures, heard
        failures -= 1
        if failures >= 0:
            raise PermissionError("no such privilege") from ValueError("which is no outage")
        heard = True
        await listen(owner, on_request)

    await mailbox.stop()
    setattr(mailbox._listener, "listen", fail_once)  # noqa: B010
    with capture_logs() as logs:
        await mailbox.start()
        await eventually(lambda: heard, "it to listen again")
    assert [line["task"] for line in logs if line["event"] == "background_failed"] == [
        "listening for letters"
    ]


async def test_a_saga_that_cannot_be_put_to_rest_does_not_stay_in_memory(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await start_engine(poll_seconds=0.05)
    saga_id = (await engine.run()).saga_id
    put_to_rest, failures = engine.coordinator._advance.put_to_rest, 1

    async def fail_once(run: Run) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RuntimeError("injected")
        await put_to_rest(run)

    monkeypatch.setattr(engine.coordinator._advance, "put_to_rest", fail_once)
    state = await engine.coordinator.state_of(saga_id)
    registered = await engine.stores.definitions.get(DEFAULT_NAMESPACE, "order", 1)
    engine.coordinator._drive.adopt(Run(saga_id, DEFAULT_NAMESPACE, registered.definition, state), None)
    assert saga_id in engine.drives
    await eventually(lambda: saga_id not in engine.drives, "the saga to be let go")
    assert failures < 1


AWAITING = {
    "name": "awaiting",
    "steps": [
        {
            "name": "paid",
            "await_event": {
                "event": "payment.received",
                "correlation": "${input.order}",
                "look_back": "3600s",
            },
        }
    ],
}


async def test_an_event_that_could_not_be_looked_for_is_looked_for_again(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await start_engine(poll_seconds=0.05)
    await engine.register(AWAITING)
    monkeypatch.setattr("saga_coordinator.engine.claiming.STUCK_SECONDS", 0.1)
    await engine.publish(Event("e1", "payment.received", "o1", {"paid": 5}))
    look, failures = engine.coordinator._awaited.look, 1

    async def fail_once(wanted: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RuntimeError("injected")
        return await look(wanted)

    monkeypatch.setattr(engine.coordinator._awaited, "look", fail_once)
    saga_id = await engine.start("awaiting", input={"order": "o1"})
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert failures < 0
