"""Rehearsals: the promises hold in every failure of many definitions, and the judge of them is not blind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from proof.core.definitions import definition, random_source, step
from saga_coordinator.rehearsal.answers import make_answers
from saga_coordinator.rehearsal.promises import breaches
from saga_coordinator.rehearsal.rehearse import Rehearsal
from saga_coordinator.rehearsal.report import report_lines
from saga_coordinator.rehearsal.scenarios import WAITING, FaultKind, Mishap, Simulation, Story, simulate
from saga_coordinator.saga.definition.model import Block, Definition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.outcome import Cause, Refused, Succeeded
from tests.unit.saga.test_preview import Obliging

CALL = {"participant": "p"}


def simulated(source: Definition, *, in_pairs: bool = False, limit: int = 3000, **given: Any) -> Simulation:
    answers = make_answers(source, **given)
    is_forcing = "given_input" not in given
    return simulate(source, answers, in_pairs=in_pairs, limit=limit, is_forcing=is_forcing)


def story(simulation: Simulation, *faults: Mishap) -> Story:
    return next(each for each in simulation.stories if each.scenario.faults == faults)


def called(found: Story) -> list[str]:
    return [call.name for call in found.calls]


@pytest.mark.parametrize("seed", range(15))
def test_promises_hold_in_every_pair_of_failures(seed: int) -> None:
    source = random_source(Random(seed), flat_share=1.0)
    simulation = simulated(parse_definition(source), in_pairs=True, limit=150)
    assert len(simulation.stories) > len(source["steps"])
    assert not [(str(each.scenario), each.breaches) for each in simulation.stories if each.breaches]


@pytest.mark.parametrize("seed", range(15))
def test_promises_hold_in_random_blocks(seed: int) -> None:
    source = parse_definition(random_source(Random(seed), flat_share=0.0))
    simulation = simulated(source, in_pairs=True, limit=100)
    assert not [(str(each.scenario), each.breaches) for each in simulation.stories if each.breaches]


def test_a_child_that_never_ends_is_waited_for() -> None:
    child = {"name": "child", "saga": {"definition": "other"}}
    fault = Mishap("child", FaultKind.UNREPORTED)
    assert story(simulated(definition(child)), fault).end == WAITING
    late = story(simulated(definition(child, deadline="864000s")), fault)
    assert late.failure is not None
    assert late.failure.code == "DEADLINE"


def nested() -> Definition:
    return definition(
        {
            "name": "route",
            "switch": {
                "cases": [{"when": "input.amount > 10", "steps": [step("big")]}],
                "otherwise": {"steps": [step("small")]},
            },
        },
        {
            "name": "pay",
            "for_each": {
                "items": "input.people",
                "as": "person",
                "max_parallel": 1,
                "steps": [
                    step("transfer", action={**CALL, "input": {"to": "${person.id}"}}),
                    step("note", when="person.id != 'nobody'", read_only=True),
                ],
            },
        },
        {"name": "nap", "delay": "60s"},
        {"name": "poll", "repeat": {"until": "number >= 2", "max_passes": 3, "steps": [step("check")]}},
        {"name": "agree", "approval": {"approvers": ["ann"]}},
        {"name": "paid", "await_event": {"event": "paid", "correlation": "${input.order}"}},
        step("ship", pivot=True),
    )


def test_promises_hold_in_blocks_and_waits() -> None:
    simulation = simulated(nested(), in_pairs=True, limit=600)
    assert not [
        (str(each.scenario), each.breaches, each.problems) for each in simulation.stories if each.is_broken
    ]
    assert simulation.unreached == ()
    assert {call.step for each in simulation.stories for call in each.calls} >= {"small", "big"}


def test_what_a_failure_leads_to() -> None:
    source = definition(step("a"), step("b"), step("mail", irreversible=True), step("c"))
    simulation = simulated(source)
    assert called(story(simulation)) == ["a", "b", "mail", "c"]
    assert called(story(simulation, Mishap("b", FaultKind.REFUSED))) == ["a", "b", "undo a"]
    assert called(story(simulation, Mishap("b", FaultKind.UNKNOWN_ONCE))) == ["a", "b", "b", "mail", "c"]
    crashed = story(simulation, Mishap("c", FaultKind.REFUSED), Mishap("a", FaultKind.UNDO_REFUSED))
    assert crashed.end == SagaStatus.NEEDS_ATTENTION
    assert crashed.remaining == ("a", "mail")
    assert story(simulation, Mishap("c", FaultKind.REFUSED)).remaining == ("mail",)


def test_a_crash_is_waited_out_before_what_it_interrupted_is_undone() -> None:
    source = definition(step("a", action={**CALL, "timeout": "7s", "retry": {"max_attempts": 1}}), step("b"))
    simulation = simulated(source, in_pairs=True)
    crashed = story(simulation, Mishap("a", FaultKind.CRASH), Mishap("b", FaultKind.REFUSED))
    first, undo = crashed.calls[0], crashed.calls[-1]
    assert (first.is_lost, undo.name) == (True, "undo a")
    assert undo.started_at >= first.started_at + 7


def test_what_is_tried_again_and_what_is_not() -> None:
    retry = {"max_attempts": 3, "pauses": ["3s"], "retry_on": ["UNAVAILABLE"]}
    simulation = simulated(definition(step("a", action={**CALL, "retry": retry}), step("b")))
    again = story(simulation, Mishap("a", FaultKind.UNKNOWN_ONCE))
    assert (called(again)[:2], again.end) == (["a", "a"], SagaStatus.COMPLETED)
    at_once = story(simulation, Mishap("a", FaultKind.NOT_RETRIED))
    assert (called(at_once), at_once.end) == (["a", "undo a"], SagaStatus.COMPENSATED)
    assert not any(each.breaches for each in simulation.stories)


def test_what_never_comes_is_waited_for() -> None:
    simulation = simulated(nested())
    assert story(simulation, Mishap("paid", FaultKind.NO_EVENT)).end == WAITING
    assert story(simulation, Mishap("agree", FaultKind.UNDECIDED)).end == WAITING
    rejected = story(simulation, Mishap("agree", FaultKind.REJECTED))
    assert rejected.end == SagaStatus.COMPENSATED
    assert rejected.failure is not None
    assert rejected.failure.code == "REJECTED"


def test_a_deadline_that_passes_in_a_step_turns_the_saga() -> None:
    simulation = simulated(definition(step("a"), step("b"), deadline="60s"))
    late = story(simulation, Mishap("b", FaultKind.DEADLINE))
    assert late.failure is not None
    assert late.failure.code == "DEADLINE"
    assert called(late) == ["a", "b", "undo b", "undo a"]


def test_expressions_that_fail_only_after_a_failure_are_found() -> None:
    """`b` runs without `a`'s output when `a` has failed and the saga went on."""
    source = definition(
        step("a", action={**CALL, "on_failure": "continue"}),
        step("b", action={**CALL, "input": {"id": "${steps.a.output.id}"}}),
    )
    simulation = simulated(source)
    assert not story(simulation).problems
    (problem,) = story(simulation, Mishap("a", FaultKind.REFUSED)).problems
    assert "steps.a.output.id" in problem


