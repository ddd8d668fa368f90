"""The floor of every gRPC sidecar in this language: the same calls in and out, and nothing between. Nothing is remembered.

python -m bench.relay 127.0.0.1:7242 127.0.0.1:50051     serves StartSaga there, calls the participant here
"""

from __future__ import annotations

import sys
import uuid
from typing import Any, Final

import grpc
import grpc.aio
import uvloop
from grpc_health.v1 import health, health_pb2_grpc
from saga_client.v1 import participant_service_pb2 as participant
from saga_client.v1 import participant_service_pb2_grpc as participant_grpc
from saga_client.v1 import saga_pb2 as saga
from saga_client.v1 import saga_service_pb2 as sagas

from bench.load import STEPS

_TIMEOUT_SECONDS: Final = 10.0


class Relay:
    """The definition's last character says how many steps: `relay-2`, `relay-3`."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def start_saga(self, request: sagas.StartSagaRequest, context: Any) -> sagas.StartSagaResponse:
        saga_id = str(uuid.uuid4())
        done: list[participant.ExecuteRequest] = []
        status = saga.SAGA_STATUS_COMPLETED
        try:
            for step in STEPS[: int(request.definition[-1])]:
                call = participant.ExecuteRequest(
                    idempotency_key=f"{saga_id}/{step}",
                    saga_id=saga_id,
                    step=step,
                    method="perform",
                    attempt=1,
                    input=request.input,
                )
                await self._stub.Execute(call, timeout=_TIMEOUT_SECONDS)
                done.append(call)
        except grpc.aio.AioRpcError:
            for call in reversed(done):
                undo = participant.CompensateRequest(
                    idempotency_key=f"{call.idempotency_key}/undo",
                    saga_id=saga_id,
                    step=call.step,
                    method="perform",
                    attempt=1,
                    input=request.input,
                    action_idempotency_key=call.idempotency_key,
                )
                await self._stub.Compensate(undo, timeout=_TIMEOUT_SECONDS)
            status = saga.SAGA_STATUS_COMPENSATED
        answer = saga.Saga(saga_id=saga_id, definition=request.definition, start_key=request.start_key)
        answer.status = status
        return sagas.StartSagaResponse(saga=answer, created=True)


async def serve(address: str, target: str) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    async with grpc.aio.insecure_channel(target) as channel:
        start = grpc.unary_unary_rpc_method_handler(
            Relay(participant_grpc.ParticipantServiceStub(channel)).start_saga,
            request_deserializer=sagas.StartSagaRequest.FromString,
            response_serializer=sagas.StartSagaResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler("saga.v1.SagaService", {"StartSaga": start})
        server.add_generic_rpc_handlers((handler,))
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        server.add_insecure_port(address)
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:3]))
