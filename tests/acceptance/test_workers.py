"""Workers: participants that dial the real program and take their tasks from a stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psycopg
import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import ListValue, Value

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from saga_coordinator.pb.saga.v1 import worker_service_pb2 as pb
from tests.acceptance.conftest import ROOT, Serving, StartServing
from tests.acceptance.shop import DONE, Customer, Dialled, Shop
from tests.eventually import PATIENCE_SECONDS, eventually


@pytest.fixture
def workers_file(tmp_path: Path) -> Path:
    file = tmp_path / "participants.yaml"
    file.write_text("participants: {shop: {worker: true}, bank: {target: '127.0.0.1:1'}}")
    return file


@pytest.fixture
def coordinator(serving: StartServing, workers_file: Path) -> Serving:
    return serving("--participants", str(workers_file))


def outputs(saga: saga_pb2.Saga) -> list[Any]:
    return [MessageToDict(step)["output"] for step in saga.steps]


@pytest.fixture
async def customer(coordinator: Serving) -> AsyncIterator[Customer]:
    async with grpc.aio.insecure_channel(coordinator.address) as channel:
        yield Customer(channel)


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


# What goes wrong. The streams of these are spoken by hand.

Dial = Callable[..., Awaitable[Dialled]]


@pytest.fixture
async def dial(coordinator: Serving) -> AsyncIterator[Dial]:
    """Opens streams, each over a connection of its own, until the test's end; greeted unless told otherwise."""
    channels: list[grpc.aio.Channel] = []

    async def open_stream(*, is_greeted: bool = True, **hello: Any) -> Dialled:
        channels.append(
            grpc.aio.insecure_channel(coordinator.address, [("grpc.use_local_subchannel_pool", 1)])
        )
        dialled = Dialled(channels[-1])
        if is_greeted:
            assert (await dialled.greet(**hello)).coordinator_id
        return dialled

    yield open_stream
    for channel in channels:
        await channel.close()


@pytest.mark.parametrize(
    ("hello", "code", "words"),
    [
        ({"participant": "bnak"}, grpc.StatusCode.NOT_FOUND, "add it to the participants file"),
        (
            {"participant": "bank"},
            grpc.StatusCode.FAILED_PRECONDITION,
            "write `worker: true` instead of the target in the participants file",
        ),
        ({"credits": 0}, grpc.StatusCode.INVALID_ARGUMENT, "hello.credits: is 0; it must be 1 to 10000"),
        ({"worker_id": ""}, grpc.StatusCode.INVALID_ARGUMENT, "hello.worker_id: is required"),
        ({"methods": ["take", ""]}, grpc.StatusCode.INVALID_ARGUMENT, "hello.methods[1]: is required"),
    ],
)
async def test_a_worker_that_is_none_is_told_why(
    dial: Dial, hello: dict[str, Any], code: grpc.StatusCode, words: str
) -> None:
    dialled = await dial(is_greeted=False)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await dialled.greet(**hello)
    assert refused.value.code() is code
    assert words in str(refused.value.details())


async def test_the_first_message_and_no_other_is_a_greeting(dial: Dial) -> None:
    rude = await dial(is_greeted=False)
    await rude.say(heartbeat=True)
    with pytest.raises(grpc.aio.AioRpcError, match="hello: is required in the first message"):
        await rude.heard()
    chatty = await dial()
    with pytest.raises(grpc.aio.AioRpcError, match="hello: must be in the first message and in no other"):
        await chatty.greet()


async def test_an_outcome_of_a_task_that_was_not_given_changes_nothing_and_is_logged(
    coordinator: Serving, customer: Customer, dial: Dial
) -> None:
    await customer.register("order", "take")
    its_own, other = await dial(), await dial(methods=["nothing"])
    saga = await customer.run("order", wait=False)
    task = await its_own.next_task()
    await other.tell(task, succeeded=DONE)
    (rejection,) = (await other.heard()).rejections
    assert (rejection.task_id, rejection.code) == (task.task_id, "PERMISSION_DENIED")
    logged = coordinator.wait_for("outcome_of_task_not_given")
    assert (logged["participant"], logged["worker_id"], logged["task_id"]) == ("shop", "by hand", 1)
    assert (await customer.log(saga.saga_id))[-1] == "attempt_started step_0 1", "nothing has become of it"

    await its_own.tell(task, succeeded=DONE)
    await its_own.tell(task, refused=saga_pb2.Cause(message="after all"))
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    await its_own.say(heartbeat=True)
    answer = await its_own.heard()
    assert answer.heartbeat
    assert not answer.rejections, "what is told twice is accepted twice (P9)"


