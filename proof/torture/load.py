"""Clients: they start sagas until these are accepted, repeat themselves, change their minds, and wait."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.json_format import ParseDict
from saga_client.v1 import saga_pb2, saga_service_pb2
from saga_client.v1.saga_service_pb2_grpc import SagaServiceStub

from proof.torture.definitions import MIX
from proof.torture.processes import CHANNEL_OPTIONS

CALL_SECONDS: Final = 6.0
AGAIN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
"""Statuses after which a client repeats itself: nothing is known of what became of the request."""


@dataclass(slots=True)
class Wish:
    """A saga that a client wants, and what it was told. `created` counts the answers that said that this start made it."""

    start_key: str
    definition: str
    number: int
    saga_ids: set[str] = field(default_factory=set)
    created: int = 0
    is_accepted: bool = False
    was_cancelled: bool = False
    settled_as: set[str] = field(default_factory=set)


class Load:
    """`wishes` is what was asked for; `complaints` are answers that no coordinator may give."""

    def __init__(
        self, addresses: Sequence[str], seed: int, *, mix: Sequence[tuple[Mapping[str, Any], int]] = MIX
    ) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) for address in addresses
        ]
        self._stubs: list[Any] = [SagaServiceStub(channel) for channel in self._channels]
        self._seed = seed
        self._dice = random.Random(f"{seed} load")
        self._names = [spec["name"] for spec, _ in mix]
        self._weights = [weight for _, weight in mix]
        self._clients: set[asyncio.Task[None]] = set()
        self.wishes: list[Wish] = []
        self.complaints: list[str] = []
        self.counts: Counter[str] = Counter()

    async def close(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def run(self, seconds: float, per_second: float, clients_max: int) -> None:
        """New clients at random for so long; no new one while `clients_max` have not been accepted."""
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            await asyncio.sleep(self._dice.expovariate(per_second))
            if len(self._clients) < clients_max:
                self._spawn(self._client())

    async def finish(self, seconds: float) -> None:
        """Lets clients get what they want. Those that do not within `seconds` are complaints."""
        if self._clients:
            _, left = await asyncio.wait(self._clients, timeout=seconds)
            if left:
                self.complaints.append(
                    f"{len(left)} clients still had no answer {seconds:g} s after the last fault"
                )

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._clients.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.complaints.append(f"a client failed: {type(error).__name__}: {error}")

    async def _client(self) -> None:
        number = len(self.wishes)
        dice = random.Random(f"{self._seed} client {number}")
        (name,) = dice.choices(self._names, self._weights)
        wish = Wish(f"torture-{self._seed}-{number}", name, number)
        self.wishes.append(wish)
        starts = [self._start(wish)]
        if dice.random() < 0.04:  # an impatient client asks twice at once
            starts.append(self._start(wish, is_repetition=True))
        saga_id, *_ = await asyncio.gather(*starts)
        mood = dice.random()
        if mood < 0.05:
            await asyncio.sleep(dice.uniform(0, 3))
            await self._start(wish, is_repetition=True)
        elif mood < 0.08:
            await self._start_other(wish)
        elif mood < 0.14:
            await asyncio.sleep(dice.choice((0.0, dice.uniform(0, 1))))
            await self._cancel(wish, saga_id)
        elif mood < 0.2:
            await self._wait(wish, saga_id, dice.uniform(0.1, 4))

    async def _start(self, wish: Wish, *, is_repetition: bool = False) -> str:
        request = _request(wish)
        if is_repetition:
            self.counts["starts repeated with the same body"] += 1
        answer: Any = await self._until_answered("StartSaga", request)
        wish.is_accepted = True
        wish.saga_ids.add(answer.saga.saga_id)
        wish.created += answer.created
        saga_id: str = answer.saga.saga_id
        return saga_id

    async def _start_other(self, wish: Wish) -> None:
        """The same key with another body."""
        self.counts["starts repeated with another body"] += 1
        request = _request(wish)
        ParseDict({"number": wish.number, "is_other": True}, request.input)
        try:
            await self._until_answered("StartSaga", request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
        else:
            self.complaints.append(
                f"{wish.start_key}: a different request with a taken key was not refused (P9)"
            )

    async def _cancel(self, wish: Wish, saga_id: str) -> None:
        self.counts["cancels"] += 1
        request = saga_service_pb2.CancelSagaRequest(saga_id=saga_id, reason="a whim", requested_by="torture")
        try:
            await self._until_answered("CancelSaga", request, seconds=30)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
        else:
            wish.was_cancelled = True

    async def _wait(self, wish: Wish, saga_id: str, seconds: float) -> None:
        request = saga_service_pb2.WaitSagaRequest(saga_id=saga_id)
        request.timeout.FromNanoseconds(int(seconds * 1e9))
        answer: Any = await self._until_answered("WaitSaga", request)
        if answer.settled:
            wish.settled_as.add(saga_pb2.SagaStatus.Name(answer.saga.status).removeprefix("SAGA_STATUS_"))

    async def _until_answered(self, method: str, request: Any, *, seconds: float = CALL_SECONDS) -> Any:
        """Asks any coordinator, and another one when nothing is known of what became of it."""
        while True:
            stub = self._dice.choice(self._stubs)
            try:
                return await getattr(stub, method)(request, timeout=seconds)
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN:
                    raise
                self.counts[f"repeated after {error.code().name}"] += 1
                await asyncio.sleep(self._dice.uniform(0.02, 0.3))


def _request(wish: Wish) -> Any:
    request = saga_service_pb2.StartSagaRequest(definition=wish.definition, start_key=wish.start_key)
    ParseDict({"number": wish.number}, request.input)
    return request
