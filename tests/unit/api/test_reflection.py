"""What the reflection service finds, symbol by symbol: clients ask for any of them."""

from collections.abc import Iterator

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

from saga_coordinator.api import definition_service, directory_service, saga_service, worker_service
from saga_coordinator.api.reflection import PublicPool
from saga_coordinator.pb.saga.internal.v1 import forward_service_pb2

SERVED = tuple(
    module.DESCRIPTOR for module in (definition_service, directory_service, saga_service, worker_service)
)


@pytest.fixture(scope="module")
def pool() -> PublicPool:
    return PublicPool(service.full_name for service in SERVED)


def _symbols(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    for message in file.message_types_by_name.values():
        yield from _of_message(message)
    for enum in file.enum_types_by_name.values():
        yield from _of_enum(enum)


def _of_message(message: Descriptor) -> Iterator[str]:
    yield message.full_name
    yield from (field.full_name for field in message.fields)
    yield from (oneof.full_name for oneof in message.oneofs)
    for nested in message.nested_types:
        yield from _of_message(nested)
    for enum in message.enum_types:
        yield from _of_enum(enum)


def _of_enum(enum: EnumDescriptor) -> Iterator[str]:
    yield enum.full_name
    scope = enum.full_name.rpartition(".")[0]
    yield from (f"{scope}.{value.name}" for value in enum.values)


def test_every_symbol_of_the_contract_is_found_in_its_file(pool: PublicPool) -> None:
    files = {service.file.name: service.file for service in SERVED}
    asked = 0
    for file in files.values():
        for symbol in _symbols(file):
            assert pool.FindFileContainingSymbol(symbol).name == file.name, symbol
            asked += 1
    assert asked > 100


@pytest.mark.parametrize("symbol", ["saga.v1.SagaService.NoSuchMethod", "saga.v1.NoSuch", "nonsense", ""])
def test_what_is_not_there_is_not_found(pool: PublicPool, symbol: str) -> None:
    with pytest.raises(KeyError):
        pool.FindFileContainingSymbol(symbol)


def test_what_coordinators_say_to_each_other_is_not_shown(pool: PublicPool) -> None:
    file = forward_service_pb2.DESCRIPTOR
    with pytest.raises(KeyError):
        pool.FindFileByName(file.name)
    for name in (f"{file.package}.ForwardService", f"{file.package}.ForwardService.Forward"):
        with pytest.raises(KeyError):
            pool.FindFileContainingSymbol(name)
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName(f"{file.package}.ForwardRequest")


def test_files_are_sent_as_they_are_with_their_comments(pool: PublicPool) -> None:
    """Clients show the comments as help."""
    for service in SERVED:
        described, sent = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
        service.file.CopyToProto(described)
        pool.FindFileByName(service.file.name).CopyToProto(sent)
        comments = {tuple(each.path): each.leading_comments for each in sent.source_code_info.location}
        for number, method in enumerate(service.methods):
            assert comments[6, 0, 2, number].strip(), method.full_name
        sent.ClearField("source_code_info")
        assert sent == described
