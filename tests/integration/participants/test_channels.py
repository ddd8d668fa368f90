"""Channels: shared, kept over a reload, never cut under a call, and quick to find a participant that returns."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.saga.words.outcome import CauseCode, Held, Succeeded, Unknown
from tests.integration.participants.http2 import tcp_service
from tests.integration.participants.services import (
    Connect,
    Context,
    Received,
    Serve,
    directory,
    invoke,
    output,
)

BACK_SECONDS_MAX = 5.0
"""gRPC's own defaults need up to two minutes to see that somebody is back."""


class Gate:
    """An answer that waits until it is let through."""

    def __init__(self, says: str) -> None:
        self._says = says
        self.came, self.opened = asyncio.Event(), asyncio.Event()

    async def answer(self, request: Any, context: Context) -> Any:
        self.came.set()
        await self.opened.wait()
        return output(self._says)


def saying(text: str) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        return output(text)

    return answer


def channel_of(participants: Attempts) -> grpc.aio.Channel:
    connection = participants.connections.of("inventory")
    assert connection is not None
    return connection.channel


async def until_closed(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(5):
        while (state := channel.get_state()) is not grpc.ChannelConnectivity.SHUTDOWN:
            await channel.wait_for_state_change(state)


async def test_participants_at_one_address_share_a_channel(
    serve: Serve, connect: Connect, received: list[Received]
) -> None:
    target = await serve()
    participants = connect(inventory=target, stock=target)
    for name in ("inventory", "stock", "inventory"):
        await participants.invoke(invoke(participant=name))
    assert len({seen.peer for seen in received}) == 1


async def test_a_reload_keeps_the_channels_that_did_not_change(
    serve: Serve, connect: Connect, received: list[Received]
) -> None:
    inventory, payments = await serve(), await serve()
    participants = connect(inventory=inventory)
    await participants.invoke(invoke())

    participants.replace(directory(inventory=inventory, payments=payments))
    await participants.invoke(invoke())
    await participants.invoke(invoke(participant="payments"))

    assert received[0].peer == received[1].peer
    assert len(received) == 3
    assert participants.names == {"inventory", "payments"}


async def test_a_reload_moves_new_calls_and_lets_those_in_flight_end(serve: Serve, connect: Connect) -> None:
    gate = Gate("old")
    old, new = await serve(gate.answer), await serve(saying("new"))
    participants = connect(inventory=old)
    in_flight = asyncio.create_task(participants.invoke(invoke()))
    await gate.came.wait()
    old_channel = channel_of(participants)

    participants.replace(directory(inventory=new))
    assert await participants.invoke(invoke()) == Succeeded("new")
    assert not in_flight.done()
    gate.opened.set()
    assert await in_flight == Succeeded("old")
    await until_closed(old_channel)


async def test_a_reload_closes_an_idle_channel_at_once(serve: Serve, connect: Connect) -> None:
    participants = connect(inventory=await serve())
    await participants.invoke(invoke())
    channel = channel_of(participants)

    participants.replace(Directory.empty())

    outcome = await participants.invoke(invoke())
    assert isinstance(outcome, Held)
    assert outcome.cause.code == CauseCode.NO_SUCH_PARTICIPANT
    await until_closed(channel)


async def test_one_that_is_listed_again_during_its_last_call_gets_a_new_channel(
    serve: Serve, connect: Connect, received: list[Received]
) -> None:
    gate = Gate("ok")
    target = await serve(gate.answer)
    participants = connect(inventory=target)
    in_flight = asyncio.create_task(participants.invoke(invoke()))
    await gate.came.wait()

    participants.replace(Directory.empty())
    participants.replace(directory(inventory=target))
    again = asyncio.create_task(participants.invoke(invoke()))
    gate.opened.set()

    assert await in_flight == await again == Succeeded("ok")
    assert received[0].peer != received[1].peer


async def test_closing_waits_for_calls_in_flight(serve: Serve, connect: Connect) -> None:
    gate = Gate("ok")
    participants = connect(inventory=await serve(gate.answer))
    in_flight = asyncio.create_task(participants.invoke(invoke()))
    await gate.came.wait()

    closing = asyncio.create_task(participants.stop(grace_seconds=60))
    await asyncio.sleep(0)  # closing begins
    with pytest.raises(asyncio.CancelledError):
        await participants.invoke(invoke())
    assert not closing.done()
    gate.opened.set()
    assert await in_flight == Succeeded("ok")
    await closing


async def test_closing_cancels_what_outlasts_its_grace(serve: Serve, connect: Connect) -> None:
    gate = Gate("never")
    participants = connect(inventory=await serve(gate.answer))
    in_flight = asyncio.create_task(participants.invoke(invoke()))
    await gate.came.wait()

    await participants.stop(grace_seconds=0.05)

    with pytest.raises(asyncio.CancelledError):
        await in_flight
    with pytest.raises(asyncio.CancelledError):
        await participants.invoke(invoke())
    await participants.stop(grace_seconds=0.05)


@pytest.mark.parametrize("refusals", [1, 5])
async def test_a_participant_that_comes_back_is_found(connect: Connect, serve: Serve, refusals: int) -> None:
    """After a participant has hung up `refusals` times, gRPC by default waits 1, 1.6, 2.6, 4 and then 6.6 seconds."""
    refused = asyncio.Semaphore(0)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refused.release()

    async with tcp_service(hang_up) as target:
        participants = connect(inventory=target)
        assert isinstance(await participants.invoke(invoke()), Unknown)
        for _ in range(refusals):
            await refused.acquire()

    await serve(address=target)

    async with asyncio.timeout(BACK_SECONDS_MAX):
        while not isinstance(outcome := await participants.invoke(invoke()), Succeeded):
            assert isinstance(outcome, Unknown)
            assert outcome.cause.code == "UNAVAILABLE"
            await asyncio.sleep(0.05)  # as the engine pauses between two attempts, which fail at once


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has TCP_USER_TIMEOUT")
async def test_a_peer_that_vanishes_is_given_up_by_tcp(serve: Serve, connect: Connect) -> None:
    """A machine that is switched off acknowledges nothing; without this, calls would run into it for a quarter of an hour."""
    port = int((await serve()).rpartition(":")[2])
    await connect(inventory=f"127.0.0.1:{port}").invoke(invoke())
    assert _user_timeouts(port) == [10_000]


def _user_timeouts(port: int) -> list[int]:
    """TCP_USER_TIMEOUT, in milliseconds, of each connection from this process to `port`."""
    timeouts = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(descriptor.name))) as connection:
                if connection.getpeername()[1] == port:
                    timeouts.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        except (OSError, IndexError):
            continue  # no socket, no connection, or a unix socket
    return timeouts
