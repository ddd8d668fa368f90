"""An event loop that is blocked, and the lease in a real database."""

from __future__ import annotations

import threading
import time

import psycopg

from saga_coordinator.saga.machine.transitions import SagaStatus
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, StartEngine
from tests.integration.engine.participants import Participants

COMPLETED = SagaStatus.COMPLETED
WHOLE = ["reserve", "charge", "ship"]


def block_while(condition: threading.Event, seconds_max: float = 60.0) -> None:
    """The event loop does not turn until the condition is set by another thread."""
    assert condition.wait(seconds_max)


class Witness:
    """Looks at the lease from outside, in a thread of its own, while the event loop is blocked."""

    def __init__(self, dsn: str, coordinator_id: str) -> None:
        self._dsn = dsn
        self._coordinator_id = coordinator_id

    def left_seconds(self) -> float:
        """How long the lease lasts, by the database's clock."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            row = connection.execute(
                "SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 FROM saga.coordinators "
                "WHERE coordinator_id = %s",
                [self._coordinator_id],
            ).fetchone()
        assert row is not None
        return float(row[0])


def watched(witness: Witness, until: float, enough: threading.Event) -> list[float]:
    """What the witness sees until the lease is over or so many seconds have passed; then the loop may turn."""
    seen: list[float] = []

    def watch() -> None:
        end_at = time.monotonic() + until
        while time.monotonic() < end_at and (not seen or seen[-1] > 0):
            seen.append(witness.left_seconds())
            time.sleep(0.05)  # the event loop stands still, so nothing can tell this thread of a change
        enough.set()

    threading.Thread(target=watch, daemon=True).start()
    return seen


async def test_a_loop_that_is_blocked_for_longer_than_a_lease_keeps_it(
    start_engine: StartEngine, participants: Participants, database_dsn: str
) -> None:
    engine: Engine = await start_engine(lease_seconds=3.0)
    saga_id, gate = await engine.halted_at("charge")
    enough = threading.Event()
    seen = watched(Witness(database_dsn, engine.coordinator_id), 4.0, enough)
    block_while(enough)
    assert min(seen) > 0
    assert engine.coordinator._lease.may_act
    assert engine.coordinator._lease.term == 1
    gate.open()
    assert (await engine.settled(saga_id)).status is COMPLETED
    assert participants.books.effects[saga_id] == WHOLE
    assert "saga_adopted" not in await engine.story(saga_id)


async def test_a_loop_that_stands_still_loses_its_sagas_and_acts_on_none_of_them_when_it_turns_again(
    start_engine: StartEngine, participants: Participants, database_dsn: str
) -> None:
    engine: Engine = await start_engine(lease_seconds=0.5)
    saga_id, _ = await engine.halted_at("charge")
    seen_by_review: list[bool] = []
    reconcile = engine.coordinator._claiming.reconcile

    async def review() -> None:
        seen_by_review.append(engine.coordinator._lease.may_act)
        await reconcile()

    engine.coordinator._keeper._on_regained = review
    enough = threading.Event()
    seen = watched(Witness(database_dsn, engine.coordinator_id), 60.0, enough)
    block_while(enough)
    assert seen[-1] <= 0
    assert not engine.coordinator._lease.may_act
    with psycopg.connect(database_dsn, autocommit=True) as connection:  # somebody has taken it meanwhile
        connection.execute("UPDATE saga.sagas SET owner = NULL, wake_at = now() + interval '1 hour'")
    await eventually(lambda: engine.coordinator._lease.may_act, "the lease to be regained")
    assert seen_by_review[0] is False
    assert engine.coordinator._lease.term > 1
    assert saga_id not in engine.drives
