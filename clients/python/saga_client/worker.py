"""A worker: a participant that dials the coordinator and takes its tasks from a stream, and so needs no inbound port.

    worker = Worker("127.0.0.1:7242", "payments")

    @worker.method("Charge")
    async def charge(task: Task) -> dict[str, str]:
        if task.input["amount_cents"] > 100_000:
            raise Refused("card declined: over the limit")
        return {"charge_id": await book(task.idempotency_key, task.input)}

    @worker.method("Refund")
    async def refund(task: Task) -> None:
        await unbook(task.action_idempotency_key)

    asyncio.run(worker.run())

A handler returns the operation's output: None, a bool, a number, a string, or a list or dict of them. It raises `Refused` to say
no, and `Pending` if `SagaService.ReportOutcome` will follow. After any other exception, or if the handler takes longer than the
task's timeout, the outcome is unknown, and the task comes again with the same `idempotency_key`. A handler must be idempotent
by that key, undo what never happened without a change, and refuse an action that comes after its compensation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from inspect import iscoroutinefunction
from typing import Any

import grpc
import grpc.aio
from saga_client.redial import redial_pauses
from saga_client.v1 import saga_pb2, saga_service_pb2, saga_service_pb2_grpc, worker_service_pb2_grpc
from saga_client.v1 import worker_service_pb2 as pb
from saga_client.values import from_value, to_value

REPORT_SECONDS = 10.0
"""How long the worker tries to report an outcome whose stream is gone."""

_THREADS = 32
_MESSAGE_BYTES_MAX = 512 * 1024 * 1024
_OUTCOMES_BYTES_MAX = 1024 * 1024
"""In one message; a single outcome may be larger, and is rejected by name when it is too large."""

log = logging.getLogger("saga_client.worker")


class Refused(Exception):
    """Raised to say no: the task did not and will not take effect. `code` is the name of a gRPC status."""

    def __init__(self, message: str, code: str = "FAILED_PRECONDITION") -> None:
        self.code = code
        super().__init__(message)


class Retry(Exception):
    """Raised if the outcome is unknown, or not now. An attempt with the same key follows, at least `after_seconds` later."""

    def __init__(self, message: str, after_seconds: float = 0.0, code: str = "UNAVAILABLE") -> None:
        self.code = code
        self.after_seconds = after_seconds
        super().__init__(message)


class Pending(Exception):
    """Raised if the task is accepted and `SagaService.ReportOutcome` will tell its outcome, with the task's `token`."""


class Task:
    """One attempt of one operation. `message` is the task as it came; the input is read when it is first asked for."""

    def __init__(self, message: pb.Task) -> None:
        self.message = message

    @cached_property
    def input(self) -> Any:
        """The input that the definition gives to the operation, as JSON-like values; whole numbers are ints."""
        return from_value(self.message.input)

    @property
    def idempotency_key(self) -> str:
        """The key of the operation, the same for every attempt."""
        return self.message.idempotency_key

    @property
    def action_idempotency_key(self) -> str:
        """The key of the action that a compensation is to undo; empty for actions."""
        return self.message.action_idempotency_key

    @property
    def token(self) -> str:
        """The name of this attempt for `SagaService.ReportOutcome` and `SagaService.Heartbeat`, once `Pending` was raised."""
        return self.message.token

    @property
    def is_compensation(self) -> bool:
        """Tells whether the task is to undo the step's action."""
        return self.message.operation == saga_pb2.OPERATION_KIND_COMPENSATION

    @property
    def timeout_seconds(self) -> float:
        """The seconds that were left for the task when it came."""
        return self.message.timeout.seconds + self.message.timeout.nanos / 1e9


Handler = Callable[[Task], Any]
"""Takes a task; returns the output, or is a coroutine function that does. Others run in threads, so that they may block."""