def test_an_input_that_is_given_is_taken_as_it_is() -> None:
    simulation = simulated(nested(), given_input={"amount": 5, "people": [], "order": "o1"})
    assert set(simulation.unreached) == {"big", "transfer", "note"}
    assert called(story(simulation)) == ["small", "poll[0].check", "poll[1].check", "ship"]
    lacking = simulated(nested(), given_input={"amount": 5})
    assert "people" in str(lacking.stories[0].problems)


def test_scenarios_beyond_the_limit_are_counted() -> None:
    simulation = simulated(nested(), in_pairs=True, limit=10)
    assert len(simulation.stories) <= 10
    assert simulation.scenarios_left > 100


# The judge.


def gone_back() -> Rehearsal:
    """a, b and c succeeded, then d was refused."""
    source = definition(step("a"), step("b"), step("c"), step("d"))

    class Refusing(Obliging):
        def answer(self, invoke: Any, now: float) -> Any:
            reply = super().answer(invoke, now)
            refused = Refused(Cause("FAILED_PRECONDITION", "no"))
            return type(reply)(refused) if invoke.step == "d" else reply

    rehearsal = Rehearsal(source, Refusing())
    rehearsal.start(None)
    rehearsal.run()
    return rehearsal


def call(rehearsal: Rehearsal, name: str) -> Any:
    return next(each for each in rehearsal.calls if each.name == name)


