"""sagactl against servers that are newer than it, older, or no saga coordinators at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer

from sagactl.endings import Ending
from tests.sagactl_runs import run_here

FIELD = descriptor_pb2.FieldDescriptorProto
ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"


def newer_contract() -> descriptor_pb2.FileDescriptorSet:
    """A contract of a later version: a verb, a field and a value of an enum that no program of today has seen."""
    file = descriptor_pb2.FileDescriptorProto(name="saga/v1/newer.proto", package="saga.v1", syntax="proto3")
    status = file.enum_type.add(name="SagaStatus")
    for number, name in (
        (0, "SAGA_STATUS_UNSPECIFIED"),
        (1, "SAGA_STATUS_RUNNING"),
        (42, "SAGA_STATUS_FROZEN"),
    ):
        status.value.add(name=name, number=number)
    saga = file.message_type.add(name="Saga")
    for number, name in ((1, "saga_id"), (2, "definition"), (5, "start_key"), (77, "mood")):
        saga.field.add(name=name, number=number, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    saga.field.add(name="version", number=3, type=FIELD.TYPE_INT32, label=FIELD.LABEL_OPTIONAL)
    saga.field.add(
        name="status",
        number=4,
        type=FIELD.TYPE_ENUM,
        label=FIELD.LABEL_OPTIONAL,
        type_name=".saga.v1.SagaStatus",
    )
    asked = file.message_type.add(name="FreezeSagaRequest")
    for number, name in ((1, "saga_id"), (2, "act_id"), (3, "requested_by"), (4, "reason"), (6, "warmth")):
        asked.field.add(name=name, number=number, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    asked.field.add(name="dry_run", number=5, type=FIELD.TYPE_BOOL, label=FIELD.LABEL_OPTIONAL)
    answers = [file.message_type.add(name=name) for name in ("FreezeSagaResponse", "GetSagaResponse")]
    for answer in answers:
        answer.field.add(
            name="saga",
            number=1,
            type=FIELD.TYPE_MESSAGE,
            label=FIELD.LABEL_OPTIONAL,
            type_name=".saga.v1.Saga",
        )
    answers[1].field.add(
        name="log", number=2, type=FIELD.TYPE_MESSAGE, label=FIELD.LABEL_REPEATED, type_name=".saga.v1.Saga"
    )
    get = file.message_type.add(name="GetSagaRequest")
    get.field.add(name="saga_id", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    get.field.add(name="start_key", number=2, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    get.field.add(name="include_log", number=3, type=FIELD.TYPE_BOOL, label=FIELD.LABEL_OPTIONAL)
    for service, method in (("OperatorService", "FreezeSaga"), ("SagaService", "GetSaga")):
        file.service.add(name=service).method.add(
            name=method, input_type=f".saga.v1.{method}Request", output_type=f".saga.v1.{method}Response"
        )
    location = file.source_code_info.location.add(path=[6, 0, 2, 0], span=[0, 0, 0])
    location.leading_comments = " Holds a saga where it is.\n"
    return descriptor_pb2.FileDescriptorSet(file=[file])


def describing(version: str, servicer: ReflectionServicer) -> grpc.GenericRpcHandler:
    """Serves reflection under the name of that version."""
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(version, {"ServerReflectionInfo": handler})


class NewerServer:
    """A server of that contract. It answers with a frozen saga of some mood, and keeps the requests."""

    def __init__(self, reflection: tuple[str, ...]) -> None:
        self.contract = newer_contract()
        self.seen: list[Any] = []
        pool = descriptor_pool.DescriptorPool()
        pool.Add(self.contract.file[0])
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"saga.v1.{name}"))
            for name in ("FreezeSagaRequest", "FreezeSagaResponse", "GetSagaRequest", "GetSagaResponse")
        }
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        services = {"OperatorService": "FreezeSaga", "SagaService": "GetSaga"}
        for service, method in services.items():
            self._serve(f"saga.v1.{service}", method)
        described = ReflectionServicer([f"saga.v1.{service}" for service in services], pool)
        for version in reflection:
            self.server.add_generic_rpc_handlers([describing(version, described)])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def _serve(self, service: str, method: str) -> None:
        request, response = self._classes[f"{method}Request"], self._classes[f"{method}Response"]

        def answer(asked: Any, _: grpc.ServicerContext) -> Any:
            self.seen.append(asked)
            saga = {
                "saga_id": asked.saga_id,
                "definition": "order",
                "version": 1,
                "status": 42,
                "mood": "calm\x1b[2J",
            }
            return response(saga=saga)

        handler = grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {method: handler})]
        )


@pytest.fixture(params=[(V1,), (ALPHA,), (V1, ALPHA)], ids=["v1", "v1alpha", "both"])
def newer(request: pytest.FixtureRequest) -> Iterator[NewerServer]:
    server = NewerServer(request.param)
    yield server
    server.server.stop(None).wait()


@pytest.fixture
def silent() -> Iterator[NewerServer]:
    """The same server with its reflection off."""
    server = NewerServer(())
    yield server
    server.server.stop(None).wait()


def test_a_verb_that_only_the_server_knows(newer: NewerServer) -> None:
    at = ("--address", newer.address, "--requested-by", "ana")
    planned = run_here("sagas", "freeze", "s1", "--dry-run", "-o", "json", *at)
    assert planned.returncode == 0, planned
    done = run_here(
        "sagas", "freeze", "s1", "--reason", "a drill", "--set", "warmth=none", "--yes", "-o", "json", *at
    )
    assert json.loads(done.stdout)["saga"]["mood"].startswith("calm")
    plan, act = newer.seen
    assert (plan.dry_run, act.dry_run) == (True, False)
    assert (act.saga_id, act.requested_by, act.reason, act.warmth) == ("s1", "ana", "a drill", "none")
    assert act.act_id
    unsure = run_here("sagas", "freeze", "s1", *at)
    assert unsure.returncode == Ending.USAGE
    assert "--yes" in unsure.stderr


def test_a_field_and_a_value_that_only_the_server_knows_are_shown(newer: NewerServer) -> None:
    drawn = run_here("sagas", "show", "s1", "--address", newer.address)
    assert drawn.returncode == 0, drawn
    assert "FROZEN" in drawn.stdout
    assert "mood: calm" in drawn.stdout
    assert "\x1b" not in drawn.stdout  # what a server sends must not steer the terminal
    called = run_here("call", "GetSaga", '{"saga_id": "s1"}', "--address", newer.address, "-o", "json")
    assert json.loads(called.stdout)["saga"]["status"] == "SAGA_STATUS_FROZEN"


def test_a_verb_that_neither_knows_is_a_wrong_usage(newer: NewerServer) -> None:
    done = run_here("sagas", "fre", "s1", "--address", newer.address)
    assert done.returncode == Ending.USAGE
    assert "no verb `fre`" in done.stderr


def test_a_command_whose_method_the_server_lacks_says_so(newer: NewerServer) -> None:
    done = run_here("events", "list", "--address", newer.address)
    assert done.returncode == Ending.LACKING
    assert "this server has no SagaService/ListEvents" in done.stderr


def older_set(newer: NewerServer, folder: Path) -> Path:
    """The contract as an older program's files have it: without the field and the value."""
    older = descriptor_pb2.FileDescriptorSet()
    older.CopyFrom(newer.contract)
    (saga,) = [each for each in older.file[0].message_type if each.name == "Saga"]
    del saga.field[[each.name for each in saga.field].index("mood")]
    del older.file[0].enum_type[0].value[2]
    path = folder / "older.binpb"
    path.write_bytes(older.SerializeToString())
    return path


def test_what_the_descriptors_do_not_know_is_shown_and_not_dropped(
    silent: NewerServer, tmp_path: Path
) -> None:
    at = ("--address", silent.address, "--descriptor-set", older_set(silent, tmp_path))
    called = json.loads(run_here("call", "GetSaga", '{"saga_id": "s1"}', *at, "-o", "json").stdout)
    assert called["saga"]["status"] == 42
    assert called["saga"]["?77"]
    drawn = run_here("sagas", "show", "s1", *at).stdout
    assert "42 (unknown)" in drawn
    assert "?77" in drawn


def test_without_reflection_the_remedy_is_said(silent: NewerServer) -> None:
    done = run_here("sagas", "list", "--address", silent.address)
    assert done.returncode == Ending.LACKING
    assert "--descriptor-set FILE" in done.stderr


def test_a_grpc_server_that_is_no_saga_coordinator() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    described = ReflectionServicer([ALPHA], descriptor_pool.DescriptorPool())
    server.add_generic_rpc_handlers([describing(ALPHA, described)])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        done = run_here("sagas", "list", "--address", address)
    finally:
        server.stop(None).wait()
    assert done.returncode == Ending.LACKING
    assert f"{address} is a gRPC server, but no saga coordinator" in done.stderr
