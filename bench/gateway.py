"""The scenario's participants in one process, with books: a payment gateway with moods, and four that do as they are told.

    python -m bench.gateway 127.0.0.1:50051

A charge takes 30 ms; in a slow minute 1.5 s. Two of a hundred fail: one is declined, one has taken effect and says UNAVAILABLE.
Which ones is settled by the saga's identity, so that an attempt repeated after the failure succeeds.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from typing import Any, Final

import grpc
import grpc.aio
import uvloop
from google.protobuf.struct_pb2 import Struct, Value
from saga_client.v1 import participant_service_pb2 as participant
from saga_client.v1 import participant_service_pb2_grpc as participant_grpc

USUAL_SECONDS: Final = 0.03
SLOW_SECONDS: Final = 1.5
FAILING_PERCENT: Final = 2


class Gateway(participant_grpc.ParticipantServiceServicer):
    """Keeps which saga has which step's effect. The method `books` answers their counts, `mood` makes it slow or not."""

    def __init__(self) -> None:
        self._effects: dict[str, set[str]] = {}
        self._is_slow = False
        self._counts = {"declined": 0, "unavailable": 0, "undone": 0}

    async def Execute(  # noqa: N802  # the RPC's name
        self, request: participant.ExecuteRequest, context: Any
    ) -> participant.ExecuteResponse:
        if request.method == "mood":
            self._is_slow = request.input.bool_value
        elif request.method == "books":
            return participant.ExecuteResponse(output=self._books())
        elif request.step == "charge":
            await self._charge(request, context)
        else:
            self._effects.setdefault(request.step, set()).add(request.saga_id)
        return participant.ExecuteResponse()

    async def _charge(self, request: participant.ExecuteRequest, context: Any) -> None:
        await asyncio.sleep(SLOW_SECONDS if self._is_slow else USUAL_SECONDS)
        draw = 100 * int.from_bytes(hashlib.sha256(request.saga_id.encode()).digest()[:4]) / 2**32
        if draw < FAILING_PERCENT / 2:
            self._counts["declined"] += 1
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "card declined")
        self._effects.setdefault("charge", set()).add(request.saga_id)
        if draw < FAILING_PERCENT and request.attempt == 1:
            self._counts["unavailable"] += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "upstream connect error")

    async def Compensate(  # noqa: N802
        self, request: participant.CompensateRequest, context: Any
    ) -> participant.CompensateResponse:
        self._counts["undone"] += 1
        self._effects.setdefault(request.step, set()).discard(request.saga_id)
        return participant.CompensateResponse()

    def _books(self) -> Value:
        fields = Struct()
        fields.update({**self._counts, **{step: len(sagas) for step, sagas in self._effects.items()}})
        return Value(struct_value=fields)


async def serve(address: str) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    participant_grpc.add_ParticipantServiceServicer_to_server(Gateway(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
