"""One gRPC channel to one address, with the two methods of the contract made ready."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import grpc
import grpc.aio

from saga_coordinator import __version__
from saga_coordinator.participants.calls.contract import COMPENSATE, EXECUTE
from saga_coordinator.participants.calls.described import DescribedServices
from saga_coordinator.participants.calls.reflection import Reflection
from saga_coordinator.participants.directory.addresses import Participant
from saga_coordinator.participants.directory.tls import Tls
from saga_coordinator.saga.words.identity import OperationKind


class Address(NamedTuple):
    """The address of a participant and how it is reached. Participants with equal addresses share a channel."""

    target: str
    tls: Tls | None
    load_balancing: str = ""

    @classmethod
    def of(cls, participant: Participant) -> Address:
        return cls(participant.target, participant.tls, participant.load_balancing)


_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.primary_user_agent", f"saga-coordinator/{__version__}"),
    # Every attempt is in the log. gRPC's own retries, transparent ones included, would be attempts outside the log.
    ("grpc.enable_retries", 0),
    # DNS may hold a service config; its retry policy and load balancing are not used.
    ("grpc.service_config_disable_resolution", 1),
    # A new channel starts anew, also when an old one to the same place is still waiting out its backoff.
    ("grpc.use_local_subchannel_pool", 1),
    # The defaults are 1 s, 20 s and 120 s: a participant that came back would count as down for two minutes more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The default is 30 s: for so long, a participant that moved would be sought at its old address.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # By default, servers hang up on clients that ping more often than every five minutes. The pings only find what died
    # while nothing was sent; a peer that vanished under a call is found by TCP, because having keepalive at all also sets
    # TCP_USER_TIMEOUT to the time given here (else the kernel takes a quarter of an hour).
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC would measure each connection by a ping for every few replies, a tenth of what a call costs, to find a window by. This
    # one lets a reply of the default limit through in one piece.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
    # A long error message must not hide the status that it comes with: the defaults of 8 and 16 KiB turn any into
    # RESOURCE_EXHAUSTED. Equal, because between the two limits gRPC draws lots.
    ("grpc.max_metadata_size", 4 * 1024 * 1024),
    ("grpc.absolute_max_metadata_size", 4 * 1024 * 1024),
)


class Connection:
    """A channel, and how many calls are in flight on it. `is_retired`: closed as soon as there are none."""

    __slots__ = ("calls_in_flight", "channel", "is_retired", "methods", "reflected")

    def __init__(self, address: Address, reply_bytes_max: int) -> None:
        options = (*_OPTIONS, ("grpc.max_receive_message_length", reply_bytes_max))
        if address.load_balancing:
            config: dict[str, Any] = {"loadBalancingConfig": [{address.load_balancing: {}}]}
            options += (("grpc.service_config", json.dumps(config)),)
        if address.tls is None:
            self.channel = grpc.aio.insecure_channel(address.target, options)
        else:
            if address.tls.server_name:
                options += (("grpc.ssl_target_name_override", address.tls.server_name),)
            self.channel = grpc.aio.secure_channel(address.target, address.tls.credentials(), options)
        # Bytes in and out: gRPC would log a reply that does not parse and hand over None.
        self.methods: dict[OperationKind, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {
            OperationKind.ACTION: self.channel.unary_unary(EXECUTE),
            OperationKind.COMPENSATION: self.channel.unary_unary(COMPENSATE),
        }
        self.reflected = DescribedServices(Reflection(self.channel), can_change=True)
        self.calls_in_flight = 0
        self.is_retired = False

    async def close(self) -> None:
        """Closes the channel, and ends the calls that are in flight."""
        self.reflected.close()
        await self.channel.close()
