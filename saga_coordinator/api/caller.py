"""The caller, which every handler is given beside its request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from saga_coordinator.saga.words.act import ANONYMOUS
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace

Metadata = Iterable[tuple[str, str | bytes]]


@immutable
class Caller:
    """The caller of an RPC, the namespace that the call is about, and until when the caller waits.

    `principal` is who the coordinator knows the caller to be; whoever a request names in `requested_by` is what the caller only
    declares. `deadline` is by the event loop's clock; None: the caller waits for any time. `metadata` came with the call.
    """

    principal: str = ANONYMOUS
    namespace: Namespace = DEFAULT_NAMESPACE
    deadline: float | None = None
    metadata: Metadata = ()

    @property
    def seconds_left(self) -> float | None:
        """The seconds that the caller still waits: 0 or less if the deadline has passed, None for any time."""
        return None if self.deadline is None else self.deadline - asyncio.get_running_loop().time()


class Conversation(Protocol):
    """The request of an RPC that takes a stream: the serialized messages of the caller, and the way back to them."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def write(self, message: bytes) -> None:
        """Sends a serialized message. Returns once it is on its way."""
