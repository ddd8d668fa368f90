"""Bulkheads before real servers: a sick participant is called less and less, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from structlog.testing import capture_logs

from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls import gates
from saga_coordinator.participants.calls.breaker import BreakerState, Forced
from saga_coordinator.participants.calls.bulkhead import BulkheadStatus
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.limits import BreakerLimits, ParticipantLimits
from saga_coordinator.pb.saga.v1.participant_service_pb2 import ExecuteResponse
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import CauseCode, Held, Outcome, Succeeded, Unknown
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.integration.participants.services import (
    PAYLOAD_BYTES_MAX,
    Connect,
    Context,
    Serve,
    invoke,
    output,
    say_ok,
)

NO_BREAKER = BreakerLimits(is_on=False)
LONG_SECONDS = 4 * PATIENCE_SECONDS
"""The timeout of an attempt that may be queued for as long as any machine takes: for a quarter of it."""


@pytest.fixture(autouse=True)
def _queued_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue is left when its turn comes, and not because the machine is busy."""
    monkeypatch.setattr(gates, "QUEUE_SECONDS", PATIENCE_SECONDS)


def limited(targets: Mapping[str, str], **limits: Any) -> Directory:
    given = ParticipantLimits(**limits)
    return Directory(
        None,
        MappingProxyType(
            {name: Participant(name, target, given_limits=given) for name, target in targets.items()}
        ),
    )


def status(participants: Attempts, name: str = "inventory") -> BulkheadStatus:
    gate = participants.gates.of(name)
    assert gate is not None
    return gate.status()


