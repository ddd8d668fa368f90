"""The gRPC server: where it listens, what it serves, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from saga_coordinator import telemetry
from saga_coordinator.api import definition_service, directory_service, saga_service, worker_service
from saga_coordinator.api import health as health_service
from saga_coordinator.api.health import HealthService
from saga_coordinator.api.reflection import ReflectionService, described_services
from saga_coordinator.api.rpc import CallsInFlight, handler_of
from saga_coordinator.api.rpc import Service as RpcService
from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.saga.words.errors import SagaError

READINESS_SECONDS = 0.5
"""How often it is looked whether requests would be served."""

SENDING_SECONDS = 0.2
"""How long the last answers may take to leave when the server stops."""

log = telemetry.logger()


Problems = Callable[[str], Iterable[str]]
"""What keeps the requests of a service, named in full, from being answered at this moment."""


class CannotListen(SagaError):
    """An address cannot be listened on; the message says why."""


@dataclass(frozen=True, slots=True)
class SocketRights:
    """Who may connect to a unix socket: its mode, as for chmod, and its group; None: this process's own."""

    mode: int = 0o600
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """The services of the API."""

    definitions: definition_service.DefinitionService
    sagas: saga_service.SagaService
    workers: worker_service.WorkerService
    directory: directory_service.DirectoryService

    @property
    def described(self) -> tuple[tuple[ServiceDescriptor, RpcService], ...]:
        """Each with its part of the contract."""
        return (
            (definition_service.DESCRIPTOR, self.definitions),
            (saga_service.DESCRIPTOR, self.sagas),
            (worker_service.DESCRIPTOR, self.workers),
            (directory_service.DESCRIPTOR, self.directory),
        )


class Server(Service):
    """Serves the RPCs. Health: the empty name says that the process lives, a service's that it would be served now."""

    def __init__(
        self, served: Served, *, problems: Problems, payload_bytes_max: int, shares_port: bool
    ) -> None:
        """`problems`: what keeps the requests of a service from being answered now."""
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
        """Takes all `addresses`, the unix sockets among them with `rights`; returns them with the ports that port 0 has become.

        Raises:
            CannotListen: on one of them.
        """
        return tuple(listen(self._server, address, rights) for address in addresses)

    async def start(self) -> None:
        """Serves at the addresses listened on."""
        await self._look()
        await self._server.start()
        self._background.keep("readiness", self._watch_readiness)

    def _serve_beside(self) -> None:
        """Health and reflection, whose streams go on until the server stops: nobody waits for their ends."""
        endless = CallsInFlight()
        reflection = ReflectionService([*self._services, health_service.DESCRIPTOR.full_name])
        self._server.add_generic_rpc_handlers(
            [
                handler_of(health_service.DESCRIPTOR, self._health, endless),
                *(handler_of(descriptor, reflection, endless) for descriptor in described_services()),
            ]
        )

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Says NOT_SERVING, takes no more calls, answers those that wait, and gives the others `grace_seconds` to end."""
        await self._background.stop()
        await self._health.end()
        self._sagas.stop_waiting()
        self._workers.hand_out_no_more()
        stopping = self._stopping.begin("stop", self._server.stop(grace_seconds))
        answering = self._stopping.begin("last answers", self._calls.wait())
        await asyncio.wait([stopping, answering], return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        # What is left are streams that watch the health, which would go on as long as they may, and answers being sent.
        await self._server.stop(min(grace_seconds, SENDING_SECONDS))
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


def check_addresses(addresses: Sequence[str]) -> None:
    """Looks whether `addresses` could be listened on now, without doing so.

    Raises:
        CannotListen: on one of them.
    """
    for address in addresses:
        if address.startswith("unix:"):
            _make_way(Path(address.removeprefix("unix:")), address)
        elif (reason := _why_not(address)) is not None:
            raise CannotListen(f"cannot listen on {address}: {reason}")


def _asked(problems: Problems, service: str) -> list[str]:
    """What is wrong now; that it cannot be told is wrong as well."""
    try:
        return list(problems(service))
    except Exception as error:  # a defect, which must not leave an old answer standing
        log.exception("readiness_unknown", exc_info=error)
        return ["it cannot be told what is wrong"]


def _options(payload_bytes_max: int, shares_port: bool) -> list[tuple[str, int]]:
    # More than a payload may have, so that one that is too large is refused in words, and a worker's stream does not end of it.
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


def listen(server: grpc.aio.Server, address: str, rights: SocketRights | None = None) -> str:
    """Has `server` take `address`; returns it with the port that port 0 has become. Raises CannotListen."""
    rights = rights or SocketRights()
    if address.startswith("unix:"):
        _make_way(Path(address.removeprefix("unix:")), address)
    try:
        with _created_with(rights.mode):
            port = server.add_insecure_port(address)
    except RuntimeError:
        reason = _why_not(address) or "gRPC did not say why"
        raise CannotListen(f"cannot listen on {address}: {reason}") from None
    if address.startswith("unix:"):
        _give_to(rights, address)
        return address
    return f"{address.rpartition(':')[0]}:{port}"


@contextlib.contextmanager
def _created_with(mode: int) -> Iterator[None]:
    """A socket that gRPC makes meanwhile never lets in more than `mode` does, not even for a moment."""
    before = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(before)


def _give_to(rights: SocketRights, address: str) -> None:
    """Sets the socket's group and mode, in this order: a change of the group may clear bits of the mode."""
    path = Path(address.removeprefix("unix:"))
    try:
        if rights.group is not None:
            os.chown(path, -1, rights.group)
        path.chmod(rights.mode)
    except OSError as error:
        reason = f"its group or mode cannot be set: {error.strerror}"
        if isinstance(error, PermissionError):
            reason += "; only a member of the group, or root, may give the socket to it"
        raise CannotListen(f"cannot listen on {address}: {reason}") from None


def _make_way(path: Path, address: str) -> None:
    """gRPC removes any socket that it finds at the path, also one that another process is listening on."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise CannotListen(f"cannot listen on {address}: there is a file of that name which is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                return  # left behind by a process that is gone
        raise CannotListen(f"cannot listen on {address}: another process does")


def _why_not(address: str) -> str | None:
    """The system's reason, which gRPC only writes to its own log; None when it has nothing against it."""
    try:
        if address.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(address.removeprefix("unix:"))
            return None
        host, _, port = address.rpartition(":")
        for family, kind, protocol, _, target in socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(target)
    except socket.gaierror:
        return "the host's name has no address"
    except PermissionError:
        return "this user may not; ports below 1024 are the administrator's"
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else str(error)
        return f"{said[:1].lower()}{said[1:]}"
    return None
