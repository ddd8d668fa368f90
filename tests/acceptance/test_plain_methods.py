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
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection, reflection_pb2

from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import RegisterDefinitionRequest
from saga_coordinator.pb.saga.v1.saga_pb2 import Effect, OperationKind, SagaStatus, StepStatus
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    GetSagaRequest,
    ReportOutcomeRequest,
    StartSagaRequest,
    WaitSagaRequest,
)
from tests.acceptance.conftest import Client, Serving, StartServing, run_here
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
MISTAKEN = """
name: mistaken
steps:
  - name: nobody
    read_only: true
    action: {participant: nobody, method: a.B/C}
  - name: nothing
    read_only: true
    action: {participant: stock, method: grpc.health.v1.Health/Chekc}
  - name: stream
    read_only: true
    action: {participant: stock, method: grpc.health.v1.Health/Watch}
  - name: field
    action: {participant: stock, method: grpc.health.v1.Health/Check, input: {service: 7, servce: "${input.a}"}}
    compensation: {participant: stock, method: grpc.health.v2.Health/Check, input: {service: "${failure.code}"}}
  - name: right
    read_only: true
    action: {participant: stock, method: grpc.health.v1.Health/Check, input: {service: "$${x} ${input.a}"}}
  - name: read
    read_only: true
    when: steps.right.output.statsu == 'SERVING'
    action: {participant: stokc, method: grpc.health.v1.Health/Check}
  - name: asked
    read_only: true
    action: {participant: stock, method: check}
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


def register(client: Client, spec: dict[str, Any]) -> None:
    request = RegisterDefinitionRequest(definition=ParseDict(spec, Definition()))
    client.definitions.RegisterDefinition(request, timeout=10)


def test_the_stock_health_service_takes_part_in_a_saga(
    coordinator: Serving, connect: Callable[[str], Client], tmp_path: Path
) -> None:
    file = tmp_path / "definition.yaml"
    file.write_text(DEFINITION)
    applied = run_here("definition", "apply", file, "--address", coordinator.address)
    assert applied.returncode == 0, applied.stderr
    client = connect(coordinator.address)

    def run(service: str) -> dict[str, Any]:
        start = StartSagaRequest(definition=NAME, start_key=service)
        start.input.struct_value["service"] = service
        saga_id = client.sagas.StartSaga(start, timeout=10).saga.saga_id
        client.sagas.WaitSaga(WaitSagaRequest(saga_id=saga_id), timeout=30)
        saga = client.sagas.GetSaga(GetSagaRequest(saga_id=saga_id), timeout=10).saga
        found: dict[str, Any] = MessageToDict(saga, preserving_proto_field_name=True)
        return found

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
    register(
        client, {"name": "misspelt", "steps": [{"name": "look", "action": misspelt, "compensation": check}]}
    )
    start = StartSagaRequest(definition="misspelt", start_key="1", wait=True)
    saga = client.sagas.StartSaga(start, timeout=30).saga
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
    register(client, CHANGING)
    start = StartSagaRequest(definition="changing", start_key="1")
    saga_id = client.sagas.StartSaga(start, timeout=10).saga.saga_id
    await has_accepted.wait()
    report = ReportOutcomeRequest(
        saga_id=saga_id, step="later", operation=OperationKind.OPERATION_KIND_ACTION
    )
    report.succeeded.string_value = "at last"
    await asyncio.to_thread(client.sagas.ReportOutcome, report, timeout=10)
    await asyncio.to_thread(client.sagas.WaitSaga, WaitSagaRequest(saga_id=saga_id), timeout=30)
    saga = client.sagas.GetSaga(GetSagaRequest(saga_id=saga_id), timeout=10).saga
    await running.server.stop(None)

    assert saga.status == SagaStatus.SAGA_STATUS_COMPLETED, saga
    outputs: list[Any] = [MessageToDict(step.output) for step in saga.steps]
    assert [output["reservation_id"] for output in outputs[:2]] == ["r-before", "r-after"]
    assert outputs[2] == "at last"
    assert [step.attempt for step in saga.steps] == [1, 1, 1]


def test_a_definition_is_checked_against_what_is_served(coordinator: Serving, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text(DEFINITION)
    wrong.write_text(MISTAKEN)
    assert run_here("definition", "validate", wrong).returncode == 0  # nobody was asked
    live = ("definition", "validate", "--live", "--address", coordinator.address)

    done = run_here(*live, right)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{right}: look-and-see is valid\n", ""), done

    done = run_here(*live, right, wrong)
    assert (done.returncode, done.stdout) == (1, "")
    prefix = f"error: {wrong}:"
    lines = done.stderr.splitlines()
    assert all(line.startswith(prefix) for line in lines)
    said = [line.removeprefix(prefix).partition(": ")[2] for line in lines]
    expected = [
        "steps[0].action.participant: the directory has no participant `nobody`",
        "steps[1].action.method: stock: grpc.health.v1.Health has no method `Chekc`; it has: Check, List, Watch",
        "steps[2].action.method: is server-streaming; a step calls a unary method",
        "steps[3].action.input.servce: is not a field of grpc.health.v1.HealthCheckRequest; it has: service",
        "steps[3].action.input.service: is no string: ",
        "steps[3].compensation.method: stock: there is no service `grpc.health.v2.Health`; there are: grpc.health.v1.Health, ",
        "steps[5].action.participant: the directory has no participant `stokc`; did you mean `stock`?",
        "steps[6].action.participant: stock does not serve saga.v1.ParticipantService: it lists grpc.health.v1.",
        "steps[5].when: `steps.right.output.statsu`: grpc.health.v1.HealthCheckResponse has no field `statsu`; it has: ",
    ]
    assert len(said) == len(expected), said
    assert all(map(str.startswith, said, expected)), said
    assert [line.removeprefix(prefix).partition(":")[0] for line in lines] == [
        "6",
        "9",
        "12",
        "14",
        "14",
        "15",
        "22",
        "25",
        "21",
    ]


def test_a_live_check_without_a_coordinator(tmp_path: Path) -> None:
    file = tmp_path / "definition.yaml"
    file.write_text(DEFINITION)
    done = run_here("definition", "validate", "--live", "--address", "127.0.0.1:9", file)
    assert done.returncode == 1
    assert "no coordinator answers at 127.0.0.1:9" in done.stderr
