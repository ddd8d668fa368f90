"""A user with no more privileges than docs/postgres.md names is enough to serve."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.store import schema
from tests.integration.engine.conftest import Query, StartEngine
from tests.integration.engine.participants import Participants, refusing

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "postgres.md"


async def test_the_documented_privileges_are_enough(
    database_dsn: str, start_engine: StartEngine, participants: Participants, query: Query
) -> None:
    (grants,) = re.findall(r"```sql\n(GRANT .*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    await query("CREATE ROLE saga_serving LOGIN PASSWORD 'saga'")
    try:
        for grant in grants.strip().split(";\n"):
            await query(grant)
        dsn = f"postgresql://saga_serving:saga@{database_dsn.rpartition('@')[2]}"
        await asyncio.to_thread(schema.check, dsn)
        here, there = await start_engine("here", dsn=dsn), await start_engine("there", dsn=dsn)
        assert (await here.run()).status is SagaStatus.COMPLETED
        participants.on("ship", refusing())
        assert (await here.run()).status is SagaStatus.COMPENSATED
        participants.on("charge", _forever)
        saga_id = await here.start()
        await there.cancel(saga_id, "changed my mind", "anna")
        await here.stores.ownership.tidy()  # what it does once in a while
        await here.stores.mail.delete_abandoned()
        for engine in (here, there):
            await engine.stop(0)
    finally:
        await query("DROP OWNED BY saga_serving")
        await query("DROP ROLE saga_serving")


async def _forever(_: object) -> None:
    await asyncio.Event().wait()
