"""Participants as other teams write them, and the calls that the core asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.tls import Tls
from saga_coordinator.pb.saga.v1 import participant_service_pb2_grpc as stubs
from saga_coordinator.pb.saga.v1.participant_service_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.wire.payload import to_value

PAYLOAD_BYTES_MAX = 20_000

Context = grpc.aio.ServicerContext[Any, Any]
Answer = Callable[[Any, Context], Awaitable[Message | bytes]]
Serve = Callable[..., Awaitable[str]]
Connect = Callable[..., Attempts]


@dataclass(frozen=True)
class Received:
    """One call as a participant saw it."""

    request: ExecuteRequest | CompensateRequest
    metadata: dict[str, str]
    peer: str
    time_remaining: float


def invoke(
    operation: OperationKind = OperationKind.ACTION,
    *,
    participant: str = "inventory",
    method: str = "reserve-stock",
    attempt: int = 1,
    payload: Any = None,
    timeout_seconds: float = 10.0,
    failure: Cause | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Invoke:
    """An effect of the core, as a saga's step `reserve` makes it."""
    saga_id = "0198c2aa-1111-7222-8333-444455556666"
    return Invoke(
        saga_id=saga_id,
        step="reserve",
        operation=operation,
        attempt=attempt,
        idempotency_key=idempotency_key(saga_id, "reserve", operation),
        participant=participant,
        method=method,
        input=payload,
        timeout_seconds=timeout_seconds,
        failure=failure,
        headers=headers,
    )


def directory(tls: Tls | None = None, /, **targets: str) -> Directory:
    participants = {name: Participant(name, target, tls) for name, target in targets.items()}
    return Directory(None, MappingProxyType(participants))


def output(payload: Any) -> ExecuteResponse:
    return ExecuteResponse(output=to_value(payload))


class Service(stubs.ParticipantServiceServicer):
    def __init__(self, answer: Answer, received: list[Received]) -> None:
        self._answer = answer
        self._received = received

    async def Execute(self, request: ExecuteRequest, context: Any) -> Any:  # noqa: N802  # the contract's name
        return await self._take(request, context)

    async def Compensate(self, request: CompensateRequest, context: Any) -> Any:  # noqa: N802
        return await self._take(request, context)

    async def _take(self, request: ExecuteRequest | CompensateRequest, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        self._received.append(Received(request, metadata, context.peer(), context.time_remaining()))
        return await self._answer(request, context)


async def say_ok(request: ExecuteRequest | CompensateRequest, context: Context) -> Message:
    return CompensateResponse() if isinstance(request, CompensateRequest) else ExecuteResponse()
