"""The server for the other coordinators of the same database, at an address of its own.

The public address cannot be used: coordinators on one machine share it, and it is chance which of them a call reaches.
"""

from __future__ import annotations

import socket

import grpc

from saga_coordinator.api import forward_service
from saga_coordinator.api.answering import CallsInFlight, handler_of
from saga_coordinator.api.listening import listen
from saga_coordinator.lifecycle import Service
from saga_coordinator.participants.workers.workers import Workers

_WILDCARDS = ("0.0.0.0", "[::]")  # noqa: S104  # replaced, not listened on


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
        service = forward_service.ForwardService(workers, coordinator_id)
        self._server.add_generic_rpc_handlers(
            [handler_of(forward_service.DESCRIPTOR, service, CallsInFlight())]
        )

    def listen(self, address: str) -> str:
        """Listens on `address`; returns the address by which other coordinators reach this one.

        Raises:
            CannotListen: the address is taken, or does not belong to this machine.
        """
        host, _, port = listen(self._server, address).rpartition(":")
        return f"{socket.gethostname() if host in _WILDCARDS else host}:{port}"

    async def start(self) -> None:
        """Serves."""
        await self._server.start()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Ends the calls that are under way."""
        await self._server.stop(None)
