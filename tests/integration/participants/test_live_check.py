"""A definition checked against what its participants serve now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc.aio
import pytest
from grpc_reflection.v1alpha.reflection import enable_server_reflection
from psycopg.conninfo import conninfo_to_dict

from saga_coordinator.catalog import live_check
from saga_coordinator.catalog.live_check import Findings, check_live
from saga_coordinator.catalog.live_outline import outline_of
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.descriptors import DescriptorSet
from saga_coordinator.participants.workers.stream import Greeting, Stream
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.pb.saga.v1 import participant_service_pb2_grpc as stubs
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.turns import Turns
from tests.eventually import eventually
from tests.integration.participants.plain_services import FILES, INVENTORY, ServePlain, compiled
from tests.integration.participants.services import Connect, Context, Serve, Service, say_ok


async def check(spec: dict[str, Any], participants: Attempts, **schemas: Any) -> Findings:
    turns = Turns("outlines", at_once=1, waiting_max=8, seconds_max=60.0)
    return await check_live(outline_of(spec), participants, schemas, turns)


async def live_faults(spec: dict[str, Any], participants: Attempts) -> list[Fault]:
    return (await check(spec, participants)).faults


NEWER = {**FILES, "shop/v1/inventory.proto": INVENTORY.replace("order_id", "order")}


async def reserve(request: dict[str, Any], context: Context) -> dict[str, Any]:
    return {}


def reserving(participant: str = "inventory", **given: Any) -> dict[str, Any]:
    action = {"participant": participant, "method": "shop.v1.Inventory/Reserve", "input": given}
    return {"name": "order", "steps": [{"name": "reserve", "read_only": True, "action": action}]}


async def test_references_are_left_out_and_what_is_around_them_is_not(
    serve_plain: ServePlain, connect: Connect
) -> None:
    participants = connect(inventory=(await serve_plain({"Reserve": reserve})).target)
    right = reserving(
        order_id="a ${input.id}", lines="${input.lines}", limits={"a": "${input.a}"}, card="$${}"
    )
    assert await live_faults(right, participants) == []
    wrong = reserving(
        order="${input.id}",
        lines=[{"sku": "${input.sku}", "quantity": "$${2}"}],
        limits={"a": "${input.a}", "b": "many"},
    )
    found = [
        str(fault).partition(";")[0].partition(": it takes")[0]
        for fault in await live_faults(wrong, participants)
    ]
    assert found == [
        "steps[0].action.input.limits.b: is no int32",
        "steps[0].action.input.lines[0].quantity: is no int32",
        "steps[0].action.input.order: is not a field of shop.v1.ReserveRequest",
    ]


async def test_it_asks_anew_each_time(serve_plain: ServePlain, connect: Connect) -> None:
    running = await serve_plain({"Reserve": reserve})
    participants = connect(inventory=running.target)
    assert await live_faults(reserving(order_id="1"), participants) == []
    await running.server.stop(None)
    (fault,) = await live_faults(reserving(order_id="1"), participants)
    assert fault.path == "steps[0].action.participant"
    assert fault.description.startswith("inventory: asked by server reflection what it serves: ")
    await serve_plain({"Reserve": reserve}, NEWER, address=running.target)

    async def told() -> list[str]:
        found = await live_faults(reserving(order_id="1"), participants)
        return [] if "asked by" in str(found) else [fault.path for fault in found]

    assert await eventually(told, "the connection") == ["steps[0].action.input.order_id"]


async def test_one_that_does_not_answer_is_told(
    serve_plain: ServePlain, connect: Connect, monkeypatch: Any
) -> None:
    async def hang(requests: Any, context: Context) -> Any:
        await asyncio.Event().wait()
        yield None

    monkeypatch.setattr(live_check, "PATIENCE_SECONDS", 0.1)
    running = await serve_plain({}, describe=hang)
    (fault,) = await live_faults(reserving(), connect(inventory=running.target))
    assert str(fault) == "steps[0].action.participant: inventory does not say within 0.1 s what it serves"


async def test_descriptor_sets_say_nothing_of_who_is_there(
    serve_plain: ServePlain, connect: Connect, tmp_path: Path
) -> None:
    described = DescriptorSet.parse(compiled(FILES).SerializeToString())
    target = (await serve_plain({"Reserve": reserve}, reflection=())).target
    known = [
        Participant("described", target, descriptor_set=described),
        Participant("gone", f"unix:{tmp_path}/nobody", descriptor_set=described),
    ]
    participants = connect(Directory(None, MappingProxyType({each.name: each for each in known})))
    (gone,) = await live_faults(reserving("gone", order_id="1"), participants)
    assert gone.path == "steps[0].action.participant"
    assert await live_faults(reserving("described", order_id="1"), participants) == []
    (fault,) = await live_faults(reserving("described", order_id=1), participants)
    assert str(fault).startswith("steps[0].action.input.order_id: is no string: ")


async def test_operations_in_blocks_are_found_and_payloads_are_no_operations(connect: Connect) -> None:
    action = {
        "participant": "nobody",
        "method": "a.B/C",
        "input": {"action": {"participant": "x", "method": "a.B/C"}},
    }
    inner = {"name": "inner", "action": action, "compensation": {"participant": "noone", "method": "undo"}}
    spec = {
        "name": "order",
        "steps": [{"name": "each", "for_each": {"items": "input.lines", "steps": [inner]}}],
    }
    assert [str(fault) for fault in await live_faults(spec, connect())] == [
        "steps[0].for_each.steps[0].action.participant: the directory has no participant `nobody`",
        "steps[0].for_each.steps[0].compensation.participant: the directory has no participant `noone`",
    ]


# Whether anybody is there.


def calling(participant: str, method: str = "reserve", **more: Any) -> dict[str, Any]:
    action = {"participant": participant, "method": method}
    return {"name": "order", "steps": [{"name": "reserve", "read_only": True, "action": action, **more}]}


async def test_nobody_is_where_the_directory_says(connect: Connect, tmp_path: Path) -> None:
    participants = connect(gone="no-such-host.invalid:443", silent=f"unix:{tmp_path}/nobody")
    for name in ("gone", "silent"):
        (fault,) = await live_faults(calling(name), participants)
        assert fault.path == "steps[0].action.participant"
        assert fault.description.startswith(f"{name}: asked by server reflection what it serves: ")


async def test_a_database_is_no_participant(connect: Connect, database_dsn: str) -> None:
    at = conninfo_to_dict(database_dsn)
    host, port = at["host"], at.get("port", 5432)
    is_socket = str(host).startswith("/")
    participants = connect(db=f"unix:{host}/.s.PGSQL.{port}" if is_socket else f"{host}:{port}")
    (fault,) = await live_faults(calling("db"), participants)
    assert fault.path == "steps[0].action.participant"
    assert fault.description.startswith("db: asked by server reflection what it serves: ")


async def test_a_service_that_is_no_participant(serve_plain: ServePlain, connect: Connect) -> None:
    participants = connect(inventory=(await serve_plain({"Reserve": reserve})).target)
    (fault,) = await live_faults(calling("inventory"), participants)
    assert str(fault) == (
        "steps[0].action.participant: inventory does not serve saga.v1.ParticipantService: "
        "it lists shop.v1.Inventory"
    )


async def test_a_participant_that_cannot_be_asked_is_not_taken_for_one(
    serve: Serve, connect: Connect
) -> None:
    release = {"participant": "bank", "method": "release"}
    twice = calling("bank", read_only=False, compensation=release)
    found = await check(twice, connect(bank=await serve()))
    assert found.faults == []
    (warning,) = found.warnings
    assert str(warning).startswith(
        "steps[0].action.method: it is not known whether bank serves saga.v1.ParticipantService (does not serve reflection"
    )
    assert str(warning).endswith("so these were not checked: reserve, release"), "one warning for all calls"


async def test_a_participant_that_says_so_is_one(connect: Connect) -> None:
    server = grpc.aio.server()
    stubs.add_ParticipantServiceServicer_to_server(Service(say_ok, []), server)
    enable_server_reflection(["saga.v1.ParticipantService"], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = await check(calling("bank"), connect(bank=f"127.0.0.1:{port}"))
    await server.stop(None)
    assert found.faults == []
    (warning,) = found.warnings
    assert str(warning) == (
        "steps[0].action.method: saga.v1.ParticipantService of bank does not say which methods it knows, so these were not "
        "checked: reserve"
    )


def nothing(told: object) -> None:
    """The transport of a worker that is never heard of."""


async def test_workers_and_what_they_perform() -> None:
    workers = Workers()
    known = Directory(None, MappingProxyType({"shop": Participant("shop", "", is_worker=True)}))
    participants = Attempts(known, payload_bytes_max=20_000, workers=workers)
    (fault,) = await live_faults(calling("shop"), participants)
    assert str(fault) == ("steps[0].action.participant: no worker of `shop` is connected to any coordinator")

    def connected(*methods: str) -> Stream:
        stream = workers.connect(Greeting("shop", frozenset(methods), 1, "w", ""), nothing, nothing)
        workers.admit(stream)
        return stream

    stream = connected("reserve", "release")
    assert await check(calling("shop"), participants) == Findings()
    (fault,) = await live_faults(calling("shop", "resrve"), participants)
    assert str(fault) == (
        "steps[0].action.method: no connected worker of `shop` performs `resrve`; known: release, reserve; did you mean "
        "`reserve`?"
    )
    stream.end()
    connected()
    found = await check(calling("shop", "resrve"), participants)
    assert found.faults == []
    assert "says that it performs every method, so these were not checked: resrve" in str(found.warnings)
    await participants.stop()


async def test_status_methods_are_asked_for(serve_plain: ServePlain, connect: Connect) -> None:
    spec = reserving(order_id="1")
    spec["steps"][0]["action"]["status"] = {"method": "shop.v1.Inventory/Look", "input": {}}
    (fault,) = await live_faults(spec, connect(inventory=(await serve_plain({"Reserve": reserve})).target))
    assert str(fault).startswith(
        "steps[0].action.status.method: inventory: shop.v1.Inventory has no method `Look`; "
    )


# What is read of outputs.


def reading(expression: str, *, when: str = "", undo: str = "") -> dict[str, Any]:
    spec = reserving(order_id="1")
    first = spec["steps"][0]
    if undo:
        first.pop("read_only")
        release = {"participant": "inventory", "method": "shop.v1.Inventory/Release"}
        first["compensation"] = {**release, "input": {"reservation_id": undo}}
    action = {**first["action"], "input": {"order_id": expression}}
    second = {"name": "then", "read_only": True, "action": action, **({"when": when} if when else {})}
    spec["steps"].append(second)
    return spec


RESPONSE = (
    "shop.v1.ReserveResponse has no field `{}`; it has: reservation_id, reserved_count, total_cents, lines, "
)
WRONG = [
    ({"expression": "${steps.reserve.output.reservation}"}, "input.order_id", RESPONSE.format("reservation")),
    ({"expression": "x", "undo": "${output.reservationId}"}, "", RESPONSE.format("reservationId")),
    (
        {"expression": "a ${steps.reserve.output.lines[0].skuu} b"},
        "input.order_id",
        "Line has no field `skuu`",
    ),
    ({"expression": "${steps.reserve.output.lines.sku}"}, "input.order_id", "`lines` is a list"),
    ({"expression": "${steps.reserve.output.note.text}"}, "input.order_id", "`note` is no object"),
    ({"expression": "${steps.reserve.output.reserved_at.seconds}"}, "input.order_id", "is text and has no"),
    ({"expression": "x", "when": "has(steps.reserve.output.notes)"}, "when", RESPONSE.format("notes")),
]


@pytest.mark.parametrize(("given", "place", "told"), WRONG)
async def test_fields_that_no_reply_has(
    given: dict[str, str], place: str, told: str, serve_plain: ServePlain, connect: Connect
) -> None:
    participants = connect(inventory=(await serve_plain({"Reserve": reserve})).target)
    (fault,) = await live_faults(reading(**given), participants)
    assert fault.path.endswith(place)
    assert told in fault.description


async def test_fields_of_a_loops_items_are_looked_for(serve_plain: ServePlain, connect: Connect) -> None:
    participants = connect(inventory=(await serve_plain({"Reserve": reserve})).target)
    spec = reserving(order_id="1")
    inner = {**spec["steps"][0], "name": "each", "when": "line.skuu != '' && line.sku != ''"}
    loop = {"items": "steps.reserve.output.lines", "as": "line", "steps": [inner]}
    spec["steps"].append({"name": "loop", "for_each": loop})
    (fault,) = await live_faults(spec, participants)
    assert str(fault).startswith("steps[1].for_each.steps[0].when: `line.skuu`: shop.v1.Line has no field")


@pytest.mark.parametrize(
    ("when", "is_wrong"),
    [
        ("steps.reserve.output.total_cents > 100000", True),
        ("steps.reserve.output.total_cents == 100000", True),
        ("steps.reserve.output.total_cents + 1 == 2", True),
        ("steps.reserve.output.total_cents in [1, 2]", True),
        ("steps.reserve.output.total_cents <= input.limit", True),
        ("exact(steps.reserve.output.total_cents * 2) > input.limit", True),
        ("exact(steps.reserve.output.total_cents + '0') == '1000000'", False),
        ("int(steps.reserve.output.total_cents) > 100000", False),
        ("steps.reserve.output.total_cents == '100000'", False),
        ("steps.reserve.output.reserved_count > 2", False),
    ],
)
async def test_long_numbers_are_text(
    when: str, is_wrong: bool, serve_plain: ServePlain, connect: Connect
) -> None:
    participants = connect(inventory=(await serve_plain({"Reserve": reserve})).target)
    told = [str(fault) for fault in await live_faults(reading("x", when=when), participants)]
    name = "steps.reserve.output.total_cents"
    expected = (
        f"steps[1].when: `{name}` is a whole number of 64 bits, which is text in JSON, and is used as a number: write "
        f"`int({name})`"
    )
    assert told == ([expected] if is_wrong else [])


@pytest.mark.parametrize("is_closed", [False, True])
async def test_declared_outputs_are_looked_into(is_closed: bool) -> None:
    workers = Workers()
    workers.admit(workers.connect(Greeting("shop", frozenset({"score"}), 1, "w", ""), nothing, nothing))
    known = Directory(None, MappingProxyType({"shop": Participant("shop", "", is_worker=True)}))
    participants = Attempts(known, payload_bytes_max=20_000, workers=workers)
    action = {"participant": "shop", "method": "score"}
    steps = [
        {"name": "score", "use": "shop.score", "read_only": True, "action": action},
        {"name": "then", "read_only": True, "when": "steps.score.output.scoer > 1", "action": action},
    ]
    schema = {"type": "object", "properties": {"score": {}}, "additionalProperties": not is_closed}
    found = await check({"name": "order", "steps": steps}, participants, score=schema)
    told = found.faults if is_closed else found.warnings
    (fault,) = told
    assert str(fault) == (
        "steps[1].when: `steps.score.output.scoer`: the output_schema has no property `scoer`; it has: score; did you mean "
        "`score`?"
    )
    assert len(found.faults) + len(found.warnings) == 1
    await participants.stop()
