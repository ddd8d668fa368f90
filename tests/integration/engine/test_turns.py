"""The four reasons for which a saga turns: a failed step, a cancellation, a deadline, and the saga that it is a step of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from saga_coordinator.saga.machine.inputs import RecallAsked
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.outcome import Cause, CauseCode
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, a_definition, a_step
from tests.integration.engine.participants import Gate, Participants, refusing

PATIENT = {"timeout": "600s"}
DEADLINE_SECONDS = 3600.0

ORDER = a_definition(
    a_step("reserve", "inventory"),
    a_step("charge", "payments", after=["reserve"], action=PATIENT),
    a_step("pack", "shipping", after=["reserve"], action=PATIENT),
    a_step("ship", "shipping", after=["charge", "pack"]),
    name="patient",
)

Turn = Callable[[Engine, str, Gate], Awaitable[None]]


async def step_fails(engine: Engine, saga_id: str, packing: Gate) -> None:
    packing.answer = refusing("nothing to pack it in")
    packing.open()


async def is_cancelled(engine: Engine, saga_id: str, packing: Gate) -> None:
    packing.open()
    await engine.cancel(saga_id, "changed my mind", "anna")


async def deadline_passes(engine: Engine, saga_id: str, packing: Gate) -> None:
    packing.open()
    engine.pass_time(DEADLINE_SECONDS)


async def parent_asks(engine: Engine, saga_id: str, packing: Gate) -> None:
    packing.open()
    await engine.ask(saga_id, RecallAsked(Cause(CauseCode.PARENT_FAILED, "it failed")))


@pytest.mark.parametrize("turn", [step_fails, is_cancelled, deadline_passes, parent_asks])
async def test_what_is_in_flight_at_the_turn_is_awaited_and_then_undone(
    engine: Engine, participants: Participants, turn: Turn
) -> None:
    await engine.register(ORDER)
    charging, packing = Gate(), Gate()
    participants.on("charge", charging)
    participants.on("pack", packing)
    saga_id = await engine.start("patient", deadline_seconds=DEADLINE_SECONDS)
    await eventually(lambda: charging.waiting and packing.waiting, "two calls in flight")
    await turn(engine, saga_id, packing)

    async def has_turned() -> bool:
        return "saga_failed" in await engine.story(saga_id)

    await eventually(has_turned, "the turn")
    (call,) = charging.waiting  # nobody has hung up
    assert call.timeout_seconds == 600
    assert participants.books.effects[saga_id] in (
        ["reserve"],
        ["reserve", "pack"],
        ["reserve", "pack", "-pack"],
    )
    charging.open()
    assert (await engine.settled(saga_id)).status is SagaStatus.COMPENSATED
    effects = participants.books.effects[saga_id]
    assert effects.index("charge") < effects.index("-charge") < effects.index("-reserve")
    assert participants.books.standing(saga_id) == []
