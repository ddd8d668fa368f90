"""What `saga-coordinator health` says and exits with, whatever the coordinator answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from unittest.mock import patch

import grpc
import grpc_testing
import pytest
from click.testing import CliRunner, Result
from grpc_health.v1 import health_pb2

from saga_coordinator.cli.health import health
from tests.eventually import PATIENCE_SECONDS

SERVICE = cast("Any", health_pb2).DESCRIPTOR.services_by_name["Health"]
CHECK = SERVICE.methods_by_name["Check"]


def answered(
    status: int | None, code: grpc.StatusCode, details: str = "", service: str = ""
) -> tuple[Result, str]:
    """How the command ends when it is answered so, and which service it has asked about."""
    channel: Any = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    arguments = ["--address", "127.0.0.1:7242", "--service", service]
    with ThreadPoolExecutor(1) as threads, patch("grpc.insecure_channel", return_value=channel):
        running = threads.submit(CliRunner().invoke, health, arguments)
        _, request, call = channel.take_unary_unary(CHECK)
        answer = None if status is None else cast("Any", health_pb2).HealthCheckResponse(status=status)
        call.terminate(answer, (), code, details)
        return running.result(PATIENCE_SECONDS), request.service


@pytest.mark.parametrize(
    ("status", "exit_code"), [("SERVING", 0), ("NOT_SERVING", 1), ("SERVICE_UNKNOWN", 1)]
)
def test_it_exits_with_0_only_when_the_service_is_served(status: str, exit_code: int) -> None:
    number = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
    done, asked = answered(number, grpc.StatusCode.OK, service="saga.v1.SagaService")
    assert (done.output, done.exit_code) == (f"{status}\n", exit_code)
    assert asked == "saga.v1.SagaService"


@pytest.mark.parametrize(
    ("code", "service", "words"),
    [
        (grpc.StatusCode.NOT_FOUND, "saga.v1.Nothing", "serves no service named saga.v1.Nothing"),
        (grpc.StatusCode.NOT_FOUND, "", "does not serve: as it says"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "saga.v1.SagaService", "does not serve: as it says"),
        (grpc.StatusCode.UNAVAILABLE, "", "nothing answers at"),
    ],
)
def test_it_says_what_is_wrong(code: grpc.StatusCode, service: str, words: str) -> None:
    done, _ = answered(None, code, "as it says", service)
    assert done.exit_code == 1
    assert words in str(done.exception)