def test_the_judge_has_nothing_to_say_of_a_good_saga() -> None:
    assert breaches(gone_back()) == []


def undoes_too_early(saga: Rehearsal) -> None:
    call(saga, "undo a").started_at = call(saga, "undo c").started_at


def undoes_what_is_under_way(saga: Rehearsal) -> None:
    call(saga, "c").ended_at = call(saga, "undo c").started_at + 1


def forgets_to_undo(saga: Rehearsal) -> None:
    saga.calls.remove(call(saga, "undo b"))


def undoes_for_nothing(saga: Rehearsal) -> None:
    call(saga, "c").told = Refused(Cause("FAILED_PRECONDITION", "no"))


def uses_a_key_twice(saga: Rehearsal) -> None:
    undo, other = call(saga, "undo c"), call(saga, "undo b")
    undo.invoke = replace(undo.invoke, idempotency_key=other.invoke.idempotency_key)


def is_refused_to_undo(saga: Rehearsal) -> None:
    call(saga, "undo a").told = Refused(Cause("FAILED_PRECONDITION", "no"))


def finds_nothing_to_undo_where_the_effect_was_certain(saga: Rehearsal) -> None:
    assert isinstance(call(saga, "a").told, Succeeded)
    call(saga, "undo a").told = Refused(Cause("NOT_FOUND", "no such thing"))


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (undoes_too_early, ["P3: `a`"]),
        (undoes_what_is_under_way, ["P4: `c`", "P4: `b`"]),
        (forgets_to_undo, ["P2: the saga is COMPENSATED, but the effect of `b` stands", "P3: `a`"]),
        (undoes_for_nothing, ["P2: `c` was compensated although it had no effect to undo"]),
        (uses_a_key_twice, ["P5: `undo b` and another operation carried the same key"]),
        (is_refused_to_undo, ["P2: the saga is COMPENSATED, but the effect of `a` stands"]),
        (
            finds_nothing_to_undo_where_the_effect_was_certain,
            ["P2: the saga is COMPENSATED, but the effect of `a` stands"],
        ),
    ],
)
def test_the_judge_sees_a_saga_that(breaks: Callable[[Rehearsal], None], told: list[str]) -> None:
    rehearsal = gone_back()
    breaks(rehearsal)
    found = [str(each) for each in breaches(rehearsal)]
    assert [each for each in told if not any(breach.startswith(each) for breach in found)] == [], found


def test_the_judge_sees_a_core_that_undoes_everything_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = definition(step("a"), step("b"), step("c"))
    nothing = property(lambda block: {each.name: frozenset() for each in block.steps})
    monkeypatch.setattr(Block, "dependents", nothing)
    refused = story(simulated(source), Mishap("c", FaultKind.REFUSED))
    assert [str(each) for each in refused.breaches] == [
        "P3: `a` was compensated before `b`, which depends on it, was undone"
    ]


def test_loops_are_ordered_by_pass_and_not_by_item() -> None:
    source = definition(
        {"name": "each", "for_each": {"items": "input", "steps": [step("a")]}},
        {"name": "again", "repeat": {"until": "number >= 2", "max_passes": 3, "steps": [step("b")]}},
        step("c", read_only=True),
    )
    simulation = simulated(source, given_input=[1, 2])
    refused = story(simulation, Mishap("c", FaultKind.REFUSED))
    assert called(refused)[5:] == ["undo again[1].b", "undo again[0].b", "undo each[1].a", "undo each[0].a"]


# Conditions go every way.


def problems(simulation: Simulation) -> dict[str, tuple[str, ...]]:
    return {str(each.scenario): each.problems for each in simulation.stories if each.problems}


