"""A cache of one participant's service descriptions, kept until something hints that they have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from saga_coordinator.lifecycle import Background
from saga_coordinator.participants.directory.descriptors import (
    DescriptorSource,
    Method,
    NotDescribed,
    Service,
    build_service,
)


class DescribedServices:
    """A cache before a `DescriptorSource`. However many calls need a service, the source is asked once at a time."""

    def __init__(self, source: DescriptorSource, *, can_change: bool) -> None:
        self._source = source
        self._can_change = can_change
        self._known: dict[str, Service] = {}
        self._suspected: set[str] = set()
        self._asking: dict[str, asyncio.Task[Service]] = {}
        self._background = Background()

    def known(self, service: str) -> Service | None:
        """The service if it is known and nothing hints that it has changed; else None."""
        return None if self._is_open(service) else self._known.get(service)

    def suspect(self, service: str | None = None) -> None:
        """Marks the service, or all services, to be asked for again before the next call."""
        if self._can_change:
            self._suspected.update(self._known if service is None else self._known.keys() & {service})

    async def service(self, name: str, patience_seconds: float) -> Service:
        """The service, asked for if need be. If no answer comes within half the time, the description known before is used.

        Raises:
            NotDescribed: no source describes the service.
            TimeoutError: no source answers within `patience_seconds`.
        """
        before = self._known.get(name)
        if before is None:
            return await self._ask(name, patience_seconds)
        if not self._is_open(name):
            return before
        self._suspected.discard(name)
        try:
            return await self._ask(name, patience_seconds / 2)
        except (NotDescribed, TimeoutError):
            return before  # the call itself will tell

    async def newer(self, than: Service, patience_seconds: float) -> Service | None:
        """The service as it is described now; None if it is described as before, or cannot be described.

        Raises:
            TimeoutError: no source answers within `patience_seconds`.
        """
        now = self._known.get(than.name, than)
        if self._can_change and now is than:
            try:
                now = await self._ask(than.name, patience_seconds)
            except NotDescribed:
                return None
        return None if now is than else now

    async def method(self, full_name: str, patience_seconds: float) -> Method:
        """The method `package.Service/Method`. An unknown method is asked for again.

        Raises:
            NotDescribed: the method does not exist, or no source describes it.
            TimeoutError: no source answers within `patience_seconds`.
        """
        service_name, _, method_name = full_name.partition("/")
        service = await self.service(service_name, patience_seconds)
        if method_name not in service.methods:
            service = await self.newer(service, patience_seconds) or service
        return service.method(method_name)

    def close(self) -> None:
        """Cancels the questions that are under way, and asks no more."""
        for asking in self._asking.values():
            asking.cancel()

    def _is_open(self, name: str) -> bool:
        return name in self._suspected or name in self._asking

    async def _ask(self, name: str, patience_seconds: float) -> Service:
        asking = self._asking.get(name)
        if asking is None:
            asking = self._background.begin("descriptors", self._fetch(name))
            self._asking[name] = asking
            asking.add_done_callback(self._forget(name))
        try:
            # Shielded, because others wait for the same answer.
            async with asyncio.timeout(patience_seconds):
                return await asyncio.shield(asking)
        except asyncio.CancelledError:
            if not asking.cancelled():
                raise
            raise NotDescribed("UNAVAILABLE", "the connection was closed while it was asked") from None

    def _forget(self, name: str) -> Callable[[asyncio.Task[Service]], None]:
        def forget(asking: asyncio.Task[Service]) -> None:
            self._asking.pop(name, None)
            if not asking.cancelled():
                asking.exception()  # whoever waited has heard of it, and perhaps nobody does any more

        return forget

    async def _fetch(self, name: str) -> Service:
        service = build_service(name, await self._source.files(name))
        before = self._known.get(name)
        if before is not None and before.digest == service.digest:
            return before
        self._known[name] = service
        return service
