"""What a preview foretells is what happens when the saga does fail then."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from proof.core.definitions import definition, random_source, step
from saga_coordinator.rehearsal.answers import make_answers
from saga_coordinator.rehearsal.rehearse import Rehearsal, Reply, Soon
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import WaitStarted
from saga_coordinator.saga.machine.inputs import AttemptEnded, CancelAsked
from saga_coordinator.saga.machine.preview import Preview, preview_compensation
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Succeeded, Unknown


class Obliging:
    """Every call succeeds with what it did as its output."""

    def answer(self, invoke: Invoke, now: float) -> Reply:
        return Reply(Succeeded({"ref": invoke.step}))

    def await_outside(self, wait: WaitStarted, now: float) -> Sequence[Soon]:
        return ()


def running_at(source: Definition, calls: int, saga_input: Any = None) -> Rehearsal:
    """A saga when so many calls have begun."""
    rehearsal = Rehearsal(source, Obliging())
    rehearsal.start(saga_input)
    while len(rehearsal.calls) < calls:
        rehearsal.move()
    return rehearsal


def previewed(source: Definition, calls: int, saga_input: Any = None) -> Preview:
    rehearsal = running_at(source, calls, saga_input)
    return preview_compensation(source, rehearsal.state, rehearsal.now)


def stages(preview: Preview) -> list[list[str]]:
    return [[call.step for call in stage] for stage in preview.stages]


def payloads(preview: Preview) -> list[Any]:
    return [call.input for stage in preview.stages for call in stage]


def test_the_step_in_flight_is_assumed_to_have_happened() -> None:
    source = definition(step("a"), step("b"), step("c"))
    preview = previewed(source, 2)
    assert preview.in_flight == ("b",)
    assert stages(preview) == [["b"], ["a"]]
    assert payloads(preview) == [None, {"ref": "a"}]
    assert (preview.status, preview.remaining) == (SagaStatus.COMPENSATED, ())


def test_what_is_independent_is_one_stage() -> None:
    source = definition(
        step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"], read_only=True)
    )
    assert stages(previewed(source, 4)) == [["b", "c"], ["a"]]


def test_what_cannot_be_undone_is_listed() -> None:
    source = definition(step("a"), step("mail", irreversible=True), step("c"))
    preview = previewed(source, 3)
    assert (preview.status, preview.remaining) == (SagaStatus.NEEDS_ATTENTION, ("mail",))
    assert stages(preview) == [["c"], ["a"]]


def test_an_input_that_cannot_be_computed_is_told() -> None:
    undo = {"participant": "p", "input": {"id": "${output.nothing_like_it}"}}
    source = definition(step("a", compensation=undo), step("b"))
    preview = previewed(source, 2)
    assert [each.step for each in preview.uncomputable] == ["a"]
    assert "nothing_like_it" in preview.uncomputable[0].problem
    assert preview.remaining == ("a",)


def test_after_the_pivot_there_is_no_way_back() -> None:
    source = definition(step("a"), step("ship", pivot=True), step("tell", late=True))
    preview = previewed(source, 3)
    assert preview.refusal is not None
    assert "ship" in preview.refusal
    assert (preview.stages, preview.status) == ((), SagaStatus.RUNNING)
    assert preview.remaining == ("a", "ship")


def test_loops_go_back_item_by_item_as_they_are_allowed_to() -> None:
    source = definition(
        {
            "name": "pay",
            "for_each": {"items": "input.people", "max_parallel": 2, "steps": [step("transfer")]},
        },
        step("last"),
    )
    assert stages(previewed(source, 4, {"people": [1, 2, 3]})) == [
        ["last"],
        ["pay[2].transfer", "pay[1].transfer"],
        ["pay[0].transfer"],
    ]


def test_a_compensating_saga_shows_what_is_left() -> None:
    source = definition(step("a"), step("b"), step("c"))
    rehearsal = running_at(source, 3)
    rehearsal.hear(CancelAsked("stop"))
    while not any(call.name == "undo c" for call in rehearsal.calls):
        rehearsal.move()
    preview = preview_compensation(source, rehearsal.state, rehearsal.now)
    assert stages(preview) == [["b"], ["a"]]


def test_an_attempt_that_may_be_in_flight_is_waited_for() -> None:
    """The preview skips the time; the saga will not."""

    class Deaf(Obliging):
        def answer(self, invoke: Invoke, now: float) -> Reply:
            return Reply(Unknown(Cause("UNAVAILABLE", "gone"))) if invoke.attempt == 1 else Reply(Succeeded())

    source = definition(step("a"))
    rehearsal = Rehearsal(source, Deaf())
    rehearsal.start(None)
    rehearsal.move()
    assert stages(preview_compensation(source, rehearsal.state, rehearsal.now)) == [["a"]]


@pytest.mark.parametrize("seed", range(60))
def test_any_saga_does_what_was_foretold(seed: int) -> None:
    """Stopped anywhere, it makes the same calls with the same keys and payloads, and ends up the same."""
    random = Random(seed)
    source = parse_definition(random_source(random, flat_share=0.0))
    rehearsal = Rehearsal(source, Obliging())
    rehearsal.start(make_answers(source).input.value())
    for _ in range(random.randrange(12)):
        if rehearsal.next_at() is not None:
            rehearsal.move()
    state, now = rehearsal.state, rehearsal.now
    preview = preview_compensation(source, state, now)
    real = Rehearsal.resumed(source, Obliging(), state, now)
    if real.is_settled or isinstance(real.hear(CancelAsked("for real")).answer, Refusal):
        assert preview.refusal is not None
        return
    for key, each in state.steps.items():
        if each.is_in_flight:
            is_action = each.operation is OperationKind.ACTION
            outcome = Unknown(Cause("UNAVAILABLE", "gone")) if is_action else Succeeded()
            real.hear(AttemptEnded(key, each.operation, each.attempt, outcome))
    real.run()
    foretold = {call.idempotency_key: call.input for stage in preview.stages for call in stage}
    assert foretold == {
        call.invoke.idempotency_key: call.invoke.input for call in real.calls if not call.is_action
    }
    assert (preview.status, preview.remaining) == (real.state.status, real.state.remaining)
