"""Work that goes on after its caller has hung up, and how it ends."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from saga_coordinator.api.caller import Caller
from saga_coordinator.api.definition_service import DefinitionService
from saga_coordinator.api.to_the_end import to_the_end
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.reasons import Reason


@pytest.mark.parametrize(
    ("error", "events"),
    [
        (Unavailable(Reason.DATABASE_UNAVAILABLE, "the database is away"), []),
        (RuntimeError("a defect"), ["unheard_call_failed"]),
    ],
)
async def test_a_failure_that_nobody_hears_is_logged_only_when_it_is_a_defect(
    error: Exception, events: list[str]
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    may_fail, failed = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_fail.wait()
        failed.set()
        raise error

    with capture_logs() as logs:
        caller = asyncio.create_task(to_the_end(work()))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        may_fail.set()
        await failed.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    gc.collect()

    assert [line["event"] for line in logs] == events
    assert complaints == []


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("DeprecateDefinition", pb.DeprecateDefinitionRequest(name="order", version=1, deprecated=True)),
        ("SetDefaultVersion", pb.SetDefaultVersionRequest(name="order", version=1)),
        ("DeleteDefinition", pb.DeleteDefinitionRequest(name="order", version=1)),
    ],
)
async def test_an_act_on_a_version_is_seen_through_when_the_caller_hangs_up(
    method: str, request_: Any
) -> None:
    """If it is refused, the refusal is yet to be recorded."""
    begun, may_go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def act(*_: object, **__: object) -> None:
        begun.set()
        await may_go.wait()
        ended.set()

    acts: Any = SimpleNamespace(deprecate=act, set_default=act, delete=act)
    catalog: Any = SimpleNamespace(turns=None, registration=None, versions=None)
    nobody: Any = None
    call = asyncio.create_task(getattr(DefinitionService(catalog, acts, nobody), method)(request_, Caller()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    may_go.set()
    async with asyncio.timeout(60):
        await ended.wait()
