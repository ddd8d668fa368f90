"""Real gRPC servers, on loopback and on unix sockets, and the room's own front."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest

from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.pb.saga.v1 import participant_service_pb2_grpc as stubs
from tests.integration.participants.plain_services import (
    FILES,
    Handler,
    PlainServer,
    ServePlain,
    start_plain,
)
from tests.integration.participants.services import (
    PAYLOAD_BYTES_MAX,
    Answer,
    Connect,
    Context,
    Received,
    Serve,
    Service,
    directory,
    say_ok,
)


@pytest.fixture
def received() -> list[Received]:
    """The calls that all services of a test have received."""
    return []


@pytest.fixture
async def serve(received: list[Received]) -> AsyncIterator[Serve]:
    """Starts a participant and says its target. `answer` says OK unless told otherwise."""
    servers: list[grpc.aio.Server] = []

    async def start(
        answer: Answer = say_ok,
        address: str = "127.0.0.1:0",
        credentials: grpc.ServerCredentials | None = None,
    ) -> str:
        server = grpc.aio.server(
            options=[("grpc.max_metadata_size", 2**24), ("grpc.absolute_max_metadata_size", 2**24)]
        )
        servers.append(server)
        stubs.add_ParticipantServiceServicer_to_server(Service(answer, received), server)
        credentials = credentials or grpc.insecure_server_credentials()
        port = server.add_secure_port(address, credentials)
        await server.start()
        return address if address.startswith("unix:") else f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def serve_bytes() -> AsyncIterator[Serve]:
    """Starts a participant that replies with the bytes given, whatever they are."""
    servers: list[grpc.aio.Server] = []

    async def start(reply: bytes) -> str:
        async def answer(request: bytes, context: Context) -> bytes:
            return reply

        server = grpc.aio.server()
        servers.append(server)
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "saga.v1.ParticipantService", {"Execute": handler, "Compensate": handler}
                )
            ]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def serve_plain() -> AsyncIterator[ServePlain]:
    """Starts services that know nothing of sagas: an inventory unless told otherwise."""
    servers: list[PlainServer] = []

    async def start(
        handlers: Mapping[str, Handler],
        files: Mapping[str, str] = FILES,
        service: str = "shop.v1.Inventory",
        **options: Any,
    ) -> PlainServer:
        servers.append(await start_plain(files, service, handlers, **options))
        return servers[-1]

    yield start
    for running in servers:
        await running.server.stop(None)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Participants that live where the keyword arguments say, closed with the test."""
    opened: list[Attempts] = []

    def open_directory(known: Directory | None = None, **targets: str) -> Attempts:
        opened.append(Attempts(known or directory(**targets), payload_bytes_max=PAYLOAD_BYTES_MAX))
        return opened[-1]

    yield open_directory
    for participants in opened:
        await participants.stop(grace_seconds=0)
