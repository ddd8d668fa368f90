"""One attempt: what the participant receives, and what its answer means."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from saga_coordinator import __version__
from saga_coordinator.pb.saga.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest
from saga_coordinator.pb.saga.v1.saga_pb2 import Cause as CauseMessage
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    REFUSING_STATUSES,
    TEXT_BYTES_MAX,
    Cause,
    CauseCode,
    Held,
    Pending,
    Refused,
    Succeeded,
    Unknown,
)
from saga_coordinator.wire.payload import NESTING_MAX, from_value
from tests.integration.participants.services import Connect, Context, Received, Serve, invoke, output

_retry_info = AnyMessage()
_retry_info.Pack(RetryInfo(retry_delay=Duration(seconds=2)))
QUOTA = Status(code=8, message="quota", details=[_retry_info]).SerializeToString()
"""The details of a status that says when to come again."""

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
SAGA_ID = "0198c2aa-1111-7222-8333-444455556666"


async def test_an_action_is_executed(serve: Serve, connect: Connect, received: list[Received]) -> None:
    async def reserve(request: ExecuteRequest, context: Context) -> Any:
        return output({"reservation_id": "r-1", "of": from_value(request.input)})

    participants = connect(inventory=await serve(reserve))

    outcome = await participants.invoke(invoke(attempt=3, payload={"lines": [{"sku": "a", "count": 2}]}))

    assert outcome == Succeeded({"reservation_id": "r-1", "of": {"lines": [{"sku": "a", "count": 2}]}})
    (seen,) = received
    request = seen.request
    assert isinstance(request, ExecuteRequest)
    assert request.idempotency_key == f"{SAGA_ID}/reserve/action"
    assert (request.saga_id, request.step, request.method) == (SAGA_ID, "reserve", "reserve-stock")
    assert request.attempt == 3


async def test_a_compensation_says_what_it_undoes_and_why(
    serve: Serve, connect: Connect, received: list[Received]
) -> None:
    participants = connect(inventory=await serve())
    failure = Cause("FAILED_PRECONDITION", "card declined", step="charge", requested_by="somebody")

    outcome = await participants.invoke(invoke(COMPENSATION, payload="r-1", failure=failure))

    assert outcome == Succeeded(None)
    request = received[0].request
    assert isinstance(request, CompensateRequest)
    assert request.idempotency_key == f"{SAGA_ID}/reserve/compensation"
    assert request.action_idempotency_key == f"{SAGA_ID}/reserve/action"
    assert request.input.string_value == "r-1"
    assert request.failure == CauseMessage(
        code="FAILED_PRECONDITION", message="card declined", step="charge", requested_by="somebody"
    )


@pytest.mark.parametrize(
    "trailer",
    [("saga-retry-after", "2"), ("grpc-retry-pushback-ms", "2000"), ("grpc-status-details-bin", QUOTA)],
)
async def test_a_rest_may_be_asked_for_in_each_way_of_grpc(
    serve: Serve, connect: Connect, trailer: tuple[str, str | bytes]
) -> None:
    async def busy(request: Any, context: Context) -> Any:
        context.set_trailing_metadata((trailer,))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota")

    outcome = await connect(inventory=await serve(busy)).invoke(invoke())
    assert outcome == Unknown(Cause("RESOURCE_EXHAUSTED", "quota"), 2.0)


async def test_metadata_and_deadline_accompany_each_call(
    serve: Serve, connect: Connect, received: list[Received]
) -> None:
    participants = connect(inventory=await serve())
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await participants.invoke(invoke(attempt=2, timeout_seconds=7, headers={"traceparent": traceparent}))

    (seen,) = received
    expected = {
        "idempotency-key": f"{SAGA_ID}/reserve/action",
        "saga-id": SAGA_ID,
        "saga-step": "reserve",
        "saga-operation": "action",
        "saga-attempt": "2",
        "traceparent": traceparent,
    }
    assert expected.items() <= seen.metadata.items()
    assert seen.metadata["user-agent"].startswith(f"saga-coordinator/{__version__} ")
    assert seen.time_remaining == pytest.approx(7, abs=2)


async def test_p5_the_key_stays_and_the_attempt_number_travels_beside_it(
    serve: Serve, connect: Connect, received: list[Received]
) -> None:
    participants = connect(inventory=await serve())
    for operation in (ACTION, COMPENSATION):
        for attempt in (1, 2):
            await participants.invoke(invoke(operation, attempt=attempt))
    keys = [(seen.request.idempotency_key, seen.metadata["idempotency-key"]) for seen in received]
    assert keys[0] == keys[1] == (f"{SAGA_ID}/reserve/action",) * 2
    assert keys[2] == keys[3] == (f"{SAGA_ID}/reserve/compensation",) * 2
    assert [seen.request.attempt for seen in received] == [1, 2, 1, 2]


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK])
@pytest.mark.parametrize("operation", OperationKind)
async def test_each_status_means_what_the_table_says(
    serve: Serve, connect: Connect, status: grpc.StatusCode, operation: OperationKind
) -> None:
    async def fail(request: Any, context: Context) -> Any:
        await context.abort(status, "because")

    outcome = await connect(inventory=await serve(fail)).invoke(invoke(operation))

    cause = Cause(status.name, "because")
    assert outcome == (Refused(cause) if status.name in REFUSING_STATUSES else Unknown(cause))


@pytest.mark.parametrize("operation", OperationKind)
async def test_ok_with_pending_is_pending(serve: Serve, connect: Connect, operation: OperationKind) -> None:
    async def accept(request: Any, context: Context) -> Any:
        reply = output({"ignored": True})
        reply.pending = True
        return reply

    assert await connect(inventory=await serve(accept)).invoke(invoke(operation)) == Pending()


@pytest.mark.parametrize(
    "payload", [None, {}, [], "", "text", 0, 1.5, True, {"a": [1, {"b": None}]}, ["ä", "🙂"]]
)
async def test_payloads_pass_both_ways(serve: Serve, connect: Connect, payload: Any) -> None:
    async def echo(request: ExecuteRequest, context: Context) -> Any:
        reply = output(None)
        reply.output.CopyFrom(request.input)
        return reply

    outcome = await connect(inventory=await serve(echo)).invoke(invoke(payload=payload))

    assert outcome == Succeeded(payload)


@pytest.mark.parametrize("name", ["plain.sock", "blank and 100%25.sock"])
async def test_a_participant_may_live_on_a_unix_socket(
    serve: Serve, connect: Connect, tmp_path: Path, name: str
) -> None:
    target = await serve(address=f"unix:{quote(str(tmp_path / name))}")
    assert await connect(inventory=target).invoke(invoke()) == Succeeded(None)


async def test_an_attempt_at_an_unknown_participant_is_held_with_the_remedy(connect: Connect) -> None:
    outcome = await connect().invoke(invoke(participant="billing"))
    assert isinstance(outcome, Held)
    assert outcome.cause.code == CauseCode.NO_SUCH_PARTICIPANT
    assert "`billing`" in outcome.cause.message
    assert "--participants FILE" in outcome.cause.message


async def test_an_input_that_cannot_be_sent_is_refused_and_not_sent(
    serve: Serve, connect: Connect, received: list[Received]
) -> None:
    payload: Any = "core"
    for _ in range(NESTING_MAX + 1):
        payload = {"k": payload}

    outcome = await connect(inventory=await serve()).invoke(invoke(payload=payload))

    assert isinstance(outcome, Refused)
    assert outcome.cause.code == CauseCode.INPUT_INVALID
    assert "too deep" in outcome.cause.message
    assert received == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [("x" * 2000, "x" * 2000), ("ä" * 2000, "ä" * 2000), ("", ""), ("a\nb\x01\x7f%41", "a\nb\x01\x7f%41")],
)
async def test_what_a_participant_says_is_kept(serve: Serve, connect: Connect, said: str, kept: str) -> None:
    async def refuse(request: Any, context: Context) -> Any:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, said)

    outcome = await connect(inventory=await serve(refuse)).invoke(invoke())

    assert outcome == Refused(Cause("FAILED_PRECONDITION", kept))


async def test_a_megabyte_of_words_is_cut_and_does_not_hide_the_refusal(
    serve: Serve, connect: Connect
) -> None:
    async def refuse(request: Any, context: Context) -> Any:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "x" * 1_000_000)

    outcome = await connect(inventory=await serve(refuse)).invoke(invoke())

    assert isinstance(outcome, Refused)
    assert outcome.cause.code == "FAILED_PRECONDITION"
    assert len(outcome.cause.message) <= TEXT_BYTES_MAX
    assert outcome.cause.message.endswith("[cut, 1000000 bytes in all]")
