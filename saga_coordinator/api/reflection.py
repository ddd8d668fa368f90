"""Server reflection in both versions that clients ask for.

grpcio-reflection serves `grpc.reflection.v1alpha` only. Version 1 (https://github.com/grpc/grpc-proto, reflection/v1) is the same
protocol under another package name, message for message, so the same servicer answers it; its descriptors are v1alpha's, renamed.

Clients show the contract's comments as help. Python's descriptors have none, so each file is sent with the comments that
`make generate` has kept beside the generated code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from saga_coordinator.api.caller import Caller, Conversation
from saga_coordinator.saga.words.errors import Resource
from saga_coordinator.wire.request_bytes import parsed

_ALPHA = reflection_pb2.DESCRIPTOR.package
_V1 = "grpc.reflection.v1"
V1_SERVICE = f"{_V1}.ServerReflection"
ALPHA_SERVICE = f"{_ALPHA}.ServerReflection"


def described_services() -> tuple[ServiceDescriptor, ServiceDescriptor]:
    """The two services of reflection."""
    _describe_v1()
    pool = descriptor_pool.Default()
    return pool.FindServiceByName(V1_SERVICE), pool.FindServiceByName(ALPHA_SERVICE)


class ReflectionService:
    """Describes `services` and reflection itself, in both versions, whose messages have the same bytes."""

    def __init__(self, services: Iterable[str]) -> None:
        described_services()
        names = [*services, V1_SERVICE, ALPHA_SERVICE]
        self._servicer: Any = ReflectionServicer(names, PublicPool(names))

    def resource(self, request: Any) -> Resource | None:
        return None

    async def ServerReflectionInfo(self, conversation: Conversation, caller: Caller) -> None:  # noqa: N802  # the RPC's name
        async for raw in conversation:
            request = parsed(reflection_pb2.ServerReflectionRequest, raw)
            async for response in self._servicer.ServerReflectionInfo(_only(request), None):
                await conversation.write(response.SerializeToString())


def contract_comments() -> Mapping[str, descriptor_pb2.SourceCodeInfo]:
    """The comments of the contract's files, and of the files that these import, by the name of the file."""
    kept = descriptor_pb2.FileDescriptorSet()
    kept.ParseFromString((resources.files("saga_coordinator.pb") / "comments.binpb").read_bytes())
    return {file.name: file.source_code_info for file in kept.file}


class CommentedFile:
    """A file as reflection sends it, with its comments. It has the part of a `FileDescriptor` that the servicer uses."""

    def __init__(
        self,
        file: FileDescriptor,
        dependencies: list[CommentedFile],
        comments: descriptor_pb2.SourceCodeInfo | None,
    ) -> None:
        self.name: str = file.name
        self.dependencies = dependencies
        self._sent = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(self._sent)
        if comments is not None:
            self._sent.source_code_info.CopyFrom(comments)

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:  # noqa: N802  # the descriptor's name
        """Writes the file into `proto`."""
        proto.CopyFrom(self._sent)


async def _only(request: reflection_pb2.ServerReflectionRequest) -> AsyncIterator[Any]:
    yield request


class PublicPool:
    """The descriptors that callers may see: the files of the served services, and what these files import.

    It has the methods of a `DescriptorPool` that the servicer uses. Python's own pool also holds what the coordinators say to
    each other, and `FindFileContainingSymbol` there does not know methods, which stock clients ask about (`grpcurl describe
    saga.v1.SagaService.StartSaga`, every call of `ghz`). Each method raises KeyError for what is not there.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._pool = descriptor_pool.Default()
        self._comments = contract_comments()
        self._files: dict[str, CommentedFile] = {}
        for service in services:
            self._added(self._pool.FindFileContainingSymbol(service))

    def _added(self, file: FileDescriptor) -> CommentedFile:
        if file.name not in self._files:
            dependencies = [self._added(each) for each in file.dependencies]
            self._files[file.name] = CommentedFile(file, dependencies, self._comments.get(file.name))
        return self._files[file.name]

    def FindFileByName(self, name: str) -> CommentedFile:  # noqa: N802  # the pool's name
        """The file of that path."""
        return self._files[name]

    def FindFileContainingSymbol(self, name: str) -> CommentedFile:  # noqa: N802  # the pool's name
        """The file that declares a service, method, message, field, oneof, enum or enum value of that full name."""
        try:
            found = self._pool.FindFileContainingSymbol(name)
        except KeyError:
            found = self._pool.FindMethodByName(name).containing_service.file
        return self._files[found.name]

    def FindMessageTypeByName(self, name: str) -> Descriptor:  # noqa: N802  # the pool's name
        """The message of that full name."""
        found = self._pool.FindMessageTypeByName(name)
        self.FindFileByName(found.file.name)
        return found

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:  # noqa: N802  # the pool's name
        """The extension of `message` with that field number."""
        return self._pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:  # noqa: N802  # the pool's name
        """All extensions of `message`."""
        return self._pool.FindAllExtensions(message)


def _describe_v1() -> None:
    """Puts version 1's descriptors where the servicer looks them up, so that clients can ask about version 1, too."""
    described = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(described)
    described.name = "grpc/reflection/v1/reflection.proto"
    described.package = _V1
    for message in described.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = _renamed(field.type_name)
    for service in described.service:
        for method in service.method:
            method.input_type, method.output_type = _renamed(method.input_type), _renamed(method.output_type)
    descriptor_pool.Default().AddSerializedFile(described.SerializeToString())


def _renamed(name: str) -> str:
    return name.replace(f".{_ALPHA}.", f".{_V1}.")
