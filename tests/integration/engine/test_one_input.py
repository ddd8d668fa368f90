"""Every attempt of one operation carries the same input, byte for byte, from memory and from the log (P5)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from saga_coordinator.engine.start import StartSaga
from saga_coordinator.participants.calls.contract import encode_request
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import AlreadyExists
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Succeeded
from tests.eventually import eventually
from tests.integration.engine.conftest import StartEngine, a_definition, a_step
from tests.integration.engine.participants import Gate, Participants, refusing

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
NASTY: dict[str, Any] = {
    "id": 1234567890123456789.0,
    "obj": {"zeta": 1, "b": 2, "longer": {"y": 1.0, "x": -0.0}},
    "huge": 1e23,
    "small": 1e-9,
    "lines": [{"sku": "b", "id": 1e16}, {"qty": 2.0, "at": [None, True]}],
}
SAYS = {
    "whole": "${input}",
    "text": "for ${input.obj} of ${input.id}, ${input.huge} and ${input.small}",
    "id": "${input.id}",
    "labels": "${saga.labels}",
    "computed": "${{'z': input.small, 'a': [input.obj]}}",
    "as_text": "${string(input.id)}",
    "literal": {"b": 1.0, "a": 1e16},
}
LABELS = {"tenant": "acme", "city": "Oslo", "b": "2"}
EXPECTED = 'for {"b":2,"longer":{"x":0,"y":1},"zeta":1} of 1234567890123456800, 1e+23 and 1e-09'


async def test_p5_the_input_is_the_same_before_and_after_a_takeover(
    start_engine: StartEngine, participants: Participants
) -> None:
    first = await start_engine("first")
    says = {**SAYS, "before": "${steps.look.output}", "seen": "saw ${steps.look.output}"}
    definition = a_definition(
        a_step("look", "inventory", read_only=True), a_step("reserve", "inventory", action={"input": says})
    )
    await first.register(definition)
    participants.on("look", Succeeded(NASTY))
    gate = Gate()
    participants.on("reserve", gate)
    saga_id = await first.start(input=NASTY, labels=LABELS)
    await eventually(lambda: participants.calls("reserve"), "the call")
    await first.kill()
    participants.on("reserve", Succeeded())
    second = await start_engine("second")
    assert (await second.settled(saga_id)).status is SagaStatus.COMPLETED
    before, after = participants.calls("reserve", ACTION)
    assert json.dumps(before.input) == json.dumps(after.input)
    assert before.input["text"] == EXPECTED
    assert before.input["seen"] == f"saw {json.dumps(before.input['whole'], separators=(',', ':'))}"
    assert before.input["as_text"] == "1234567890123456800"
    assert _on_the_wire(before) == _on_the_wire(after)


def _on_the_wire(call: Any) -> bytes:
    """The serialized request, but for the number of the attempt."""
    request = encode_request(replace(call, attempt=1), "token", 4_000_000)
    assert {encode_request(replace(call, attempt=1), "token", 4_000_000) for _ in range(5)} == {request}
    return request


async def test_p5_so_is_that_of_a_compensation_of_an_item(
    start_engine: StartEngine, participants: Participants
) -> None:
    first = await start_engine("first")
    undo = {"input": {"text": "${output} of ${line} for ${failure}", "line": "${line}", "done": "${output}"}}
    block = [a_step("reserve", "inventory", compensation=undo)]
    loop = {"name": "each", "for_each": {"items": "${input.lines}", "as": "line", "steps": block}}
    await first.register(a_definition(loop, a_step("ship", "shipping")))
    participants.on("each[0].reserve", Succeeded(NASTY))
    participants.on("ship", refusing())
    saga_id, _ = await first.halted_at("each[0].reserve", input=NASTY, kind=COMPENSATION)
    await first.kill()
    participants.on("each[0].reserve", Succeeded({"undone": True}), COMPENSATION)
    second = await start_engine("second")
    assert (await second.settled(saga_id)).status is SagaStatus.COMPENSATED
    before, after = participants.calls("each[0].reserve", COMPENSATION)
    assert json.dumps(before.input) == json.dumps(after.input)
    assert before.input["text"].startswith('{"huge":1e+23,"id":1234567890123456800,')
    assert _on_the_wire(before) == _on_the_wire(after)


async def test_p5_so_is_that_of_a_childs_step(start_engine: StartEngine, participants: Participants) -> None:
    first = await start_engine("first")
    child = a_definition(
        a_step("pay", "payments", action={"input": {"text": "${input}", "all": "${input}"}}), name="child"
    )
    look = a_step("look", "inventory", read_only=True)
    run = {"name": "run", "saga": {"definition": "child", "input": {"of": "${steps.look.output}", "a": 1.0}}}
    await first.register(child)
    await first.register(a_definition(look, run))
    participants.on("look", Succeeded(NASTY))
    saga_id, _ = await first.halted_at("pay")
    await first.kill()
    participants.on("pay", Succeeded())
    second = await start_engine("second")
    assert (await second.settled(saga_id)).status is SagaStatus.COMPLETED
    before, after = participants.calls("pay", ACTION)
    assert json.dumps(before.input) == json.dumps(after.input)


async def test_p9_a_start_is_repeated_whatever_form_its_numbers_have(start_engine: StartEngine) -> None:
    engine = await start_engine()
    await engine.register(a_definition(a_step("look", "inventory", read_only=True)))
    one = StartSaga("order", "k", input={"b": 1.0, "a": 1234567890123456789.0, "c": 1e23})
    same = StartSaga("order", "k", input={"c": 1e23, "a": 1234567890123456800, "b": 1})
    saga_id, is_new = await engine.coordinator.start_saga(one)
    assert is_new
    assert await engine.coordinator.start_saga(same) == (saga_id, False)
    with pytest.raises(AlreadyExists):
        await engine.coordinator.start_saga(StartSaga("order", "k", input={**same.input, "b": True}))
