"""The public gRPC server: its services, its readiness and its stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from saga_coordinator import telemetry
from saga_coordinator.api import (
    definition_service,
    directory_service,
    operator_service,
    saga_service,
    worker_service,
)
from saga_coordinator.api import health as health_service
from saga_coordinator.api.answering import CallsInFlight, RpcService, handler_of
from saga_coordinator.api.health import HealthService
from saga_coordinator.api.listening import SocketRights, listen
from saga_coordinator.api.reflection import ReflectionService, described_services
from saga_coordinator.lifecycle import Background, Kept, Service

READINESS_SECONDS = 0.5
"""How often it is looked whether requests would be served."""

SENDING_SECONDS = 0.2
"""How long the last answers may take to leave when the server stops."""

_NEVER_SECONDS = 10 * 365 * 86400.0

log = telemetry.logger()


Problems = Callable[[str], Iterable[str]]
"""What keeps the requests of a service, named in full, from being answered at this moment."""


@dataclass(frozen=True, slots=True)
class Served:
    """The services of the API."""

    definitions: definition_service.DefinitionService
    sagas: saga_service.SagaService
    workers: worker_service.WorkerService
    directory: directory_service.DirectoryService
    operators: operator_service.OperatorService

    @property
    def described(self) -> tuple[tuple[ServiceDescriptor, RpcService], ...]:
        """Each service, with its part of the contract."""
        return (
            (definition_service.DESCRIPTOR, self.definitions),
            (saga_service.DESCRIPTOR, self.sagas),
            (worker_service.DESCRIPTOR, self.workers),
            (directory_service.DESCRIPTOR, self.directory),
            (operator_service.DESCRIPTOR, self.operators),
        )


class Server(Service):
    """Serves the RPCs. In its health, the empty name tells that the process lives, a service's name that it is served now."""

    def __init__(
        self, served: Served, *, problems: Problems, payload_bytes_max: int, shares_port: bool
    ) -> None:
        """Takes in `problems` a function that tells what keeps a service's requests from being answered now."""
        self._server = grpc.aio.server(options=_options(payload_bytes_max, shares_port))
        self._problems = problems
        self._health = HealthService()
        self._calls = CallsInFlight()
        self._sagas = served.sagas
        self._workers = served.workers
        self._services = tuple(descriptor.full_name for descriptor, _ in served.described)
        self._is_ready: dict[str, bool] = {}
        self._background = Background()
        self._stopping = Background()
        self._server.add_generic_rpc_handlers(
            [
                handler_of(descriptor, service, self._calls, payload_bytes_max)
                for descriptor, service in served.described
            ]
        )
        self._serve_beside()

    def listen(self, addresses: Sequence[str], rights: SocketRights) -> tuple[str, ...]:
        """Listens on all `addresses`, with `rights` for unix sockets; returns them with the actual ports for port 0.

        Raises:
            CannotListen: one of the addresses cannot be listened on.
        """
        return tuple(listen(self._server, address, rights) for address in addresses)

    async def start(self) -> None:
        """Serves at the addresses listened on."""
        await self._look()
        await self._server.start()
        self._background.keep("readiness", self._watch_readiness)

    def _serve_beside(self) -> None:
        """Adds health and reflection. Their streams go on until the server stops, so the stop does not wait for them."""
        endless = CallsInFlight()
        reflection = ReflectionService([*self._services, health_service.DESCRIPTOR.full_name])
        self._server.add_generic_rpc_handlers(
            [
                handler_of(health_service.DESCRIPTOR, self._health, endless),
                *(handler_of(descriptor, reflection, endless) for descriptor in described_services()),
            ]
        )

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Says NOT_SERVING, takes no more calls, answers the waiting calls, and gives the others `grace_seconds` to end."""
        await self._background.stop()
        await self._health.end()
        self._sagas.stop_waiting()
        self._workers.hand_out_no_more()
        # gRPC's own time limit is never reached: the process would crash if it were while another stop is under way.
        stopping = self._stopping.begin("stop", self._server.stop(_NEVER_SECONDS))
        answering = self._stopping.begin("last answers", self._calls.wait())
        await asyncio.wait([stopping, answering], timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        # Only answers being sent are left, and streams that watch the health, which would go on as long as they may.
        await asyncio.wait([stopping], timeout=min(grace_seconds, SENDING_SECONDS))
        await self._server.stop(None)
        await stopping

    async def _watch_readiness(self, kept: Kept) -> None:
        while True:
            await asyncio.sleep(READINESS_SECONDS)
            await self._look()
            kept.turned()

    async def _look(self) -> None:
        for service in self._services:
            reasons = _asked(self._problems, service)
            is_ready = not reasons
            was_ready = self._is_ready.get(service)
            if is_ready is was_ready:
                continue
            await self._health.set(service, is_serving=is_ready)
            self._is_ready[service] = is_ready
            if was_ready is not None or not is_ready:
                tell = log.info if is_ready else log.warning
                tell("readiness_changed", service=service, is_ready=is_ready, reasons=reasons)


def _asked(problems: Problems, service: str) -> list[str]:
    """The problems of a service now. If they cannot be told, that is a problem, too."""
    try:
        return list(problems(service))
    except Exception as error:  # a defect, which must not leave an old answer standing
        log.exception("readiness_unknown", exc_info=error)
        return ["it cannot be told what is wrong"]


def _options(payload_bytes_max: int, shares_port: bool) -> list[tuple[str, int]]:
    # More than a payload may have, so that a payload that is too large is refused in words and ends no worker's stream.
    message_bytes_max = min(4 * payload_bytes_max + 4 * 1024 * 1024, 2**31 - 1)
    return [
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", -1),
        # Otherwise a second process on the same port would not be refused, and each would get some of the calls.
        ("grpc.so_reuseport", int(shares_port)),
        # Clients may keep idle connections alive through proxies that would drop them.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # As for the calls made: no pings to measure each connection by, and a window that most messages fit in.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 1024 * 1024),
    ]
