"""Every service can be stopped before it was started, and twice: on real Postgres and real sockets."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import saga_coordinator
from saga_coordinator import telemetry
from saga_coordinator.app import App, _Parts
from saga_coordinator.config import Settings, load_settings
from saga_coordinator.lifecycle import LoopThread, Service
from saga_coordinator.saga.words.errors import Unavailable
from tests.eventually import PATIENCE_SECONDS


@pytest.fixture
def settings(database_dsn: str) -> Settings:
    return load_settings(
        {"database_url": database_dsn, "addresses": "127.0.0.1:0", "peer_address": "127.0.0.1:0"}, {}
    )


@pytest.fixture(autouse=True)
def _log_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of this process is the tests', which is not set up anew."""
    monkeypatch.setattr(telemetry, "configure", lambda **_: None)


def kinds() -> set[type[Any]]:
    """Every service that the program has; the embedded Postgres, which is no part of a server, is not among them."""
    for module in pkgutil.walk_packages(saga_coordinator.__path__, "saga_coordinator."):
        if not module.name.startswith(
            ("saga_coordinator.pb.", "saga_coordinator.store.migrations", "saga_coordinator.__main__")
        ):
            importlib.import_module(module.name)

    def below(kind: type[Any]) -> Iterator[type[Any]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    return {kind for kind in below(Service) if kind.__module__.startswith("saga_coordinator.")}


def reachable(*roots: object) -> list[Service]:
    """The services among what `roots` hold, and among what these hold, and so on."""
    seen: dict[int, Any] = {}
    found: list[Service] = []
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        if isinstance(each, Service):
            found.append(each)
        if isinstance(each, list | tuple):
            waiting += each
        elif type(each).__module__.startswith("saga_coordinator.") and not isinstance(each, type):
            slots = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
            names = {*slots, *getattr(each, "__dict__", {})}
            waiting += [getattr(each, name) for name in names if hasattr(each, name)]
    return found


async def never(_: object) -> None:
    await asyncio.Event().wait()


async def test_every_service_can_be_stopped_twice_without_a_start(settings: Settings) -> None:
    app = App(settings)
    app._parts = _Parts(settings, app._file, shares_port=False)
    services = [*reachable(app), LoopThread("never begun", never)]
    assert {type(service) for service in services} == kinds()
    async with asyncio.timeout(PATIENCE_SECONDS):
        for service in services:
            await service.stop()
            await service.stop()
        await app.stop()


async def test_every_service_can_be_stopped_twice_after_a_start(settings: Settings) -> None:
    app = App(settings)
    await app.start()
    services = reachable(app)
    assert {type(service) for service in services} == kinds()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await app.stop()
        for service in services:
            await service.stop()
        await app.stop()


async def test_an_app_that_could_not_start_can_be_stopped() -> None:
    app = App(load_settings({"database_url": "postgresql://nobody@127.0.0.1:1/none"}, {}))
    with pytest.raises(Unavailable):
        await app.start()
    await app.stop()
