"""A decision is as much work for a thousand items as for ten, and ends when its budget is spent. Work is counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any

import pytest

from proof.core.definitions import definition, step
from proof.core.oracle import play
from proof.core.story import NO, ok
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, GoOn, Invoke, SetTimer
from saga_coordinator.saga.machine.entries import AttemptStarted, AttemptUnknown, Entry
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    CancelAsked,
    Input,
    OwnershipGained,
    StartRequested,
    TimerFired,
)
from saga_coordinator.saga.machine.state import SagaState, fold
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words import meter
from saga_coordinator.saga.words.meter import DECISION_MAX, ENTRY, TooMuchHere
from saga_coordinator.saga.words.outcome import Outcome

ENTRIES_MAX = DECISION_MAX // ENTRY + 10
"""A decision ends soon after its budget is spent."""
LOOKING = "${input.exists(l, l.sku == item.sku && l.qty > 0)}"
"""Goes through the whole list for each of its items."""


def lines(count: int) -> list[dict[str, Any]]:
    return [{"sku": f"sku-{index}", "qty": 1} for index in range(count)]


def loop(**action: Any) -> Definition:
    one = step("one", action={"participant": "p", **action})
    return definition({"name": "each", "for_each": {"items": "input", "steps": [one]}}, step("last"))


class Shell:
    """Does what decisions ask for, and keeps the calls that are open."""

    def __init__(self, source: Definition, payload: Any) -> None:
        self.source = source
        self.log: list[Entry] = []
        self.calls: list[Invoke] = []
        self.decisions: list[Decision] = []
        self.keep(decide(source, None, StartRequested("saga", 1, payload, {}), 0.0, 0.5))

    @property
    def state(self) -> SagaState:
        return self.decisions[-1].state

    def keep(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self.log += decision.entries
        self.calls += [effect for effect in decision.effects if isinstance(effect, Invoke)]

    def happens(self, happened: Input) -> Decision:
        self.keep(decide(self.source, self.state, happened, 1.0, 0.5))
        return self.decisions[-1]

    def goes_on(self) -> None:
        while GoOn() in self.decisions[-1].effects:
            self.happens(TimerFired())

    def ends(self, call: Invoke, outcome: Outcome) -> None:
        self.happens(AttemptEnded(call.step, call.operation, call.attempt, outcome))
        self.goes_on()

    def ends_all(self) -> None:
        while self.calls:
            self.ends(self.calls.pop(0), ok())


def operations(work: Callable[[], object]) -> int:
    """How many operations of the interpreter it takes. Letting go of what it returns is not among them."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        kept = work()
    finally:
        sys.settrace(before)
    del kept
    return count


def operations_of_next_outcome(shell: Shell) -> int:
    call = shell.calls[0]
    ended = AttemptEnded(call.step, call.operation, call.attempt, ok())
    return operations(lambda: decide(shell.source, shell.state, ended, 1.0, 0.5))


