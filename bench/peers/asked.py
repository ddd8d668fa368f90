"""What the Python peers share: the participant that their steps call, and being driven by lines on standard input.

A library has no server to be asked over the wire: its customers are in the same process, as its documentation has them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.struct_pb2 import Struct, Value
from saga_client.v1 import participant_service_pb2 as participant
from saga_client.v1 import participant_service_pb2_grpc as participant_grpc

STEPS = ("first", "second", "third")


class Refused(Exception):
    """The participant decided no."""


class Participant:
    """The same service that all systems call, over gRPC."""

    def __init__(self, target: str) -> None:
        self._stub: Any = participant_grpc.ParticipantServiceStub(grpc.aio.insecure_channel(target))

    async def act(self, saga_id: str, step: str, refused: str) -> str:
        """Raises Refused."""
        fields = Struct()
        fields.update({"refuse": refused, "order": 1})
        key = f"{saga_id}/{step}"
        request = participant.ExecuteRequest(
            idempotency_key=key,
            saga_id=saga_id,
            step=step,
            method="perform",
            attempt=1,
            input=Value(struct_value=fields),
        )
        try:
            await self._stub.Execute(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise Refused(str(error.details())) from None
            raise
        return key

    async def undo(self, saga_id: str, step: str) -> None:
        request = participant.CompensateRequest(
            idempotency_key=f"{saga_id}/{step}/undo",
            saga_id=saga_id,
            step=step,
            method="perform",
            attempt=1,
            action_idempotency_key=f"{saga_id}/{step}",
        )
        await self._stub.Compensate(request, timeout=10)


async def serve(run: Callable[[str, str], Awaitable[str]]) -> None:
    """Drives `run(saga_id, refused_step)`, which returns how the saga ended, as each line of standard input says."""
    numbers = itertools.count()
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer = await _drive(run, asked, f"{time.time_ns()}", numbers)
        except Exception as error:  # what is wrong with it belongs into the table
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


async def _drive(
    run: Callable[[str, str], Awaitable[str]],
    asked: dict[str, Any],
    prefix: str,
    numbers: itertools.count[int],
) -> dict[str, Any]:
    is_rollback = asked["outcome"] == "rollback"
    refused, expected = (STEPS[-1], "compensated") if is_rollback else ("", "completed")
    latencies: list[float] = []
    began = time.perf_counter()
    until = began + asked["seconds"]

    async def customer() -> None:
        while (sent := time.perf_counter()) < until:
            ended = await run(f"saga-{prefix}-{next(numbers)}", refused)
            if ended != expected:
                raise RuntimeError(f"a saga ended as {ended}")
            latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*(customer() for _ in range(asked["in_flight"])))
    return {"seconds": time.perf_counter() - began, "latencies": latencies}
