"""The cheapest honest participant: one that answers every operation at once. It is not what is being measured.

python -m bench.participant contract 127.0.0.1:50051     saga.v1.ParticipantService
python -m bench.participant plain    127.0.0.1:50051     shop.v1.Inventory, which knows nothing of sagas
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio
import uvloop
from grpc_reflection.v1alpha import reflection
from order_fulfilment import shop_pb2
from saga_client.v1 import participant_service_pb2 as participant
from saga_client.v1 import participant_service_pb2_grpc as participant_grpc

HANG_SECONDS = 600.0
SLOW_SECONDS = 0.5


class Participant(participant_grpc.ParticipantServiceServicer):
    """Refuses the action of the step that the input names in `refuse`. A method `hang`, `slow` or `away` does as it says."""

    async def Execute(  # noqa: N802  # the RPC's name
        self, request: participant.ExecuteRequest, context: Any
    ) -> participant.ExecuteResponse:
        if request.method == "hang":
            await asyncio.sleep(HANG_SECONDS)
        if request.method == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        if request.method == "away":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as asked")
        if request.input.struct_value.fields["refuse"].string_value == request.step:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
        return participant.ExecuteResponse()

    async def Compensate(  # noqa: N802
        self, request: participant.CompensateRequest, context: Any
    ) -> participant.CompensateResponse:
        return participant.CompensateResponse()


async def _reserve(request: shop_pb2.ReserveRequest, context: Any) -> shop_pb2.ReserveResponse:
    """The order is `STEP/REFUSED STEP`, since a plain method is told of no saga."""
    step, _, refused = request.order_id.partition("/")
    if step == refused:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    return shop_pb2.ReserveResponse(reservation_id="reservation")


async def _release(request: shop_pb2.ReleaseRequest, context: Any) -> shop_pb2.ReleaseResponse:
    return shop_pb2.ReleaseResponse(released=[request.reservation_id])


def _add_plain(server: grpc.aio.Server) -> None:
    methods: dict[str, tuple[Any, Any, Any]] = {
        "Reserve": (_reserve, shop_pb2.ReserveRequest, shop_pb2.ReserveResponse),
        "Release": (_release, shop_pb2.ReleaseRequest, shop_pb2.ReleaseResponse),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
        for name, (behaviour, request, response) in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.v1.Inventory", handlers),))
    reflection.enable_server_reflection(["shop.v1.Inventory", reflection.SERVICE_NAME], server)


async def serve(kind: str, address: str) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if kind == "plain":
        _add_plain(server)
    else:
        participant_grpc.add_ParticipantServiceServicer_to_server(Participant(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:3]))
