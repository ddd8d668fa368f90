"""This program on the schema of a later version, as in the midst of an upgrade: what is allowed there does it no harm."""

from __future__ import annotations

import asyncio

from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store import schema
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.sagas import SagaFilter
from tests.eventually import eventually
from tests.integration.engine.conftest import Query, StartEngine
from tests.integration.engine.participants import Gate, Participants, refusing

EXPAND = """
ALTER TABLE saga.sagas ADD COLUMN tenant text;
ALTER TABLE saga.sagas ADD COLUMN priority integer NOT NULL DEFAULT 0;
ALTER TABLE saga.log ADD COLUMN region text DEFAULT 'here';
ALTER TABLE saga.definitions ADD COLUMN retired_at timestamptz;
ALTER TABLE saga.coordinators ADD COLUMN capacity integer NOT NULL DEFAULT 1;
ALTER TABLE saga.requests ADD COLUMN requested_by text;
ALTER TABLE saga.start_keys ADD COLUMN expires_at timestamptz;
CREATE TABLE saga.something_later (saga_id uuid, act_id uuid, body jsonb NOT NULL, PRIMARY KEY (saga_id, act_id));
CREATE INDEX sagas_by_tenant ON saga.sagas (tenant, saga_id) WHERE tenant IS NOT NULL;
ALTER TABLE saga.sagas DROP CONSTRAINT sagas_status_known;
ALTER TABLE saga.sagas ADD CONSTRAINT sagas_status_known CHECK (status IN
    ('RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'NEEDS_ATTENTION', 'ABANDONED', 'ARCHIVED')) NOT VALID;
ALTER TABLE saga.sagas VALIDATE CONSTRAINT sagas_status_known;
UPDATE saga.schema_version SET version_num = '9999';
"""


async def test_this_program_goes_on_when_a_later_version_migrates_under_it(
    database_dsn: str, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    """Its connections have prepared their statements by then, on the tables as they were."""
    running = await start_engine("running")
    for _ in range(8):  # beyond the number of uses at which the driver prepares
        assert (await running.run()).status is SagaStatus.COMPLETED
    in_flight, gate = await running.halted_at("charge")
    for statement in EXPAND.split(";\n"):
        if statement.strip():
            await query(statement)
    gate.open()
    assert (await running.settled(in_flight)).status is SagaStatus.COMPLETED

    await asyncio.to_thread(schema.check, database_dsn)
    started = await start_engine("started")
    participants.on("ship", refusing())
    for engine, other in ((running, started), (started, running)):
        saga = await engine.run()
        assert saga.status is SagaStatus.COMPENSATED
        assert (await other.saga(saga.saga_id)) == saga
        assert await other.sagas.log(saga.saga_id)
    participants.on("ship", held := Gate())
    orphan = await running.start()
    await eventually(lambda: held.waiting, "the call")
    await started.cancel(orphan, "changed my mind", "anna")
    await running.kill()
    held.open()
    assert (await started.settled(orphan)).status is SagaStatus.COMPENSATED
    listed = await Lists(started.database).sagas(
        DEFAULT_NAMESPACE, SagaFilter(), None, 100, lambda page: len(page.items)
    )
    assert listed == 8 + 1 + 2 + 1
    assert set(participants.books.applied.values()) == {1}
