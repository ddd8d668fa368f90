"""What is read of the database to answer a request about one saga: its log only where nothing else can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from saga_coordinator.api.caller import Caller
from saga_coordinator.api.saga_service import SagaService
from saga_coordinator.control.sagas import SagaActs
from saga_coordinator.engine import advance
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.saga.words.errors import NotPossibleNow
from saga_coordinator.saga.words.outcome import Pending
from saga_coordinator.store.acts import ActRows
from saga_coordinator.store.lists import Lists
from saga_coordinator.views.saga_views import SagaViews
from tests.integration.engine.conftest import Engine, Query, a_definition, a_step
from tests.integration.engine.participants import Participants
from tests.integration.engine.test_waiting import sleeps, waits

CALLER = Caller()
READS = {
    "SELECT saga.sagas.status": "status",
    "SELECT saga.sagas": "row",
    "UPDATE saga.sagas": "claim",
    "FROM saga.log": "log",
}


class Statements:
    """What is read about one saga, in the order in which it is read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.database._engine.sync_engine

    @contextmanager
    def about(self, saga_id: str) -> Iterator[list[str]]:
        found: list[str] = []

        def executing(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            if saga_id in str(parameters):
                text = " ".join(statement.split())
                found.append(next((what for words, what in READS.items() if words in text), text))

        event.listen(self._engine, "before_cursor_execute", executing)
        try:
            yield found
        finally:
            event.remove(self._engine, "before_cursor_execute", executing)


@pytest.fixture
def statements(engine: Engine) -> Statements:
    return Statements(engine)


@pytest.fixture
def service(engine: Engine) -> SagaService:
    lists = Lists(engine.database)
    return SagaService(
        engine.coordinator,
        SagaActs(engine.coordinator, ActRows(engine.database)),
        SagaViews(engine.catalog.runnable, engine.sagas),
        engine.sagas,
        lists,
        payload_bytes_max=1024,
    )


@pytest.fixture
async def pending(engine: Engine, participants: Participants) -> str:
    """A saga whose two steps end when their outcomes are reported."""
    until = {"pending_timeout": "3600s", "heartbeat_timeout": "3600s"}
    steps = (a_step("charge", "payments", action=until), a_step("ship", "shipping", action=until))
    await engine.register(a_definition(*steps, name="pending"))
    participants.on("charge", Pending())
    participants.on("ship", Pending())
    saga_id = await engine.start("pending")
    await waits(engine, saga_id, "charge")
    return saga_id


@pytest.fixture
def nothing_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advance, "SLEEP_AFTER_SECONDS", math.inf)


def report(saga_id: str, step: str = "charge") -> pb.ReportOutcomeRequest:
    return pb.ReportOutcomeRequest(
        saga_id=saga_id, step=step, operation=saga_pb2.OPERATION_KIND_ACTION, success=saga_pb2.Success()
    )


def cancel(saga_id: str) -> pb.CancelSagaRequest:
    return pb.CancelSagaRequest(saga_id=saga_id, reason="changed my mind")


async def same_as_stored(service: SagaService, saga: saga_pb2.Saga) -> None:
    """Nobody else is told anything else."""
    stored = (await service.GetSaga(pb.GetSagaRequest(saga_id=saga.saga_id), CALLER)).saga
    assert saga == stored


@pytest.mark.usefixtures("nothing_sleeps")
async def test_a_saga_in_memory_answers_without_reading_anything(
    engine: Engine, service: SagaService, pending: str, statements: Statements
) -> None:
    with statements.about(pending) as read:
        beat = pb.HeartbeatRequest(saga_id=pending, step="charge", operation=saga_pb2.OPERATION_KIND_ACTION)
        beaten = await service.Heartbeat(beat, CALLER)
        reported = await service.ReportOutcome(report(pending), CALLER)
        again = await service.ReportOutcome(report(pending), CALLER)
        cancelled = await service.CancelSaga(cancel(pending), CALLER)
    assert read == []
    assert beaten.timeout.seconds == 3600
    assert (reported.result, again.result) == (pb.REPORT_RESULT_APPLIED, pb.REPORT_RESULT_REPEATED)
    assert again.saga.owner == engine.coordinator_id
    assert cancelled.saga.failure.code == "CANCELLED"


@pytest.mark.usefixtures("nothing_sleeps")
async def test_a_report_that_ends_its_saga_is_answered_from_memory(
    engine: Engine, service: SagaService, pending: str, statements: Statements
) -> None:
    await service.ReportOutcome(report(pending), CALLER)
    await waits(engine, pending, "ship")
    with statements.about(pending) as read:
        ended = await service.ReportOutcome(report(pending, "ship"), CALLER)
    assert read == []
    assert ended.saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    await same_as_stored(service, ended.saga)


async def test_the_log_of_a_sleeping_saga_is_read_once_also_when_it_falls_asleep_again(
    engine: Engine, service: SagaService, pending: str, statements: Statements, query: Query
) -> None:
    await sleeps(query, pending)
    with statements.about(pending) as read:
        await service.ReportOutcome(report(pending), CALLER)
    assert read == ["claim", "log"]
    await waits(engine, pending, "ship")
    await sleeps(query, pending)
    with statements.about(pending) as read:
        again = await service.ReportOutcome(report(pending), CALLER)
    assert read == ["claim", "log"]
    assert again.result == pb.REPORT_RESULT_REPEATED
    await same_as_stored(service, again.saga)


async def test_the_log_of_an_ended_saga_is_read_once_at_most_and_not_to_refuse_a_cancellation(
    engine: Engine, service: SagaService, pending: str, statements: Statements
) -> None:
    await service.ReportOutcome(report(pending), CALLER)
    await waits(engine, pending, "ship")
    await service.ReportOutcome(report(pending, "ship"), CALLER)
    await engine.settled(pending)
    with statements.about(pending) as read, pytest.raises(NotPossibleNow, match="nothing left to cancel"):
        await service.CancelSaga(cancel(pending), CALLER)
    assert read == ["claim", "status"]
    with statements.about(pending) as read:
        again = await service.ReportOutcome(report(pending), CALLER)
    assert read == ["claim", "status", "log", "row"]
    assert again.result == pb.REPORT_RESULT_REPEATED
    await same_as_stored(service, again.saga)
