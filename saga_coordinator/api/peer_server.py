"""What coordinators of one database do for each other: `saga.internal.v1.ForwardService`, at an address of its own.

The public address will not do: coordinators on one machine share it, and who is reached there is chance.
"""

from __future__ import annotations

import socket

import grpc

from saga_coordinator.api.rpc import CallsInFlight, Context, handler_of
from saga_coordinator.api.server import listen
from saga_coordinator.lifecycle import Service
from saga_coordinator.participants.workers.pool import Workers
from saga_coordinator.pb.saga.internal.v1 import forward_service_pb2 as pb
from saga_coordinator.saga.words.errors import NotPossibleNow, Resource
from saga_coordinator.saga.words.outcome import Succeeded
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.wire.conversion import convert, size_of
from saga_coordinator.wire.outcomes import outcome_message
from saga_coordinator.wire.times import seconds_of

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ForwardService"]

_WILDCARDS = ("0.0.0.0", "[::]")  # noqa: S104  # replaced, not listened on


class ForwardService:
    """Hands tasks to the workers that are connected here."""

    def __init__(self, workers: Workers, coordinator_id: str) -> None:
        self._workers = workers
        self._coordinator_id = coordinator_id

    def resource(self, request: object) -> Resource | None:
        return None

    async def Forward(self, request: pb.ForwardRequest, context: Context) -> pb.ForwardResponse:  # noqa: N802  # the RPC's name
        if request.coordinator_id != self._coordinator_id:
            raise NotPossibleNow(
                Reason.OTHER_COORDINATOR,
                f"this is coordinator {self._coordinator_id}, not {request.coordinator_id}",
            )
        task = request.task
        timeout_seconds = seconds_of(task.timeout)
        outcome = await self._workers.invoke_here(request.participant, task, timeout_seconds)
        size = size_of(outcome.output) if isinstance(outcome, Succeeded) else 0
        return pb.ForwardResponse(outcome=await convert(size, outcome_message, outcome))


class PeerServer(Service):
    """Serves the other coordinators."""

    def __init__(self, workers: Workers, coordinator_id: str) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                # Tasks and outcomes have been through the limits of where they come from.
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ]
        )
        service = ForwardService(workers, coordinator_id)
        self._server.add_generic_rpc_handlers([handler_of(DESCRIPTOR, service, CallsInFlight())])

    def listen(self, address: str) -> str:
        """Takes `address`; returns the one by which others reach it.

        Raises:
            CannotListen: it is taken, or is none of this machine's.
        """
        host, _, port = listen(self._server, address).rpartition(":")
        return f"{socket.gethostname() if host in _WILDCARDS else host}:{port}"

    async def start(self) -> None:
        """Serves."""
        await self._server.start()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Ends what is under way."""
        await self._server.stop(None)
