"""Participants behind names and lists of addresses: a name server that is away or tells another address, and several servers."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import MappingProxyType
from typing import Any

import grpc.aio
import pytest

from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.pb.saga.v1 import participant_service_pb2_grpc as stubs
from saga_coordinator.saga.words.outcome import Outcome, Succeeded, Unknown
from tests.integration.participants.services import Connect, Service, invoke, output

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")

FOUND_SECONDS_MAX = 10.0
NO_ERROR, SERVER_FAILURE = 0, 2
A = 1


class NameServer(asyncio.DatagramProtocol):
    """Tells `addresses` of any name; none: that it cannot say (RFC 1035)."""

    def __init__(self) -> None:
        self.addresses: Sequence[str] = ()
        self.asked = 0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked += 1
        end = data.index(0, 12) + 5  # of the name, its type and its class
        (wanted,) = struct.unpack("!H", data[end - 4 : end - 2])
        told = self.addresses if wanted == A else ()
        code = NO_ERROR if self.addresses else SERVER_FAILURE
        header = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(told), 0, 0)
        answers = (
            b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 0, 4) + socket.inet_aton(address) for address in told
        )
        self._transport.sendto(header + data[12:end] + b"".join(answers), addr)

    @property
    def port(self) -> int:
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def target(self, port: int) -> str:
        return f"dns://127.0.0.1:{self.port}/inventory.test:{port}"


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    yield server
    transport.close()


Start = Callable[..., Awaitable[tuple[grpc.aio.Server, int]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a participant whose answer is what it is called; returns its port, too."""
    servers: list[grpc.aio.Server] = []

    async def start(name: str, address: str = "127.0.0.1:0") -> tuple[grpc.aio.Server, int]:
        async def answer(request: Any, context: Any) -> Any:
            return output(name)

        servers.append(grpc.aio.server())
        stubs.add_ParticipantServiceServicer_to_server(Service(answer, []), servers[-1])
        port = servers[-1].add_insecure_port(address)
        await servers[-1].start()
        return servers[-1], port

    yield start
    for server in servers:
        await server.stop(None)


async def until(participants: Attempts, wanted: Outcome) -> None:
    """Makes attempts until one comes to this; all before are UNAVAILABLE."""
    async with asyncio.timeout(FOUND_SECONDS_MAX):
        while (outcome := await participants.invoke(invoke(timeout_seconds=2.0))) != wanted:
            assert isinstance(outcome, Unknown)
            assert outcome.cause.code == "UNAVAILABLE"
            await asyncio.sleep(0.05)  # as the engine pauses between two attempts, which fail at once


async def test_one_whose_name_has_another_address_is_found_there(
    start: Start, connect: Connect, names: NameServer
) -> None:
    here, port = await start("here")
    names.addresses = ["127.0.0.1"]
    participants = connect(inventory=names.target(port))
    assert await participants.invoke(invoke()) == Succeeded("here")

    await start("there", f"127.0.0.2:{port}")
    names.addresses = ["127.0.0.2"]
    await here.stop(None)
    await until(participants, Succeeded("there"))


async def test_a_name_server_that_is_away_is_missed_only_by_who_is_not_connected(
    start: Start, connect: Connect, names: NameServer
) -> None:
    server, port = await start("here")
    names.addresses = ["127.0.0.1"]
    participants = connect(
        inventory=names.target(port), stock=names.target(port).replace("inventory", "stock")
    )
    assert await participants.invoke(invoke()) == Succeeded("here")
    names.addresses = ()
    assert await participants.invoke(invoke()) == Succeeded("here")
    nowhere = await participants.invoke(invoke(participant="stock"))
    assert isinstance(nowhere, Unknown)
    assert nowhere.cause.code == "UNAVAILABLE"
    assert "stock.test" in nowhere.cause.message

    await server.stop(None)  # and now the name has to be looked up again
    lost = await participants.invoke(invoke())
    assert isinstance(lost, Unknown)
    await start("back", f"127.0.0.1:{port}")
    names.addresses = ["127.0.0.1"]
    await until(participants, Succeeded("back"))


def balanced(target: str, policy: str) -> Directory:
    return Directory(
        None, MappingProxyType({"inventory": Participant("inventory", target, load_balancing=policy)})
    )


@pytest.mark.parametrize("is_listed", [True, False], ids=["list", "name"])
async def test_round_robin_calls_all_addresses_and_goes_on_with_those_that_are_left(
    start: Start, connect: Connect, names: NameServer, is_listed: bool
) -> None:
    """A static list, or a name with several addresses, which is what a headless service of Kubernetes is."""
    first, port = await start("first")
    await start("second", f"127.0.0.2:{port}")
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    target = f"ipv4:127.0.0.1:{port},127.0.0.2:{port}" if is_listed else names.target(port)
    participants = connect(balanced(target, "round_robin"))
    told: Counter[Any] = Counter()
    async with asyncio.timeout(FOUND_SECONDS_MAX):
        while len(told) < 2:  # it begins with whichever it is connected to first
            told[await participants.invoke(invoke())] += 1
    shares = Counter([await participants.invoke(invoke()) for _ in range(10)])
    assert shares == {Succeeded("first"): 5, Succeeded("second"): 5}
    await first.stop(None)
    await until(participants, Succeeded("second"))
    assert {await participants.invoke(invoke()) for _ in range(10)} == {Succeeded("second")}


async def test_pick_first_uses_the_next_address_of_a_list_where_the_first_is_down(
    start: Start, connect: Connect
) -> None:
    first, port = await start("first")
    await start("second", f"127.0.0.2:{port}")
    participants = connect(balanced(f"ipv4:127.0.0.1:{port},127.0.0.2:{port}", "pick_first"))
    assert {await participants.invoke(invoke()) for _ in range(5)} == {Succeeded("first")}
    await first.stop(None)
    await until(participants, Succeeded("second"))
