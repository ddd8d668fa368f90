"""Methods of services that know nothing of sagas, called as they are: what such a service receives, and what its answer means."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import pytest

from saga_coordinator.participants.calls.reflection import DESCRIPTORS_BYTES_MIN
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.descriptors import DescriptorSet
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    REFUSING_STATUSES,
    Cause,
    CauseCode,
    Pending,
    Refused,
    Succeeded,
    Unknown,
)
from tests.integration.participants.plain_services import (
    FILES,
    INVENTORY,
    LINE,
    V1,
    V1ALPHA,
    ServePlain,
    compiled,
    plain,
)
from tests.integration.participants.services import PAYLOAD_BYTES_MAX, Connect, Context

SAGA_ID = "0198c2aa-1111-7222-8333-444455556666"
ORDER = {"order_id": "o-1", "lines": [{"sku": "a", "quantity": 2, "kind": "KIND_BOOK"}]}
NEWER = {**FILES, "shop/v1/inventory.proto": INVENTORY.replace("order_id", "order")}


async def reserve(request: dict[str, Any], context: Context) -> dict[str, Any]:
    return {"reservation_id": f"r-{request.get('order_id', '')}"}


async def abort(code: grpc.StatusCode, context: Context, **trailers: str) -> None:
    context.set_trailing_metadata(tuple((key.replace("_", "-"), value) for key, value in trailers.items()))
    await context.abort(code, "because")


async def test_a_method_is_called_as_it_is(serve_plain: ServePlain, connect: Connect) -> None:
    async def answer(request: dict[str, Any], context: Context) -> dict[str, Any]:
        return {
            "reservation_id": "r-1",
            "total_cents": "9007199254740993",
            "lines": request["lines"],
            "reserved_at": "2026-01-02T03:04:05Z",
        }

    running = await serve_plain({"Reserve": answer})
    given = {
        **ORDER,
        "totalCents": "9007199254740993",
        "not_after": "2026-01-02T03:04:05Z",
        "limits": {"a": 3},
        "card": "visa",
        "signature": "AAE=",
    }

    outcome = await connect(inventory=running.target).invoke(plain(payload=given))

    assert outcome == Succeeded(
        {
            "reservation_id": "r-1",
            "reserved_count": 0,
            "total_cents": "9007199254740993",
            "lines": [{"sku": "a", "quantity": 2, "kind": "KIND_BOOK"}],
            "reserved_at": "2026-01-02T03:04:05Z",
        }
    )
    (seen,) = running.seen
    given["total_cents"] = given.pop("totalCents")
    assert seen.request == given


async def test_metadata_and_deadline_accompany_each_call(serve_plain: ServePlain, connect: Connect) -> None:
    async def release(request: dict[str, Any], context: Context) -> dict[str, Any]:
        return {}

    running = await serve_plain({"Reserve": reserve, "Release": release})
    participants = connect(inventory=running.target)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": traceparent}

    await participants.invoke(plain(attempt=2, timeout_seconds=7, headers=headers))
    undo = plain("shop.v1.Inventory/Release", None, OperationKind.COMPENSATION, headers=headers)
    assert await participants.invoke(undo) == Succeeded({})

    acted, undone = running.seen
    expected = {
        "idempotency-key": f"{SAGA_ID}/reserve/action",
        "saga-id": SAGA_ID,
        "saga-step": "reserve",
        "saga-operation": "action",
        "saga-attempt": "2",
        "traceparent": traceparent,
    }
    assert expected.items() <= acted.metadata.items()
    assert "action-idempotency-key" not in acted.metadata
    assert acted.time_remaining == pytest.approx(7, abs=2)
    assert undone.metadata["idempotency-key"] == f"{SAGA_ID}/reserve/compensation"
    assert undone.metadata["action-idempotency-key"] == f"{SAGA_ID}/reserve/action"


async def test_null_is_the_empty_request(serve_plain: ServePlain, connect: Connect) -> None:
    running = await serve_plain({"Reserve": reserve})
    outcome = await connect(inventory=running.target).invoke(plain(payload={"order_id": None}))
    assert isinstance(outcome, Succeeded)
    outcome = await connect(inventory=running.target).invoke(plain(payload=None))
    assert isinstance(outcome, Succeeded)
    assert [seen.request for seen in running.seen] == [{}, {}]


@pytest.mark.parametrize("reflection", [(V1,), (V1ALPHA,), (V1, V1ALPHA)])
async def test_descriptors_are_asked_for_once(
    serve_plain: ServePlain, connect: Connect, reflection: tuple[str, ...]
) -> None:
    running = await serve_plain({"Reserve": reserve}, reflection=reflection)
    participants = connect(inventory=running.target)
    together = [participants.invoke(plain(payload=ORDER)) for _ in range(20)]
    outcomes = [*await asyncio.gather(*together), await participants.invoke(plain(payload=ORDER))]
    assert outcomes == [outcomes[0]] * 21
    assert isinstance(outcomes[0], Succeeded)
    assert running.questions == ["file_containing_symbol"]


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK])
async def test_each_status_means_what_the_table_says(
    serve_plain: ServePlain, connect: Connect, status: grpc.StatusCode
) -> None:
    async def fail(request: Any, context: Context) -> Any:
        await abort(status, context)

    running = await serve_plain({"Reserve": fail})
    outcome = await connect(inventory=running.target).invoke(plain())
    cause = Cause(status.name, "because")
    assert outcome == (Refused(cause) if status.name in REFUSING_STATUSES else Unknown(cause))


@pytest.mark.parametrize("status", [grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL])
@pytest.mark.parametrize("told", ["succeeded", "refused", "retry", "pending", "maybe"])
async def test_trailers_override_the_status(
    serve_plain: ServePlain, connect: Connect, status: grpc.StatusCode, told: str
) -> None:
    async def answer(request: Any, context: Context) -> Any:
        if status is not grpc.StatusCode.OK:
            await abort(status, context, saga_outcome=told, saga_retry_after="2.5")
        context.set_trailing_metadata((("saga-outcome", told), ("saga-retry-after", "2.5")))
        return {"reservation_id": "r-1"}

    running = await serve_plain({"Reserve": answer})
    outcome = await connect(inventory=running.target).invoke(plain())

    if told == "succeeded":
        assert isinstance(outcome, Succeeded)
        assert (outcome.output is not None) is (status is grpc.StatusCode.OK)
    elif told == "pending":
        assert outcome == Pending()
    elif told == "maybe":
        assert isinstance(outcome, Unknown)
        assert outcome.cause.code == CauseCode.REPLY_INVALID
        assert "`maybe`" in outcome.cause.message
    else:
        assert isinstance(outcome, Refused if told == "refused" else Unknown)
        assert outcome.cause.code == status.name
        assert outcome.is_explicit, "what was said in words is not judged by its status"
    if told == "retry":
        assert isinstance(outcome, Unknown)
        assert outcome.retry_after_seconds == 2.5


@pytest.mark.parametrize(
    ("said", "kept"), [("3", 3.0), ("soon", 0.0), ("-1", 0.0), ("nan", 0.0), ("1e9", 3600.0)]
)
async def test_a_rest_may_be_asked_for_with_any_status(
    serve_plain: ServePlain, connect: Connect, said: str, kept: float
) -> None:
    async def busy(request: Any, context: Context) -> Any:
        await abort(grpc.StatusCode.RESOURCE_EXHAUSTED, context, saga_retry_after=said)

    running = await serve_plain({"Reserve": busy})
    outcome = await connect(inventory=running.target).invoke(plain())
    assert outcome == Unknown(Cause("RESOURCE_EXHAUSTED", "because"), kept)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"order": "o-1"}, "order: is not a field of shop.v1.ReserveRequest; it has: order_id, lines"),
        ({"lines": [{"sku": "a"}, {"sku": 1}]}, "lines[1].sku: is no string"),
        ({"lines": {"sku": "a"}}, "lines: must be a list"),
        ({"total_cents": 1.5}, "total_cents: is no int64"),
        ({"limits": {"a": "many"}}, "limits.a: is no int32"),
        ({"limits": [1]}, "limits: must be an object"),
        ({"card": "a", "invoice": "b"}, "invoice: cannot be given beside `card`"),
        ({"not_after": "tomorrow"}, "not_after: is no google.protobuf.Timestamp"),
        ({"lines": [{"kind": "KIND_CAR"}]}, "lines[0].kind: is no shop.v1.Kind"),
        ("o-1", "must be an object"),
        ([], "must be an object"),
        (7, "must be an object"),
    ],
)
async def test_an_input_that_does_not_fit_is_refused_and_not_sent(
    serve_plain: ServePlain, connect: Connect, payload: Any, said: str
) -> None:
    running = await serve_plain({"Reserve": reserve})
    outcome = await connect(inventory=running.target).invoke(plain(payload=payload))
    assert isinstance(outcome, Refused), outcome
    assert outcome.cause.code == CauseCode.INPUT_INVALID
    assert said in outcome.cause.message
    assert running.seen == []


async def test_a_field_that_was_renamed_meanwhile_is_found(serve_plain: ServePlain, connect: Connect) -> None:
    running = await serve_plain({"Reserve": reserve})
    participants = connect(inventory=running.target)
    assert isinstance(await participants.invoke(plain(payload={"order_id": "1"})), Succeeded)
    await running.server.stop(None)
    newer = await serve_plain({"Reserve": reserve}, NEWER, address=running.target)

    outcome = await participants.invoke(plain(payload={"order": "2"}, timeout_seconds=30))

    assert isinstance(outcome, Succeeded), outcome
    assert [seen.request for seen in newer.seen] == [{"order": "2"}]
    outcome = await participants.invoke(plain(payload={"order_id": "2"}))
    assert isinstance(outcome, Refused)
    assert "it has: order, lines" in outcome.cause.message


async def test_a_field_that_is_renamed_on_an_open_connection_is_found(
    serve_plain: ServePlain, connect: Connect
) -> None:
    """As behind a proxy, which keeps the connection while the service behind it changes."""
    described = [compiled(FILES), compiled(NEWER)]

    async def describe(requests: Any, context: Context) -> Any:
        async for request in requests:
            yield answer_with(described[0], request)

    running = await serve_plain({"Reserve": reserve}, describe=describe)
    participants = connect(inventory=running.target)
    assert isinstance(await participants.invoke(plain(payload={"order_id": "1"})), Succeeded)
    described.pop(0)
    assert isinstance(await participants.invoke(plain(payload={"order": "1"})), Succeeded)


async def test_a_method_that_was_added_meanwhile_is_found(serve_plain: ServePlain, connect: Connect) -> None:
    older = {**FILES, "shop/v1/inventory.proto": INVENTORY.replace("rpc Release(", "rpc Free(")}
    described = [compiled(older), compiled(FILES)]

    async def describe(requests: Any, context: Context) -> Any:
        async for request in requests:
            yield answer_with(described[0], request)

    running = await serve_plain({"Reserve": reserve, "Release": reserve}, describe=describe)
    participants = connect(inventory=running.target)
    outcome = await participants.invoke(plain("shop.v1.Inventory/Release"))
    assert isinstance(outcome, Unknown)
    assert outcome.cause.code == CauseCode.NO_SUCH_METHOD
    assert "has no method `Release`; it has: Reserve, Free" in outcome.cause.message
    described.pop(0)
    await participants.invoke(plain("shop.v1.Inventory/Release"))
    assert [seen.method for seen in running.seen] == ["Release"]


async def test_unimplemented_has_the_descriptors_asked_for_again(
    serve_plain: ServePlain, connect: Connect
) -> None:
    running = await serve_plain({"Release": reserve})  # describes Reserve, too, but does not serve it
    participants = connect(inventory=running.target)
    for _ in range(2):
        outcome = await participants.invoke(plain())
        assert isinstance(outcome, Unknown)
        assert outcome.cause.code == "UNIMPLEMENTED"
    assert len(running.questions) == 2


@pytest.mark.parametrize("name", ["Watch", "Load", "Talk"])
async def test_a_streaming_method_is_refused(serve_plain: ServePlain, connect: Connect, name: str) -> None:
    running = await serve_plain({})
    outcome = await connect(inventory=running.target).invoke(plain(f"shop.v1.Inventory/{name}"))
    assert isinstance(outcome, Refused)
    assert outcome.cause.code == CauseCode.NO_SUCH_METHOD
    assert "-streaming; a step calls a unary method" in outcome.cause.message


async def test_an_unknown_service_names_those_that_there_are(
    serve_plain: ServePlain, connect: Connect
) -> None:
    running = await serve_plain({"Reserve": reserve})
    outcome = await connect(inventory=running.target).invoke(plain("shop.v1.Inventories/Reserve"))
    assert isinstance(outcome, Unknown)
    assert outcome.cause.code == CauseCode.NO_SUCH_METHOD
    assert not outcome.was_sent
    assert (
        "inventory: there is no service `shop.v1.Inventories`; there are: shop.v1.Inventory"
        in outcome.cause.message
    )


async def test_without_reflection_the_remedies_are_said(serve_plain: ServePlain, connect: Connect) -> None:
    running = await serve_plain({"Reserve": reserve}, reflection=())
    outcome = await connect(inventory=running.target).invoke(plain())
    assert isinstance(outcome, Unknown)
    assert outcome.cause.code == CauseCode.NO_DESCRIPTORS
    assert not outcome.was_sent
    assert "descriptor_set" in outcome.cause.message


async def test_reflection_may_be_turned_off_once_it_has_told(
    serve_plain: ServePlain, connect: Connect
) -> None:
    running = await serve_plain({"Reserve": reserve})
    participants = connect(inventory=running.target)
    await participants.invoke(plain(payload=ORDER))
    await running.server.stop(None)
    await serve_plain({"Reserve": reserve}, reflection=(), address=running.target)
    assert isinstance(await participants.invoke(plain(payload=ORDER)), Succeeded)


async def test_a_participant_that_is_down_is_unknown(serve_plain: ServePlain, connect: Connect) -> None:
    running = await serve_plain({"Reserve": reserve})
    participants, later = connect(inventory=running.target), connect(inventory=running.target)
    await participants.invoke(plain(payload=ORDER))
    await running.server.stop(None)
    for each in (participants, later):  # which knows the descriptors, and which does not
        outcome = await each.invoke(plain(payload=ORDER))
        assert isinstance(outcome, Unknown)
        assert outcome.cause.code == "UNAVAILABLE"


async def test_reflection_that_hangs_costs_no_more_than_the_attempt(
    serve_plain: ServePlain, connect: Connect
) -> None:
    async def hang(requests: Any, context: Context) -> Any:
        await asyncio.Event().wait()
        yield None

    running = await serve_plain({"Reserve": reserve}, describe=hang)
    outcome = await connect(inventory=running.target).invoke(plain(timeout_seconds=0.2))
    assert outcome == Unknown(
        Cause("DEADLINE_EXCEEDED", "inventory did not say within 0.2 s what shop.v1.Inventory/Reserve takes"),
        was_sent=False,
    )


def answer_with(described: Any, request: Any, *, first_only: bool = False) -> Any:
    from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse  # noqa: PLC0415

    response = ServerReflectionResponse()
    asked = request.file_by_filename
    files = [file for file in described.file if not asked or file.name == asked]
    if first_only and not asked:
        files = [file for file in files if file.service]
    response.file_descriptor_response.file_descriptor_proto.extend(file.SerializeToString() for file in files)
    return response


async def test_imports_that_are_left_out_are_asked_for(serve_plain: ServePlain, connect: Connect) -> None:
    asked: list[str] = []

    async def describe(requests: Any, context: Context) -> Any:
        async for request in requests:
            asked.append(request.file_by_filename)
            yield answer_with(compiled(FILES), request, first_only=True)

    running = await serve_plain({"Reserve": reserve}, describe=describe)
    assert isinstance(await connect(inventory=running.target).invoke(plain(payload=ORDER)), Succeeded)
    assert asked == ["", "shop/v1/line.proto"]


async def lying(kind: str, requests: Any) -> Any:
    described = compiled(FILES)
    by_name = {file.name: file for file in described.file}
    if kind == "cycle":
        by_name["shop/v1/line.proto"].dependency.append("shop/v1/inventory.proto")
    elif kind == "missing":
        described.file.remove(by_name["shop/v1/line.proto"])
    elif kind == "contradiction":
        del by_name["shop/v1/line.proto"].message_type[:]
    elif kind == "elsewhere":
        by_name["shop/v1/inventory.proto"].service[0].name = "Other"
    elif kind == "nameless":
        by_name["shop/v1/line.proto"].name = ""
    elif kind == "twisted":
        by_name["google/protobuf/timestamp.proto"].message_type[0].field[0].name = "years"
    async for request in requests:
        response = answer_with(described, request)
        if kind == "garbage":
            response.file_descriptor_response.file_descriptor_proto[:] = [b"\xff\xff\xff"]
        if kind == "large":
            response.file_descriptor_response.file_descriptor_proto.extend([b"\0" * DESCRIPTORS_BYTES_MIN])
        if kind == "noise":
            yield b"\xff\xff\xff"
        elif kind != "silence":
            yield response
        if kind == "talkative":
            yield response


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("cycle", "files import each other"),
        ("missing", "does not describe `shop/v1/line.proto`, which shop.v1.Inventory needs"),
        ("contradiction", "the descriptor of `shop/v1/inventory.proto` is faulty"),
        ("elsewhere", "none of the descriptors holds the service `shop.v1.Inventory`"),
        ("nameless", "a file without a name"),
        ("garbage", "is not a google.protobuf.FileDescriptorProto"),
        ("noise", "does not parse"),
        ("silence", "gave no answer"),
        ("talkative", "more than one answer"),
    ],
)
async def test_reflection_that_lies_is_told_so(
    serve_plain: ServePlain, connect: Connect, kind: str, said: str
) -> None:
    async def describe(requests: Any, context: Context) -> Any:
        async for reply in lying(kind, requests):
            yield reply

    running = await serve_plain({"Reserve": reserve}, describe=describe)
    outcome = await connect(inventory=running.target).invoke(plain(payload=ORDER))
    assert isinstance(outcome, Unknown)
    assert outcome.cause.code == CauseCode.NO_DESCRIPTORS
    assert said in outcome.cause.message
    assert running.seen == []


async def test_what_a_participant_says_of_well_known_types_is_not_heard(
    serve_plain: ServePlain, connect: Connect
) -> None:
    async def describe(requests: Any, context: Context) -> Any:
        async for reply in lying("twisted", requests):
            yield reply

    running = await serve_plain({"Reserve": reserve}, describe=describe)
    given = {"not_after": "2026-01-02T03:04:05Z"}
    assert isinstance(await connect(inventory=running.target).invoke(plain(payload=given)), Succeeded)
    assert [seen.request for seen in running.seen] == [given]


async def test_descriptors_larger_than_a_message_may_be_are_unknown(
    serve_plain: ServePlain, connect: Connect
) -> None:
    async def describe(requests: Any, context: Context) -> Any:
        async for reply in lying("large", requests):
            yield reply

    running = await serve_plain({"Reserve": reserve}, describe=describe)
    outcome = await connect(inventory=running.target).invoke(plain(payload=ORDER))
    assert isinstance(outcome, Unknown)
    assert outcome.cause.code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"\xff\xff\xff", "does not parse as shop.v1.ReserveResponse"),
        ({"reservation_id": "x" * PAYLOAD_BYTES_MAX}, "bytes as protobuf"),
        ({"reservation_id": "x" * DESCRIPTORS_BYTES_MIN}, "the reply is larger than the limit"),
        ({"lines": [{"sku": "a\0"}]}, "lines[0].sku: must not contain NUL"),
    ],
)
async def test_a_reply_that_cannot_be_kept_is_unknown(
    serve_plain: ServePlain, connect: Connect, reply: Any, said: str
) -> None:
    async def answer(request: Any, context: Context) -> Any:
        return reply

    running = await serve_plain({"Reserve": answer})
    outcome = await connect(inventory=running.target).invoke(plain())
    assert isinstance(outcome, Unknown)
    assert outcome.cause.code == CauseCode.REPLY_INVALID
    assert said in outcome.cause.message


async def test_clashing_names_of_two_teams_are_no_problem(serve_plain: ServePlain, connect: Connect) -> None:
    other = {
        **FILES,
        "shop/v1/line.proto": LINE.replace("sku", "article").replace("int32 quantity", "string quantity"),
    }
    ours, theirs = await serve_plain({"Reserve": reserve}), await serve_plain({"Reserve": reserve}, other)
    participants = connect(ours=ours.target, theirs=theirs.target)
    given: list[tuple[str, dict[str, Any]]] = [
        ("ours", {"lines": [{"sku": "a", "quantity": 2}]}),
        ("theirs", {"lines": [{"article": "a", "quantity": "two"}]}),
    ]
    for name, payload in given * 2:
        outcome = await participants.invoke(plain(payload=payload, participant=name))
        assert isinstance(outcome, Succeeded), outcome
    assert [seen.request for seen in ours.seen] == [given[0][1]] * 2
    assert [seen.request for seen in theirs.seen] == [given[1][1]] * 2


async def test_a_descriptor_set_takes_the_place_of_reflection(
    serve_plain: ServePlain, connect: Connect, tmp_path: Path
) -> None:
    running = await serve_plain({"Reserve": reserve}, reflection=())
    (tmp_path / "inventory.binpb").write_bytes(compiled(FILES).SerializeToString())
    file = tmp_path / "participants.yaml"
    file.write_text(
        f'participants: {{inventory: {{target: "{running.target}", descriptor_set: inventory.binpb}}}}'
    )
    participants = connect(Directory.load(file))

    assert isinstance(await participants.invoke(plain(payload=ORDER)), Succeeded)
    outcome = await participants.invoke(plain(payload={"order": "1"}))
    assert isinstance(outcome, Refused)
    outcome = await participants.invoke(plain("shop.v1.Payments/Charge"))
    assert isinstance(outcome, Unknown)
    assert (
        "the descriptor set has no service `shop.v1.Payments`; it has: shop.v1.Inventory"
        in outcome.cause.message
    )


async def test_a_new_directory_brings_new_descriptors(serve_plain: ServePlain, connect: Connect) -> None:
    running = await serve_plain({"Reserve": reserve}, reflection=())

    def known(files: Any) -> Directory:
        described = DescriptorSet.parse(compiled(files).SerializeToString())
        participant = Participant("inventory", running.target, descriptor_set=described)
        return Directory(None, MappingProxyType({"inventory": participant}))

    participants = connect(known(FILES))
    assert isinstance(await participants.invoke(plain(payload={"order": "1"})), Refused)
    participants.replace(known(NEWER))
    assert isinstance(await participants.invoke(plain(payload={"order": "1"})), Succeeded)