def test_a_step_is_skipped_and_its_output_read_all_the_same() -> None:
    reading = {**CALL, "input": {"id": "${steps.a.output.id}"}}
    source = definition(step("a", when="input.amount > 10"), step("b"), step("c", action=reading))
    (found,) = problems(simulated(source)).values()
    assert found == (
        "the input of c: ${steps.a.output.id}: no field 'id' in `steps.a.output`, which is null",
    )


def test_compensations_that_read_the_output_of_a_skipped_step_are_found() -> None:
    undo = {**CALL, "method": "undo", "input": {"id": "${steps.a.output.id}"}}
    source = definition(step("a", when="input.amount > 10"), step("b", compensation=undo), step("c"))
    found = problems(simulated(source))
    assert list(found) == ["c: the saga is cancelled meanwhile (with values on which `when` of `a` is false)"]


@pytest.mark.parametrize(
    ("condition", "assumed"),
    [
        ("input.express", "with values on which"),
        ("input.amount > 10 && input.country == 'CH'", "with values on which"),
        ("size(input.lines) > 0", "with values on which"),
        ("input.coupon == null", "with values on which"),
        ("1 < 2", "assuming that"),
        ("saga.id != ''", "assuming that"),
    ],
)
def test_a_condition_is_true_and_false(condition: str, assumed: str) -> None:
    simulation = simulated(definition(step("a"), step("b", when=condition)))
    assert simulation.untried == ()
    calls = {tuple(called(each)) for each in simulation.stories if not each.scenario.faults}
    assert calls == {("a",), ("a", "b")}
    assert any(each.scenario.variant.startswith(assumed) for each in simulation.stories)


def test_every_case_is_taken_and_none() -> None:
    cases = [
        {"when": f"input.tier == '{tier}'", "steps": [step(tier)]} for tier in ("gold", "silver", "bronze")
    ]
    source = definition({"name": "route", "switch": {"cases": cases}}, step("last"))
    simulation = simulated(source)
    assert simulation.untried == ()
    taken = {tuple(called(each)) for each in simulation.stories if not each.scenario.faults}
    assert taken == {("gold", "last"), ("silver", "last"), ("bronze", "last"), ("last",)}


def test_a_loop_is_done_and_is_not() -> None:
    loop = {"until": "steps.check.output.done", "max_passes": 50, "steps": [step("check")]}
    simulation = simulated(definition({"name": "poll", "repeat": loop}))
    assert simulation.untried == ()
    assert "PASSES_SPENT" in {each.failure.code for each in simulation.stories if each.failure}


def test_what_may_be_absent_or_null_is() -> None:
    optional = "has(input.coupon) && input.coupon != null"
    source = definition(
        step("a", when="input.coupon == null"),
        step("b", when=optional, action={**CALL, "input": {"c": "${input.coupon.code}"}}),
    )
    simulation = simulated(source)
    assert list(problems(simulation)) == ["nothing goes wrong (without `input.coupon`)"]
    assert "nothing goes wrong (with `input.coupon` null)" in {
        str(each.scenario) for each in simulation.stories
    }
    guarded = definition(step("a", when=f"!({optional})"), step("b", when=optional))
    assert not problems(simulated(guarded))


def test_what_was_never_tried_is_told_by_name() -> None:
    source = definition(step("a"), step("b", when="input.amount > 10"))
    simulation = simulated(source, given_input={"amount": 20})
    assert [str(way) for way in simulation.untried] == ["`when` of `b` is false"]
    lines = list(report_lines(simulation, in_pairs=False))
    assert "  that `when` of `b` is false" in lines
    assert lines[-1].endswith("no expression failed; 1 never tried")


def test_values_that_the_schema_forbids_are_not_made_up() -> None:
    schema = {
        "type": "object",
        "properties": {"amount": {"type": "integer", "minimum": 50}},
        "required": ["amount"],
    }
    source = definition(step("a", when="input.amount > 10"), step("b"), input_schema=schema)
    simulation = simulated(source, sketch={"amount": 50})
    assert "nothing goes wrong (assuming that `when` of `a` is false)" in {
        str(each.scenario) for each in simulation.stories
    }
