"""Broken rooms: held attempts, breakers, workers' streams, later outcomes and signs of life, each broken on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from proof.core.seams import MOVING, held_for, looked_for_otherwise, told_otherwise
from proof.mutant import Mutants, Patches, handled, instead_of
from proof.simulation.directory import WORKERS
from proof.simulation.mutant import forgetting
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.held import HeldStep
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls.breaker import Breaker
from saga_coordinator.participants.calls.concurrency import Concurrency
from saga_coordinator.participants.calls.gates import Gate
from saga_coordinator.participants.workers.assignment import Assignment
from saga_coordinator.participants.workers.elsewhere import Elsewhere
from saga_coordinator.participants.workers.pool import Pool
from saga_coordinator.participants.workers.stream import Stream
from saga_coordinator.saga.machine import decide
from saga_coordinator.saga.machine.inputs import HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.words.outcome import Cause, Held, Unknown

MUTANTS = Mutants()

# Held attempts.

MUTANTS.replaced(
    "P12",
    burns_attempts_while_it_holds=lambda: told_otherwise(
        lambda draft, key, told: Unknown(told.cause) if isinstance(told, Held) else told
    ),
    gives_members_of_enums_to_participants=lambda: instead_of(Cause.__post_init__, lambda _: None),
)


@MUTANTS.broken("P1")
def forgets_what_it_holds() -> Patches:
    yield held_for(lambda _: 1e6)


@MUTANTS.broken("P1")
def looks_for_room_minutes_after_the_time_whenever_it_wakes() -> Patches:
    yield looked_for_otherwise(lambda now, at: at + 200)
    yield instead_of(Drive.look_again, lambda *_: None)


@MUTANTS.broken("P10")
def looks_again_for_room_minutes_late() -> Patches:
    look_next = HeldStep.look_next
    yield instead_of(look_next, lambda self, at: look_next(self, at + 150))
    yield instead_of(Drive.look_again, lambda *_: None)


@MUTANTS.broken("P12")
def makes_what_it_holds() -> Patches:
    pass_through = Gate.pass_through

    async def make_all_the_same(self: Gate, call: Any, attempt: Any) -> Any:
        outcome = await pass_through(self, call, attempt)
        if isinstance(outcome, Held):
            asyncio.get_running_loop().create_task(attempt(call))
        return outcome

    yield instead_of(Gate.pass_through, make_all_the_same)


# Limits.

MUTANTS.replaced(
    "P11",
    lets_everybody_in_at_once=lambda: instead_of(Concurrency.has_room, lambda *_, **__: True),
    calls_whom_an_operator_has_left_alone=lambda: instead_of(Breaker.force, lambda *_: None),
)


@MUTANTS.broken("P11", participants=WORKERS)
def minds_no_credits() -> Patches:
    yield instead_of(Stream.room, property(lambda _: 100))


# Tasks of workers.

_TAKEN_TWICE = 1_000_000


@MUTANTS.broken("P1", "P8", "P10", participants=WORKERS)
def hands_a_task_to_two() -> Patches:
    take = Pool.take

    def take_and_leave(self: Pool, stream: Stream) -> Iterator[Assignment]:
        for assignment in take(self, stream):
            yield assignment
            if assignment.number < _TAKEN_TWICE:
                self.put(assignment)
                assignment.number += _TAKEN_TWICE

    yield instead_of(Pool.take, take_and_leave)


@MUTANTS.broken("P8", participants=WORKERS, first=13)
def gives_the_tasks_of_a_lost_coordinator_away_at_once() -> Patches:
    yield instead_of(Attempts.worker_names, property(lambda _: frozenset()))


@MUTANTS.broken("P8", "P4", participants=WORKERS, first=8)
def gives_what_a_lost_stream_took_along_to_others_at_once() -> Patches:
    end = Stream.end

    def end_and_tell(self: Stream) -> None:
        for assignment in self.given.values():
            assignment.settle(Unknown(Cause("UNAVAILABLE", "the stream broke")))
        end(self)

    yield instead_of(Stream.end, end_and_tell)


@MUTANTS.broken("P8", participants=WORKERS)
def hands_out_what_it_has_forwarded() -> Patches:
    forward = Elsewhere.forward

    async def forward_in_vain(self: Elsewhere, participant: str, task: Any, ends_at: float) -> Any:
        outcome = await forward(self, participant, task, ends_at)
        return None if isinstance(outcome, Unknown) else outcome

    yield instead_of(Elsewhere.forward, forward_in_vain)


@MUTANTS.broken("P12", participants=WORKERS)
def hands_out_what_it_has_told_to_be_held() -> Patches:
    def is_in_time(self: Assignment, now: float) -> bool:
        return now < self.ends_at

    yield instead_of(Assignment.may_be_given, is_in_time)
    forget = Pool.forget

    def forget_late(self: Pool, assignment: Assignment) -> None:  # which alone breaks nothing
        asyncio.get_running_loop().call_later(1.0, forget, self, assignment)

    yield instead_of(Pool.forget, forget_late)


@MUTANTS.broken("P1", participants=WORKERS, first=18)
def never_returns_what_a_stream_took_along() -> Patches:
    end = Stream.end

    def end_without_a_word(self: Stream) -> None:
        for assignment in self.given.values():
            if assignment.timer is not None:
                assignment.timer.cancel()
        self.given = {}
        end(self)

    yield instead_of(Stream.end, end_without_a_word)


@MUTANTS.broken("P4", participants=WORKERS, first=12)
def forwards_with_all_of_the_time_again() -> Patches:
    forward = Elsewhere.forward

    async def forward_anew(self: Elsewhere, participant: str, task: Any, ends_at: float) -> Any:
        seconds = ends_at - asyncio.get_running_loop().time()
        await self.has_worker(participant, task.method)
        return await forward(self, participant, task, asyncio.get_running_loop().time() + max(seconds, 0.1))

    yield instead_of(Elsewhere.forward, forward_anew)


# Later outcomes.


@MUTANTS.broken("P10", pending=0.7)
def hears_heartbeats_and_forgets_them() -> Patches:
    yield forgetting(HeartbeatReceived)


@MUTANTS.broken("P9", "P12", pending=0.7)
def takes_reports_on_any_attempt() -> Patches:
    take = decide.HANDLERS[MOVING[0], OutcomeReported]
    yield handled(lambda draft, happened: take(draft, replace(happened, attempt=0)), OutcomeReported, *MOVING)
