"""What the program lets go of is freed at once, because the garbage collector may never look at it."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest

from saga_coordinator import telemetry
from saga_coordinator.app import App
from saga_coordinator.config import load_settings
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Succeeded
from tests.integration.engine.conftest import Engine, a_definition, a_step
from tests.integration.engine.participants import Participants, refusing, unknown

OURS = "saga_coordinator."
CONSTANTS = ("saga_coordinator.pb.", "saga_coordinator.retrying.Pauses")
"""Not ours to free: the client's messages, and a constant that the library for retries keeps in a cycle of its own."""
ENDS = (
    (SagaStatus.COMPLETED, Succeeded()),
    (SagaStatus.COMPENSATED, refusing()),
    (SagaStatus.COMPENSATED, unknown()),
)


@pytest.fixture
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _names(garbage: list[Any]) -> set[str]:
    """What of the garbage is the program's own: objects of its classes, and frames of its functions."""
    frames = {
        each.f_globals["__name__"] + "." + each.f_code.co_qualname
        for each in garbage
        if inspect.isframe(each)
    }
    kinds = {f"{type(each).__module__}.{type(each).__qualname__}" for each in garbage}
    return {name for name in frames | kinds if name.startswith(OURS) and not name.startswith(CONSTANTS)}


async def left_behind(work: Callable[[], Awaitable[None]]) -> set[str]:
    """What of the program's own is left in cycles after the work was done, once to be warm and once more."""
    await work()
    gc.collect()
    await work()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return _names(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.mark.usefixtures("_uncollected")
async def test_sagas_that_end_leave_no_cycles(engine: Engine, participants: Participants) -> None:
    loop = {
        "name": "each",
        "for_each": {"items": "${input.lines}", "steps": [a_step("reserve", "inventory")]},
    }
    await engine.definitions.register(
        DEFAULT_NAMESPACE, a_definition(loop, a_step("charge", "payments"), name="looping")
    )

    async def work() -> None:
        for ends, answer in ENDS:
            participants.on("charge", answer)
            assert (await engine.run("looping", input={"lines": [1, 2, 3]})).status is ends

    assert await left_behind(work) == set()


@pytest.mark.usefixtures("_uncollected")
async def test_calls_that_are_refused_leave_no_cycles(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "configure", lambda **_: None)
    given = {"database_url": database_dsn, "addresses": "127.0.0.1:0", "peer_address": "127.0.0.1:0"}
    app = App(load_settings(given, {}))
    (address,) = await app.start()
    async with grpc.aio.insecure_channel(address) as channel:
        get: Any = channel.unary_unary("/saga.v1.SagaService/GetSaga", pb.GetSagaRequest.SerializeToString)
        watch: Any = channel.unary_stream(
            "/saga.v1.SagaService/WatchSaga", pb.WatchSagaRequest.SerializeToString
        )
        unknown_saga = "01900000-0000-7000-8000-000000000000"

        async def work() -> None:
            for request in (pb.GetSagaRequest(saga_id=unknown_saga), pb.GetSagaRequest(saga_id="?")):
                with pytest.raises(grpc.aio.AioRpcError):
                    await get(request)
            with pytest.raises(grpc.aio.AioRpcError):
                async for _ in watch(pb.WatchSagaRequest(saga_id=unknown_saga)):
                    pass

        assert await left_behind(work) == set()
    await app.stop()
