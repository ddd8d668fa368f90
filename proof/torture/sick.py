"""What a sick participant costs the others, and what a crowd costs the log."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.json_format import ParseDict
from saga_client.v1 import directory_service_pb2
from saga_client.v1.directory_service_pb2_grpc import DirectoryServiceStub

from proof.torture.definitions import HALF, HANGING, SLOW, STEADY
from proof.torture.measuring import (
    CALL_SECONDS,
    RETRYING,
    Clients,
    Fault,
    ask,
    effects_of,
    operation,
    scaled_world,
    statuses_of,
    until_drained,
)
from proof.torture.processes import World
from proof.torture.resumption import percentile


def _one_step(name: str, participant: str, method: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "steps": [
            {
                "name": "take",
                "action": operation(participant, method, **more),
                "compensation": operation(participant, STEADY),
            }
        ],
    }


PATIENT: Final = {"max_attempts": 1000, "initial_backoff": "0.05s", "max_backoff": "1s"}
MUTE: Final = _one_step("mute", "mute", HANGING, timeout="2s", retry=PATIENT)
HALF_SICK: Final = _one_step("half-sick", "half-sick", HALF, retry=PATIENT)
CROWD: Final = _one_step("crowd", "narrow", SLOW)
# Names under which the participants of the file are put into the directory once more, with limits of their own.
LIMITS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "mute": ("parcels", {"concurrency": 16, "breaker": {"calls_min": 20, "rest_max": "4s"}}),
    "half-sick": (
        "money",
        {"breaker": {"calls_min": 20, "failure_ratio": 0.4, "rest": "0.5s", "rest_max": "2s"}},
    ),
    "narrow": ("stock", {"concurrency": 64}),
}


async def sick(rounds: int = 20, sagas: int = 40, beside: int = 200) -> list[Fault]:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    faults: list[Fault] = []
    seen: dict[str, list[str]] = {"mute": [], "half-sick": []}
    async with scaled_world([RETRYING, MUTE, HALF_SICK], coordinators=1) as (world, clients):
        directory = await _put(world, clients, seen)
        watching = asyncio.create_task(_watch_breakers(directory, seen))

        async def healthy(key: str, into: list[float]) -> None:
            began_at = time.monotonic()
            status = await clients.start("retrying", key, wait=True)
            into.append(time.monotonic() - began_at)
            if status != "COMPLETED":
                faults.append(f"sick: a healthy saga ended {status}")

        for number in range(2 * rounds):
            is_beside = number >= rounds
            if number == rounds:
                await asyncio.gather(*(clients.start("mute", f"mute-{n}") for n in range(beside)))
                await asyncio.gather(*(clients.start("half-sick", f"half-{n}") for n in range(sagas)))
                await asyncio.sleep(5.0)  # by now the one that hangs has been found out
            await asyncio.gather(*(healthy(f"{number}-{n}", seconds[is_beside]) for n in range(sagas)))
        expected = 2 * rounds * sagas + sagas
        await until_drained(world, expected, 180)
        watching.cancel()
        counts, held = statuses_of(world), _held(world)
        effects = effects_of(world, "money")
    alone, with_sick = (percentile(seconds[is_beside], 0.99) for is_beside in (False, True))
    # The slowest of each round, in the middle of all rounds: what else the machine does troubles a few of them.
    usual, usual_beside = (
        statistics.median(
            max(seconds[is_beside][first : first + sagas]) for first in range(0, rounds * sagas, sagas)
        )
        for is_beside in (False, True)
    )
    print(
        f"sick: p99 of healthy sagas with a retry each: {1000 * alone:.0f} ms alone, {1000 * with_sick:.0f} ms beside, "
        f"ratio {with_sick / alone:.3f};"
    )
    print(
        f"      the slowest of {sagas}, usually: {1000 * usual:.0f} ms alone, {1000 * usual_beside:.0f} ms beside, "
        f"ratio {usual_beside / usual:.3f};"
    )
    print(f"      {beside} sagas on one that hangs and {sagas} on one that fails half its calls")
    for name, states in seen.items():
        print(f"      breaker of {name}: {' '.join(states)}")
    print(f"      ended: {counts}; attempts held a saga, at most: {held}; effects of half-sick: {effects}")
    if counts.get("COMPLETED") != expected or effects != (sagas, sagas):
        faults.append(f"sick: {expected} were to complete, {counts}, {effects}")
    if "OPEN" not in seen["mute"] or "OPEN CLOSED" not in " ".join(seen["half-sick"]).replace(
        "HALF_OPEN ", ""
    ):
        faults.append(f"sick: breakers did not open, or did not close again: {seen}")
    return faults


async def crowd(sagas: int = 5_000) -> list[Fault]:
    async with scaled_world([CROWD], coordinators=1) as (world, clients):
        await _put(world, clients, ["narrow"])
        began_at = time.monotonic()
        await clients.many((clients.start("crowd", f"crowd-{n}") for n in range(sagas)), 256)
        accepted = time.monotonic() - began_at
        drained = await until_drained(world, sagas, 120)
        counts, held = statuses_of(world), _held(world)
        total = ask(world, "SELECT count(*) FROM saga.log WHERE type = 'attempt_held'")[0][0]
    print(
        f"crowd: {sagas} sagas on a participant that takes 64 calls of 0.1 s at once, started in {accepted:.1f} s,"
    )
    print(
        f"       drained {drained:.1f} s later; {total / sagas:.2f} attempts held a saga, at most {held}; {counts}"
    )
    return [] if counts == {"COMPLETED": sagas} else [f"crowd: {sagas} were started, {counts}"]


async def _put(world: World, clients: Clients, names: Iterable[str]) -> Any:
    """Puts participants into the directory; returns its stub."""
    stub: Any = DirectoryServiceStub(clients.channel(world.addresses[0]))
    for name in names:
        same, limits = LIMITS[name]
        fields = {"name": name, "target": f"127.0.0.1:{world.participants[same].port}", "limits": limits}
        request = directory_service_pb2.PutParticipantRequest()
        ParseDict({"participant": fields}, request)
        await stub.PutParticipant(request, timeout=CALL_SECONDS)
    return stub


async def _watch_breakers(directory: Any, seen: Mapping[str, list[str]]) -> None:
    """Notes each state that a breaker comes to."""
    while True:
        for name, states in seen.items():
            request = directory_service_pb2.GetParticipantRequest(name=name)
            answer = await directory.GetParticipant(request, timeout=CALL_SECONDS)
            state = directory_service_pb2.BreakerState.Name(answer.status.breaker)
            state = state.removeprefix("BREAKER_STATE_")
            if states[-1:] != [state]:
                states.append(state)
        await asyncio.sleep(0.02)


def _held(world: World) -> int:
    """How often the attempts of one saga were held at most."""
    query = "SELECT count(*) FROM saga.log WHERE type = 'attempt_held' GROUP BY saga_id"
    return max((count for (count,) in ask(world, query)), default=0)