class Doorkeeper:
    """A participant that answers when it is told to, and knows how many calls were in it at once."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.came = asyncio.Semaphore(0)
        self.inside = self.most = 0

    async def answer(self, request: Any, context: Context) -> Message:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.came.release()
        try:
            await self.may_answer.wait()
            await asyncio.sleep(0)  # let others come in while it is here
            return await say_ok(request, context)
        finally:
            self.inside -= 1


async def test_one_that_hangs_takes_its_room_and_no_more(serve: Serve, connect: Connect) -> None:
    hung, healthy = Doorkeeper(), await serve()
    participants = connect(
        limited({"hung": await serve(hung.answer), "healthy": healthy}, concurrency=8, breaker=NO_BREAKER)
    )
    stuck = [
        asyncio.create_task(participants.invoke(invoke(participant="hung", timeout_seconds=LONG_SECONDS)))
        for _ in range(7)
    ]
    for _ in stuck:
        await hung.came.acquire()

    held = await asyncio.gather(
        *(participants.invoke(invoke(participant="hung", timeout_seconds=0.2)) for _ in range(50))
    )
    compensation = invoke(OperationKind.COMPENSATION, participant="hung", timeout_seconds=LONG_SECONDS)
    undone = asyncio.create_task(participants.invoke(compensation))
    await hung.came.acquire()  # the room that is kept for compensations
    healthily = invoke(participant="healthy", timeout_seconds=LONG_SECONDS)
    well = await asyncio.gather(*(participants.invoke(healthily) for _ in range(200)))

    assert {type(outcome) for outcome in held} == {Held}
    assert {outcome.cause.code for outcome in held if isinstance(outcome, Held)} == {
        CauseCode.PARTICIPANT_BUSY
    }
    assert all(isinstance(outcome, Succeeded) for outcome in well)
    assert hung.inside == 8
    hung.may_answer.set()
    assert [type(outcome) for outcome in await asyncio.gather(*stuck, undone)] == [Succeeded] * 8


async def test_a_burst_is_queued_and_nobody_is_sent_away(serve: Serve, connect: Connect) -> None:
    busy = Doorkeeper()
    busy.may_answer.set()
    participants = connect(limited({"inventory": await serve(busy.answer)}, concurrency=8))
    call = invoke(timeout_seconds=LONG_SECONDS)
    outcomes = await asyncio.gather(*(participants.invoke(call) for _ in range(400)))
    assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
    assert busy.most <= 7
    assert (status(participants).held, status(participants).in_flight) == (0, 0)


async def test_what_was_waited_for_a_turn_is_not_the_call_s_any_more(serve: Serve, connect: Connect) -> None:
    """The saga counts on it that the attempt has ended when its timeout has, whoever waited for what (P4)."""
    left: list[float] = []
    slow = Doorkeeper()

    async def answer(request: Any, context: Context) -> Message:
        left.append(context.time_remaining())
        return await slow.answer(request, context)

    participants = connect(limited({"inventory": await serve(answer)}, concurrency=1))
    first = asyncio.create_task(participants.invoke(invoke(timeout_seconds=40.0)))
    await slow.came.acquire()
    second = asyncio.create_task(participants.invoke(invoke(timeout_seconds=40.0)))
    asyncio.get_running_loop().call_later(2.0, slow.may_answer.set)
    await asyncio.gather(first, second)
    assert left[1] < 39.0  # gRPC sends a timeout of a few per cent less as the one before it


async def test_one_that_fails_half_its_calls_rests_and_comes_back(serve: Serve, connect: Connect) -> None:
    is_sick, calls = True, 0

    async def answer(request: Any, context: Context) -> Message:
        nonlocal calls
        calls += 1
        if is_sick and calls % 2:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "overloaded")
        return await say_ok(request, context)

    breaker = BreakerLimits(calls_min=10, failure_ratio=0.5, rest_seconds=0.2, probes=2)
    participants = connect(limited({"inventory": await serve(answer)}, breaker=breaker))
    while status(participants).breaker is BreakerState.CLOSED:
        assert not isinstance(await participants.invoke(invoke()), Held)
    assert calls == 10
    held = await participants.invoke(invoke())
    assert isinstance(held, Held)
    assert held.cause.code == CauseCode.CIRCUIT_OPEN
    assert "UNAVAILABLE: overloaded" in held.cause.message
    assert calls == 10

    is_sick = False
    outcome: Outcome = held
    while isinstance(outcome, Held):
        await asyncio.sleep(outcome.delay_seconds)  # as a saga does
        outcome = await participants.invoke(invoke())
    await participants.invoke(invoke())
    assert status(participants).breaker is BreakerState.CLOSED
    assert not isinstance(await participants.invoke(invoke()), Held)


@pytest.mark.parametrize("bad", ["never answers", "is not there", "has no address", "replies too much"])
async def test_after_any_bad_day_no_slot_is_lost_and_others_were_served(
    bad: str, serve: Serve, serve_bytes: Serve, connect: Connect
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as silent,
        socket.create_server(("127.0.0.1", 0)) as gone,
    ):
        addresses = {
            "never answers": f"127.0.0.1:{silent.getsockname()[1]}",
            "is not there": f"127.0.0.1:{gone.getsockname()[1]}",
            "has no address": "dns:///nowhere.invalid:1",
            "replies too much": await serve_bytes(
                output("x" * 8 * PAYLOAD_BYTES_MAX).SerializeToString() * 20
            ),
        }
        gone.close()
        breaker = BreakerLimits(calls_min=12, failure_ratio=0.9)
        participants = connect(
            limited({"sick": addresses[bad], "healthy": await serve()}, concurrency=8, breaker=breaker)
        )

        async def call(name: str) -> Outcome:
            timeout_seconds = 0.3 if name == "sick" else LONG_SECONDS
            return await participants.invoke(invoke(participant=name, timeout_seconds=timeout_seconds))

        outcomes = await asyncio.gather(
            *(call("sick") for _ in range(60)), *(call("healthy") for _ in range(60))
        )
        assert {type(outcome) for outcome in outcomes[60:]} == {Succeeded}
        assert {type(outcome) for outcome in outcomes[:60]} <= {Unknown, Held}
        while status(participants, "sick").breaker is BreakerState.CLOSED:
            assert not isinstance(await call("sick"), Succeeded)
        assert isinstance(await call("sick"), Held)
        assert status(participants, "sick").in_flight == 0
        assert status(participants, "healthy").failure_ratio == 0.0


async def test_a_call_that_is_cancelled_in_the_queue_leaves_its_place(serve: Serve, connect: Connect) -> None:
    keeper = Doorkeeper()
    participants = connect(limited({"inventory": await serve(keeper.answer)}, concurrency=1))
    call = invoke(timeout_seconds=LONG_SECONDS)
    first = asyncio.create_task(participants.invoke(call))
    await keeper.came.acquire()
    second, third = (asyncio.create_task(participants.invoke(call)) for _ in range(2))
    await eventually(lambda: status(participants).queued == 2, "two to wait")
    second.cancel()
    keeper.may_answer.set()
    assert isinstance(await first, Succeeded)
    assert isinstance(await third, Succeeded)
    assert second.cancelled()
    assert (status(participants).in_flight, status(participants).queued) == (0, 0)


async def test_a_rate_spreads_calls(serve: Serve, connect: Connect) -> None:
    participants = connect(limited({"inventory": await serve()}, rate=50.0, burst=5))
    loop = asyncio.get_running_loop()
    began = loop.time()
    call = invoke(timeout_seconds=LONG_SECONDS)
    outcomes = await asyncio.gather(*(participants.invoke(call) for _ in range(30)))
    assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
    assert loop.time() - began >= 25 / 50 - 0.01


async def test_other_limits_and_operators_count_from_the_next_call_on(serve: Serve, connect: Connect) -> None:
    target = await serve()
    participants = connect(limited({"inventory": target}))
    participants.gates.force({"inventory": Forced.OPEN})
    assert isinstance(await participants.invoke(invoke()), Held)
    participants.gates.force({})
    assert isinstance(await participants.invoke(invoke()), Succeeded)
    participants.replace(limited({"inventory": target}, concurrency=3))
    assert status(participants).limit == 3


async def test_forcing_is_remembered_for_one_that_nobody_has_called(serve: Serve, connect: Connect) -> None:
    participants = connect(limited({"inventory": await serve()}))
    participants.gates.force({"inventory": Forced.OPEN, "unheard-of": Forced.OPEN})
    assert isinstance(await participants.invoke(invoke()), Held)


async def test_a_pending_answer_is_no_failure(serve: Serve, connect: Connect) -> None:
    async def later(request: Any, context: Context) -> Message:
        return ExecuteResponse(pending=True)

    breaker = BreakerLimits(calls_min=2, failure_ratio=0.1)
    participants = connect(limited({"inventory": await serve(later)}, breaker=breaker))
    for _ in range(5):
        await participants.invoke(invoke())
    assert status(participants).breaker is BreakerState.CLOSED


async def test_a_small_outage_is_told_when_it_begins_and_when_it_is_over(
    serve: Serve, connect: Connect
) -> None:
    is_sick = True

    async def answer(request: Any, context: Context) -> Message:
        if is_sick:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "being moved")
        return await say_ok(request, context)

    participants = connect(limited({"inventory": await serve(answer)}))
    with capture_logs() as logs:
        for _ in range(5):
            assert isinstance(await participants.invoke(invoke()), Unknown)
        is_sick = False
        for _ in range(5):
            assert isinstance(await participants.invoke(invoke()), Succeeded)
    failing, recovered = (line for line in logs if line["event"].startswith("participant_"))
    assert (failing["event"], failing["log_level"]) == ("participant_failing", "warning")
    assert (failing["participant"], failing["attempts"]) == ("inventory", 3)
    assert failing["code"] == "UNAVAILABLE"
    assert "being moved" in failing["message"]
    assert (recovered["event"], recovered["log_level"]) == ("participant_recovered", "info")
    assert (recovered["participant"], recovered["attempts"]) == ("inventory", 5)
    assert recovered["seconds"] >= failing["seconds"] >= 0
