"""The services as they would be without sagas: gRPC methods of their own (`shop.proto`), called as they are.

All that they get from the coordinator beside the request is metadata: the idempotency key, and with it everything that
`guard.py` needs. The status of the answer says what became of the call, as it would to any client.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Value
from grpc_reflection.v1alpha import reflection
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest

from order_fulfilment import guard, shop_pb2
from order_fulfilment.service import Participant, Server


def serve_plainly(name: str, participant: Participant, address: str) -> Server:
    """Serves a service's own methods, and says by reflection what they take. Raises RuntimeError when the address is taken."""
    service = shop_pb2.DESCRIPTOR.services_by_name[name.capitalize()]

    def add(server: grpc.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            method.name: grpc.unary_unary_rpc_method_handler(
                partial(_handle, participant, method.name, GetMessageClass(method.output_type)),
                request_deserializer=GetMessageClass(method.input_type).FromString,
                response_serializer=lambda reply: reply.SerializeToString(),
            )
            for method in service.methods
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        reflection.enable_server_reflection([service.full_name, reflection.SERVICE_NAME], server)

    return Server.serve(address, add)


def _handle(
    participant: Participant,
    method: str,
    reply: Callable[[], Message],
    request: Message,
    context: grpc.ServicerContext,
) -> Message:
    answer = _answer(participant, method, request, dict(context.invocation_metadata()))
    if answer.code is not grpc.StatusCode.OK:
        context.abort(answer.code, answer.message)
    return ParseDict(answer.output or {}, reply())


def _answer(
    participant: Participant, method: str, request: Message, metadata: dict[str, Any]
) -> guard.Answer:
    fields: dict[str, Any] = MessageToDict(
        request, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    about: dict[str, Any] = {
        "idempotency_key": metadata.get("idempotency-key", ""),
        "method": method,
        "attempt": int(metadata.get("saga-attempt", 1)),
        "input": ParseDict(fields, Value()),
    }
    if not about["idempotency_key"]:
        return guard.Answer(grpc.StatusCode.INVALID_ARGUMENT, "the metadata idempotency-key is required")
    if method in participant.actions:
        return participant.execute(ExecuteRequest(**about))
    undoes = metadata.get("action-idempotency-key", "")
    return participant.compensate(CompensateRequest(**about, action_idempotency_key=undoes))
