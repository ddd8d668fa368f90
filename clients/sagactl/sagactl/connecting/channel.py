"""Opens the gRPC channel of a connection."""

from __future__ import annotations

from pathlib import Path

import grpc

from sagactl.connecting.connection import Connection
from sagactl.endings import WrongUsage

ANSWER_BYTES_MAX = 64 * 1024 * 1024
NAMESPACE_METADATA = "saga-namespace"


def open_channel(connection: Connection) -> grpc.Channel:
    """A channel, which connects at its first call. Raises WrongUsage."""
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.primary_user_agent", "sagactl"),
        # A wrong address is told at once; whoever waits for a server comes back soon after it does.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if connection.address.startswith("unix:"):
        options.append(("grpc.default_authority", "localhost"))
    if not connection.is_tls:
        return grpc.insecure_channel(connection.target, options=options)
    if connection.server_name:
        options.append(("grpc.ssl_target_name_override", connection.server_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_bytes(connection.ca_file),
        private_key=_bytes(connection.key_file),
        certificate_chain=_bytes(connection.cert_file),
    )
    return grpc.secure_channel(connection.target, credentials, options=options)


def metadata_of(connection: Connection, token: str) -> tuple[tuple[str, str], ...]:
    """What goes along with each call."""
    metadata = list(connection.headers)
    if connection.namespace:
        metadata.append((NAMESPACE_METADATA, connection.namespace))
    if token:
        metadata.append(("authorization", f"Bearer {token}"))
    return tuple(metadata)


def _bytes(file: str) -> bytes | None:
    if not file:
        return None
    try:
        return Path(file).expanduser().read_bytes()
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
