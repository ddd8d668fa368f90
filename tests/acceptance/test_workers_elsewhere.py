"""Workers that are connected to one coordinator perform the sagas of another; those that are nowhere are waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import psycopg
import pytest

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from tests.acceptance.conftest import Program, Serving, StartProgram, StartServing
from tests.acceptance.shop import DONE, Customer, Dialled
from tests.acceptance.test_processes import free_port
from tests.eventually import PATIENCE_SECONDS

WORKERS = 2000
STREAMS_AT_ONCE = 200
StartCoordinator = Callable[[], Serving]


@pytest.fixture
def start_coordinator(serving: StartServing, tmp_path: Path) -> StartCoordinator:
    """Coordinators of one database, for whom the shop dials in."""
    file = tmp_path / "participants.yaml"
    file.write_text("participants: {shop: {worker: true}}")
    return lambda: serving("--participants", str(file))


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    """Opens connections, until the test's end."""
    channels: list[grpc.aio.Channel] = []

    def to(address: str) -> grpc.aio.Channel:
        channels.append(grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]))
        return channels[-1]

    yield to
    for channel in channels:
        await channel.close()


Connect = Callable[[str], grpc.aio.Channel]


async def recorded_by(dsn: str, saga_id: str) -> set[str]:
    """The coordinators that have written to the saga's log."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        query = "SELECT DISTINCT recorded_by::text FROM saga.log WHERE saga_id = %s"
        return {row[0] for row in await (await connection.execute(query, [saga_id])).fetchall()}


@contextlib.asynccontextmanager
async def performing(dialled: Dialled) -> AsyncIterator[None]:
    """The worker performs whatever comes."""

    async def perform() -> None:
        while True:
            await dialled.tell(await dialled.next_task(), succeeded=DONE)

    task = asyncio.create_task(perform())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_sagas_of_one_coordinator_reach_the_workers_of_another(
    start_coordinator: StartCoordinator, connect: Connect, database_dsn: str
) -> None:
    here, there = start_coordinator(), start_coordinator()
    worker = Dialled(connect(there.address))
    its_coordinator = (await worker.greet(credits=10)).coordinator_id
    customer = Customer(connect(here.address))
    await customer.register("order", "take", "refuse")
    saga = await customer.run("order", wait=False)

    first = await worker.next_task()
    assert (first.saga_id, first.step, first.attempt) == (saga.saga_id, "step_0", 1)
    assert 0 < first.timeout.seconds + first.timeout.nanos / 1e9 <= 10
    await worker.tell(first, succeeded=DONE)
    await worker.tell(
        await worker.next_task(), refused=saga_pb2.Cause(code="OUT_OF_RANGE", message="sold out")
    )
    undo = await worker.next_task()
    assert undo.operation == saga_pb2.OPERATION_KIND_COMPENSATION
    assert undo.action_idempotency_key == first.idempotency_key
    assert undo.failure.message == "sold out"
    await worker.tell(undo, succeeded=DONE)

    finished = await customer.settled(saga.saga_id)
    assert finished.status == saga_pb2.SAGA_STATUS_COMPENSATED
    assert (finished.failure.code, finished.failure.message) == ("OUT_OF_RANGE", "sold out")
    (owner,) = await recorded_by(database_dsn, saga.saga_id)
    assert owner != its_coordinator, "the worker was at another coordinator than the saga"


async def test_a_pending_outcome_comes_through_and_its_report_reaches_the_owner(
    start_coordinator: StartCoordinator, connect: Connect
) -> None:
    here, there = start_coordinator(), start_coordinator()
    worker = Dialled(connect(there.address))
    await worker.greet()
    customer = Customer(connect(here.address))
    await customer.register("order", "later")
    saga = await customer.run("order", wait=False)
    task = await worker.next_task()
    await worker.say(outcomes=[{"task_id": task.task_id, "pending": {}}])
    while "attempt_pending step_0 1" not in await customer.log(saga.saga_id):
        pass
    report = saga_service_pb2.ReportOutcomeRequest(
        saga_id=saga.saga_id, step="step_0", operation=saga_pb2.OPERATION_KIND_ACTION, succeeded=DONE
    )
    await Customer(connect(there.address)).sagas.ReportOutcome(report, timeout=PATIENCE_SECONDS)
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED


async def test_p4_what_was_forwarded_is_unknown_when_the_way_breaks(
    start_coordinator: StartCoordinator, connect: Connect, database_dsn: str
) -> None:
    here, there = start_coordinator(), start_coordinator()
    far = Dialled(connect(there.address))
    await far.greet()
    customer = Customer(connect(here.address))
    await customer.register("order", "take", timeout="2s", retry={"initialBackoff": "0.01s"})
    saga = await customer.run("order", wait=False)
    first = await far.next_task()
    near = Dialled(connect(here.address))
    await near.greet()
    there.kill(database_dsn)
    second = await near.next_task()
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.idempotency_key == second.idempotency_key
    await near.tell(second, succeeded=DONE)
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    assert "attempt_unknown step_0 1" in await customer.log(saga.saga_id)


async def test_an_attempt_that_no_worker_had_room_for_was_none(
    start_coordinator: StartCoordinator, connect: Connect
) -> None:
    """It is held, as often as it takes, and burns no attempt: this operation has but one. Then it goes to where there is room."""
    here, there = start_coordinator(), start_coordinator()
    busy = Dialled(connect(here.address))
    await busy.greet()
    await busy.say(credits=0)
    customer = Customer(connect(here.address))
    await customer.register("order", "take", timeout="0.4s", retry={"maxAttempts": 1})
    saga = await customer.run("order", wait=False)
    while "attempt_held step_0 1" not in await customer.log(saga.saga_id):
        pass
    idle = Dialled(connect(there.address))
    await idle.greet()
    async with performing(idle):
        finished = await customer.settled(saga.saga_id)
    assert finished.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert not any("unknown" in entry for entry in await customer.log(saga.saga_id))


async def test_tasks_that_wait_are_forwarded_once_a_worker_is_there(
    start_coordinator: StartCoordinator, connect: Connect
) -> None:
    here, there = start_coordinator(), start_coordinator()
    customer = Customer(connect(here.address))
    await customer.register("order", "take", timeout="20s")
    saga = await customer.run("order", wait=False)
    while "attempt_started step_0 1" not in await customer.log(saga.saga_id):
        pass
    worker = Dialled(connect(there.address))
    await worker.greet()
    async with performing(worker):
        assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    assert not any("held" in entry for entry in await customer.log(saga.saga_id))


async def test_of_two_processes_each_reaches_the_worker_of_the_other(
    start_program: StartProgram, tmp_path: Path, database_dsn: str, connect: Connect
) -> None:
    file = tmp_path / "participants.yaml"
    file.write_text("participants: {shop: {worker: true}}")
    address = f"127.0.0.1:{free_port()}"
    program: Program = start_program(
        *("serve", "--processes", "2", "--address", address, "--participants", file),
        environment={"SAGA_DATABASE_URL": database_dsn},
    )
    for _ in range(2):
        program.wait_for("serving")
    worker = Dialled(connect(address))
    its_coordinator = (await worker.greet(credits=100)).coordinator_id
    await Customer(connect(address)).register("order", "take", "take")
    owners: set[str] = set()
    async with performing(worker):
        for number in range(200):
            async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                saga = await Customer(channel).run("order", number=number)
            assert saga.status == saga_pb2.SAGA_STATUS_COMPLETED
            owners |= await recorded_by(database_dsn, saga.saga_id)
            if len(owners) == 2:
                break
    assert len(owners) == 2, "all connections went to one of them"
    assert its_coordinator in owners


def test_a_peer_address_cannot_be_shared(start_program: StartProgram, database_dsn: str) -> None:
    arguments: tuple[Any, ...] = ("--address", f"127.0.0.1:{free_port()}", "--peer-address", "127.0.0.1:7243")
    program = start_program(
        "serve", "--processes", "2", *arguments, environment={"SAGA_DATABASE_URL": database_dsn}
    )
    assert program.wait() == 2
    assert program.next_line(program.err) == (
        "error: the peer address 127.0.0.1:7243 cannot be that of several processes: give it port 0, or --processes 1"
    )


async def test_thousands_of_workers_may_dial_in_at_once(
    start_coordinator: StartCoordinator, connect: Connect
) -> None:
    coordinator = start_coordinator()
    process = psutil.Process(coordinator.popen.pid)
    customer = Customer(connect(coordinator.address))
    await customer.register("order", "take", "take")
    await customer.run("order", wait=False)  # what is made on first use is not the streams'
    bytes_before = process.memory_info().rss

    channels = [connect(coordinator.address) for _ in range(WORKERS // STREAMS_AT_ONCE)]
    workers: list[Dialled] = []
    for (
        channel
    ) in channels:  # not all in the same instant: gRPC turns away what comes faster than it is taken
        several = [Dialled(channel) for _ in range(STREAMS_AT_ONCE)]
        await asyncio.gather(*(worker.greet() for worker in several))
        workers += several
    assert (process.memory_info().rss - bytes_before) / WORKERS < 100_000

    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(performing(worker))
        sagas = await asyncio.gather(*(customer.run("order") for _ in range(100)))
    assert {saga.status for saga in sagas} == {saga_pb2.SAGA_STATUS_COMPLETED}
