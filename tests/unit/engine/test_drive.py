"""What is done with a saga in memory, and when it is not done: after a faster report, and without a lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from proof.core.definitions import definition, step
from saga_coordinator.engine.advance import Advance, Advanced
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.log_lines import LogLines
from saga_coordinator.engine.runs import Run, Runs
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.saga.machine.answers import APPLIED, NotApplied
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, Invoke, LookForEvent, LookForRoom
from saga_coordinator.saga.machine.inputs import EventArrived, Input, OutcomeReported, StartRequested
from saga_coordinator.saga.words.errors import OwnershipLost
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Held, Outcome, Succeeded

ORDER = definition(step("reserve"), step("ship"))
REPORT = OutcomeReported("reserve", OperationKind.ACTION, Succeeded({"n": 7}), 1)


class LeaseOfTheTests:
    def __init__(self) -> None:
        self.may_act = True
        self.regained = asyncio.Event()

    def now(self) -> float:
        return 0.0

    async def wait_until_valid(self) -> None:
        await self.regained.wait()


class Deciding:
    """Decides; nothing is written. `during` happens while it would be."""

    def __init__(self) -> None:
        self.during: list[Any] = []

    async def advance(self, run: Run, inputs: Sequence[Input]) -> Advanced:
        decisions = []
        for happened in inputs:
            decisions.append(decide(run.definition, run.state, happened, 0.0, 0.5))
            run.state = decisions[-1].state
        for each in self.during:
            each()
        return Advanced(tuple(decisions), decisions[-1].effects)


class Asked:
    """Participants that are only asked."""

    def __init__(self) -> None:
        self.calls: list[Invoke] = []

    async def invoke(self, call: Invoke) -> Outcome:
        self.calls.append(call)
        return Succeeded()

    worker_names: frozenset[str] = frozenset()

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        return None

    async def look_for_event(self, wanted: LookForEvent) -> EventArrived | None:
        return None


class NoParents:
    def child_settled(self, run: Run) -> None:
        pass


def started() -> tuple[Run, Decision]:
    decision = decide(ORDER, None, StartRequested("saga", 1, None, {}), 0.0, 0.5)
    return Run("saga", DEFAULT_NAMESPACE, ORDER, decision.state), decision


def driving() -> tuple[Drive, Deciding, Asked, LeaseOfTheTests]:
    deciding, asked, lease = Deciding(), Asked(), LeaseOfTheTests()
    drive = Drive(
        cast("Advance", deciding), asked, NoParents(), Runs(), Wakeup(), cast("Lease", lease), LogLines()
    )
    return drive, deciding, asked, lease


@pytest.mark.parametrize("is_reported", [False, True])
async def test_p4_a_call_is_not_made_once_a_report_has_been_faster(*, is_reported: bool) -> None:
    """What the report settled may be undone by the time that the lease allows the call."""
    drive, _, asked, lease = driving()
    run, decision = started()
    lease.may_act = False
    drive.take(run, Advanced((decision,), decision.effects))
    if is_reported:
        run.state = decide(ORDER, run.state, REPORT, 0.0, 0.5).state
    lease.may_act = True
    lease.regained.set()
    await drive.finish_calls(60.0)
    assert ("reserve" in {call.step for call in asked.calls}) is not is_reported


async def test_p8_an_answer_from_a_state_that_nothing_has_proved_current_is_not_given() -> None:
    drive, deciding, _, lease = driving()
    run, _ = started()
    run.state = decide(ORDER, run.state, REPORT, 0.0, 0.5).state
    assert isinstance((await drive.ask(run, REPORT)).answer, NotApplied), "a repetition writes nothing"
    deciding.during.append(lambda: setattr(lease, "may_act", False))
    with pytest.raises(OwnershipLost, match="may have been taken"):
        await drive.ask(run, REPORT)
    await drive.finish_calls(60.0)


async def test_what_was_written_is_answered_although_the_lease_ended_meanwhile() -> None:
    """The log has taken it, and with it proved that the state was current."""
    drive, deciding, _, lease = driving()
    run, _ = started()
    deciding.during.append(lambda: setattr(lease, "may_act", False))
    assert (await drive.ask(run, REPORT)).answer == APPLIED
    await drive.finish_calls(60.0)
