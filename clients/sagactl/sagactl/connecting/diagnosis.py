"""Says in words why a server cannot be reached: gRPC itself says the same for a closed port, TLS on one side and a web server."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from sagactl.connecting.connection import Connection

_SECONDS = 3.0


def why_unreachable(connection: Connection) -> str | None:
    """What keeps gRPC from the address, found by connecting once more without it. None: nothing that can be found so."""
    try:
        with _connected(connection) as plain:
            return _of_tls(connection, plain) if connection.is_tls else _of_plain(connection, plain)
    except OSError as error:
        return (
            f"nothing listens at {connection.address} ({error.strerror or error}); name another one with --address or "
            "--context"
        )


def _connected(connection: Connection) -> socket.socket:
    if connection.address.startswith("unix:"):
        found = socket.socket(socket.AF_UNIX)
        try:
            found.settimeout(_SECONDS)
            found.connect(connection.address.removeprefix("unix:").removeprefix("//"))
        except OSError:
            found.close()
            raise
        return found
    host, _, port = connection.target.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS)


def _context(connection: Connection) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=connection.ca_file or None)
    context.set_alpn_protocols(["h2"])
    if connection.cert_file and Path(connection.cert_file).exists() and Path(connection.key_file).exists():
        context.load_cert_chain(connection.cert_file, connection.key_file)
    return context


def _name(connection: Connection) -> str:
    """The name that the certificate must have."""
    return connection.server_name or connection.target.rpartition(":")[0].strip("[]")


def _of_tls(connection: Connection, plain: socket.socket) -> str | None:
    try:
        with _context(connection).wrap_socket(plain, server_hostname=_name(connection)):
            return None
    except ssl.SSLCertVerificationError as error:
        return (
            f"the certificate of {connection.address} is not trusted: {error.verify_message}; name its root with --ca-file, "
            "and its name with --server-name"
        )
    except ssl.SSLError as error:
        if error.reason in (
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "PACKET_LENGTH_TOO_LONG",
            "RECORD_LAYER_FAILURE",
        ):
            return f"{connection.address} does not speak TLS; leave out --tls and the certificates, or say --plaintext"
        return f"{connection.address} refuses TLS: {error.reason or error}"
    except OSError:  # it closed the connection at the first word
        return f"{connection.address} does not speak TLS; leave out --tls and the certificates, or say --plaintext"


def _of_plain(connection: Connection, plain: socket.socket) -> str | None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: it is only asked whether this is TLS
    try:
        with context.wrap_socket(plain):
            return f"{connection.address} speaks TLS; say --tls, and --ca-file if its root is your own"
    except ssl.SSLError as error:
        if "ALERT" in str(error.reason):
            return f"{connection.address} speaks TLS; say --tls, and --ca-file if its root is your own"
    except OSError:
        pass
    return f"what listens at {connection.address} does not answer as a gRPC server; is the port right?"


def certificate_ends_at(connection: Connection) -> datetime | None:
    """When the server's certificate ends; None if it cannot be read, as where it is not trusted."""
    try:
        with (
            _connected(connection) as plain,
            _context(connection).wrap_socket(plain, server_hostname=_name(connection)) as secured,
        ):
            ends = str((secured.getpeercert() or {}).get("notAfter", ""))
    except OSError:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if ends else None