def middle_of(items: int, *, is_undoing: bool) -> int:
    """What it takes to decide on the outcome of one item, when half of them have come."""
    shell = Shell(loop(), lines(items))
    shell.goes_on()
    if is_undoing:
        for _ in range(items):
            shell.ends(shell.calls.pop(0), ok())
        shell.ends(shell.calls.pop(0), NO)
    for _ in range(items // 2):
        shell.ends(shell.calls.pop(0), ok())
    return operations_of_next_outcome(shell)


@pytest.mark.parametrize("is_undoing", [False, True], ids=["forward", "back"])
def test_p11_one_outcome_is_no_more_work_among_a_thousand_items_than_among_ten(is_undoing: bool) -> None:
    few, many = middle_of(10, is_undoing=is_undoing), middle_of(1000, is_undoing=is_undoing)
    assert many < 1.5 * few, f"{few} operations among ten items, {many} among a thousand"


def test_p11_one_outcome_is_no_more_work_among_two_hundred_steps_than_among_ten() -> None:
    def outcome(steps: int) -> int:
        shell = Shell(
            definition(*(step(f"s{index}", after=[]) for index in range(steps)), step("z", after=["s0"])),
            None,
        )
        shell.goes_on()
        for _ in range(steps // 2):
            shell.ends(shell.calls.pop(0), ok())
        return operations_of_next_outcome(shell)

    few, many = outcome(10), outcome(199)
    assert many < 1.5 * few, f"{few} operations among ten steps, {many} among two hundred"


def test_p11_fold_is_as_much_work_for_each_entry_of_a_long_log_as_of_a_short_one() -> None:
    def folded(items: int) -> float:
        shell = Shell(loop(), lines(items))
        shell.goes_on()
        shell.ends_all()
        return operations(lambda: fold("saga", shell.log)) / len(shell.log)

    assert folded(500) < 1.2 * folded(50)


def test_p11_a_large_loop_begins_and_is_undone_slice_by_slice() -> None:
    shell = Shell(loop(), lines(1000))
    assert GoOn() in shell.decisions[0].effects
    assert not any(isinstance(effect, SetTimer) for effect in shell.decisions[0].effects)
    shell.goes_on()
    assert len(shell.calls) == 1000
    for _ in range(1000):
        shell.ends(shell.calls.pop(0), ok())
    shell.ends(shell.calls.pop(0), NO)
    assert len(shell.calls) == 1000
    shell.ends_all()
    assert shell.state.status is SagaStatus.COMPENSATED
    assert max(len(decision.entries) for decision in shell.decisions) <= ENTRIES_MAX


def test_p11_expressions_over_a_long_list_end_a_decision_after_a_few() -> None:
    shell = Shell(loop(input={"known": LOOKING}), lines(1000))
    begun = [entry for entry in shell.decisions[0].entries if isinstance(entry, AttemptStarted)]
    assert 1 <= len(begun) <= 3
    shell.goes_on()
    assert len(shell.calls) == 1000
    assert {call.input["known"] for call in shell.calls} == {True}


def test_p11_attempts_of_a_lost_coordinator_are_recorded_slice_by_slice_before_anything_begins() -> None:
    shell = Shell(loop(), lines(1000))
    shell.goes_on()
    shell.calls.clear()
    shell.happens(OwnershipGained("coordinator-1"))
    while shell.state.adoption is not None:
        assert not shell.calls
        assert GoOn() in shell.decisions[-1].effects
        shell.happens(TimerFired())
    shell.goes_on()
    assert sum(isinstance(entry, AttemptUnknown) for entry in shell.log) == 1000
    assert len(shell.calls) == 1000
    assert max(len(decision.entries) for decision in shell.decisions) <= ENTRIES_MAX


def test_an_adoption_that_was_cut_short_is_gone_on_with_by_the_next_owner() -> None:
    shell = Shell(loop(), lines(1000))
    shell.goes_on()
    shell.calls.clear()
    shell.happens(OwnershipGained("coordinator-1"))
    shell.happens(CancelAsked("meanwhile"))
    shell.happens(OwnershipGained("coordinator-2"))
    shell.goes_on()
    assert shell.state.in_flight == 0
    assert shell.state.status is SagaStatus.COMPENSATING


def test_the_same_decision_ends_at_the_same_place_whoever_makes_it() -> None:
    """With what was kept from the decision before, or with nothing but the log (P7)."""
    shell = Shell(loop(input={"known": LOOKING}), lines(300))
    for _ in range(3):
        again = decide(shell.source, fold("saga", shell.log), TimerFired(), 1.0, 0.5)
        assert shell.happens(TimerFired()) == again


def test_what_is_too_much_at_one_place_is_left_as_it_was() -> None:
    shell = Shell(loop(input={"known": LOOKING}), lines(1000))
    log = list(shell.log)
    with pytest.raises(TooMuchHere):
        decide(shell.source, shell.state, TimerFired(), 1.0, 0.5, here_max=1000)
    assert fold("saga", log) == shell.state
    assert decide(shell.source, shell.state, TimerFired(), 1.0, 0.5).entries


@pytest.mark.parametrize("decision_max", [1, 3 * ENTRY])
def test_p1_to_p9_hold_where_every_decision_may_do_little(
    monkeypatch: pytest.MonkeyPatch, decision_max: int
) -> None:
    monkeypatch.setattr(meter, "DECISION_MAX", decision_max)
    for seed in range(400):
        try:
            play(Random(seed))
        except AssertionError as error:
            error.add_note(f"in the story of seed {seed}")
            raise
