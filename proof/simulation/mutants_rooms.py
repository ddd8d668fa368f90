"""Broken rooms: held attempts, breakers, workers' streams, later outcomes and signs of life, each broken on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from proof.simulation.directory import WORKERS
from proof.simulation.mutant import Patches, forgetting, mutant
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls.breaker import Breaker
from saga_coordinator.participants.calls.concurrency import Concurrency
from saga_coordinator.participants.calls.gates import Gate
from saga_coordinator.participants.workers.pool import Workers
from saga_coordinator.participants.workers.stream import Assignment, Pool, Stream
from saga_coordinator.saga.machine import decide, reports
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.inputs import HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.outcome import Cause, Held, Unknown

# Held attempts.


@mutant("P12")
def burns_attempts_while_it_holds() -> Patches:
    settle = Draft.settle

    def burn(self: Draft, name: str, outcome: Any, **more: Any) -> None:
        settle(self, name, Unknown(outcome.cause) if isinstance(outcome, Held) else outcome, **more)

    yield Draft, "settle", burn


@mutant("P1")
def forgets_what_it_holds() -> Patches:
    settle = Draft.settle

    def forget(self: Draft, name: str, outcome: Any, **more: Any) -> None:
        is_held = isinstance(outcome, Held)
        settle(self, name, replace(outcome, delay_seconds=1e6) if is_held else outcome, **more)

    yield Draft, "settle", forget


@mutant("P12")
def makes_what_it_holds() -> Patches:
    pass_through = Gate.pass_through

    async def make_all_the_same(self: Gate, call: Any, attempt: Any) -> Any:
        outcome = await pass_through(self, call, attempt)
        if isinstance(outcome, Held):
            asyncio.get_running_loop().create_task(attempt(call))
        return outcome

    yield Gate, "pass_through", make_all_the_same


@mutant("P12")
def gives_members_of_enums_to_participants() -> Patches:
    yield Cause, "__post_init__", lambda _: None


# Limits.


@mutant("P11")
def lets_everybody_in_at_once() -> Patches:
    yield Concurrency, "has_room", lambda *_, **__: True


@mutant("P11")
def calls_whom_an_operator_has_left_alone() -> Patches:
    yield Breaker, "force", lambda *_: None


@mutant("P11", participants=WORKERS)
def minds_no_credits() -> Patches:
    yield Stream, "room", property(lambda _: 100)


# Tasks of workers.

_TAKEN_TWICE = 1_000_000


@mutant("P8", participants=WORKERS)
def hands_a_task_to_two() -> Patches:
    take = Pool.take

    def take_and_leave(self: Pool, stream: Stream) -> Iterator[Assignment]:
        for assignment in take(self, stream):
            yield assignment
            if assignment.number < _TAKEN_TWICE:
                self.put(assignment)
                assignment.number += _TAKEN_TWICE

    yield Pool, "take", take_and_leave


@mutant("P8", participants=WORKERS)
def gives_the_tasks_of_a_lost_coordinator_away_at_once() -> Patches:
    yield Attempts, "worker_names", frozenset()


@mutant("P8", "P4", participants=WORKERS, first=8)
def gives_what_a_lost_stream_took_along_to_others_at_once() -> Patches:
    end = Stream.end

    def end_and_tell(self: Stream) -> None:
        for assignment in self.given.values():
            assignment.settle(Unknown(Cause("UNAVAILABLE", "the stream broke")))
        end(self)

    yield Stream, "end", end_and_tell


@mutant("P8", participants=WORKERS)
def hands_out_what_it_has_forwarded() -> Patches:
    elsewhere = Workers._elsewhere

    async def forward_in_vain(self: Workers, forwarder: Any, pool: Any, task: Any, ends_at: float) -> Any:
        outcome = await elsewhere(self, forwarder, pool, task, ends_at)
        return None if isinstance(outcome, Unknown) else outcome

    yield Workers, "_elsewhere", forward_in_vain


@mutant("P12", participants=WORKERS)
def hands_out_what_it_has_told_to_be_held() -> Patches:
    def is_in_time(self: Assignment, now: float) -> bool:
        return now < self.ends_at

    yield Assignment, "may_be_given", is_in_time
    forget = Pool.forget

    def forget_late(self: Pool, assignment: Assignment) -> None:  # which alone breaks nothing
        asyncio.get_running_loop().call_later(1.0, forget, self, assignment)

    yield Pool, "forget", forget_late


@mutant("P1", participants=WORKERS, first=18)
def never_returns_what_a_stream_took_along() -> Patches:
    end = Stream.end

    def end_without_a_word(self: Stream) -> None:
        for assignment in self.given.values():
            if assignment.timer is not None:
                assignment.timer.cancel()
        self.given = {}
        end(self)

    yield Stream, "end", end_without_a_word


@mutant("P4", participants=WORKERS, first=12)
def forwards_with_all_of_the_time_again() -> Patches:
    elsewhere = Workers._elsewhere

    async def forward_anew(self: Workers, forwarder: Any, pool: Any, task: Any, ends_at: float) -> Any:
        seconds = ends_at - asyncio.get_running_loop().time()
        await forwarder.find(pool.participant, task.method)
        return await elsewhere(
            self, forwarder, pool, task, asyncio.get_running_loop().time() + max(seconds, 0.1)
        )

    yield Workers, "_elsewhere", forward_anew


# Later outcomes.


@mutant("P10", pending=0.7)
def hears_heartbeats_and_forgets_them() -> Patches:
    yield forgetting(HeartbeatReceived)


@mutant("P9", "P12", pending=0.7)
def takes_reports_on_any_attempt() -> Patches:
    take = reports.on_outcome_reported

    def take_any(draft: Draft, happened: OutcomeReported) -> None:
        take(draft, replace(happened, attempt=0))

    moving = (SagaStatus.RUNNING, SagaStatus.COMPENSATING)
    yield decide, "HANDLERS", {**decide.HANDLERS, **{(at, OutcomeReported): take_any for at in moving}}
