"""The service that docs/participants.md shows does what the page says, and knows nothing of sagas."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_tools import protoc

from saga_coordinator.participants.directory.descriptors import DescriptorSet, Method, build_service
from saga_coordinator.pb.saga.v1.participant_service_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga_coordinator.pb.saga.v1.participant_service_pb2_grpc import ParticipantServiceStub
from saga_coordinator.saga.machine.answers import WhyNot
from saga_coordinator.saga.words.outcome import CauseCode
from tests.acceptance.conftest import ROOT, Client, StartServing, run_here
from tests.eventually import PATIENCE_SECONDS

PAGE = (ROOT / "docs" / "participants.md").read_text("utf-8")
BLOCK = re.compile(r"^```\w+\n(?://|#) ([a-z]+\.[a-z]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Warehouse:
    """The page's files in a folder, and the service running there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in BLOCK.findall(PAGE):
            (folder / name).write_text(text, "utf-8")
        assert (
            protoc.main(
                [
                    "protoc",
                    f"-I{folder}",
                    f"--python_out={folder}",
                    f"--grpc_python_out={folder}",
                    "warehouse.proto",
                ]
            )
            == 0
        )
        self.processes: list[subprocess.Popen[str]] = []
        self.target, self.courier = self._start("warehouse.py"), self._start("courier.py")
        listed = folder / "participants.yaml"
        text = listed.read_text().replace("127.0.0.1:7311", self.target)
        listed.write_text(text.replace("127.0.0.1:7312", self.courier))

    def _start(self, program: str) -> str:
        command = [sys.executable, program, "127.0.0.1:0"]
        process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        return f"127.0.0.1:{process.stdout.readline().split()[-1]}"

    def stock(self) -> dict[str, int]:
        with sqlite3.connect(self.folder / "warehouse.db") as database:
            found = dict(database.execute("SELECT sku, quantity FROM stock"))
        database.close()
        return found

    def parcels(self) -> list[str]:
        with sqlite3.connect(self.folder / "courier.db") as database:
            found = [state for (state,) in database.execute("SELECT state FROM parcels")]
        database.close()
        return found

    def run(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    running = Warehouse(tmp_path)
    yield running
    running.close()


def test_the_warehouse_takes_part_in_sagas(
    warehouse: Warehouse, serving: StartServing, connect: Callable[[str], Client]
) -> None:
    program = serving("--participants", warehouse.folder / "participants.yaml")
    file = warehouse.folder / "parcel.yaml"
    for command in (["validate", "--live"], ["apply"]):
        done = run_here("definition", *command, "--address", program.address, file)
        assert done.returncode == 0, done.stderr
    client = connect(program.address)

    def send(order: str, books: int, definition: str = "parcel") -> dict[str, Any]:
        saga_id = client.start(definition, order, {"order_id": order, "books": books}).saga_id
        return MessageToDict(client.settled(saga_id), preserving_proto_field_name=True)

    first = send("o-1", 3)
    assert first["status"] == "SAGA_STATUS_COMPLETED", first
    assert first["steps"][0]["output"] == {"order_id": "o-1", "left_in_stock": 7}
    assert warehouse.stock() == {"book": 7, "ribbon": 0}

    second = send("o-2", 2)
    assert second["status"] == "SAGA_STATUS_COMPENSATED"
    assert second["failure"]["message"] == "not enough of ribbon"
    assert warehouse.stock() == {"book": 7, "ribbon": 0}

    for said in ("declared\n", "declared before\n"):
        assert warehouse.run("declare.py", program.address) == said
    apply = ("definition", "apply", "--address", program.address)
    assert run_here(*apply, warehouse.folder / "gift.yaml").returncode == 0
    assert run_here(*apply, warehouse.folder / "delivery.yaml").returncode == 0
    delivery = send("o-4", 0, "delivery")
    assert (delivery["status"], delivery["failure"]["step"]) == ("SAGA_STATUS_COMPENSATED", "ribbon")
    assert warehouse.parcels() == ["CANCELLED"]
    gift = send("o-3", 0, "gift")
    assert (gift["status"], gift["failure"]["step"]) == ("SAGA_STATUS_COMPENSATED", "ribbon")
    assert [step["status"] for step in gift["steps"]] == ["STEP_STATUS_COMPENSATED", "STEP_STATUS_FAILED"]
    assert warehouse.stock() == {"book": 7, "ribbon": 0}


def test_the_warehouse_keeps_the_three_promises(warehouse: Warehouse) -> None:
    method = _methods(warehouse)
    with grpc.insecure_channel(warehouse.target) as channel:

        def call(name: str, key: str, **fields: Any) -> dict[str, Any] | grpc.StatusCode:
            described = method[name]
            rpc: Any = channel.unary_unary(
                described.path, lambda request: request.SerializeToString(), described.reply.FromString
            )
            try:
                reply = rpc(
                    described.request(**fields), metadata=[("idempotency-key", key)], timeout=PATIENCE_SECONDS
                )
            except grpc.RpcError as error:
                return error.code()
            return MessageToDict(reply, preserving_proto_field_name=True)

        reserved = call("Reserve", "a", order_id="o-1", sku="book", quantity=4)
        assert call("Reserve", "a", order_id="o-1", sku="book", quantity=4) == reserved
        assert warehouse.stock()["book"] == 6
        assert call("Cancel", "b", order_id="o-1") == {"returned": 1}
        assert call("Cancel", "b", order_id="o-1") == {}
        assert warehouse.stock()["book"] == 10
        assert call("Cancel", "d", order_id="o-2") == {}
        for key, order in (("a", "o-1"), ("c", "o-2")):
            late = call("Reserve", key, order_id=order, sku="book", quantity=4)
            assert late is grpc.StatusCode.FAILED_PRECONDITION
        assert warehouse.stock()["book"] == 10


def test_the_courier_keeps_the_three_promises(warehouse: Warehouse) -> None:
    with grpc.insecure_channel(warehouse.courier) as channel:
        stub = ParticipantServiceStub(channel)

        def book(key: str) -> ExecuteResponse | grpc.StatusCode:
            request = ExecuteRequest(method="Book", idempotency_key=key)
            request.input.struct_value["order_id"] = "o-1"
            try:
                return stub.Execute(request, timeout=PATIENCE_SECONDS)
            except grpc.RpcError as error:
                return error.code()

        def cancel(key: str) -> CompensateResponse:
            return stub.Compensate(CompensateRequest(action_idempotency_key=key), timeout=PATIENCE_SECONDS)

        assert book("a") == book("a")
        assert warehouse.parcels() == ["BOOKED"]
        for key in ("a", "a", "b"):
            assert cancel(key) == CompensateResponse()
        assert book("a") is book("b") is grpc.StatusCode.FAILED_PRECONDITION
        assert warehouse.parcels() == ["CANCELLED", "CANCELLED"]


def _compile(folder: Path, *outputs: str) -> None:
    assert protoc.main(["protoc", f"-I{folder}", *outputs, "warehouse.proto"]) == 0


def _methods(warehouse: Warehouse) -> Mapping[str, Method]:
    described = warehouse.folder / "warehouse.binpb"
    _compile(warehouse.folder, f"--descriptor_set_out={described}")
    return build_service(
        "warehouse.v1.Warehouse", DescriptorSet.parse(described.read_bytes()).serialized
    ).methods


def test_the_page_names_what_there_is() -> None:
    named = set(re.findall(r"`((?!SAGA_)[A-Z]+_[A-Z_]+)`", PAGE))  # settings have a test of their own
    assert named <= {*CauseCode, *WhyNot, *(code.name for code in grpc.StatusCode)}
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE):
        assert target.startswith("https://") or target == "workers.md" or (ROOT / "docs" / target).exists(), (
            target
        )
