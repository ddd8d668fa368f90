"""Services that know nothing of sagas take part in them by server reflection alone, end to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection, reflection_pb2

from saga_coordinator.pb.saga.v1.saga_pb2 import Effect, OperationKind, SagaStatus, StepStatus
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    ReportOutcomeRequest,
)
from tests.acceptance.conftest import Client, Serving, StartServing, run_here
from tests.eventually import PATIENCE_SECONDS
from tests.integration.participants.plain_services import FILES, INVENTORY, compiled, start_plain

NAME = "look-and-see"
DEFINITION = """
name: look-and-see
steps:
  - name: look
    read_only: true
    action: {participant: stock, method: grpc.health.v1.Health/Check, input: {service: "${input.service}"}}
  - name: see
    read_only: true
    action: {participant: stock, method: grpc.health.v1.Health/Check, input: {service: "${steps.look.output.status}"}}
"""


@pytest.fixture
def stock() -> Iterator[str]:
    """The stock health service with the stock reflection; nothing of ours is in it."""
    servicer = health.HealthServicer()
    servicer.set("shop", health_pb2.HealthCheckResponse.SERVING)
    servicer.set("SERVING", health_pb2.HealthCheckResponse.NOT_SERVING)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def coordinator(stock: str, serving: StartServing, tmp_path: Path) -> Iterator[Serving]:
    file = tmp_path / "participants.yaml"
    file.write_text(f'participants: {{stock: {{target: "{stock}"}}}}')
    program = serving("--participants", file)
    yield program
    program.send(signal.SIGTERM)
    assert program.wait() == 0


def test_the_stock_health_service_takes_part_in_a_saga(
    coordinator: Serving, connect: Callable[[str], Client], tmp_path: Path
) -> None:
    file = tmp_path / "definition.yaml"
    file.write_text(DEFINITION)
    applied = run_here("definition", "apply", file, "--address", coordinator.address)
    assert applied.returncode == 0, applied.stderr
    client = connect(coordinator.address)

    def run(service: str) -> dict[str, Any]:
        saga = client.settled(client.start(NAME, service, {"service": service}).saga_id)
        return MessageToDict(saga, preserving_proto_field_name=True)

    went_well = run("shop")
    assert went_well["status"] == SagaStatus.Name(SagaStatus.SAGA_STATUS_COMPLETED), went_well
    outputs = [step["output"] for step in went_well["steps"]]
    assert outputs == [{"status": "SERVING"}, {"status": "NOT_SERVING"}]

    refused = run("bakery")
    assert refused["status"] == SagaStatus.Name(SagaStatus.SAGA_STATUS_COMPENSATED)
    assert refused["failure"]["code"] == "NOT_FOUND"
    assert refused["failure"]["step"] == "look"


def test_what_could_not_be_sent_is_not_undone(coordinator: Serving, connect: Callable[[str], Client]) -> None:
    client = connect(coordinator.address)
    check = {"participant": "stock", "method": "grpc.health.v1.Health/Check"}
    misspelt = {
        **check,
        "method": "grpc.health.v1.Health/Chekc",
        "retry": {"max_attempts": 2, "initial_backoff": "0.01s"},
    }
    client.define(
        {"name": "misspelt", "steps": [{"name": "look", "action": misspelt, "compensation": check}]}
    )
    saga = client.start("misspelt", wait=True)
    assert saga.status == SagaStatus.SAGA_STATUS_COMPENSATED
    (step,) = saga.steps
    assert (step.attempt, step.status, step.effect) == (2, StepStatus.STEP_STATUS_FAILED, Effect.EFFECT_NONE)
    assert step.cause.code == "NO_SUCH_METHOD"


CHANGING = {
    "name": "changing",
    "steps": [
        {
            "name": name,
            "read_only": True,
            "action": {"participant": "shop", "method": "shop.v1.Inventory/Reserve", "input": {field: name}},
        }
        for name, field in [("before", "order_id"), ("after", "order"), ("later", "order")]
    ],
}


async def test_a_service_changes_under_a_running_saga_and_answers_later(
    serving: StartServing, connect: Callable[[str], Client], tmp_path: Path
) -> None:
    newer = {**FILES, "shop/v1/inventory.proto": INVENTORY.replace("order_id", "order")}
    described = [compiled(FILES), compiled(newer)]
    has_accepted = asyncio.Event()

    async def describe(requests: Any, context: Any) -> Any:
        async for _ in requests:
            answer = reflection_pb2.ServerReflectionResponse()
            files = answer.file_descriptor_response.file_descriptor_proto
            files.extend(file.SerializeToString() for file in described[0].file)
            yield answer

    async def reserve(request: dict[str, Any], context: Any) -> dict[str, Any]:
        if request == {"order_id": "before"}:
            described.pop(0)
        elif request == {"order_id": "later"}:  # its code is the old one, which reads the same bytes
            context.set_trailing_metadata((("saga-outcome", "pending"),))
            has_accepted.set()
        return {"reservation_id": f"r-{request['order_id']}"}

    running = await start_plain(FILES, "shop.v1.Inventory", {"Reserve": reserve}, describe=describe)
    file = tmp_path / "participants.yaml"
    file.write_text(f'participants: {{shop: {{target: "{running.target}"}}}}')
    program = await asyncio.to_thread(serving, "--participants", file)
    client = connect(program.address)
    client.define(CHANGING)
    saga_id = client.start("changing").saga_id
    await has_accepted.wait()
    report = ReportOutcomeRequest(
        saga_id=saga_id, step="later", operation=OperationKind.OPERATION_KIND_ACTION
    )
    report.succeeded.string_value = "at last"
    await asyncio.to_thread(client.sagas.ReportOutcome, report, timeout=PATIENCE_SECONDS)
    saga = await asyncio.to_thread(client.settled, saga_id)
    await running.server.stop(None)

    assert saga.status == SagaStatus.SAGA_STATUS_COMPLETED, saga
    outputs: list[Any] = [MessageToDict(step.output) for step in saga.steps]
    assert [output["reservation_id"] for output in outputs[:2]] == ["r-before", "r-after"]
    assert outputs[2] == "at last"
    assert [step.attempt for step in saga.steps] == [1, 1, 1]
