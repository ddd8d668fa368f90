"""Those around a coordinator with workers: a customer, a shop that dials in, and a stream held by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from saga_client.worker import Pending, Refused, Task, Worker

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from saga_coordinator.pb.saga.v1 import worker_service_pb2 as pb
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import RegisterDefinitionRequest
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub
from saga_coordinator.pb.saga.v1.saga_service_pb2_grpc import SagaServiceStub
from saga_coordinator.pb.saga.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.eventually import PATIENCE_SECONDS

_numbers = itertools.count(1)


class Customer:
    """Starts sagas and looks at them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._definitions: Any = DefinitionServiceStub(channel)
        self.sagas: Any = SagaServiceStub(channel)

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
        await self.register_definition({"name": name, "steps": steps})

    async def register_definition(self, source: Any) -> None:
        definition = ParseDict(source, Definition())
        await self._definitions.RegisterDefinition(
            RegisterDefinitionRequest(definition=definition), timeout=PATIENCE_SECONDS
        )

    async def run(self, name: str, *, wait: bool = True, **fields: Any) -> saga_pb2.Saga:
        """Starts a saga with the input `fields`; as it is in the end, or at first."""
        request = saga_service_pb2.StartSagaRequest(
            definition=name, start_key=f"{name} {next(_numbers)}", input=ParseDict(fields, Value()), wait=wait
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
        return [f"{entry.entry_type} {entry.step} {entry.attempt}".rstrip(" 0") for entry in answer.log]


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


class Dialled:
    """A worker's stream, spoken by hand."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub: Any = WorkerServiceStub(channel)
        self.call: Any = stub.Work()
        self._tasks: list[pb.Task] = []

    async def greet(self, **hello: Any) -> pb.Welcome:
        """Says hello, as a worker of the shop with one credit unless told otherwise."""
        await self.say(
            hello=pb.Hello(**{"participant": "shop", "credits": 1, "worker_id": "by hand", **hello})
        )
        return (await self.heard()).welcome

    async def say(self, **request: Any) -> None:
        await self.call.write(pb.WorkRequest(**request))

    async def heard(self) -> pb.WorkResponse:
        """The next message. Raises EOFError when the stream has ended well, else AioRpcError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await self.call.read()
        if message is grpc.aio.EOF:
            raise EOFError
        return message  # type: ignore[no-any-return]

    async def next_task(self) -> pb.Task:
        while not self._tasks:
            self._tasks += (await self.heard()).tasks
        return self._tasks.pop(0)

    async def tell(self, task: pb.Task, **outcome: Any) -> None:
        await self.say(outcomes=[pb.TaskOutcome(task_id=task.task_id, **outcome)])


DONE = Value(string_value="done")
