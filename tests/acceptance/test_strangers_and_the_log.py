"""What strangers send is answered, and does not fill the log: each line is JSON, and none says that the coordinator failed."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from saga_coordinator.api.reflection import ALPHA_SERVICE, V1_SERVICE
from saga_coordinator.pb.saga.v1 import worker_service_pb2
from tests.acceptance.conftest import Serving, StartServing
from tests.eventually import PATIENCE_SECONDS

GARBAGE = (b"\xff" * 50, b"\n\xff", b"\n\x02\xc3\x28", b"\x0a\x7f", b"\x08")
TIMES = 30
HEALTH = "/grpc.health.v1.Health"


@pytest.fixture
def server(serving: StartServing) -> Serving:
    return serving()


@pytest.fixture
def channel(server: Serving) -> Iterator[Any]:
    opened = grpc.insecure_channel(server.address)
    yield cast("Any", opened)
    opened.close()


def lines_of(server: Serving) -> list[dict[str, Any]]:
    """All that it has written once it has ended."""
    server.send(signal.SIGTERM)
    assert server.wait() == 0
    lines = []
    while (line := server.err.get(timeout=PATIENCE_SECONDS)) is not None:
        lines.append(json.loads(line))
    return lines


def code_of(call: Any) -> str:
    try:
        list(call) if hasattr(call, "__next__") else call
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_garbage_is_refused_in_words_and_logged_as_nothing(server: Serving, channel: Any) -> None:
    for raw in GARBAGE * TIMES:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{HEALTH}/Check")(raw, timeout=PATIENCE_SECONDS)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot be parsed" in str(refused.value.details())
        for method in (f"{HEALTH}/Watch", "/saga.v1.SagaService/WatchSaga"):
            assert code_of(channel.unary_stream(method)(raw, timeout=PATIENCE_SECONDS)) == "INVALID_ARGUMENT"
        for service in (V1_SERVICE, ALPHA_SERVICE):
            talk = channel.stream_stream(f"/{service}/ServerReflectionInfo")
            assert code_of(talk(iter([raw]), timeout=PATIENCE_SECONDS)) == "INVALID_ARGUMENT"
        work = channel.stream_stream("/saga.v1.WorkerService/Work")
        assert code_of(work(iter([raw]), timeout=PATIENCE_SECONDS)) == "INVALID_ARGUMENT"
    assert not [line for line in lines_of(server) if line["level"] in ("error", "critical")]


def test_health_lists_what_it_knows(server: Serving, channel: Any) -> None:
    listed: Any = health_pb2
    raw = channel.unary_unary(f"{HEALTH}/List")(b"", timeout=PATIENCE_SECONDS)
    statuses = listed.HealthListResponse.FromString(raw).statuses
    assert {"", "saga.v1.SagaService", "saga.v1.WorkerService"} <= set(statuses)
    assert all(each.status == health_pb2.HealthCheckResponse.SERVING for each in statuses.values())


def test_odd_questions_about_descriptors_are_answered(server: Serving, channel: Any) -> None:
    ask = reflection_pb2.ServerReflectionRequest
    extension = reflection_pb2.ExtensionRequest
    odd = [
        ask(),
        ask(host="\0"),
        ask(file_by_filename="/etc/passwd"),
        ask(file_containing_symbol=""),
        ask(file_containing_symbol="." * 10_000),
        ask(file_containing_extension=extension(containing_type="saga.v1.Saga", extension_number=-1)),
        ask(file_containing_extension=extension(containing_type="nothing", extension_number=2**31 - 1)),
        ask(all_extension_numbers_of_type="saga.v1.SagaService"),
        ask(all_extension_numbers_of_type="saga.v1.Saga"),
        ask(list_services="x"),
    ]
    talk = channel.stream_stream(f"/{V1_SERVICE}/ServerReflectionInfo")
    answers = list(talk(iter(each.SerializeToString() for each in odd), timeout=PATIENCE_SECONDS))
    assert len(answers) == len(odd)
    assert not [line for line in lines_of(server) if line["level"] in ("error", "critical")]


def test_who_hangs_up_is_no_defect(server: Serving, channel: Any) -> None:
    hello = worker_service_pb2.WorkRequest()
    hello.hello.participant, hello.hello.worker_id, hello.hello.credits = "nobody", "1", 1
    for raw in (hello.SerializeToString(), b""):
        for _ in range(TIMES):
            work = channel.stream_stream("/saga.v1.WorkerService/Work")(iter([raw]))
            work.cancel()
            watching = channel.unary_stream(f"{HEALTH}/Watch")(b"")
            next(watching)
            watching.cancel()
    host, port = server.address.rsplit(":", 1)
    for garbage in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100,
        b"\x16\x03\x01" * 50,
    ):
        with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as raw_connection:
            raw_connection.sendall(garbage)
    assert not [line for line in lines_of(server) if line["level"] in ("error", "critical")]
