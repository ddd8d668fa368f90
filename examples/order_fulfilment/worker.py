"""The services as workers: they dial the coordinator and take their tasks from a stream, and need no port of their own."""

import asyncio
import logging
import threading
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest
from saga_client.worker import Refused, Task, Worker

from order_fulfilment import guard
from order_fulfilment.service import STOP_SECONDS, THREADS_MAX, Participant, Server

# Answers by which the service says no; after any other the task comes again.
REFUSALS = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)

logger = logging.getLogger(__name__)


class NotNow(Exception):
    """The service cannot say what became of the task, or cannot do it now."""


def worker_of(name: str, participant: Participant, coordinator: str) -> Worker:
    """A worker that performs a participant's operations."""
    worker = Worker(coordinator, name, credits=THREADS_MAX)
    for method in participant.actions:
        worker.method(method)(lambda task: _perform(participant, task))
    for method in participant.compensations:
        worker.method(method)(lambda task: _perform(participant, task))
    return worker


def _perform(participant: Participant, task: Task) -> dict[str, Any] | None:
    about: dict[str, Any] = {
        "idempotency_key": task.idempotency_key,
        "method": task.message.method,
        "attempt": task.message.attempt,
        "input": task.message.input,
    }
    if task.is_compensation:
        undoes = task.action_idempotency_key
        answer = participant.compensate(CompensateRequest(**about, action_idempotency_key=undoes))
    else:
        answer = participant.execute(ExecuteRequest(**about))
    return _told(answer)


def _told(answer: guard.Answer) -> dict[str, Any] | None:
    if answer.code is grpc.StatusCode.OK:
        return answer.output
    if answer.code in REFUSALS:
        raise Refused(answer.message, answer.code.name)
    raise NotNow(f"{answer.code.name}: {answer.message}")


class Dialling:
    """A worker in a thread of its own. Its health, for those who look after processes, is told at an address."""

    def __init__(self, worker: Worker, server: Server) -> None:
        self._worker = worker
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="worker")

    @classmethod
    def start(cls, name: str, participant: Participant, coordinator: str, address: str) -> "Dialling":
        """Raises RuntimeError when the address is taken."""
        server = Server.serve(address, lambda _: None)
        server.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        dialling = cls(worker_of(name, participant, coordinator), server)
        dialling._thread.start()
        return dialling

    def stop(self) -> None:
        """Takes no more tasks, and returns once those that it has are done."""
        asyncio.run_coroutine_threadsafe(self._worker.stop(), self._loop).result(STOP_SECONDS)
        self._thread.join(STOP_SECONDS)
        self._server.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._work())

    async def _work(self) -> None:
        telling = asyncio.ensure_future(self._tell_when_connected())
        try:
            await self._worker.run()
        finally:
            telling.cancel()

    async def _tell_when_connected(self) -> None:
        await self._worker.connected.wait()
        logger.info("connected")
        self._server.health.set("", health_pb2.HealthCheckResponse.SERVING)
