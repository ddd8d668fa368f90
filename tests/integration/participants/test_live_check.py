"""A definition checked against what its participants serve now."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Any

from saga_coordinator.participants import live_check
from saga_coordinator.participants.descriptors import DescriptorSet
from saga_coordinator.participants.directory import Directory, Participant
from saga_coordinator.participants.live_check import live_faults
from tests.integration.eventually import eventually
from tests.integration.participants.plain_services import FILES, INVENTORY, ServePlain, compiled
from tests.integration.participants.services import Connect, Context

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
        str(fault).partition(";")[0].partition(": Couldn't")[0]
        for fault in await live_faults(wrong, participants)
    ]
    assert [fault.partition(": invalid")[0] for fault in found] == [
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


async def test_workers_and_descriptor_sets(connect: Connect) -> None:
    described = DescriptorSet.parse(compiled(FILES).SerializeToString())
    known = [
        Participant("worker", "", is_worker=True),
        Participant("described", "127.0.0.1:9", descriptor_set=described),
    ]
    participants = connect(Directory(None, MappingProxyType({each.name: each for each in known})))
    assert await live_faults(reserving("worker", anything=1), participants) == []
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
        "steps[0].for_each.steps[0].action.participant: the participants file does not know `nobody`",
        "steps[0].for_each.steps[0].compensation.participant: the participants file does not know `noone`",
    ]
