"""Asks a participant about its services by server reflection, version 1 or v1alpha.

The two versions are the same messages under different names (https://github.com/grpc/grpc-proto/tree/master/grpc/reflection).
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from saga_coordinator.participants.directory.descriptors import (
    BYTES_MAX,
    FILES_MAX,
    NotDescribed,
    missing_imports,
    parse_file,
    some_of,
    unusable,
)
from saga_coordinator.saga.words.outcome import CauseCode

REFLECTION_SECONDS = 5.0
"""How long each question may take."""

DESCRIPTORS_BYTES_MIN = 4 * 1024 * 1024
"""An answer of this size can be received however small a payload may be. It is gRPC's own limit."""

_VERSIONS = ("v1", "v1alpha")
_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]


class Reflection:
    """A `DescriptorSource` that asks the server at the other end of a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # Called as if it took a single request, which is the same on the wire. A server without reflection ends the stream at
        # once, and writing to an ended stream may turn its status into INTERNAL (https://github.com/grpc/grpc/issues/36066).
        # Bytes in and out: gRPC would log a reply that does not parse and hand over None.
        self._methods: list[grpc.aio.UnaryStreamMultiCallable[bytes, bytes]] = [
            channel.unary_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
            for version in _VERSIONS
        ]

    async def files(self, service: str) -> dict[str, bytes]:
        found = await self._ask(ServerReflectionRequest(file_containing_symbol=service))
        if found.WhichOneof("message_response") == "error_response":
            raise await self._refusal(service, found)
        files: dict[str, bytes] = {}
        _add(files, found)
        while missing := missing_imports(files):
            questions = [ServerReflectionRequest(file_by_filename=name) for name in missing]
            for name, answer in zip(missing, await asyncio.gather(*map(self._ask, questions)), strict=True):
                _add(files, answer)
                if name not in files:
                    raise unusable(f"server reflection does not describe `{name}`, which {service} needs")
        return files

    async def served(self) -> list[str]:
        """The full names of the services that the server lists. Raises NotDescribed with the status when it does not say."""
        listed = await self._ask(ServerReflectionRequest(list_services=""))
        return [each.name for each in listed.list_services_response.service]

    async def _refusal(self, service: str, answer: ServerReflectionResponse) -> NotDescribed:
        error = answer.error_response
        if error.error_code != _NOT_FOUND:
            return unusable(f"server reflection does not describe {service}: {error.error_message}")
        served = some_of(await self.served())
        return NotDescribed(CauseCode.NO_SUCH_METHOD, f"there is no service `{service}`; there are: {served}")

    async def _ask(self, question: ServerReflectionRequest) -> ServerReflectionResponse:
        """The answer to one question. Raises NotDescribed with the gRPC status if no answer comes."""
        for method in self._methods:
            try:
                return await _answer(method, question)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    continue
                message = f"asked by server reflection what it serves: {error.details()}"
                raise NotDescribed(error.code().name, message) from None
        raise unusable(
            "does not serve reflection: turn it on there, or name a descriptor_set in the participants file"
        )


async def _answer(
    method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes], question: ServerReflectionRequest
) -> ServerReflectionResponse:
    call = method(question.SerializeToString(), timeout=REFLECTION_SECONDS)
    answers: list[bytes] = []
    async for answer in call:
        answers.append(answer)
        if len(answers) > 1:
            call.cancel()
            raise unusable("server reflection gave more than one answer to a question")
    if not answers:
        raise unusable("server reflection gave no answer")
    try:
        return ServerReflectionResponse.FromString(answers[0])
    except DecodeError:
        raise unusable("the answer of server reflection does not parse") from None


def _add(files: dict[str, bytes], answer: ServerReflectionResponse) -> None:
    for content in answer.file_descriptor_response.file_descriptor_proto:
        files.setdefault(parse_file(content).name, content)
    if len(files) > FILES_MAX or sum(map(len, files.values())) > BYTES_MAX:
        raise unusable(f"has more than {FILES_MAX} files or {BYTES_MAX} bytes of descriptors for one service")
