"""What is more than the loop should do at a stretch is done elsewhere, or in turns. Nothing here is timed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from proof.core.definitions import definition, step
from proof.core.story import NO, ok
from saga_coordinator.engine import deciding
from saga_coordinator.engine.advance import Advance
from saga_coordinator.engine.deciding import HERE_MAX, decided
from saga_coordinator.engine.pace import AT_ONCE, Pace
from saga_coordinator.engine.runs import Run
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision, GoOn, Invoke
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    Finding,
    ResolveAsked,
    SkipAsked,
    StartRequested,
)
from saga_coordinator.saga.words.act import SubjectKind, Verb
from saga_coordinator.saga.words.meter import DECISION_MAX
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from tests.acts import an_act
from tests.unit.saga.test_decision_work import Shell, lines, loop


@pytest.fixture
def deciders(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which decisions came to an end."""
    seen: list[threading.Thread] = []

    def noting(*given: Any, **more: Any) -> Decision:
        decision = decide(*given, **more)
        seen.append(threading.current_thread())
        return decision

    monkeypatch.setattr(deciding, "decide", noting)
    return seen


async def test_p11_an_ordinary_decision_is_made_on_the_loop(deciders: list[threading.Thread]) -> None:
    request = StartRequested("saga", 1, {}, {})
    await decided(definition(step("a")), None, request, 0.0, 0.5, may_call=True)
    assert deciders == [threading.main_thread()]


async def test_p11_the_turn_of_a_large_saga_is_decided_beside_the_loop(
    deciders: list[threading.Thread],
) -> None:
    shell = Shell(loop(), lines(1000))
    shell.goes_on()
    while len(shell.calls) > 1 or shell.calls[0].step != "last":
        shell.ends(shell.calls.pop(0), ok())
    last = shell.calls[0]
    ended = AttemptEnded(last.step, last.operation, last.attempt, NO)
    decision = await decided(shell.source, shell.state, ended, 1.0, 0.5, may_call=True)
    assert [thread is threading.main_thread() for thread in deciders] == [False]
    assert decision == decide(shell.source, shell.state, ended, 1.0, 0.5)


@pytest.mark.parametrize("verb", ["skip", "resolve"])
async def test_p11_a_large_output_that_a_person_gives_is_decided_beside_the_loop(
    deciders: list[threading.Thread], verb: str
) -> None:
    source = definition(step("a"), step("b"))
    state = decide(source, None, StartRequested("saga", 1, {}, {}), 0.0, 0.5).state
    act = an_act(Verb.SKIP_STEP, "saga", kind=SubjectKind.SAGA)
    output = [{"line": number} for number in range(20_000)]
    asked = SkipAsked("b", output, act) if verb == "skip" else ResolveAsked("a", Finding.DONE, output, act)
    deciders.clear()
    await decided(source, state, asked, 1.0, 0.5, may_call=True)
    assert [thread is threading.main_thread() for thread in deciders] == [False]


async def test_p11_one_call_with_many_expressions_is_computed_beside_the_loop(
    deciders: list[threading.Thread],
) -> None:
    """Its work cannot be divided among decisions."""
    seen = {f"f{index}": "${input.exists(l, l.sku == 'none')}" for index in range(20)}
    source = definition(step("a", action={"participant": "p", "input": seen}))
    request = StartRequested("saga", 1, lines(1000), {})
    decision = await decided(source, None, request, 0.0, 0.5, may_call=True)
    assert decision.work > HERE_MAX
    assert [thread is threading.main_thread() for thread in deciders] == [False]
    assert any(isinstance(effect, Invoke) for effect in decision.effects)


class _Journal:
    def __init__(self) -> None:
        self.appended: list[int] = []

    async def append(self, append: Any) -> float:
        self.appended.append(len(append.entries))
        return 0.0


class _Lease:
    def now(self) -> float:
        return 1.0


class _Dice:
    def random(self) -> float:
        return 0.5


async def test_p11_what_happens_to_a_saga_at_once_is_decided_a_little_at_a_time() -> None:
    shell = Shell(loop(), lines(1000))
    shell.goes_on()
    journal: Any = _Journal()
    lease: Any = _Lease()
    dice: Any = _Dice()
    advance = Advance(journal, lease, dice=dice)
    run = Run("saga", DEFAULT_NAMESPACE, shell.source, shell.state)
    inputs = [AttemptEnded(call.step, call.operation, call.attempt, ok()) for call in shell.calls]
    taken = 0
    while taken < len(inputs):
        advanced = await advance.advance(run, inputs[taken:])
        assert advanced.decisions
        assert sum(decision.work for decision in advanced.decisions[:-1]) < DECISION_MAX
        taken += len(advanced.decisions)
    assert len(journal.appended) > 5
    assert run.state.step("each").output is not None


async def test_p11_a_saga_with_more_to_do_is_not_let_go() -> None:
    shell = Shell(loop(), lines(1000))
    assert GoOn() in shell.decisions[0].effects
    lease: Any = _Lease()
    advance = Advance(Any, lease, dice=Any)  # type: ignore[arg-type]
    assert advance._wake_at(shell.decisions[0].effects, shell.state, may_call=True) is None


async def test_p11_a_thousand_calls_are_begun_in_turns_of_the_loop() -> None:
    pace, begun = Pace(), 0

    def begin() -> None:
        nonlocal begun
        begun += 1

    for _ in range(1000):
        pace.begin(begin)
    turns = [begun]
    while begun < 1000:
        await asyncio.sleep(0)
        turns.append(begun)
    steps = [after - before for before, after in zip([0, *turns], turns, strict=False)]
    assert max(steps) == AT_ONCE
    for _ in range(40):
        pace.begin(begin)
    pace.begin_all()
    assert begun == 1040
