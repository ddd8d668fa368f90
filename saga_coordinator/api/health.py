"""`grpc.health.v1.Health`, answered like our own services: garbage is refused in words, and is not logged.

grpcio-health-checking's servicer parses outside of our reach, raises for `List`, and keeps a lock for each name that is watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from saga_coordinator.api.caller import Caller
from saga_coordinator.saga.words.errors import NotFound, Resource
from saga_coordinator.saga.words.reasons import Reason

pb: Any = health_pb2  # whose published types lack `List`
_Status = int

DESCRIPTOR: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["Health"]

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING
_UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN
_NAME_CHARACTERS_MAX = 200


class HealthService:
    """Answers health checks: the empty name tells that the process lives, a service's name whether it would be served now."""

    def __init__(self) -> None:
        self._statuses: dict[str, _Status] = {"": SERVING}
        self._changed = asyncio.Condition()
        self._is_ending = False

    def resource(self, request: Any) -> Resource | None:
        return None

    async def set(self, service: str, *, is_serving: bool) -> None:
        """Sets the status of a service, unless `end` was called."""
        if not self._is_ending:
            await self._set({service: SERVING if is_serving else NOT_SERVING})

    async def end(self) -> None:
        """Says NOT_SERVING for every name from now on."""
        self._is_ending = True
        await self._set(dict.fromkeys(self._statuses, NOT_SERVING))

    async def _set(self, statuses: dict[str, _Status]) -> None:
        async with self._changed:
            self._statuses |= statuses
            self._changed.notify_all()

    async def Check(self, request: Any, caller: Caller) -> Message:  # noqa: N802  # the RPC's name
        status = self._statuses.get(request.service)
        if status is None:
            raise NotFound(
                Reason.NO_SUCH_SERVICE,
                f"no service `{request.service[:_NAME_CHARACTERS_MAX]}` is served here",
            )
        response: Message = pb.HealthCheckResponse(status=status)
        return response

    async def List(self, request: Any, caller: Caller) -> Message:  # noqa: N802
        each = {name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        response: Message = pb.HealthListResponse(statuses=each)
        return response

    async def Watch(  # noqa: N802
        self, request: Any, caller: Caller
    ) -> AsyncIterator[Message]:
        last = None
        while True:
            status = self._statuses.get(request.service, _UNKNOWN)
            if status != last:
                yield pb.HealthCheckResponse(status=status)
                last = status
            async with self._changed:
                if self._statuses.get(request.service, _UNKNOWN) == last:
                    await self._changed.wait()
