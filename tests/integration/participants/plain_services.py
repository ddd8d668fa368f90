"""Services that know nothing of sagas, each with its own .proto file, compiled when the test runs."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_tools import protoc

from saga_coordinator.participants.directory.descriptors import Method, build_service
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.identity import OperationKind
from tests.integration.participants.services import Context, invoke

V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"

INVENTORY = """
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "shop/v1/line.proto";

service Inventory {
  rpc Reserve(ReserveRequest) returns (ReserveResponse);
  rpc Release(ReleaseRequest) returns (ReleaseResponse);
  rpc Watch(ReserveRequest) returns (stream ReserveResponse);
  rpc Load(stream ReserveRequest) returns (ReserveResponse);
  rpc Talk(stream ReserveRequest) returns (stream ReserveResponse);
}
message ReserveRequest {
  string order_id = 1;
  repeated Line lines = 2;
  int64 total_cents = 3;
  google.protobuf.Timestamp not_after = 4;
  map<string, int32> limits = 5;
  oneof payer { string card = 6; string invoice = 7; }
  bytes signature = 8;
}
message ReserveResponse {
  string reservation_id = 1;
  int32 reserved_count = 2;
  int64 total_cents = 3;
  repeated Line lines = 4;
  google.protobuf.Timestamp reserved_at = 5;
  optional string note = 6;
}
message ReleaseRequest { string reservation_id = 1; }
message ReleaseResponse {}
"""
LINE = """
syntax = "proto3";
package shop.v1;
enum Kind { KIND_UNSPECIFIED = 0; KIND_BOOK = 1; }
message Line { string sku = 1; int32 quantity = 2; Kind kind = 3; }
"""
FILES: Mapping[str, str] = {"shop/v1/inventory.proto": INVENTORY, "shop/v1/line.proto": LINE}

Handler = Callable[[Any, Context], Awaitable[Any]]
ServePlain = Callable[..., Awaitable["PlainServer"]]


def compiled(files: Mapping[str, str]) -> descriptor_pb2.FileDescriptorSet:
    """What `protoc --include_imports --descriptor_set_out` makes of the .proto files with these texts."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        out = Path(folder, "set.binpb")
        include = Path(grpc_tools.__file__).parent / "_proto"
        arguments = [
            "protoc",
            f"-I{folder}",
            f"-I{include}",
            "--include_imports",
            f"--descriptor_set_out={out}",
        ]
        assert protoc.main([*arguments, *files]) == 0
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def serialized(described: descriptor_pb2.FileDescriptorSet) -> dict[str, bytes]:
    return {file.name: file.SerializeToString() for file in described.file}


def method_of(full_name: str, files: Mapping[str, str] = FILES) -> Method:
    service, _, name = full_name.partition("/")
    return build_service(service, serialized(compiled(files))).method(name)


def plain(
    method: str = "shop.v1.Inventory/Reserve",
    payload: Any = None,
    operation: OperationKind = OperationKind.ACTION,
    **fields: Any,
) -> Invoke:
    """An effect of the core that calls a method by its full name."""
    return invoke(operation, method=method, payload=payload, **fields)


@dataclass
class Seen:
    """One call as a service saw it."""

    method: str
    request: dict[str, Any]
    metadata: dict[str, str]
    time_remaining: float


class Pool:
    """The messages of some descriptors, as a service's generated code has them."""

    def __init__(self, described: descriptor_pb2.FileDescriptorSet) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        for file in described.file:
            self.pool.Add(file)

    def message(self, name: str) -> type[Message]:
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))


@dataclass
class PlainServer:
    """A running service. `questions` are what server reflection was asked, `seen` the calls."""

    server: grpc.aio.Server
    target: str
    seen: list[Seen] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


async def start_plain(
    files: Mapping[str, str],
    service: str,
    handlers: Mapping[str, Handler],
    *,
    reflection: Iterable[str] = (V1,),
    address: str = "127.0.0.1:0",
    describe: Handler | None = None,
) -> PlainServer:
    """Serves `service`. A handler gets the request as JSON and answers the reply as JSON; `describe` takes reflection's place."""
    messages = Pool(compiled(files))
    server = grpc.aio.server()
    running = PlainServer(server, "")
    methods = {
        method.name: _handler(method, messages, handlers[method.name], running.seen)
        for method in messages.pool.FindServiceByName(service).methods
        if method.name in handlers
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, methods)])
    for version in reflection:
        asked = (
            describe or _Questioned(ReflectionServicer([service], messages.pool), running.questions).answer
        )
        rpc = grpc.stream_stream_rpc_method_handler(
            asked,
            reflection_pb2.ServerReflectionRequest.FromString,
            _as_bytes,
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(version, {"ServerReflectionInfo": rpc})]
        )
    port = server.add_insecure_port(address)
    assert port, address
    await server.start()
    running.target = f"127.0.0.1:{port}"
    return running


def _handler(method: Any, messages: Pool, answer: Handler, seen: list[Seen]) -> Any:
    reply_class = messages.message(method.output_type.full_name)

    async def handle(request: Message, context: Context) -> Any:
        as_json = json_format.MessageToDict(request, preserving_proto_field_name=True)
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        seen.append(Seen(method.name, as_json, metadata, context.time_remaining()))
        reply = await answer(as_json, context)
        return (
            reply
            if isinstance(reply, bytes)
            else json_format.ParseDict(reply, reply_class()).SerializeToString()
        )

    return grpc.unary_unary_rpc_method_handler(
        handle, messages.message(method.input_type.full_name).FromString
    )


def _as_bytes(reply: Any) -> bytes:
    """Those who lie may do so in bytes."""
    return reply if isinstance(reply, bytes) else bytes(reply.SerializeToString())


class _Questioned:
    """Reflection that keeps what it was asked."""

    def __init__(self, servicer: ReflectionServicer, questions: list[str]) -> None:
        self._servicer = servicer
        self._questions = questions

    async def answer(self, requests: Any, context: Any) -> Any:
        async def noted() -> Any:
            async for request in requests:
                self._questions.append(request.WhichOneof("message_request"))
                yield request

        servicer: Any = self._servicer  # its types leave out that it is a generator
        async for reply in servicer.ServerReflectionInfo(noted(), context):
            yield reply
