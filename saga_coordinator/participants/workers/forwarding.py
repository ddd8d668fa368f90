"""The way to workers that are connected to other coordinators of the same database.

The coordinator that owns the saga has committed the attempt. The other one only hands the task out and tells its outcome (P6).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from saga_coordinator.lifecycle import Background, Service
from saga_coordinator.pb.saga.internal.v1.forward_service_pb2 import ForwardRequest, ForwardResponse
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome, Unknown, clip
from saga_coordinator.wire.conversion import convert
from saga_coordinator.wire.outcomes import OutcomeNotTaken, invalid_reply, outcome_of
from saga_coordinator.wire.parsing import parse_into
from saga_coordinator.wire.times import write_duration
from saga_coordinator.wire.unparsed import embedded

FORWARD = "/saga.internal.v1.ForwardService/Forward"

KNOWN_SECONDS = 1.0
"""How long it is relied on who was where; also how long a coordinator that could not be reached is left alone."""

HELD_SECONDS = 1.0
"""After how long what another coordinator had no room for is tried again: by then it is known where there are workers."""

CONNECT_SECONDS = 1.0
_OVERDUE_SECONDS = 2.0
_TASK = ForwardRequest.DESCRIPTOR.fields_by_name["task"].number

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", -1),  # it has been through the other's limits
    ("grpc.max_send_message_length", -1),
)

_log = structlog.get_logger(__name__)


class Place(Protocol):
    """A coordinator to which workers of a participant are connected. Empty `methods` mean that they perform all methods."""

    @property
    def participant(self) -> str: ...
    @property
    def methods(self) -> frozenset[str]: ...
    @property
    def coordinator_id(self) -> str: ...
    @property
    def address(self) -> str: ...


class Whereabouts(Protocol):
    """Knows which workers are connected where. Both methods raise Unavailable when the database is away."""

    async def publish(self, namespace: Namespace, served: Mapping[str, frozenset[str]]) -> None:
        """Publishes what is performed for a namespace at this coordinator, in place of what was published before."""

    async def elsewhere(self, namespace: Namespace) -> Sequence[Place]:
        """The places where tasks of a namespace are performed, at all other living coordinators."""


@dataclass(slots=True)
class _Peer:
    address: str
    channel: grpc.aio.Channel
    forward: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    left_alone_until: float = 0.0


def _dial(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, _OPTIONS)


class Peers(Service):
    """Knows the other coordinators and forwards tasks of the default namespace to them.

    `dial` makes the channel to an address.
    """

    def __init__(
        self,
        whereabouts: Whereabouts,
        *,
        payload_bytes_max: int,
        dial: Callable[[str], grpc.aio.Channel] = _dial,
    ) -> None:
        self._whereabouts = whereabouts
        self._payload_bytes_max = payload_bytes_max
        self._dial = dial
        self._places: Sequence[Place] = ()
        self._known_until = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        self._peers: dict[str, _Peer] = {}
        self._looks = Background()
        self._closing = Background()

    async def publish(self, served: Mapping[str, frozenset[str]]) -> None:
        """Lets the other coordinators know what is performed here. Raises Unavailable."""
        await self._whereabouts.publish(DEFAULT_NAMESPACE, served)

    async def find(self, participant: str, method: str) -> str | None:
        """The identity of any coordinator that has a worker for this; None if none has, and while the database is away."""
        now = asyncio.get_running_loop().time()
        if now >= self._known_until:
            await self._refresh()
        found = [
            place.coordinator_id
            for place in self._places
            if place.participant == participant
            and (not place.methods or method in place.methods)
            and (peer := self._peers.get(place.coordinator_id)) is not None
            and peer.left_alone_until <= now
        ]
        if len(found) > 1:
            return random.choice(found)  # noqa: S311  # to spread the load
        return found[0] if found else None

    async def methods_of(self, participant: str) -> frozenset[str] | None:
        """The methods that the participant's workers perform elsewhere: empty for all methods, None without a worker."""
        await self._refresh()
        found = [place.methods for place in self._places if place.participant == participant]
        if not found:
            return None
        return frozenset().union(*found) if all(found) else frozenset()

    async def forward(
        self, coordinator_id: str, participant: str, task: Task, ends_at: float
    ) -> Outcome | None:
        """What came of the task there by `ends_at` of the loop's clock; None when it did not get there, so that it can be tried
        in another way. To find and to reach the other may take long, which is not the attempt's time any more (P4).

        A connection that breaks while it is under way leaves open what happened. As the worker may still be at it, that is told
        when the attempt's time is over.
        """
        peer = self._peers.get(coordinator_id)
        loop = asyncio.get_running_loop()
        if peer is None or not await self._is_connected(peer, ends_at - loop.time()):
            return None
        timeout_seconds = ends_at - loop.time()
        if timeout_seconds <= 0:
            return None
        write_duration(task.timeout, timeout_seconds)
        request = _request(coordinator_id, participant, task)
        try:
            async with asyncio.timeout(timeout_seconds + 2 * _OVERDUE_SECONDS):
                reply = await peer.forward(request, timeout=timeout_seconds + _OVERDUE_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED):
                self._leave_alone(peer, f"it is not {coordinator_id}: {error.details()}")
                return None
            await asyncio.sleep(ends_at - loop.time())
            return _lost(peer, f"{error.code().name}: {error.details()}")
        except TimeoutError:
            return _lost(peer, "it did not answer in time")
        outcome = await convert(len(reply or b""), self._outcome_of, peer, reply or b"")
        if isinstance(outcome, Held):
            message = f"no worker of `{participant}` at the coordinator at {peer.address} began it"
            return Held(Cause("UNAVAILABLE", clip(message)), HELD_SECONDS, was_given=True)
        return outcome

    def _outcome_of(self, peer: _Peer, reply: bytes) -> Outcome:
        try:
            parse_into(response := ForwardResponse(), reply)
            return outcome_of(response.outcome, self._payload_bytes_max)
        except DecodeError as error:
            return invalid_reply(f"the answer of the coordinator at {peer.address} does not parse: {error}")
        except OutcomeNotTaken as error:
            return error.as_outcome

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Cancels the tasks that are being forwarded."""
        await self._looks.stop(None)
        for peer in self._peers.values():
            await peer.channel.close()
        self._peers.clear()
        await self._closing.finish()

    async def _is_connected(self, peer: _Peer, timeout_seconds: float) -> bool:
        """Tells whether what is sent now gets there. A coordinator that was killed stays known until its lease is over."""
        if peer.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return True
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, timeout_seconds / 4)):
                await peer.channel.channel_ready()
        except TimeoutError:
            self._leave_alone(peer, "it cannot be connected to")
            return False
        return True

    def _leave_alone(self, peer: _Peer, reason: str) -> None:
        _log.warning("coordinator_not_reached", address=peer.address, reason=reason)
        peer.left_alone_until = asyncio.get_running_loop().time() + KNOWN_SECONDS

    async def _refresh(self) -> None:
        """Looks again for workers elsewhere, once for all who ask meanwhile."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._looks.begin("look for workers elsewhere", self._look())
        await asyncio.shield(self._refreshing)

    async def _look(self) -> None:
        try:
            places = await self._whereabouts.elsewhere(DEFAULT_NAMESPACE)
        except Unavailable as error:
            _log.warning("workers_elsewhere_not_known", reason=str(error))
            places = self._places
        except Exception as error:  # noqa: BLE001  # a defect; those who ask have calls to make, and who was known still is
            _log.error("workers_elsewhere_not_known", exc_info=error)
            places = self._places
        self._known_until = asyncio.get_running_loop().time() + KNOWN_SECONDS
        addresses = {place.coordinator_id: place.address for place in places}
        for coordinator_id in sorted(self._peers.keys() - addresses.keys()):
            self._close_soon(self._peers.pop(coordinator_id))
        for coordinator_id, address in addresses.items():
            if coordinator_id not in self._peers:
                channel = self._dial(address)
                self._peers[coordinator_id] = _Peer(address, channel, channel.unary_unary(FORWARD))
        self._places = places

    def _close_soon(self, peer: _Peer) -> None:
        """Closes a channel once its calls have ended, or after as long as an attempt may take."""
        self._closing.spawn("closing of a channel", _close(peer.channel))


def _request(coordinator_id: str, participant: str, task: Task) -> bytes:
    """The serialized ForwardRequest. The task is not put into a message first, which would copy its input: that takes long."""
    whom = ForwardRequest(coordinator_id=coordinator_id, participant=participant)
    return whom.SerializeToString() + embedded(_TASK, task.SerializeToString())


async def _close(channel: grpc.aio.Channel) -> None:
    await channel.close(grace=60.0)


def _lost(peer: _Peer, reason: str) -> Unknown:
    return Unknown(
        Cause("UNAVAILABLE", clip(f"lost on the way through the coordinator at {peer.address}: {reason}"))
    )
