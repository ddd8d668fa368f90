"""Clients that know nothing of this project: they learn the contract by reflection and speak it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import ROOT, Client, Serving, Shop

BUF = Path(sys.executable).parent / "buf"
pytestmark = pytest.mark.skipif(not BUF.exists(), reason="buf is not installed in this environment")


def curl(*arguments: str, reflection: str = "grpc-v1") -> str:
    command = [
        str(BUF),
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        "--reflect-protocol",
        reflection,
    ]
    environment = {**os.environ, "BUF_CACHE_DIR": str(ROOT / ".cache" / "buf")}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    return done.stdout or done.stderr


def call(coordinator: Serving, method: str, request: object, reflection: str = "grpc-v1") -> dict[str, Any]:
    url = f"http://{coordinator.address}/saga.v1.{method}"
    answer: dict[str, Any] = json.loads(curl(url, "-d", json.dumps(request), reflection=reflection))
    return answer


@pytest.mark.parametrize("reflection", ["grpc-v1", "grpc-v1alpha"])
def test_reflection_lists_the_services(coordinator: Serving, reflection: str) -> None:
    url = f"http://{coordinator.address}"
    assert curl("--list-services", url, reflection=reflection).split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "saga.v1.DefinitionService",
        "saga.v1.DirectoryService",
        "saga.v1.OperatorService",
        "saga.v1.SagaService",
        "saga.v1.WorkerService",
    ]
    methods = curl("--list-methods", url, reflection=reflection).split()
    assert "saga.v1.SagaService/ReportOutcome" in methods
    assert "grpc.reflection.v1.ServerReflection/ServerReflectionInfo" in methods


def test_a_saga_from_registration_to_its_end(coordinator: Serving, shop: Shop) -> None:
    step = {"action": {"participant": "shop"}, "compensation": {"participant": "shop", "method": "undo"}}
    definition = {"name": "curled", "steps": [{"name": "one", **step}, {"name": "two", **step}]}
    answer = call(coordinator, "DefinitionService/RegisterDefinition", {"definition": definition})
    assert (answer["registered"]["version"], answer["created"]) == (1, True)
    start = {"definition": "curled", "startKey": "curl-1", "input": {"order": 7}, "labels": {"by": "curl"}}
    started = call(coordinator, "SagaService/StartSaga", start, reflection="grpc-v1alpha")
    assert started["created"] is True
    waited = call(
        coordinator, "SagaService/WaitSaga", {"sagaId": started["saga"]["sagaId"], "timeout": "20s"}
    )
    assert waited["settled"] is True
    assert waited["saga"]["status"] == "SAGA_STATUS_COMPLETED"
    assert [step["output"] for step in waited["saga"]["steps"]] == [{"done": "one"}, {"done": "two"}]
    again = call(coordinator, "SagaService/StartSaga", {**start, "wait": True})
    assert "created" not in again
    assert again["saga"]["sagaId"] == started["saga"]["sagaId"]


def test_errors_have_details(coordinator: Serving) -> None:
    answer = call(coordinator, "SagaService/StartSaga", {"startKey": "a\u0000b"})
    assert answer["code"] == "invalid_argument"
    assert {detail["type"] for detail in answer["details"]} == {
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
    }


def test_health(coordinator: Serving, client: Client) -> None:
    url = f"http://{coordinator.address}/grpc.health.v1.Health/Check"
    assert json.loads(curl(url, "-d", "{}")) == {"status": "SERVING"}


def stock(name: str) -> str:
    """The path of a stock client; `make stock-clients` builds them."""
    found = shutil.which(name, path=os.pathsep.join([str(ROOT / ".cache" / "bin"), os.environ["PATH"]]))
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: make stock-clients")
    if found is None:
        pytest.skip(f"{name} is not installed: make stock-clients, which needs Go")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def grpcurl(*arguments: str) -> str:
    return run(stock("grpcurl"), "-plaintext", *arguments)


def test_grpcurl_describes_every_service_method_and_message(coordinator: Serving) -> None:
    services = grpcurl(coordinator.address, "list").split()
    assert "saga.v1.SagaService" in services
    methods = [
        method for service in services for method in grpcurl(coordinator.address, "list", service).split()
    ]
    assert len(methods) > 30
    for method in ("saga.v1.SagaService.StartSaga", "grpc.health.v1.Health.Check"):
        assert method in methods
        assert "rpc " in grpcurl(coordinator.address, "describe", method)
    assert "string start_key" in grpcurl(coordinator.address, "describe", "saga.v1.StartSagaRequest")
    assert "SAGA_STATUS_COMPLETED" in grpcurl(coordinator.address, "describe", "saga.v1.SagaStatus")


def test_grpcurl_calls(coordinator: Serving) -> None:
    for method in ("grpc.health.v1.Health/Check", "saga.v1.DefinitionService/ListDefinitions"):
        json.loads(grpcurl("-d", "{}", coordinator.address, method))


def test_ghz_calls_by_reflection(coordinator: Serving) -> None:
    report = json.loads(
        run(
            stock("ghz"),
            "--insecure",
            "--call=saga.v1.DefinitionService.ListDefinitions",
            "--data={}",
            "--total=20",
            "--concurrency=2",
            "--format=json",
            coordinator.address,
        )
    )
    assert report["statusCodeDistribution"] == {"OK": 20}
