"""Files that never end or never begin: callers cannot have the coordinator read them, and an operator's do not hold it up."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from google.protobuf.json_format import ParseDict

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import ValidateDefinitionRequest
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub
from saga_coordinator.pb.saga.v1.directory_service_pb2 import (
    GetParticipantRequest,
    Participant,
    PutParticipantRequest,
)
from saga_coordinator.pb.saga.v1.directory_service_pb2_grpc import DirectoryServiceStub
from tests.acceptance.conftest import Client, Serving, Shop, StartServing
from tests.eventually import PATIENCE_SECONDS, wait_until

MIB = 1024 * 1024

Connect = Callable[[str], Client]


def put_with(ca_file: str, name: str = "bank") -> PutParticipantRequest:
    fields = {"name": name, "target": "bank:50051", "tls": {"ca_file": ca_file}}
    return PutParticipantRequest(participant=ParseDict(fields, Participant()))


def refusal(client: Client, request: PutParticipantRequest) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        DirectoryServiceStub(client.channel).PutParticipant(request, timeout=PATIENCE_SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return refused.value.details() or ""


def still_serves(client: Client, start_key: str) -> None:
    """What needs a thread is done: a definition is looked at, and one that is not in memory is loaded for a start."""
    validated = DefinitionServiceStub(client.channel).ValidateDefinition(
        ValidateDefinitionRequest(definition=Definition(name="empty")), timeout=PATIENCE_SECONDS
    )
    assert validated.faults
    assert client.start("quick", start_key, wait=True).status == saga_pb2.SAGA_STATUS_COMPLETED


@pytest.mark.parametrize("file", ["/dev/ptmx", "/dev/zero"])
@pytest.mark.parametrize("has_folder", [False, True])
def test_files_that_callers_name_use_nothing_up(
    file: str,
    has_folder: bool,
    serving: StartServing,
    connect: Connect,
    participants_file: Path,
    shop: Shop,
    tmp_path: Path,
) -> None:
    registering = connect(serving("--participants", participants_file).address)
    registering.register("quick", "quick")
    folder = ["--tls-folder", tmp_path] if has_folder else []
    program = serving("--participants", participants_file, *folder)
    client = connect(program.address)
    before = psutil.Process(program.popen.pid).memory_info().rss
    told = {refusal(client, put_with(file, f"bank{number}")) for number in range(6)}
    assert len({text.replace(f"bank{number}", "") for text in told for number in range(6)} | told) == 1
    assert "--tls-folder" in told.pop()
    assert psutil.Process(program.popen.pid).memory_info().rss - before < 64 * MIB
    still_serves(client, "one")
    program.send(signal.SIGTERM)
    assert program.wait() == 0


def test_callers_may_name_files_of_the_folder_and_no_others(
    serving: StartServing, connect: Connect, participants_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (tmp_path / "outside.pem").write_text("a secret")
    (folder / "link.pem").symlink_to(tmp_path / "outside.pem")
    (folder / "text.pem").write_text("no certificate")
    program = serving("--participants", participants_file, "--tls-folder", folder)
    client = connect(program.address)
    named = [folder / "missing.pem", folder / "pipe", folder / "link.pem", tmp_path / "outside.pem"]
    told = {refusal(client, put_with(str(path))).replace(str(path), "NAME") for path in named}
    assert len(told) == 1
    assert "is not a PEM file" in refusal(client, put_with(str(folder / "text.pem")))
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if bundle.exists():
        (folder / "ca.pem").write_bytes(bundle.read_bytes())
        directory = DirectoryServiceStub(client.channel)
        assert directory.PutParticipant(put_with(str(folder / "ca.pem")), timeout=PATIENCE_SECONDS).created
        found = directory.GetParticipant(GetParticipantRequest(name="bank"), timeout=PATIENCE_SECONDS)
        assert found.status.participant.tls.ca_file == str(folder / "ca.pem")


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Callable[[Serving, Path], None]]:
    """Has a coordinator read its participants file again, which has become a pipe that says nothing until the test's end."""
    writers: list[int] = []

    def opened(file: Path) -> bool:
        try:
            writers.append(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads it yet
                return False
            raise
        return True

    def hang(program: Serving, file: Path) -> None:
        file.unlink()
        os.mkfifo(file)
        program.send(signal.SIGHUP)
        wait_until(lambda: opened(file), "the file to be read")

    yield hang
    for writer in writers:
        os.close(writer)


def test_a_file_that_hangs_holds_up_neither_the_work_nor_the_end(
    serving: StartServing,
    connect: Connect,
    participants_file: Path,
    hung: Callable[[Serving, Path], None],
    shop: Shop,
    tmp_path: Path,
) -> None:
    file = tmp_path / "participants.yaml"
    file.write_bytes(participants_file.read_bytes())
    program = serving("--participants", file)
    client = connect(program.address)
    client.register("quick", "quick")
    hung(program, file)
    for _ in range(8):
        program.send(signal.SIGHUP)
    still_serves(client, "one")
    assert client.health("saga.v1.SagaService") == "SERVING"
    program.send(signal.SIGTERM)
    program.wait_for("stopped")
    assert program.wait() == 0
