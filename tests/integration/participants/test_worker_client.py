"""The worker of the Python client, against a coordinator that the test speaks for: what it does when nothing goes on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from saga_client import worker as module
from saga_client.redial import FIRST_SECONDS, LONGEST_SECONDS, redial_pauses
from saga_client.v1 import saga_service_pb2, saga_service_pb2_grpc
from saga_client.v1 import worker_service_pb2 as pb
from saga_client.v1 import worker_service_pb2_grpc as pb_grpc
from saga_client.worker import Refused, Retry, Task, Worker

from tests.eventually import PATIENCE_SECONDS


class Coordinator(pb_grpc.WorkerServiceServicer):
    """Welcomes whoever dials, keeps what it hears, and says what it is told to say."""

    def __init__(self) -> None:
        self.version = "1.0.0"
        self.heard: asyncio.Queue[pb.WorkRequest] = asyncio.Queue()
        self.to_say: asyncio.Queue[pb.WorkResponse | None] = asyncio.Queue()
        self.streams = 0
        self.turned_away_max = 0
        """How many streams it ends without a welcome."""
        self.has_begun_to_hang = asyncio.Event()
        self.may_end = asyncio.Event()
        self.reported: asyncio.Queue[saga_service_pb2.ReportOutcomeRequest] = asyncio.Queue()
        self.address = ""

    async def Work(self, requests: AsyncIterator[pb.WorkRequest], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        self.streams += 1
        if self.streams <= self.turned_away_max:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "still starting")
        interval = Duration(nanos=50_000_000)
        await context.write(
            pb.WorkResponse(welcome=pb.Welcome(heartbeat_interval=interval, version=self.version))
        )
        listening = asyncio.create_task(self._listen(requests))
        while (response := await self.to_say.get()) is not None:
            await context.write(response)
        listening.cancel()

    async def _listen(self, requests: AsyncIterator[pb.WorkRequest]) -> None:
        async for request in requests:
            self.heard.put_nowait(request)

    async def next_heard(self) -> pb.WorkRequest:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.heard.get()

    async def next_outcome(self) -> pb.TaskOutcome:
        while not (request := await self.next_heard()).outcomes:
            pass
        return request.outcomes[0]


class Sagas(saga_service_pb2_grpc.SagaServiceServicer):
    """Keeps the outcomes that are reported to the coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def ReportOutcome(  # noqa: N802
        self, request: saga_service_pb2.ReportOutcomeRequest, context: Any
    ) -> saga_service_pb2.ReportOutcomeResponse:
        self._coordinator.reported.put_nowait(request)
        return saga_service_pb2.ReportOutcomeResponse()


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    spoken_for = Coordinator()  # type: ignore[abstract]  # workers call no other method
    server = grpc.aio.server()
    pb_grpc.add_WorkerServiceServicer_to_server(spoken_for, server)
    sagas = Sagas(spoken_for)  # type: ignore[abstract]  # nor of this service
    saga_service_pb2_grpc.add_SagaServiceServicer_to_server(sagas, server)
    spoken_for.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield spoken_for
    await server.stop(None)


@pytest.fixture
async def worker(coordinator: Coordinator) -> AsyncIterator[Worker]:
    connected = Worker(coordinator.address, "shop", credits=3, worker_id="the first", version="7")

    @connected.method("double")
    async def double(task: Task) -> Any:
        return {"doubled": 2 * task.input["number"]}

    @connected.method("block")
    def block(task: Task) -> list[Any]:
        return [None, True, 1, 1.5, "text", {"key": []}]

    @connected.method("count")
    def count(task: Task) -> dict[str, int]:
        return {"kept": 2**53, "changed": 2**53 + 1}

    @connected.method("hang")
    async def hang(task: Task) -> None:
        coordinator.has_begun_to_hang.set()
        await asyncio.Event().wait()

    @connected.method("refuse")
    async def refuse(task: Task) -> None:
        raise Refused("no", "NOT_FOUND")

    @connected.method("rest")
    async def rest(task: Task) -> None:
        raise Retry("too many at once", after_seconds=2.5, code="RESOURCE_EXHAUSTED")

    @connected.method("large")
    async def large(task: Task) -> str:
        return "x" * 700_000

    @connected.method("wait")
    async def wait(task: Task) -> str:
        await coordinator.may_end.wait()
        return "done"

    @connected.method("misbehave")
    async def misbehave(task: Task) -> Any:
        return {"not JSON": object()}

    running = asyncio.create_task(connected.run())
    yield connected
    await connected.stop()
    coordinator.to_say.put_nowait(None)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await running


