"""The TLS side of a participant: read once with the directory, so that a rotated certificate is a changed directory."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from saga_coordinator.participants.directory.fields import read_fields
from saga_coordinator.participants.directory.files import PEM_BYTES_MAX, Files, Unreadable, read_regular
from saga_coordinator.saga.words.errors import Fault

_ROOTS_BYTES_MAX = 16 * 1024 * 1024
_OPEN_FILES = Path("/proc/self/fd")
_FIELDS = ("ca_file", "cert_file", "key_file", "server_name")
_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/cert.pem",  # macOS, OpenBSD
)


@dataclass(frozen=True, slots=True)
class Tls:
    """The PEM texts for one participant, compared by content. `roots` None means gRPC's own roots; `server_name` may be empty."""

    roots: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.roots, self.private_key, self.certificate)


def read_tls(source: Any, place: str, files: Files, faults: list[Fault]) -> Tls | None:
    """Reads the `tls` field of a participant, and its files, which are checked against each other. None for plaintext."""
    if source is False:
        return None
    fields = {} if source is True else read_fields(source, place, _FIELDS, faults)
    if fields is None:
        return None
    names = {name: _name(fields, name, place, faults) for name in _FIELDS[:3]}
    server_name = fields.get("server_name", "")
    if not isinstance(server_name, str):
        faults.append(Fault(f"{place}.server_name", "must be a string"))
    if ("cert_file" in fields) is not ("key_file" in fields):
        missing = "key_file" if "cert_file" in fields else "cert_file"
        faults.append(
            Fault(f"{place}.{missing}", "is missing: a client certificate needs cert_file and key_file")
        )
    texts = {
        field: None if name is None else files.read(name, f"{place}.{field}", PEM_BYTES_MAX, faults)
        for field, name in names.items()
    }
    _check({field: files.path(name) for field, name in names.items() if name}, texts, place, faults)
    roots = texts["ca_file"] if "ca_file" in fields else _system_roots()
    return Tls(roots, texts["cert_file"], texts["key_file"], str(server_name))


def _name(fields: Mapping[str, Any], name: str, place: str, faults: list[Fault]) -> str | None:
    if name not in fields:
        return None
    source = fields[name]
    if not isinstance(source, str) or not source or "\0" in source:
        faults.append(Fault(f"{place}.{name}", "must be the name of a PEM file"))
        return None
    return source


def _check(
    paths: Mapping[str, Path], texts: Mapping[str, bytes | None], place: str, faults: list[Fault]
) -> None:
    """Checks what was read from the files. gRPC would fail only at the first call, and would not say why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots, certificate, private_key = texts["ca_file"], texts["cert_file"], texts["key_file"]
    if roots is not None:
        try:
            context.load_verify_locations(cadata=roots.decode("ascii", "replace"))
        except ssl.SSLError as error:
            faults.append(
                Fault(f"{place}.ca_file", f"{paths['ca_file']} is not a PEM file: {_reason(error)}")
            )
    if certificate is None or private_key is None:
        return
    try:
        with _in_memory(certificate) as one, _in_memory(private_key) as other:
            context.load_cert_chain(one, other, password="")
    except (ssl.SSLError, OSError) as error:
        faults.append(
            Fault(
                f"{place}.cert_file",
                f"{paths['cert_file']} with {paths['key_file']} is no PEM certificate with its unencrypted key: {_reason(error)}",
            )
        )


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The name of a file with that content, which nobody else can see. Python's part of OpenSSL takes only a file's name."""
    if not hasattr(os, "memfd_create") or not _OPEN_FILES.exists():
        with tempfile.NamedTemporaryFile() as file:  # only its owner may read it
            file.write(content)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield str(_OPEN_FILES / str(descriptor))


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or str(error)


def _system_roots() -> bytes | None:
    """The roots that this machine trusts. gRPC by itself brings its own, and does not look at these."""
    named = ssl.get_default_verify_paths().cafile  # follows SSL_CERT_FILE
    for candidate in (named, *_SYSTEM_ROOTS):
        if candidate:
            with suppress(Unreadable):
                return read_regular(Path(candidate), _ROOTS_BYTES_MAX)
    return None
