"""TLS from the directory file to the handshake, with certificates made for the test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import pytest

from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.saga.words.outcome import Outcome, Succeeded, Unknown
from tests.integration.participants.services import Connect, Serve, invoke

NAME = "inventory.internal"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`; `server` and `client`, signed by it; and `other-ca.pem`, which signed neither. The server is called `NAME`."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)

    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    try:
        for ca in ("ca", "other-ca"):
            openssl(f"req -x509 {new_key} -subj /CN={ca} -keyout {ca}.key -out {ca}.pem")
    except FileNotFoundError:
        pytest.skip("making certificates needs the openssl program")
    for name in ("server", "client"):
        openssl(
            f"req -x509 {new_key} -subj /CN={name} -addext subjectAltName=DNS:{NAME} "
            f"-CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem"
        )
    return folder


@pytest.fixture
def server(folder: Path) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([_pair(folder)])


@pytest.fixture
def strict_server(folder: Path) -> grpc.ServerCredentials:
    """Wants a client certificate."""
    return grpc.ssl_server_credentials(
        [_pair(folder)], root_certificates=(folder / "ca.pem").read_bytes(), require_client_auth=True
    )


def _pair(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes()


@pytest.fixture
def attempt(folder: Path, connect: Connect) -> Attempt:
    return Attempt(folder, connect)


class Attempt:
    """One attempt through a directory file with the `tls` given."""

    def __init__(self, folder: Path, connect: Connect) -> None:
        self._folder = folder
        self._connect = connect

    async def __call__(self, target: str, tls: str) -> Outcome:
        path = self._folder / "participants.yaml"
        path.write_text(f"participants: {{inventory: {{target: '{target}', tls: {tls}}}}}", encoding="utf-8")
        return await self._connect(Directory.load(path)).invoke(invoke())


def is_unavailable(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.cause.code == "UNAVAILABLE"


async def test_a_participant_is_known_by_its_certificate(
    serve: Serve, server: grpc.ServerCredentials, attempt: Attempt
) -> None:
    target = await serve(credentials=server)
    assert await attempt(target, f"{{ca_file: ca.pem, server_name: {NAME}}}") == Succeeded(None)
    assert is_unavailable(await attempt(target, f"{{ca_file: other-ca.pem, server_name: {NAME}}}"))
    assert is_unavailable(await attempt(target, "{ca_file: ca.pem, server_name: payments.internal}"))
    assert is_unavailable(await attempt(target, "{ca_file: ca.pem}"))


async def test_a_participant_on_a_unix_socket_may_use_tls(
    serve: Serve, server: grpc.ServerCredentials, attempt: Attempt, tmp_path: Path
) -> None:
    target = await serve(address=f"unix:{tmp_path}/inventory.sock", credentials=server)
    assert await attempt(target, f"{{ca_file: ca.pem, server_name: {NAME}}}") == Succeeded(None)


async def test_a_participant_may_want_a_certificate_too(
    serve: Serve, strict_server: grpc.ServerCredentials, attempt: Attempt
) -> None:
    target = await serve(credentials=strict_server)
    ours = f"ca_file: ca.pem, server_name: {NAME}"
    assert await attempt(target, f"{{{ours}, cert_file: client.pem, key_file: client.key}}") == Succeeded(
        None
    )
    assert is_unavailable(await attempt(target, f"{{{ours}}}"))
    assert is_unavailable(
        await attempt(target, f"{{{ours}, cert_file: other-ca.pem, key_file: other-ca.key}}")
    )


async def test_the_machines_own_roots_are_trusted(
    serve: Serve,
    server: grpc.ServerCredentials,
    attempt: Attempt,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = await serve(credentials=server)
    assert is_unavailable(await attempt(target, f"{{server_name: {NAME}}}"))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    assert await attempt(target, f"{{server_name: {NAME}}}") == Succeeded(None)


async def test_plaintext_and_tls_do_not_mix(
    serve: Serve, server: grpc.ServerCredentials, attempt: Attempt
) -> None:
    assert is_unavailable(await attempt(await serve(credentials=server), "false"))
    assert is_unavailable(await attempt(await serve(), f"{{ca_file: ca.pem, server_name: {NAME}}}"))