def a_task(method: str, **more: Any) -> pb.WorkResponse:
    task = pb.Task(task_id=1, method=method, timeout=Duration(seconds=10), **more)
    return pb.WorkResponse(tasks=[task])


async def test_it_greets_and_sends_signs_of_life(coordinator: Coordinator, worker: Worker) -> None:
    hello = (await coordinator.next_heard()).hello
    assert (hello.participant, hello.worker_id, hello.version, hello.credits) == ("shop", "the first", "7", 3)
    methods = ["block", "count", "double", "hang", "large", "misbehave", "refuse", "rest", "wait"]
    assert list(hello.methods) == methods
    for _ in range(3):
        assert (await coordinator.next_heard()).heartbeat


async def test_what_handlers_return_and_raise_are_outcomes(coordinator: Coordinator, worker: Worker) -> None:
    given = a_task("double")
    given.tasks[0].input.struct_value["number"] = 4
    coordinator.to_say.put_nowait(given)
    doubled = await coordinator.next_outcome()
    assert doubled.success.output.struct_value["doubled"] == 8
    coordinator.to_say.put_nowait(a_task("block"))
    told = (await coordinator.next_outcome()).success.output.list_value
    assert [value.WhichOneof("kind") for value in told.values] == [
        "null_value",
        "bool_value",
        "number_value",
        "number_value",
        "string_value",
        "struct_value",
    ]
    coordinator.to_say.put_nowait(a_task("refuse"))
    assert (await coordinator.next_outcome()).refused.code == "NOT_FOUND"


async def test_a_handler_may_ask_for_a_rest(coordinator: Coordinator, worker: Worker) -> None:
    coordinator.to_say.put_nowait(a_task("rest"))
    outcome = await coordinator.next_outcome()
    assert (outcome.unknown.code, outcome.unknown.message) == ("RESOURCE_EXHAUSTED", "too many at once")
    assert outcome.retry_after == Duration(seconds=2, nanos=500_000_000)


async def test_success_is_told_in_the_old_way_to_a_coordinator_that_knows_no_other(
    coordinator: Coordinator, worker: Worker
) -> None:
    coordinator.version = ""
    coordinator.to_say.put_nowait(None)  # ends the stream, so that it dials again
    coordinator.to_say.put_nowait(a_task("block"))
    assert (await coordinator.next_outcome()).succeeded.list_value.values


async def test_large_outcomes_do_not_go_in_one_message(coordinator: Coordinator, worker: Worker) -> None:
    tasks = a_task("large")
    for task_id in (2, 3):
        tasks.tasks.add(task_id=task_id, method="large", timeout=Duration(seconds=10))
    coordinator.to_say.put_nowait(tasks)
    told: list[int] = []
    while len(told) < 3:
        request = await coordinator.next_heard()
        assert request.ByteSize() < 2_000_000
        told += [outcome.task_id for outcome in request.outcomes]
    assert sorted(told) == [1, 2, 3]


@pytest.mark.parametrize(
    ("method", "words"),
    [("misbehave", "TypeError: an output must be JSON-like"), ("unheard_of", "has no method 'unheard_of'")],
)
async def test_what_cannot_be_told_is_unknown(
    method: str, words: str, coordinator: Coordinator, worker: Worker
) -> None:
    coordinator.to_say.put_nowait(a_task(method))
    assert words in (await coordinator.next_outcome()).unknown.message