async def test_an_outcome_that_says_nothing_is_rejected_and_the_attempt_is_made_again(
    coordinator: Serving, customer: Customer, dial: Dial
) -> None:
    await customer.register("order", "take", retry={"initialBackoff": "0.01s", "maxAttempts": 2})
    worker = await dial()
    saga = await customer.run("order", wait=False)
    task = await worker.next_task()
    await worker.tell(task)  # what `succeeded: null` is in many languages
    (rejection,) = (await worker.heard()).rejections
    assert (rejection.task_id, rejection.code) == (task.task_id, "INVALID_ARGUMENT")
    assert "`success`" in rejection.message, "it says what would be right"
    assert coordinator.wait_for("outcome_not_taken")["saga_id"] == saga.saga_id

    again = await worker.next_task()
    assert (again.attempt, again.idempotency_key) == (2, task.idempotency_key)
    await worker.tell(again, success=saga_pb2.Success())
    settled = await customer.settled(saga.saga_id)
    assert settled.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert outputs(settled) == [None]
    assert "attempt_unknown step_0 1" in await customer.log(saga.saga_id)


async def test_an_output_that_is_too_large_is_rejected_and_the_stream_goes_on(
    customer: Customer, dial: Dial
) -> None:
    await customer.register("order", "take", retry={"initialBackoff": "0.01s", "maxAttempts": 2})
    worker = await dial(credits=2)
    first, second = [await customer.run("order", wait=False) for _ in range(2)]
    tasks = {task.saga_id: task for task in [await worker.next_task() for _ in range(2)]}
    large = Value(list_value=ListValue(values=[Value(number_value=1)] * 500_000))
    await worker.say(
        outcomes=[
            pb.TaskOutcome(task_id=tasks[first.saga_id].task_id, success=saga_pb2.Success(output=large)),
            pb.TaskOutcome(task_id=tasks[second.saga_id].task_id, succeeded=DONE),
        ]
    )
    (rejection,) = (await worker.heard()).rejections
    assert (rejection.task_id, rejection.code) == (tasks[first.saga_id].task_id, "INVALID_ARGUMENT")
    assert rejection.message == "success.output: is 5500005 bytes as protobuf; 1048576 is the limit"
    assert (await customer.settled(second.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    again = await worker.next_task()
    assert (again.saga_id, again.attempt) == (first.saga_id, 2)
    await worker.tell(again, success=saga_pb2.Success())
    assert (await customer.settled(first.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED


async def test_a_task_that_is_too_large_for_a_worker_ends_no_stream(customer: Customer, dial: Dial) -> None:
    await customer.register("order", "take", retry={"initialBackoff": "0.01s", "maxAttempts": 5})
    worker = await dial(message_bytes_max=64 * 1024)
    saga = await customer.run("order", text="x" * 70_000)
    assert saga.status == saga_pb2.SAGA_STATUS_COMPENSATED
    assert saga.failure.code == "INPUT_INVALID"
    assert "worker by hand takes at most 65536" in saga.failure.message
    assert [(step.effect, step.attempt) for step in saga.steps] == [(saga_pb2.EFFECT_NONE, 1)]
    small = await customer.run("order", wait=False, text="x")
    await worker.tell(await worker.next_task(), succeeded=DONE)
    assert (await customer.settled(small.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED


async def test_a_worker_may_be_wrong_about_all_that_it_was_given(customer: Customer, dial: Dial) -> None:
    """Each is rejected, and no number of them ends the stream."""
    await customer.register("order", "take", retry={"initialBackoff": "60s", "maxBackoff": "60s"})
    worker = await dial(credits=3)
    for _ in range(3):
        await customer.run("order", wait=False)
    tasks = [await worker.next_task() for _ in range(3)]
    await worker.say(outcomes=[pb.TaskOutcome(task_id=task.task_id) for task in tasks], heartbeat=True)
    rejected: list[int] = []
    while len(rejected) < 3:
        rejected += [rejection.task_id for rejection in (await worker.heard()).rejections]
    assert sorted(rejected) == sorted(task.task_id for task in tasks)


@pytest.mark.parametrize("says_goodbye", [False, True])
async def test_p4_a_task_whose_stream_breaks_goes_to_another_once_the_first_cannot_be_at_it_any_more(
    customer: Customer, dial: Dial, says_goodbye: bool
) -> None:
    """After its time; or at once, when the worker had taken its leave and so has stopped."""
    timeout = "30s" if says_goodbye else "1s"
    await customer.register(
        "order", "take", timeout=timeout, retry={"initialBackoff": "0.01s", "maxAttempts": 2}
    )
    broken = await dial()
    saga = await customer.run("order", wait=False)
    first = await broken.next_task()
    began = asyncio.get_running_loop().time()
    survivor = await dial()
    if says_goodbye:
        await broken.say(goodbye=True, heartbeat=True)
        assert (await broken.heard()).heartbeat
    broken.call.cancel()
    second = await survivor.next_task()
    assert (asyncio.get_running_loop().time() - began > 0.5) is not says_goodbye
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.idempotency_key == second.idempotency_key
    await survivor.tell(second, succeeded=DONE)
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    assert "attempt_unknown step_0 1" in await customer.log(saga.saga_id)


async def test_who_lost_its_stream_and_goes_on_reports_and_nobody_is_asked_again(
    customer: Customer, dial: Dial
) -> None:
    await customer.register("order", "take", timeout="30s")
    broken = await dial()
    saga = await customer.run("order", wait=False)
    task = await broken.next_task()
    broken.call.cancel()
    report = saga_service_pb2.ReportOutcomeRequest(token=task.token, succeeded=DONE)
    answer = await customer.sagas.ReportOutcome(report, timeout=PATIENCE_SECONDS)
    assert answer.result == saga_service_pb2.REPORT_RESULT_APPLIED
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    assert "attempt_started step_0 2" not in await customer.log(saga.saga_id)


async def test_p4_a_task_stays_with_its_worker_until_its_time_is_over(customer: Customer, dial: Dial) -> None:
    await customer.register(
        "order", "take", timeout="1s", retry={"initialBackoff": "0.01s", "maxAttempts": 2}
    )
    slow, quick = await dial(), await dial()
    saga = await customer.run("order", wait=False)
    reading = [asyncio.create_task(each.next_task()) for each in (slow, quick)]
    (given,), (waiting,) = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    began = asyncio.get_running_loop().time()
    second = await waiting
    assert asyncio.get_running_loop().time() - began > 0.5, "the first attempt had a second"
    assert (given.result().attempt, second.attempt) == (1, 2)
    await (slow if waiting is reading[0] else quick).tell(second, succeeded=DONE)
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED


async def test_a_late_success_is_learned(customer: Customer, dial: Dial) -> None:
    await customer.register(
        "order", "take", timeout="0.2s", retry={"initialBackoff": "60s", "maxBackoff": "60s"}
    )
    late = await dial()
    saga = await customer.run("order", wait=False)
    task = await late.next_task()
    # Not always the first: nobody may have known of the worker when the saga began.
    given_up = f"attempt_unknown step_0 {task.attempt}"

    async def is_given_up() -> bool:
        return given_up in await customer.log(saga.saga_id)

    await eventually(is_given_up, "the attempt to be given up")
    await late.tell(task, succeeded=DONE)
    finished = await customer.settled(saga.saga_id)
    assert finished.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert outputs(finished) == ["done"]


async def test_a_late_outcome_is_kept_as_that_of_its_own_attempt(customer: Customer, dial: Dial) -> None:
    await customer.register(
        "order", "take", timeout="1s", retry={"initialBackoff": "0.01s", "maxAttempts": 2}
    )
    workers = await dial(), await dial()
    saga = await customer.run("order", wait=False)
    reading = [asyncio.create_task(each.next_task()) for each in workers]
    (given,), (waiting,) = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    slow, quick = workers if waiting is reading[1] else workers[::-1]
    await quick.tell(await waiting, succeeded=DONE)
    await customer.settled(saga.saga_id)
    await slow.tell(given.result(), refused=saga_pb2.Cause(message="sold out"))

    async def is_kept() -> bool:
        return (await customer.log(saga.saga_id))[-1].startswith("outcome_late")

    await eventually(is_kept, "the refusal to be kept")
    assert (await customer.log(saga.saga_id))[-1] == "outcome_late step_0 1"


async def test_who_says_goodbye_gets_no_more_and_gives_back_what_it_has_not_begun(
    customer: Customer, dial: Dial
) -> None:
    await customer.register("order", "take")
    leaving = await dial(credits=2)
    sagas = [await customer.run("order", wait=False) for _ in range(2)]
    begun, unbegun = await leaving.next_task(), await leaving.next_task()
    staying = await dial(credits=2)
    returned = pb.TaskOutcome(task_id=unbegun.task_id, returned=pb.TaskOutcome.Returned())
    await leaving.say(goodbye=True, outcomes=[returned])
    again = await staying.next_task()
    assert again.idempotency_key == unbegun.idempotency_key
    await staying.tell(again, succeeded=DONE)
    await leaving.tell(begun, succeeded=DONE)
    await leaving.call.done_writing()
    with pytest.raises(EOFError):
        await leaving.heard()
    for saga in sagas:
        assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
        assert not any("unknown" in entry for entry in await customer.log(saga.saga_id))


@pytest.fixture
async def keep_serving() -> AsyncIterator[Callable[[Dialled], None]]:
    """Has a stream perform whatever comes, until the test's end."""
    serving: list[asyncio.Task[None]] = []

    async def serve(dialled: Dialled) -> None:
        while True:
            await dialled.tell(await dialled.next_task(), succeeded=DONE)

    yield lambda dialled: serving.append(asyncio.create_task(serve(dialled)))
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def test_a_worker_that_stops_reading_loses_only_its_own(
    customer: Customer, dial: Dial, keep_serving: Callable[[Dialled], None]
) -> None:
    """Its credits are used up, and its connection is full of what it does not read."""
    await customer.register("order", "take", timeout="2s", retry={"initialBackoff": "0.01s"})
    deaf = await dial(credits=20)
    stuck = [await customer.run("order", wait=False, large="x" * 500_000) for _ in range(20)]
    reading = await dial(credits=20)
    keep_serving(reading)
    began = asyncio.get_running_loop().time()
    for saga in await asyncio.gather(*(customer.run("order") for _ in range(20))):
        assert saga.status == saga_pb2.SAGA_STATUS_COMPLETED
        assert "attempt_succeeded step_0 1" in await customer.log(saga.saga_id)
    assert asyncio.get_running_loop().time() - began < 20, "they did not wait for one another's timeouts"
    for saga in stuck:
        assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    assert not deaf.call.done()


async def test_a_worker_that_is_silent_on_an_overdue_task_gets_no_more_until_it_is_heard_of(
    customer: Customer, dial: Dial, keep_serving: Callable[[Dialled], None]
) -> None:
    await customer.register("order", "take", timeout="0.3s", retry={"initialBackoff": "0.01s"})
    silent = await dial(credits=100)
    lost = await customer.run("order", wait=False)
    await silent.next_task()
    reading = await dial(credits=1)
    keep_serving(reading)
    assert (await customer.settled(lost.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
    for saga in [await customer.run("order") for _ in range(4)]:
        assert "attempt_succeeded step_0 1" in await customer.log(saga.saga_id)
    await silent.say(heartbeat=True)
    assert (await silent.heard()).heartbeat
    await reading.say(goodbye=True)
    again = await customer.run("order", wait=False)
    assert (await silent.next_task()).saga_id == again.saga_id


async def test_a_worker_that_connects_wakes_the_task_that_waited_for_it(
    customer: Customer, dial: Dial, database_dsn: str
) -> None:
    """The saga sleeps, owned by nobody, and would look by itself only much later. No attempt was spent on waiting."""
    await customer.register("order", "take", timeout="2s", retry={"maxAttempts": 1})
    saga = await customer.run("order", wait=False)
    put_off = (
        "UPDATE saga.sagas SET wake_at = now() + interval '29 seconds' "
        "WHERE saga_id = %s AND owner IS NULL AND wake_at > now() RETURNING wake_at"
    )
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:

        async def asleep() -> Any:
            return await (await connection.execute(put_off, [saga.saga_id])).fetchone()

        (due_at,) = await eventually(asleep, "the saga to sleep")
        worker = await dial()
        task = await worker.next_task()
        assert (task.saga_id, task.attempt) == (saga.saga_id, 1)
        await worker.tell(task, succeeded=DONE)
        assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED
        ended = "SELECT ended_at < %s FROM saga.sagas WHERE saga_id = %s"
        assert await (await connection.execute(ended, [due_at, saga.saga_id])).fetchone() == (True,)
    log = await customer.log(saga.saga_id)
    assert log.count("attempt_held step_0 1") == 1
    assert not any("unknown" in entry for entry in log)


async def test_workers_get_only_the_methods_that_they_perform(customer: Customer, dial: Dial) -> None:
    await customer.register("order", "take", "wrap")
    taking, wrapping = await dial(methods=["take"]), await dial(methods=["wrap"])
    saga = await customer.run("order", wait=False)
    for dialled, method in ((taking, "take"), (wrapping, "wrap")):
        task = await dialled.next_task()
        assert task.method == method
        await dialled.tell(task, succeeded=DONE)
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED


async def test_a_worker_that_is_killed_leaves_its_task_to_the_next(
    coordinator: Serving, customer: Customer, open_shop: OpenShop
) -> None:
    await customer.register("order", "hang", timeout="2s", retry={"initialBackoff": "0.01s"})
    doomed = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import asyncio, sys; from tests.acceptance.shop import Shop; asyncio.run(Shop(sys.argv[1]).worker.run())",
        coordinator.address,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "clients/python")))},
    )
    await asyncio.to_thread(coordinator.wait_for, "worker_connected")
    saga = await customer.run("order", wait=False)
    while "attempt_started step_0 1" not in await customer.log(saga.saga_id):
        pass
    shop = await open_shop()
    doomed.kill()
    await doomed.wait()
    task = await shop.next_task()
    assert (task.message.saga_id, task.message.attempt) == (saga.saga_id, 2)
    shop.may_answer.set()
    assert (await customer.settled(saga.saga_id)).status == saga_pb2.SAGA_STATUS_COMPLETED


async def test_a_coordinator_that_stops_waits_for_the_outcomes_of_its_workers(
    coordinator: Serving, database_dsn: str, customer: Customer, open_shop: OpenShop
) -> None:
    shop = await open_shop()
    await customer.register("order", "hang")
    saga = await customer.run("order", wait=False)
    await shop.next_task()
    for _ in range(3):
        await open_shop()  # these have nothing to do, and are let go at once
    coordinator.send(signal.SIGTERM)
    await asyncio.to_thread(coordinator.wait_for, "stopping")
    shop.may_answer.set()
    assert await asyncio.to_thread(coordinator.wait) == 0
    while (line := coordinator.err.get()) is not None:
        assert '"level":"error"' not in line
    with psycopg.connect(database_dsn) as connection:
        types = connection.execute(
            "SELECT type FROM saga.log WHERE saga_id = %s ORDER BY sequence", [saga.saga_id]
        ).fetchall()
    assert "attempt_succeeded" in {kind for (kind,) in types}


async def test_a_worker_dials_again_and_tells_what_it_did_meanwhile(
    serving: StartServing,
    workers_file: Path,
    open_shop: OpenShop,
    coordinator: Serving,
    customer: Customer,
    database_dsn: str,
) -> None:
    """Its coordinator is killed; the outcome reaches the next one, which learns it though the task was never its own."""
    shop = await open_shop()
    await customer.register(
        "order", "hang", timeout="60s", retry={"initialBackoff": "60s", "maxBackoff": "60s"}
    )
    saga = await customer.run("order", wait=False)
    await shop.next_task()
    coordinator.kill(database_dsn)
    serving("--participants", str(workers_file), "--address", coordinator.address)
    shop.may_answer.set()
    finished = await customer.settled(saga.saga_id)
    assert finished.status == saga_pb2.SAGA_STATUS_COMPLETED
    assert outputs(finished) == ["at last"]


async def test_the_worker_of_the_documentation_works(serving: StartServing, tmp_path: Path) -> None:
    page = (ROOT / "docs/workers.md").read_text(encoding="utf-8")
    directory, definition = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "participants.yaml"
    file.write_text(directory)
    coordinator = serving("--participants", str(file))
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program.replace("127.0.0.1:7242", coordinator.address)),
        env={**os.environ, "PYTHONPATH": str(ROOT / "clients/python")},
    )
    try:
        async with grpc.aio.insecure_channel(coordinator.address) as channel:
            customer = Customer(channel)
            await customer.register_definition(yaml.safe_load(definition))
            paid = await customer.run("pay", amount_cents=4_200)
            assert paid.status == saga_pb2.SAGA_STATUS_COMPLETED
            declined = await customer.run("pay", amount_cents=200_000)
            assert declined.status == saga_pb2.SAGA_STATUS_COMPENSATED
            assert declined.failure.message == "card declined: over the limit"
        worker.terminate()
        assert await worker.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()
