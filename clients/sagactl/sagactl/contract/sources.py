"""Where descriptors come from: the server's reflection, in version 1 or v1alpha, or a file with a descriptor set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2

from sagactl.endings import Lacking, WrongUsage

_V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
_ALPHA = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
"""Version 1 is v1alpha under another name: its messages have the same bytes."""

_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]

File = descriptor_pb2.FileDescriptorProto


class Source(Protocol):
    """Knows files of descriptors."""

    def services(self) -> list[str]:
        """The full names of the services."""

    def files_with(self, symbol: str) -> list[File]:
        """The file that declares the symbol, and perhaps files that it imports. Empty if there is none."""

    def file(self, name: str) -> File | None:
        """The file of that name."""


class ServerReflection:
    """Asks the server. gRPC's own errors come out as they are, but for a server without reflection, which is Lacking."""

    def __init__(
        self, channel: grpc.Channel, metadata: Sequence[tuple[str, str]], timeout_seconds: float
    ) -> None:
        self._channel = channel
        self._metadata = tuple(metadata)
        self._timeout_seconds = timeout_seconds
        self._paths = [_V1, _ALPHA]

    def services(self) -> list[str]:
        response = self._ask(reflection_pb2.ServerReflectionRequest(list_services="*"))
        return sorted(str(each.name) for each in response.list_services_response.service)

    def files_with(self, symbol: str) -> list[File]:
        return self._files(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))

    def file(self, name: str) -> File | None:
        files = self._files(reflection_pb2.ServerReflectionRequest(file_by_filename=name))
        return next((file for file in files if file.name == name), None)

    def _files(self, request: reflection_pb2.ServerReflectionRequest) -> list[File]:
        response = self._ask(request)
        return [File.FromString(raw) for raw in response.file_descriptor_response.file_descriptor_proto]

    def _ask(self, request: reflection_pb2.ServerReflectionRequest) -> Any:
        while True:
            call = self._channel.stream_stream(
                self._paths[0],
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            response: Any
            try:
                (response,) = call(iter([request]), timeout=self._timeout_seconds, metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
                self._paths.pop(0)
                if not self._paths:
                    raise Lacking(
                        "the server has its reflection off, so it does not say what it can do; give its contract with "
                        "--descriptor-set FILE, as `buf build --output FILE` writes it"
                    ) from None
                continue
            refused = response.error_response
            if refused.error_code and refused.error_code != _NOT_FOUND:
                raise Lacking(f"the server's reflection failed: {refused.error_message}")
            return response


class DescriptorSet:
    """The files of a serialized FileDescriptorSet."""

    def __init__(self, path: str) -> None:
        """Reads the file. Raises WrongUsage."""
        try:
            read = descriptor_pb2.FileDescriptorSet.FromString(Path(path).expanduser().read_bytes())
        except OSError as error:
            raise WrongUsage(f"{path}: {error.strerror}") from None
        except DecodeError:
            raise WrongUsage(f"{path}: is no serialized FileDescriptorSet") from None
        self._files = {file.name: file for file in read.file}
        self._homes = {
            f"{file.package}.{name}".strip("."): file for file in read.file for name in _declared(file)
        }

    def services(self) -> list[str]:
        return sorted(
            f"{file.package}.{service.name}".strip(".")
            for file in self._files.values()
            for service in file.service
        )

    def files_with(self, symbol: str) -> list[File]:
        while symbol and symbol not in self._homes:
            symbol = symbol.rpartition(".")[0]
        return [self._homes[symbol]] if symbol else []

    def file(self, name: str) -> File | None:
        return self._files.get(name)


def _declared(file: File) -> list[str]:
    """The names of what the file declares on its first level."""
    services, messages = (each.name for each in file.service), (each.name for each in file.message_type)
    return [*services, *messages, *(each.name for each in file.enum_type)]