async def test_a_handler_has_no_longer_than_its_task(coordinator: Coordinator, worker: Worker) -> None:
    hanging = a_task("hang")
    hanging.tasks[0].timeout.CopyFrom(Duration(nanos=10_000_000))
    coordinator.to_say.put_nowait(hanging)
    assert (await coordinator.next_outcome()).unknown.code == "DEADLINE_EXCEEDED"


async def test_it_dials_again_when_the_stream_ends(coordinator: Coordinator, worker: Worker) -> None:
    for _ in range(3):
        assert (await coordinator.next_heard()).HasField("hello")
        coordinator.to_say.put_nowait(None)
        while coordinator.heard.qsize():
            coordinator.heard.get_nowait()
    assert (await coordinator.next_heard()).HasField("hello")
    assert coordinator.streams == 4


@pytest.mark.parametrize(("drawn", "share"), [(0.0, 0.5), (1.0, 1.0)])
def test_pauses_between_dials_double_up_to_the_longest_and_are_drawn(drawn: float, share: float) -> None:
    pauses = redial_pauses(lambda: drawn)
    found = [next(pauses) / share for _ in range(8)]
    assert found == pytest.approx([FIRST_SECONDS * 2**n for n in range(6)] + 2 * [LONGEST_SECONDS])


async def test_pauses_grow_while_nobody_welcomes_it_and_begin_anew_after_a_welcome(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[int]] = []

    def counted() -> Iterator[float]:
        drawn.append([])
        for number in itertools.count():
            drawn[-1].append(number)
            yield 0.0

    monkeypatch.setattr(module, "redial_pauses", counted)
    coordinator.turned_away_max = 2
    coordinator.to_say.put_nowait(None)  # ends the first stream that is welcomed
    worker = Worker(coordinator.address, "shop")
    worker.method("charge")(lambda task: None)
    running = asyncio.create_task(worker.run())
    while coordinator.streams < 4:
        await coordinator.next_heard()
    assert drawn == [[0, 1], [0]]
    await worker.stop()
    coordinator.to_say.put_nowait(None)
    await running


async def test_an_outcome_whose_stream_is_gone_is_reported_as_that_of_its_own_attempt(
    coordinator: Coordinator, worker: Worker
) -> None:
    coordinator.to_say.put_nowait(a_task("wait", token="of the first attempt"))
    coordinator.to_say.put_nowait(None)
    while coordinator.streams < 2:
        await coordinator.next_heard()
    coordinator.may_end.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        reported = await coordinator.reported.get()
    assert (reported.token, reported.success.output.string_value) == ("of the first attempt", "done")


async def test_who_leaves_gives_back_what_comes_too_late(coordinator: Coordinator, worker: Worker) -> None:
    coordinator.to_say.put_nowait(a_task("hang"))
    await coordinator.has_begun_to_hang.wait()
    await worker.stop()
    while not (await coordinator.next_heard()).goodbye:
        pass
    late = a_task("double")
    late.tasks[0].task_id = 2
    coordinator.to_say.put_nowait(late)
    outcome = await coordinator.next_outcome()
    assert (outcome.task_id, outcome.WhichOneof("outcome")) == (2, "returned")
    assert worker._session is not None
    worker._session.cancel()


async def test_a_worker_without_methods_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"register handlers with `@worker\.method"):
        await Worker("127.0.0.1:1", "shop").run()
    twice = Worker("127.0.0.1:1", "shop")
    twice.method("take")(lambda task: None)
    with pytest.raises(ValueError, match="has a handler already"):
        twice.method("take")(lambda task: None)


async def test_a_number_that_a_double_cannot_keep_is_no_output(
    coordinator: Coordinator, worker: Worker
) -> None:
    coordinator.to_say.put_nowait(a_task("count"))
    outcome = await coordinator.next_outcome()
    assert outcome.unknown.message == (
        "ValueError: an output has the number 9007199254740993, which a double cannot keep: return a string"
    )
