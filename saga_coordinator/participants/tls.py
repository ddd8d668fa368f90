"""The TLS side of a participant: read once with the directory, so that a rotated certificate is a changed directory."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from saga_coordinator.participants.fields import read_fields
from saga_coordinator.saga.errors import Fault

_FIELDS = ("ca_file", "cert_file", "key_file", "server_name")
_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/cert.pem",  # macOS, OpenBSD
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts, compared by content. `roots` of None are those that gRPC carries with it; `server_name` may be empty."""

    roots: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.roots, self.private_key, self.certificate)


def read_tls(source: Any, place: str, folder: Path, faults: list[Fault]) -> Tls | None:
    """The `tls` field of a participant; None for plaintext. Files are read and checked against each other."""
    if source is False:
        return None
    fields = {} if source is True else read_fields(source, place, _FIELDS, faults)
    if fields is None:
        return None
    paths = {name: _path(fields, name, place, folder, faults) for name in _FIELDS[:3]}
    server_name = fields.get("server_name", "")
    if not isinstance(server_name, str):
        faults.append(Fault(f"{place}.server_name", "must be a string"))
    if ("cert_file" in fields) is not ("key_file" in fields):
        missing = "key_file" if "cert_file" in fields else "cert_file"
        faults.append(
            Fault(f"{place}.{missing}", "is missing: a client certificate needs cert_file and key_file")
        )
    texts = {name: _read(path, f"{place}.{name}", faults) for name, path in paths.items()}
    _check(paths, texts, place, faults)
    roots = texts["ca_file"] if "ca_file" in fields else _system_roots()
    return Tls(roots, texts["cert_file"], texts["key_file"], str(server_name))


def _path(fields: Mapping[str, Any], name: str, place: str, folder: Path, faults: list[Fault]) -> Path | None:
    if name not in fields:
        return None
    source = fields[name]
    if not isinstance(source, str) or not source or "\0" in source:
        faults.append(Fault(f"{place}.{name}", "must be the name of a PEM file"))
        return None
    return folder / source


def _read(path: Path | None, place: str, faults: list[Fault]) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        faults.append(Fault(place, f"{path} cannot be read: {error.strerror or error}"))
        return None


def _check(
    paths: Mapping[str, Path | None], texts: Mapping[str, bytes | None], place: str, faults: list[Fault]
) -> None:
    """gRPC would only fail at the first call, and without saying why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if texts["ca_file"] is not None:
        try:
            context.load_verify_locations(cadata=texts["ca_file"].decode("ascii", "replace"))
        except ssl.SSLError as error:
            faults.append(
                Fault(f"{place}.ca_file", f"{paths['ca_file']} is not a PEM file: {_reason(error)}")
            )
    certificate, private_key = paths["cert_file"], paths["key_file"]
    if texts["cert_file"] is None or texts["key_file"] is None or certificate is None or private_key is None:
        return
    try:
        context.load_cert_chain(certificate, private_key, password="")
    except (ssl.SSLError, OSError) as error:
        faults.append(
            Fault(
                f"{place}.cert_file",
                f"{certificate} with {private_key} is no PEM certificate with its unencrypted key: {_reason(error)}",
            )
        )


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or str(error)


def _system_roots() -> bytes | None:
    """The roots that this machine trusts, which gRPC would not look at: it brings its own."""
    named = ssl.get_default_verify_paths().cafile  # follows SSL_CERT_FILE
    for candidate in (named, *_SYSTEM_ROOTS):
        if candidate:
            try:
                return Path(candidate).read_bytes()
            except OSError:
                continue
    return None
