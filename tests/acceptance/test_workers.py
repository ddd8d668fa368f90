"""Workers: participants that dial the real program and take their tasks from a stream."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from saga_client.worker import Pending, Refused, Task, Worker

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2, worker_service_pb2
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import RegisterDefinitionRequest
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub
from saga_coordinator.pb.saga.v1.saga_service_pb2_grpc import SagaServiceStub
from saga_coordinator.pb.saga.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.acceptance.conftest import Serving, StartServing

PATIENCE_SECONDS = 30.0


@pytest.fixture
def workers_file(tmp_path: Path) -> Path:
    file = tmp_path / "participants.yaml"
    file.write_text("participants: {shop: {worker: true}, bank: {target: '127.0.0.1:1'}}")
    return file


@pytest.fixture
def coordinator(serving: StartServing, workers_file: Path) -> Serving:
    return serving("--participants", str(workers_file))


class Customer:
    """Starts sagas and looks at them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._definitions: Any = DefinitionServiceStub(channel)
        self.sagas: Any = SagaServiceStub(channel)
        self._keys = 0

    async def register(self, name: str, *methods: str, **operation: Any) -> None:
        """A definition with a step for each method; all are undone by `undo`."""
        steps = [
            {
                "name": f"step_{number}",
                "action": {"participant": "shop", "method": method, **operation},
                "compensation": {"participant": "shop", "method": "undo"},
            }
            for number, method in enumerate(methods)
        ]
        definition = ParseDict({"name": name, "steps": steps}, Definition())
        await self._definitions.RegisterDefinition(
            RegisterDefinitionRequest(definition=definition), timeout=PATIENCE_SECONDS
        )

    async def run(self, name: str, *, wait: bool = True, **fields: Any) -> saga_pb2.Saga:
        """Starts a saga with the input `fields`; as it is in the end, or at first."""
        self._keys += 1
        request = saga_service_pb2.StartSagaRequest(
            definition=name, start_key=f"{name} {self._keys}", input=ParseDict(fields, Value()), wait=wait
        )
        started = await self.sagas.StartSaga(request, timeout=PATIENCE_SECONDS)
        return started.saga  # type: ignore[no-any-return]

    async def settled(self, saga_id: str) -> saga_pb2.Saga:
        answer = await self.sagas.WaitSaga(
            saga_service_pb2.WaitSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS
        )
        return answer.saga  # type: ignore[no-any-return]

    async def log(self, saga_id: str) -> list[str]:
        """The log, one short line an entry."""
        request = saga_service_pb2.GetSagaRequest(saga_id=saga_id, include_log=True)
        answer = await self.sagas.GetSaga(request, timeout=PATIENCE_SECONDS)
        return [f"{entry.type} {entry.step} {entry.attempt}".rstrip(" 0") for entry in answer.log]


def outputs(saga: saga_pb2.Saga) -> list[Any]:
    return [MessageToDict(step)["output"] for step in saga.steps]


@pytest.fixture
async def customer(coordinator: Serving) -> AsyncIterator[Customer]:
    async with grpc.aio.insecure_channel(coordinator.address) as channel:
        yield Customer(channel)


class Shop:
    """A worker whose methods behave as they are called, and that keeps what it was asked."""

    def __init__(self, address: str, **more: Any) -> None:
        self.tasks: asyncio.Queue[Task] = asyncio.Queue()
        self.may_answer = asyncio.Event()
        self.worker = Worker(address, "shop", **more)
        for method in (self.take, self.refuse, self.later, self.hang, self.crash, self.undo):
            self.worker.method(method.__name__)(self._kept(method))

    def _kept(self, method: Callable[[Task], Awaitable[Any]]) -> Callable[[Task], Awaitable[Any]]:
        async def keep(task: Task) -> Any:
            self.tasks.put_nowait(task)
            return await method(task)

        return keep

    async def next_task(self) -> Task:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.tasks.get()

    async def take(self, task: Task) -> Any:
        return {"took": task.input}

    async def refuse(self, task: Task) -> None:
        raise Refused("sold out", "OUT_OF_RANGE")

    async def later(self, task: Task) -> None:
        raise Pending

    async def hang(self, task: Task) -> str:
        await self.may_answer.wait()
        return "at last"

    async def crash(self, task: Task) -> None:
        raise ValueError("a defect")

    async def undo(self, task: Task) -> None:
        return None


OpenShop = Callable[..., Awaitable[Shop]]


