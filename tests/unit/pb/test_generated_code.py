"""The server's and the clients' generated code are the same contract and get along in one process."""

import importlib

import pytest

SERVICES = {
    "definition_service": "DefinitionService",
    "saga_service": "SagaService",
    "participant_service": "ParticipantService",
    "worker_service": "WorkerService",
}
MODULES = [f"{name}_pb2" for name in ("definition", "saga", *SERVICES)]


@pytest.mark.parametrize("name", MODULES)
def test_server_and_client_describe_the_same_messages(name: str) -> None:
    server = importlib.import_module(f"saga_coordinator.pb.saga.v1.{name}")
    client = importlib.import_module(f"saga_client.v1.{name}")
    assert server.DESCRIPTOR.serialized_pb == client.DESCRIPTOR.serialized_pb


@pytest.mark.parametrize("package", ["saga_coordinator.pb.saga.v1", "saga_client.v1"])
@pytest.mark.parametrize(("module", "service"), SERVICES.items())
def test_services_keep_their_names_on_the_wire(package: str, module: str, service: str) -> None:
    descriptor = importlib.import_module(f"{package}.{module}_pb2").DESCRIPTOR
    stubs = importlib.import_module(f"{package}.{module}_pb2_grpc")
    assert descriptor.services_by_name[service].full_name == f"saga.v1.{service}"
    assert hasattr(stubs, f"{service}Stub")
    assert hasattr(stubs, f"{service}Servicer")


@pytest.mark.parametrize("name", MODULES)
def test_whatever_may_be_null_is_no_choice_by_itself(name: str) -> None:
    """In many languages a Value of null, alone in a oneof, is the same as none: there is a message of its own beside it."""
    described = importlib.import_module(f"saga_coordinator.pb.saga.v1.{name}").DESCRIPTOR
    for message in described.message_types_by_name.values():
        for oneof in message.oneofs:
            types = {field.message_type.full_name for field in oneof.fields if field.message_type}
            assert "google.protobuf.Value" not in types or "saga.v1.Success" in types, message.full_name
