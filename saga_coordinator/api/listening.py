"""Makes a server listen on ports and unix sockets, sets who may connect, and tells why an address cannot be used."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from saga_coordinator.saga.words.errors import SagaError

_WAYS_OUT = {
    errno.EADDRINUSE: "; end the process that listens there, perhaps another coordinator, or name another address by --address",
    errno.EADDRNOTAVAIL: "; name an address that this machine has by --address",
}
"""What to do about an error of the system."""


class CannotListen(SagaError):
    """An address cannot be listened on; the message says why."""


@dataclass(frozen=True, slots=True)
class SocketRights:
    """The rights to connect to a unix socket: its mode, as for chmod, and its group; None means this process's group."""

    mode: int = 0o600
    group: int | None = None


def listen(server: grpc.aio.Server, address: str, rights: SocketRights | None = None) -> str:
    """Makes `server` listen on `address`; returns the address, with the actual port for port 0. Raises CannotListen."""
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
    """Limits the mode of a socket that gRPC creates meanwhile to `mode`, from its first moment."""
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
    """Makes sure that nothing in use is at the path: gRPC removes any socket there, even one that another process listens on."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise CannotListen(f"cannot listen on {address}: a file of that name exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                return  # left behind by a process that is gone
        raise CannotListen(f"cannot listen on {address}: another process does")


def _why_not(address: str) -> str | None:
    """The system's reason against the address, which gRPC only writes to its own log; None if there is no reason."""
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
        return "this user may not listen there; ports below 1024 are reserved for the administrator"
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else str(error)
        way_out = _WAYS_OUT.get(error.errno or 0, "")
        return f"{said[:1].lower()}{said[1:]}{way_out}"
    return None


def check_addresses(addresses: Sequence[str]) -> None:
    """Checks that `addresses` could be listened on now, without doing so.

    Raises:
        CannotListen: one of the addresses cannot be listened on.
    """
    for address in addresses:
        if address.startswith("unix:"):
            _make_way(Path(address.removeprefix("unix:")), address)
        elif (reason := _why_not(address)) is not None:
            raise CannotListen(f"cannot listen on {address}: {reason}")
