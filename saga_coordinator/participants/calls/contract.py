"""The requests to a participant that implements `saga.v1.ParticipantService`, and the meaning of its answers."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from saga_coordinator.pb.saga.v1.participant_service_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.outcome import Pending, Succeeded, Unknown
from saga_coordinator.wire.causes import cause_message
from saga_coordinator.wire.outcomes import invalid_reply, no_reply
from saga_coordinator.wire.parsing import parse_into
from saga_coordinator.wire.payload import PayloadError, check_message, fill, payload_of

SERVICE = "saga.v1.ParticipantService"
EXECUTE = f"/{SERVICE}/Execute"
COMPENSATE = f"/{SERVICE}/Compensate"


def encode_request(call: Invoke, token: str, bytes_max: int) -> bytes:
    """The serialized request of one attempt, which `token` names.

    Raises:
        PayloadError: the input cannot be sent, or makes a request of more than `bytes_max` bytes.
    """
    request: ExecuteRequest | CompensateRequest
    if call.operation is OperationKind.ACTION:
        request = ExecuteRequest()
    else:
        request = CompensateRequest(
            action_idempotency_key=idempotency_key(call.saga_id, call.step, OperationKind.ACTION)
        )
        if call.failure is not None:
            request.failure.CopyFrom(cause_message(call.failure))
    request.idempotency_key = call.idempotency_key
    request.saga_id = call.saga_id
    request.step = call.step
    request.method = call.method
    request.attempt = call.attempt
    request.token = token
    fill(request.input, call.input)
    # Keys are in order, because protobuf orders its maps differently in each process (P5).
    return check_message(request.SerializeToString(deterministic=True), bytes_max)


def metadata_of(call: Invoke, token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of every attempt, for participants and proxies that do not read the message (docs/contract.md)."""
    return (
        ("idempotency-key", call.idempotency_key),
        ("saga-id", call.saga_id),
        ("saga-step", call.step),
        ("saga-operation", call.operation),
        ("saga-attempt", str(call.attempt)),
        ("saga-token", token),
        *call.headers.items(),
    )


def outcome_of_reply(
    operation: OperationKind, reply: bytes | None, payload_bytes_max: int
) -> Succeeded | Pending | Unknown:
    """The outcome that status OK with `reply` means. gRPC passes None if the participant ended the call without a message.

    A reply that cannot be read or kept leaves open what happened.
    """
    if reply is None:
        return no_reply()
    response: ExecuteResponse | CompensateResponse
    response = ExecuteResponse() if operation is OperationKind.ACTION else CompensateResponse()
    try:
        parse_into(response, reply)
    except DecodeError as error:
        return invalid_reply(f"the reply does not parse: {error}")
    if response.pending:
        return Pending()
    try:
        return Succeeded(payload_of(response.output, payload_bytes_max))
    except PayloadError as error:
        return invalid_reply(f"the reply cannot be kept: {error.below('output')}")
