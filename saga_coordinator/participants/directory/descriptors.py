"""Descriptors: what a service's methods take and give, made into messages that can be written and read.

Every `Service` has a descriptor pool of its own. Two teams may use the name `common.Money` for different messages, and so may two
deployments of one service. In pools of their own, such messages never meet.

Descriptors come from a `DescriptorSource`: server reflection (`reflection.py`) or a file (`DescriptorSet`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Protocol, Self

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from saga_coordinator.saga.words.errors import SagaError
from saga_coordinator.saga.words.outcome import CauseCode

FILES_MAX = 2_000
BYTES_MAX = 16 * 1024 * 1024
"""What a participant may say about one service: many times what large APIs need, and little enough to be read at once."""

NAMES_SHOWN_MAX = 20

_WELL_KNOWN: Mapping[str, bytes] = {
    module.DESCRIPTOR.name: module.DESCRIPTOR.serialized_pb
    for module in (
        any_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
}
"""Their JSON form is in the protobuf library, which takes their fields for granted: whatever a participant says that they are,
ours are used."""

_COMMON: Mapping[str, bytes] = {
    module.DESCRIPTOR.name: module.DESCRIPTOR.serialized_pb
    for module in (api_pb2, descriptor_pb2, source_context_pb2, type_pb2)
}
"""Used where a participant leaves them out, as some do."""


class NotDescribed(SagaError):
    """Nothing describes what a method takes, so it cannot be called. `code` is the gRPC status of the cause."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def unusable(message: str) -> NotDescribed:
    """The error for descriptors that exist and cannot be used."""
    return NotDescribed(CauseCode.NO_DESCRIPTORS, message)


class DescriptorSource(Protocol):
    async def files(self, service: str) -> Mapping[str, bytes]:
        """Serialized `FileDescriptorProto`s by name: the file that holds the service, and the files that it imports.

        Raises:
            NotDescribed: there is no such service, or no source describes it.
        """


@dataclass(frozen=True, slots=True)
class Method:
    """A method as it is called: `path` is gRPC's, with a leading slash. `streams` is empty for a unary one."""

    path: str
    request: type[Message]
    reply: type[Message]
    streams: str
    pool: DescriptorPool = field(repr=False)


@dataclass(frozen=True, slots=True)
class Service:
    """A service as it was described at one time; equal digests mean equal descriptions."""

    name: str
    methods: Mapping[str, Method]
    digest: bytes

    def method(self, name: str) -> Method:
        """The method of that name. Raises NotDescribed if the service has none."""
        method = self.methods.get(name)
        if method is None:
            raise NotDescribed(
                CauseCode.NO_SUCH_METHOD,
                f"{self.name} has no method `{name}`; it has: {some_of(self.methods)}",
            )
        return method


@dataclass(frozen=True, slots=True)
class DescriptorSet:
    """The content of a file as `protoc --include_imports --descriptor_set_out` and `buf build -o` write it."""

    serialized: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parses a descriptor set. Raises NotDescribed if the bytes are none."""
        try:
            listed = descriptor_pb2.FileDescriptorSet.FromString(content)
        except DecodeError:
            raise unusable("is not a google.protobuf.FileDescriptorSet") from None
        if not listed.file or not all(file.name for file in listed.file):
            raise unusable("holds no files; it is made by `protoc --include_imports --descriptor_set_out`")
        return cls(MappingProxyType({file.name: file.SerializeToString() for file in listed.file}))

    async def files(self, service: str) -> Mapping[str, bytes]:
        parsed = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in self.serialized.values()]
        if _holder(service, parsed) is None:
            served = [name for file in parsed for name in _services(file)]
            raise NotDescribed(
                CauseCode.NO_SUCH_METHOD,
                f"the descriptor set has no service `{service}`; it has: {some_of(served)}",
            )
        return self.serialized


def some_of(names: Iterable[str]) -> str:
    """The names, joined; no more of them than a message has room for."""
    listed = list(names)
    shown = ", ".join(name[:200] for name in listed[:NAMES_SHOWN_MAX]) or "none"
    return shown + (f" and {len(listed) - NAMES_SHOWN_MAX} more" if len(listed) > NAMES_SHOWN_MAX else "")


def parse_file(content: bytes) -> descriptor_pb2.FileDescriptorProto:
    """Parses the descriptor of a file. Raises NotDescribed if the bytes are none."""
    try:
        file = descriptor_pb2.FileDescriptorProto.FromString(content)
    except DecodeError:
        raise unusable("one of the descriptors is not a google.protobuf.FileDescriptorProto") from None
    if not file.name:
        raise unusable("one of the descriptors is of a file without a name")
    return file


def missing_imports(files: Mapping[str, bytes]) -> list[str]:
    """The imports of `files` that neither `files` nor this program have. Raises NotDescribed as `parse_file`."""
    wanted = {name for content in files.values() for name in parse_file(content).dependency}
    return sorted(wanted - files.keys() - _WELL_KNOWN.keys() - _COMMON.keys())


def build_service(name: str, files: Mapping[str, bytes]) -> Service:
    """Builds the service of that full name from the files that describe it.

    Raises:
        NotDescribed: the files do not describe the service, or contradict themselves.
    """
    digest = sha256(b"".join(sha256(files[file]).digest() for file in sorted(files))).digest()
    serialized = {**_COMMON, **files, **_WELL_KNOWN}
    parsed = {file: parse_file(content) for file, content in serialized.items()}
    holder = _holder(name, [parsed[file] for file in files])
    if holder is None:
        raise unusable(f"none of the descriptors holds the service `{name}`")
    pool = DescriptorPool()
    for file in _imports_first(holder, parsed):
        try:
            pool.AddSerializedFile(serialized[file])
        except (TypeError, ValueError) as error:
            raise unusable(f"the descriptor of `{file}` is faulty: {error}") from None
    described = pool.FindServiceByName(name)
    return Service(
        name, MappingProxyType({each.name: _method(each, pool) for each in described.methods}), digest
    )


def _method(described: MethodDescriptor, pool: DescriptorPool) -> Method:
    streams = {
        (False, False): "",
        (True, False): "client-streaming",
        (False, True): "server-streaming",
        (True, True): "bidirectional-streaming",
    }[described.client_streaming, described.server_streaming]
    return Method(
        f"/{described.containing_service.full_name}/{described.name}",
        message_factory.GetMessageClass(described.input_type),
        message_factory.GetMessageClass(described.output_type),
        streams,
        pool,
    )


def _services(file: descriptor_pb2.FileDescriptorProto) -> list[str]:
    prefix = f"{file.package}." if file.package else ""
    return [prefix + service.name for service in file.service]


def _holder(service: str, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> str | None:
    return next((file.name for file in files if service in _services(file)), None)


def _imports_first(holder: str, files: Mapping[str, descriptor_pb2.FileDescriptorProto]) -> list[str]:
    """`holder` and all that it imports, each file after its own imports. Raises NotDescribed for a cycle or a missing file."""
    ordered: dict[str, None] = {}
    path: list[str] = []
    remaining: list[tuple[str, bool]] = [(holder, False)]
    while remaining:
        name, is_left = remaining.pop()
        if is_left:
            path.pop()
            ordered[name] = None
            continue
        if name in ordered:
            continue
        if name in path:
            raise unusable(f"files import each other: {some_of([*path[path.index(name) :], name])}")
        if name not in files:
            raise unusable(f"`{path[-1]}` imports `{name}`, which is not described")
        path.append(name)
        remaining.append((name, True))
        remaining += [(each, False) for each in files[name].dependency]
    return list(ordered)