@pytest.fixture
async def open_shop(coordinator: Serving) -> AsyncIterator[OpenShop]:
    """Connects workers, until the test's end."""
    running: list[tuple[Shop, asyncio.Task[None]]] = []

    async def connect(address: str = "", **more: Any) -> Shop:
        shop = Shop(address or coordinator.address, **more)
        running.append((shop, asyncio.create_task(shop.worker.run())))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await shop.worker.connected.wait()
        return shop

    yield connect
    for shop, run in running:
        shop.may_answer.set()
        await shop.worker.stop()
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


async def test_a_worker_performs_the_steps_of_a_saga(customer: Customer, open_shop: OpenShop) -> None:
    shop = await open_shop()
    await customer.register("order", "take", "take")
    saga = await customer.run("order", number=7, lines=[{"sku": "A", "amount": 1.5}, None, True])
    assert saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    asked = await customer.settled(saga.saga_id)
    given = {"number": 7, "lines": [{"sku": "A", "amount": 1.5}, None, True]}
    assert outputs(asked) == [{"took": given}, {"took": given}]
    task = await shop.next_task()
    assert task.message.saga_id == saga.saga_id
    assert (task.message.step, task.message.attempt, task.is_compensation) == ("step_0", 1, False)
    assert task.idempotency_key == f"{saga.saga_id}/step_0/action"
    assert 0 < task.timeout_seconds <= 10


async def test_a_refusal_is_compensated_and_says_why(customer: Customer, open_shop: OpenShop) -> None:
    shop = await open_shop()
    await customer.register("order", "take", "refuse")
    saga = await customer.run("order")
    assert saga.status == saga_pb2.SAGA_STATUS_COMPENSATED
    assert (saga.failure.code, saga.failure.message) == ("OUT_OF_RANGE", "sold out")
    first, _, undo = [await shop.next_task() for _ in range(3)]
    assert undo.is_compensation
    assert undo.action_idempotency_key == first.idempotency_key != undo.idempotency_key
    assert (undo.message.failure.code, undo.message.failure.step) == ("OUT_OF_RANGE", "step_1")


async def test_a_handler_that_fails_leaves_it_unknown_and_is_asked_again(
    customer: Customer, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    await customer.register("order", "crash", retry={"maxAttempts": 2, "initialBackoff": "0.01s"})
    saga = await customer.run("order")
    assert saga.status == saga_pb2.SAGA_STATUS_COMPENSATED, "what may have happened is undone"
    assert (saga.failure.code, saga.failure.message) == ("UNKNOWN", "ValueError: a defect")
    first, second = [await shop.next_task() for _ in range(2)]
    assert first.idempotency_key == second.idempotency_key
    assert [first.message.attempt, second.message.attempt] == [1, 2]


async def test_a_pending_task_waits_for_its_report_and_keeps_no_credit(
    customer: Customer, open_shop: OpenShop
) -> None:
    shop = await open_shop(credits=1)
    await customer.register("order", "later", "take")
    waiting = await customer.run("order", wait=False)
    task = await shop.next_task()
    await customer.register("other", "take")
    assert (await customer.run("other")).status == saga_pb2.SAGA_STATUS_COMPLETED
    report = saga_service_pb2.ReportOutcomeRequest(
        saga_id=waiting.saga_id, step=task.message.step, operation=saga_pb2.OPERATION_KIND_ACTION
    )
    report.succeeded.string_value = "done"
    await customer.sagas.ReportOutcome(report, timeout=PATIENCE_SECONDS)
    saga = await customer.settled(waiting.saga_id)
    assert saga.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert outputs(saga)[0] == "done"


async def test_two_workers_share_the_tasks(customer: Customer, open_shop: OpenShop) -> None:
    shops = [await open_shop(credits=2), await open_shop(credits=2)]
    await customer.register("order", "hang")
    sagas = [await customer.run("order", wait=False) for _ in range(4)]
    keys = {(await shop.next_task()).idempotency_key for shop in shops for _ in range(2)}
    assert len(keys) == 4
    for shop in shops:
        shop.may_answer.set()
    for saga in sagas:
        assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED


async def test_no_more_tasks_come_than_there_are_credits(customer: Customer, open_shop: OpenShop) -> None:
    shop = await open_shop(credits=2)
    await customer.register("order", "hang")
    sagas = [await customer.run("order", wait=False) for _ in range(3)]
    for _ in range(2):
        await shop.next_task()
    with pytest.raises(asyncio.QueueEmpty):
        shop.tasks.get_nowait()
    shop.may_answer.set()
    await shop.next_task()
    for saga in sagas:
        assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