class Worker:
    """Serves one participant over one stream at a time, and dials again when the stream ends.

    `address` is the coordinator's, such as `127.0.0.1:7242` or `unix:/run/saga.sock`. `credits` is how many tasks the worker
    takes at once.
    """

    def __init__(
        self,
        address: str,
        participant: str,
        *,
        credits: int = 64,  # noqa: A002  # the contract's word
        worker_id: str = "",
        version: str = "",
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._hello = pb.Hello(
            participant=participant,
            credits=credits,
            worker_id=worker_id or f"{socket.gethostname()}:{os.getpid()}",
            version=version,
            message_bytes_max=_MESSAGE_BYTES_MAX,
        )
        self._handlers: dict[str, Handler] = {}
        self._stopping = asyncio.Event()
        self._threads: ThreadPoolExecutor | None = None
        self._session: _Session | None = None
        self._was_ever_welcome = False
        self._finishing: set[asyncio.Future[None]] = set()
        self.connected = asyncio.Event()
        """Set while a coordinator welcomes the worker."""

    def method(self, name: str) -> Callable[[Handler], Handler]:
        """Registers the handler of the tasks whose `Operation.method` is `name`."""

        def register(handler: Handler) -> Handler:
            if name in self._handlers:
                raise ValueError(f"method {name!r} has a handler already")
            self._handlers[name] = handler
            return handler

        return register

    async def run(self) -> None:
        """Takes tasks until `stop` is called, dialling again whenever the stream ends.

        Raises:
            grpc.aio.AioRpcError: the coordinator does not want this worker (INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION).
            ValueError: no method was registered.
        """
        if not self._handlers:
            raise ValueError("the worker has no methods: register handlers with `@worker.method(NAME)`")
        del self._hello.methods[:]
        self._hello.methods.extend(sorted(self._handlers))
        pauses = redial_pauses()
        while not self._stopping.is_set():
            if await self._dial_once():
                pauses = redial_pauses()
            await self._rest(next(pauses))
        await asyncio.gather(*self._finishing)
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    async def stop(self) -> None:
        """Takes no more tasks; `run` returns once the tasks at hand are done."""
        self._stopping.set()
        if self._session is not None:
            self._session.say_goodbye()

    @property
    def _name(self) -> str:
        return f"worker {self._hello.worker_id} of {self._hello.participant}"

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _dial_once(self) -> bool:
        """Serves one stream until it ends; tells whether a coordinator has welcomed the worker.

        Raises:
            grpc.aio.AioRpcError: the coordinator does not want this worker, and no coordinator ever did.
        """
        session = self._session = _Session(self._hello, self._handle, self.connected)
        try:
            await self._serve(session)
        except grpc.aio.AioRpcError as error:
            if error.code() in _UNWANTED and not self._was_ever_welcome:
                raise
            log.warning("stream of %s ended: %s: %s", self._name, error.code().name, error.details())
        self._was_ever_welcome |= session.is_welcome
        return session.is_welcome

    async def _serve(self, session: _Session) -> None:
        try:
            async with self._dial() as channel:
                await session.run(channel)
        except asyncio.CancelledError:
            session.cancel()
            raise
        finally:
            self.connected.clear()
            finishing = asyncio.ensure_future(self._finish(session))
            self._finishing.add(finishing)
            finishing.add_done_callback(self._finishing.discard)

    async def _finish(self, session: _Session) -> None:
        """Lets tasks go on whose stream has ended, and reports their outcomes to whichever coordinator drives the saga."""
        outcomes = await session.finish()
        if not outcomes:
            return
        async with self._dial() as channel:
            report = saga_service_pb2_grpc.SagaServiceStub(channel).ReportOutcome
            for message, outcome in outcomes:
                request = _report_of(message, outcome)
                if request is None:
                    continue
                try:
                    await report(request, timeout=REPORT_SECONDS, wait_for_ready=True)
                except grpc.aio.AioRpcError as error:
                    told = (message.idempotency_key, error.code().name, error.details())
                    log.warning("outcome of %s was not reported: %s: %s", *told)

    def _dial(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, _OPTIONS)
        return grpc.aio.secure_channel(self._address, self._credentials, _OPTIONS)

    async def _handle(self, message: pb.Task) -> pb.TaskOutcome:
        """Performs one task, and turns whatever its handler raises into an outcome."""
        outcome = pb.TaskOutcome(task_id=message.task_id)
        try:
            handler = self._handlers.get(message.method)
            if handler is None:
                raise LookupError(f"this worker has no method {message.method!r}")
            output = await self._call(handler, Task(message))
            outcome.success.SetInParent()  # a success without an output is a success
            to_value(outcome.success.output, output)
        except Refused as refused:
            outcome.refused.code, outcome.refused.message = refused.code, str(refused)
        except Retry as retry:
            outcome.unknown.code, outcome.unknown.message = retry.code, str(retry)
            outcome.retry_after.FromTimedelta(timedelta(seconds=retry.after_seconds))
        except Pending:
            outcome.pending.SetInParent()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("task %s failed", message.idempotency_key)
            outcome.unknown.code = "UNKNOWN"
            outcome.unknown.message = f"{type(error).__name__}: {error}"
        return outcome

    async def _call(self, handler: Handler, task: Task) -> Any:
        if iscoroutinefunction(handler):
            return await handler(task)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(min(self._hello.credits, _THREADS))
        return await asyncio.get_running_loop().run_in_executor(self._threads, handler, task)


class _Session:
    """One stream, from the first word to the last outcome."""

    def __init__(
        self,
        hello: pb.Hello,
        handle: Callable[[pb.Task], Awaitable[pb.TaskOutcome]],
        welcomed: asyncio.Event,
    ) -> None:
        self._hello = hello
        self._handle = handle
        self._welcomed = welcomed
        self._outcomes: list[tuple[pb.Task, pb.TaskOutcome]] = []
        self._last_sent: list[tuple[pb.Task, pb.TaskOutcome]] = []
        self._running: set[asyncio.Future[None]] = set()
        self._has_something = asyncio.Event()
        self._is_leaving = False
        self._is_over = False
        self._heartbeat_seconds: float | None = None
        self._knows_success = False
        self.is_welcome = False

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Runs until the coordinator ends the stream. Raises AioRpcError if something else ends it."""
        call = worker_service_pb2_grpc.WorkerServiceStub(channel).Work(self._requests())
        try:
            async for response in call:
                self._take(response)
            self._last_sent = []  # it was taken
        finally:
            self._is_over = True
            self._has_something.set()
            call.cancel()

    def say_goodbye(self) -> None:
        """Takes no more tasks, and ends the stream after the last outcome."""
        self._is_leaving = True
        self._has_something.set()

    def cancel(self) -> None:
        """Gives up the tasks that are under way."""
        for task in self._running:
            task.cancel()

    async def finish(self) -> list[tuple[pb.Task, pb.TaskOutcome]]:
        """Waits for the tasks under way; returns the outcomes that the coordinator may not have heard."""
        await asyncio.gather(*self._running, return_exceptions=True)
        return self._last_sent + self._outcomes

    def _take(self, response: pb.WorkResponse) -> None:
        if response.HasField("welcome"):
            self.is_welcome = True
            self._knows_success = bool(response.welcome.version)
            interval = response.welcome.heartbeat_interval
            self._heartbeat_seconds = interval.seconds + interval.nanos / 1e9
            self._welcomed.set()
            self._has_something.set()
        for message in response.tasks:
            if self._is_leaving:
                returned = pb.TaskOutcome(task_id=message.task_id, returned=pb.TaskOutcome.Returned())
                self._tell(message, returned)
            else:
                task = asyncio.ensure_future(self._perform(message))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        for rejection in response.rejections:
            log.error("outcome of task %d was not taken: %s", rejection.task_id, rejection.message)

    def _tell(self, message: pb.Task, outcome: pb.TaskOutcome) -> None:
        if outcome.WhichOneof("outcome") == "success" and not self._knows_success:
            outcome.succeeded.CopyFrom(outcome.success.output)
        self._outcomes.append((message, outcome))
        self._has_something.set()

    async def _perform(self, message: pb.Task) -> None:
        performing = asyncio.current_task()
        assert performing is not None
        seconds = message.timeout.seconds + message.timeout.nanos / 1e9
        overdue = asyncio.get_running_loop().call_later(seconds, performing.cancel)
        try:
            outcome = await self._handle(message)
        except asyncio.CancelledError:
            outcome = pb.TaskOutcome(task_id=message.task_id)
            outcome.unknown.code = "DEADLINE_EXCEEDED"
            outcome.unknown.message = f"not done within {seconds:g} s"
        finally:
            overdue.cancel()
        self._running.discard(performing)
        self._tell(message, outcome)

    async def _requests(self) -> AsyncIterator[pb.WorkRequest]:
        """The messages to the coordinator; each has all outcomes that are known at the time."""
        yield pb.WorkRequest(hello=self._hello)
        await (
            self._has_something.wait()
        )  # the welcome, or an end; it tells how often there has to be a sign of life
        if not self._is_leaving:
            self._has_something.clear()
        has_said_goodbye = False
        while True:
            await self._wait_for_something()
            if self._is_over:
                return
            self._last_sent = self._outcomes_of_one_message()
            request = pb.WorkRequest(outcomes=[outcome for _, outcome in self._last_sent])
            if self._is_leaving and not has_said_goodbye:
                request.goodbye = has_said_goodbye = True
            elif not self._last_sent:
                request.heartbeat = True
            yield request
            if has_said_goodbye and not self._running and not self._outcomes:
                return

    def _outcomes_of_one_message(self) -> list[tuple[pb.Task, pb.TaskOutcome]]:
        """The outcomes of the next message: at least one, and no more than a coordinator takes at once."""
        size = count = 0
        for _, outcome in self._outcomes:
            size += outcome.ByteSize()
            if count and size > _OUTCOMES_BYTES_MAX:
                self._has_something.set()
                break
            count += 1
        sent, self._outcomes = self._outcomes[:count], self._outcomes[count:]
        return sent

    async def _wait_for_something(self) -> None:
        if not self._has_something.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._has_something.wait(), self._heartbeat_seconds)
        self._has_something.clear()


_UNWANTED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
"""The statuses by which a coordinator says that this worker is not one of its participants."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    # A task may be as large as the coordinator's own limit allows.
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # Each worker has a connection of its own, so that several in one program reach several coordinators.
    ("grpc.use_local_subchannel_pool", 1),
    # A coordinator that vanishes without a word is noticed within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def _report_of(message: pb.Task, outcome: pb.TaskOutcome) -> saga_service_pb2.ReportOutcomeRequest | None:
    """The request that reports an outcome; None for an unknown outcome, which the coordinator assumes already."""
    request = saga_service_pb2.ReportOutcomeRequest(token=message.token)
    match outcome.WhichOneof("outcome"):
        case "success":
            request.success.CopyFrom(outcome.success)
        case "succeeded":
            request.succeeded.CopyFrom(outcome.succeeded)
        case "refused":
            request.refused.CopyFrom(outcome.refused)
        case _:
            return None
    return request
