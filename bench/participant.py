"""The cheapest honest participant: one that answers every operation at once. It is not what is being measured."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc.aio
from saga_client.v1 import participant_service_pb2 as participant
from saga_client.v1 import participant_service_pb2_grpc as participant_grpc


class Participant(participant_grpc.ParticipantServiceServicer):
    """Refuses the action of the step that the saga's input names in `refuse`, so that rollbacks can be measured too."""

    async def Execute(  # noqa: N802  # the RPC's name
        self, request: participant.ExecuteRequest, context: Any
    ) -> participant.ExecuteResponse:
        if request.input.struct_value.fields["refuse"].string_value == request.step:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
        return participant.ExecuteResponse()

    async def Compensate(  # noqa: N802
        self, request: participant.CompensateRequest, context: Any
    ) -> participant.CompensateResponse:
        return participant.CompensateResponse()


async def serve(address: str) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    participant_grpc.add_ParticipantServiceServicer_to_server(Participant(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
