"""P9: a repeated start is answered with its saga, also when it would be refused if it were new."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from saga_coordinator.engine.start import StartSaga
from saga_coordinator.saga.schema.input_schema import InputSchema
from saga_coordinator.saga.words.errors import InvalidRequest, NotPossibleNow, Overloaded
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from tests.eventually import eventually
from tests.integration.engine.conftest import ORDER, StartEngine
from tests.integration.engine.participants import Gate, Participants

KEY = "order 7"


def asked(**more: Any) -> StartSaga:
    return StartSaga("order", KEY, input={"total": 7}, **more)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"input_schema": {"required": ["customer"]}}, InvalidRequest),
        ({"input_schema": {"properties": {"total": {"maximum": 5}}}}, InvalidRequest),
        ({"labels": {"who": "${input.customer}"}}, InvalidRequest),
    ],
    ids=["schema", "narrower schema", "label"],
)
async def test_p9_a_start_that_a_newer_version_would_refuse(
    change: dict[str, Any], refusal: type[Exception], start_engine: StartEngine
) -> None:
    engine = await start_engine()
    await engine.definitions.register(DEFAULT_NAMESPACE, ORDER)
    first = await engine.coordinator.start_saga(asked())
    assert first[1]
    await engine.definitions.register(DEFAULT_NAMESPACE, {**ORDER, **change})
    assert await engine.coordinator.start_saga(asked()) == (first[0], False)
    with pytest.raises(refusal):
        await engine.coordinator.start_saga(StartSaga("order", "order 8", input={"total": 7}))
    with pytest.raises(refusal):  # another request under the key is no repetition
        await engine.coordinator.start_saga(asked(labels={"another": "request"}))


async def test_p9_a_start_for_which_there_is_no_room_any_more(
    start_engine: StartEngine, participants: Participants
) -> None:
    engine = await start_engine(sagas_in_memory_max=1, backlog_max=1)
    await engine.definitions.register(DEFAULT_NAMESPACE, ORDER)
    participants.on("reserve", held := Gate())
    first = await engine.coordinator.start_saga(asked())
    others = await asyncio.gather(
        *(engine.start_at_once(key=f"more {number}") for number in range(10)), return_exceptions=True
    )
    assert any(isinstance(each, Overloaded) for each in others)
    assert await engine.coordinator.start_saga(asked()) == (first[0], False)
    held.open()


async def test_p9_a_start_whose_participant_has_left_the_directory(start_engine: StartEngine) -> None:
    engine = await start_engine()
    await engine.definitions.register(DEFAULT_NAMESPACE, ORDER)
    first = await engine.coordinator.start_saga(asked())
    await engine.settled(first[0])
    engine.participants.names = frozenset()
    assert await engine.coordinator.start_saga(asked()) == (first[0], False)
    with pytest.raises(NotPossibleNow):
        await engine.start(key="order 8")


async def test_an_input_that_is_long_to_check_is_checked_elsewhere_and_others_go_on(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await start_engine()
    schema = {"properties": {"lines": {"items": {"type": "integer"}}}}
    await engine.definitions.register(DEFAULT_NAMESPACE, {**ORDER, "input_schema": schema})
    may_go_on, checked_in = threading.Event(), []
    check = InputSchema.faults

    def slowly(self: InputSchema, value: Any, path: str = "input") -> Any:
        checked_in.append(threading.current_thread())
        assert may_go_on.wait(30)
        return check(self, value, path)

    monkeypatch.setattr(InputSchema, "faults", slowly)
    large = StartSaga("order", "large", input={"lines": [1] * 20_000})
    starting = asyncio.ensure_future(engine.coordinator.start_saga(large))
    await eventually(lambda: checked_in, "the check")
    await engine.settled(await engine.start(input={"lines": [1, 2]}))
    may_go_on.set()
    assert (await starting)[1]
    assert checked_in
    assert threading.main_thread() not in checked_in
