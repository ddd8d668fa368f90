"""Definitions with waits, blocks, children and policies: what they mean once parsed, and what is told of those that are none."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from proof.core.definitions import step
from saga_coordinator.saga.definition.model import (
    Approval,
    AwaitEvent,
    Definition,
    Delay,
    ForEach,
    OnFailure,
    Operation,
    Repeat,
    Switch,
    all_steps,
)
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.definition.parsing_actions import APPROVERS_MAX
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, LABELS_MAX
from saga_coordinator.saga.words.outcome import OutcomeKind
from tests.unit.saga.definition_faults import faults

EVERYTHING = yaml.safe_load("""
name: everything
description: Every field of the contract, once.
deadline: 86400s
max_parallel: 20
labels: {orderId: "${input.id}", from: "${saga.id}"}
input_schema: {type: object, required: [id]}
defaults:
  timeout: 3s
  retry: {initial_backoff: 0.5s}
  compensation_retry: {max_attempts: 33, max_backoff: 60s}
  recovery: backward
output: {paid: "${steps.pay.output}", by: "${steps.review.output.decided_by}"}
steps:
  - name: check
    when: input.amount > 0
    action: {participant: p, outcomes: {ABORTED: refused, UNKNOWN: succeeded}, on_failure: continue}
    read_only: true
  - name: nap
    delay: 60s
  - name: due
    until: timestamp(input.due)
  - name: paid
    await_event: {event: payment.received, correlation: "${input.id}", timeout: 5s, on_timeout: continue, look_back: 60s}
    on_failure: pause
  - name: review
    approval: {approvers: [ann, bob], show: {id: "${input.id}"}, timeout: 9s}
  - name: child
    saga: {definition: other, version: 3, input: {id: "${input.id}"}}
    deadline: 60s
    on_failure: continue
  - name: route
    switch:
      cases:
        - when: input.amount > 100
          steps: [{name: big, action: {participant: p}, compensation: {participant: p, on_failure: continue}}]
          output: "${steps.big.output.id}"
      otherwise:
        steps: [{name: small, action: {participant: p}, compensation: {participant: p}}]
  - name: pay
    for_each:
      items: input.people
      as: person
      max_parallel: 2
      steps:
        - name: transfer
          action: {participant: p, input: {to: "${person.id}", number: "${index}", due: "${steps.due.status}"}}
          compensation: {participant: p, input: {id: "${output.id}", to: "${person.id}", why: "${failure.code}"}}
        - name: note
          when: person.id != 'b' && steps.transfer.status == 'SUCCEEDED'
          action: {participant: p}
          read_only: true
      output: "${steps.transfer.output.id}"
  - name: poll
    repeat:
      until: number >= 3 || steps.ask.output.done
      max_passes: 5
      steps: [{name: ask, action: {participant: p, input: {before: "${previous}"}}, read_only: true}]
      output: {done: "${steps.ask.output.done}", number: "${number}"}
  - name: commit
    pivot: true
    action: {participant: p, timeout: 7s}
  - name: tell
    recovery: forward
    action: {participant: p}
""")


def parsed(*steps: Any, **fields: Any) -> Definition:
    return parse_definition({"name": "order", "steps": list(steps), **fields})


def switch(name: str, *steps: Any, when: str = "input.big", **fields: Any) -> dict[str, Any]:
    return {"name": name, "switch": {"cases": [{"when": when, "steps": list(steps), **fields}]}}


def for_each(name: str, *steps: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "for_each": {"items": "input.lines", "steps": list(steps), **fields}}


def repeat(name: str, *steps: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "repeat": {"until": "number > 1", "max_passes": 3, "steps": list(steps), **fields}}


def reading(expression: str, name: str = "reader", **fields: Any) -> dict[str, Any]:
    return step(name, action={"participant": "p", "input": {"read": "${" + expression + "}"}}, **fields)


# What is meant.


def test_every_field_is_read() -> None:
    definition = parse_definition(EVERYTHING)
    names = "check nap due paid review child route big small pay transfer note poll ask commit tell"
    assert " ".join(each.name for each in all_steps(definition.block)) == names
    assert [type(each.action) for each in definition.steps] == [
        Operation, Delay, Delay, AwaitEvent, Approval, Operation, Switch, ForEach, Repeat, Operation, Operation
    ]  # fmt: skip
    assert list(definition.labels) == ["orderId", "from"]
    assert definition.input_schema is not None
    assert definition.input_schema.faults({})
    assert definition.block.output is not None
    assert definition.participants == {"p"}
    assert definition.loops_around["transfer"] == 1
    assert definition.is_after_pivot("tell")
    assert not definition.is_after_pivot("pay[3].transfer")
    assert definition.step("pay[3].transfer") is definition.step("transfer")


@pytest.mark.parametrize(
    ("name", "on_failure"),
    [
        ("check", OnFailure.CONTINUE),
        ("paid", OnFailure.PAUSE),
        ("review", OnFailure.COMPENSATE),
        ("child", OnFailure.CONTINUE),
        ("transfer", OnFailure.COMPENSATE),
        ("tell", OnFailure.PAUSE),
    ],
)
def test_failure_means_what_the_step_says(name: str, on_failure: OnFailure) -> None:
    assert parse_definition(EVERYTHING).step(name).on_failure is on_failure


def test_defaults_hold_where_nothing_is_said() -> None:
    definition = parse_definition(EVERYTHING)
    check, commit, tell = (definition.step(name).action for name in ("check", "commit", "tell"))
    undo = definition.step("transfer").compensation
    assert isinstance(check, Operation)
    assert isinstance(commit, Operation)
    assert isinstance(tell, Operation)
    assert undo is not None
    assert [each.retry.max_attempts for each in (check, commit, tell, undo)] == [5, 10, 10, 33]
    pauses = [each.retry.initial_backoff_seconds for each in (check, commit, tell, undo)]
    assert pauses == [0.5, 0.5, 0.5, 0.1]
    assert undo.retry.max_backoff_seconds == 60
    assert [each.timeout_seconds for each in (check, commit, undo)] == [3, 7, 3]
    assert check.outcomes == {"ABORTED": OutcomeKind.REFUSED, "UNKNOWN": OutcomeKind.SUCCEEDED}


def test_child_undoes_itself_but_for_what_cannot_be_undone() -> None:
    child = {"definition": "other"}
    definition = parsed(
        {"name": "a", "saga": child},
        {"name": "b", "saga": {**child, "version": 2}, "irreversible": True},
        {"name": "c", "saga": child, "pivot": True},
        {"name": "d", "saga": child},
    )
    undone = {each.name for each in definition.steps if each.compensation is not None}
    assert undone == {"a"}
    assert [definition.step(name).action.method for name in "ab"] == ["other", "other@2"]  # type: ignore[union-attr]
    assert definition.participants == frozenset()


def test_compensation_is_as_optional_as_it_says() -> None:
    definition = parse_definition(EVERYTHING)
    assert definition.step("big").is_undo_optional
    assert not definition.step("small").is_undo_optional


def test_order_of_a_block_is_its_own() -> None:
    """A graph around it does not keep a block from running in the order written, nor the other way round."""
    definition = parsed(
        step("a"),
        step("b"),
        {**switch("s", step("x"), step("y")), "after": ["a", "b"]},
        step("z", after=["s"]),
    )
    assert definition.step("b").after == ()
    assert definition.step("y").after == ("x",)


def test_steps_within_a_block_after_the_pivot_need_no_compensation() -> None:
    late = for_each("late", step("inner", late=True))
    assert parsed(step("go", pivot=True), late).is_after_pivot("late[0].inner")
    early = parsed(for_each("early", step("inner")), step("go", pivot=True))
    assert not early.is_after_pivot("early[0].inner")


# Faults.

WAIT = {"name": "a", "await_event": {"event": "paid"}}
ASK = {"name": "a", "approval": {}}


def waiting(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "await_event": {"event": "paid", **fields}}


def asking(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "approval": fields}


def acting(**fields: Any) -> dict[str, Any]:
    return step("a", action={"participant": "p", **fields})


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        # What a step does.
        ({"name": "a"}, "action", "is required: what the step does; or one of delay, until, await_event"),
        ({"name": "a", "delay": "5s", "until": "input.at"}, "until", "cannot stand beside `delay`"),
        ({**ASK, "action": {"participant": "p"}}, "approval", "cannot stand beside `action`; a step does one thing"),
        ({**WAIT, "compensation": {"participant": "p"}}, "compensation", "would never be called, because the step calls nobody"),
        ({"name": "a", "saga": {"definition": "b"}, "compensation": {"participant": "p"}}, "compensation", "never be called"),
        ({**ASK, "pivot": True}, "pivot", "this one has `approval`; mark the step that calls"),
        ({**WAIT, "read_only": True}, "read_only", "this one has `await_event`"),
        ({**for_each("a", step("b")), "irreversible": True}, "irreversible", "this one has `for_each`"),
        ({**switch("a", step("b")), "pivot": True}, "pivot", "this one has `switch`"),
        ({**WAIT, "deadline": "5s"}, "deadline", "waits have a timeout"),
        ({**WAIT, "compensate_on_refusal": True}, "compensate_on_refusal", "needs a compensation"),
        ({**WAIT, "on_failure": "ignore"}, "on_failure", "is `ignore`; it must be compensate or pause or continue"),
        ({**step("b"), "on_failure": "pause"}, "on_failure", "belongs in the action"),
        ({**repeat("a", step("b")), "on_failure": "pause"}, "on_failure", "belongs in the steps of the block"),
        ({**step("b"), "recovery": "sideways"}, "recovery", "it must be backward or forward"),
        ({**step("b"), "when": True}, "when", "must be a string"),
        ({**step("b"), "when": "input.a &&"}, "when", "is not CEL"),
        ({**step("b"), "when": "${input.a} && true"}, "when", "must be one expression"),
        ({**step("b"), "deadline": "5"}, "deadline", "must be a duration"),
        # Calls.
        (acting(outcomes={"OK": "refused"}), "action.outcomes.OK", "is no gRPC status that an error can have"),
        (acting(outcomes={"aborted": "refused"}), "action.outcomes.aborted", "there are: ABORTED"),
        (acting(outcomes={"ABORTED": "pending"}), "action.outcomes.ABORTED", "must be succeeded or refused or unknown"),
        (acting(on_failure="park"), "action.on_failure", "it must be compensate or pause or continue"),
        (acting(participant="@saga"), "action.participant", "is not a name"),
        (step("a", compensation={"participant": "p", "on_failure": "pause"}), "compensation.on_failure", "park or continue"),
        # Waits.
        ({"name": "a", "delay": "0s"}, "delay", "must be between"),
        ({"name": "a", "delay": "7d"}, "delay", "must be a duration in seconds"),
        ({"name": "a", "until": "tomorrow("}, "until", "is not CEL"),
        ({"name": "a", "await_event": "paid"}, "await_event", "must be an object"),
        ({"name": "a", "await_event": {}}, "await_event.event", "is required: the name of the event"),
        (waiting(event="pay ment"), "await_event.event", "is not a name"),
        (waiting(correlation="${input."), "await_event.correlation", "without a closing"),
        (waiting(timeout="5m"), "await_event.timeout", "must be a duration"),
        (waiting(on_timeout="continue"), "await_event.on_timeout", "needs a timeout"),
        (waiting(look_back="5s"), "await_event.look_back", "needs a correlation"),
        (waiting(correlation="x", look_back="604801s"), "await_event.look_back", 'and "604800s"'),
        (waiting(timeout="5s", on_timeout="never"), "await_event.on_timeout", "must be fail or continue"),
        (waiting(correlations="x"), "await_event.correlations", "unknown field; known here: correlation, event"),
        (waiting() | {"if": "true"}, "if", "unknown field; known here: action, after, approval, await_event, compens"),
        (asking(approvers="ann"), "approval.approvers", "must be a list"),
        (asking(approvers=["ann", ""]), "approval.approvers[1]", "must be a name of 1 to 200 characters"),
        (asking(approvers=["ann"] * (APPROVERS_MAX + 1)), "approval.approvers", "lists 101; at most 100"),
        (asking(show="${output}"), "approval.show", "refers to `output`"),
        # Children.
        ({"name": "a", "saga": {}}, "saga.definition", "is required: the name of the definition"),
        ({"name": "a", "saga": {"definition": "Other"}}, "saga.definition", "is not a name"),
        ({"name": "a", "saga": {"definition": "b", "version": -1}}, "saga.version", "must be between 1 and"),
        ({"name": "a", "saga": {"definition": "b", "timeout": "5s"}}, "saga.timeout", "unknown field"),
        # Blocks.
        ({"name": "a", "switch": {}}, "switch.cases", "has 0 cases"),
        ({"name": "a", "switch": {"cases": [{"steps": [step("b")]}]}}, "switch.cases[0].when", "is required"),
        (switch("a"), "switch.cases[0].steps", "has 0 steps"),
        ({"name": "a", "switch": {"cases": [7]}}, "switch.cases[0]", "must be an object"),
        (
            {"name": "a", "switch": {"cases": [{"when": "true", "steps": [step("b")]}], "otherwise": {"when": "true"}}},
            "switch.otherwise.when",
            "unknown field",
        ),
        (switch("a", step("b", pivot=True)), "switch.cases[0].steps", "only a step of the saga itself can be one"),
        (switch("a", step("a")), "switch.cases[0].steps[0].name", "is the name of an earlier step too"),
        (switch("a", step("b", after=["a"])), "switch.cases[0].steps[0].after[0]", "no step is named `a`; there are: b"),
        ({"name": "a", "for_each": {"steps": [step("b")]}}, "for_each.items", "an expression for a list"),
        ({"name": "a", "for_each": {"items": ["x"], "steps": [step("b")]}}, "for_each.items", "must be a string"),
        (for_each("a", step("b"), **{"as": "previous"}), "for_each.as", "cannot name the item"),
        (for_each("a", step("b"), **{"as": "for"}), "for_each.as", "cannot name the item"),
        (for_each("a", step("b"), **{"as": "Line"}), "for_each.as", "it must match"),
        (for_each("a", step("b"), max_parallel=1.5), "for_each.max_parallel", "whole number"),
        (for_each("a", step("b"), max_parallel=-1), "for_each.max_parallel", "between 1 and 10000"),
        ({"name": "a", "repeat": {"max_passes": 3, "steps": [step("b")]}}, "repeat.until", "an expression for a condition"),
        ({"name": "a", "repeat": {"until": "true", "steps": [step("b")]}}, "repeat.max_passes", "is required: 1 to 1000"),
        (repeat("a", step("b"), max_passes=1001), "repeat.max_passes", "between 1 and 1000"),
        (repeat("a", {"name": "b", "action": {"participant": "p"}}), "repeat.steps[0].compensation", "is missing"),
    ],
)  # fmt: skip
def test_fault_says_what_is_wrong_and_where(source: dict[str, Any], path: str, message: str) -> None:
    assert message in faults(source)[f"steps[0].{path}"]


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"max_parallel": -1}, "max_parallel", "between 1 and 10000"),
        ({"output": "${input."}, "output", "without a closing"),
        ({"output": "${item}"}, "output", "refers to `item`; in scope here: input, steps, saga"),
        ({"output": "${steps.c.output}"}, "output", "a step that does not exist, `c`; there are: a"),
        ({"labels": []}, "labels", "must be an object"),
        ({"labels": {"a": 7}}, "labels.a", "must be a string"),
        ({"labels": {"a": "${steps.a.output}"}}, "labels.a", "refers to `steps`; in scope here: input, saga"),
        ({"labels": {"a" * 64: "x"}}, f"labels.{'a' * 64}", "a name of 1 to 63 characters"),
        ({"labels": {f"l{n}": "x" for n in range(LABELS_MAX + 1)}}, "labels", "has 33 labels; at most 32"),
        ({"input_schema": {"type": "strange"}}, "input_schema.type", "is not valid JSON Schema"),
        ({"defaults": {"timeout": "2h"}}, "defaults.timeout", "must be a duration"),
        ({"defaults": {"recovery": "up"}}, "defaults.recovery", "backward or forward"),
        ({"defaults": {"retry": {"max_attempts": 1001}}}, "defaults.retry.max_attempts", "between 1 and 1000"),
        ({"defaults": {"compensation_retry": {"tries": 1}}}, "defaults.compensation_retry.tries", "unknown field"),
        ({"defaults": {"participant": "p"}}, "defaults.participant", "unknown field"),
    ],
)  # fmt: skip
def test_fault_of_the_definition_itself_is_told(fields: dict[str, Any], path: str, message: str) -> None:
    assert message in faults(step("a"), **fields)[path]


def test_ten_faults_are_ten_faults() -> None:
    found = faults(
        {"name": "Nap", "delay": "5s"},
        waiting(event="?"),
        asking(approvers="ann") | {"name": "b"},
        switch("c", reading("item.id", "d"), when="input.a +"),
        for_each("e", {"name": "f", "saga": {"definition": "x", "colour": 1}}, **{"as": "input"}),
        {"name": "g", "repeat": {"until": "number > 1", "steps": [step("h")]}},
        reading("steps.h.output", "i"),
        max_parallel=-7,
    )
    assert found.keys() == {
        "max_parallel",
        "steps[0].name",
        "steps[1].await_event.event",
        "steps[2].approval.approvers",
        "steps[3].switch.cases[0].when",
        "steps[3].switch.cases[0].steps[0].action.input",
        "steps[4].for_each.as",
        "steps[4].for_each.steps[0].saga.colour",
        "steps[5].repeat.max_passes",
        "steps[6].action.input",
    }


# Scopes.

IN_BLOCK = "which runs in a block; read the output of the step whose block that is"
OTHERWISE = {
    "switch": {
        "cases": [{"when": "true", "steps": [step("b")]}],
        "otherwise": {"steps": [reading("steps.b.output")]},
    }
}
UNSURE = "which is not sure to have ended before"


@pytest.mark.parametrize(
    "steps",
    [
        [step("a"), switch("s", reading("steps.a.output"))],
        [step("a"), for_each("l", step("b"), reading("[steps.a.output, steps.b.output, item, index]"))],
        [step("a"), repeat("r", reading("[steps.a.status, previous, number]"))],
        [step("a"), for_each("l", switch("s", repeat("r", reading("[steps.a.output, item, number]"))))],
        [for_each("l", step("b"), output="${steps.b.output.id + item.id}"), reading("steps.l.output")],
        [repeat("r", step("b"), until="steps.b.output.done && number > 2 && previous == null")],
        [for_each("outer", for_each("inner", reading("[line, part]"), **{"as": "part"}), **{"as": "line"})],
        [
            for_each(
                "l", step("b", compensation={"participant": "p", "input": "${[item, output, failure.code]}"})
            )
        ],
        [for_each("l", step("b", when="index > 0 && item.wanted"))],
        [for_each("l", {"name": "w", "await_event": {"event": "e", "correlation": "${item.id}-${index}"}})],
        [for_each("l", step("b", when="item.parts.exists(part, part.id == index)"))],
    ],
)
def test_what_is_in_scope_can_be_read(steps: list[Any]) -> None:
    assert len(parsed(*steps).steps) == len(steps)


@pytest.mark.parametrize(
    ("steps", "path", "message"),
    [
        ([switch("s", step("b")), reading("steps.b.output")], "steps[1].action.input", f"`b`, {IN_BLOCK}"),
        ([switch("s", step("b")), for_each("l", step("c"), output="${steps.b.output}")], "steps[1].for_each.output", IN_BLOCK),
        ([switch("s", reading("steps.s.output"))], "steps[0].switch.cases[0].steps[0].action.input", UNSURE),
        ([switch("s", reading("steps.z.output")), step("z")], "steps[0].switch.cases[0].steps[0].action.input", UNSURE),
        ([switch("s", reading("steps.c.output"), step("c"))], "steps[0].switch.cases[0].steps[0].action.input", UNSURE),
        ([for_each("l", step("b")), reading("item")], "steps[1].action.input", "`item`; in scope here: input, steps, saga"),
        ([for_each("l", reading("item"), **{"as": "line"})], "steps[0].for_each.steps[0].action.input", "index, line"),
        ([for_each("l", step("b"), items="item")], "steps[0].for_each.items", "refers to `item`"),
        ([for_each("l", step("b"), items="steps.b.output")], "steps[0].for_each.items", IN_BLOCK),
        ([repeat("r", step("b")), reading("number")], "steps[1].action.input", "refers to `number`"),
        ([switch("s", reading("number"))], "steps[0].switch.cases[0].steps[0].action.input", "refers to `number`"),
        ([switch("s", step("b"), when="steps.b.output.x")], "steps[0].switch.cases[0].when", IN_BLOCK),
        ([switch("s", step("b"), output="${steps.s.status}")], "steps[0].switch.cases[0].output", UNSURE),
        ([step("a", when="output")], "steps[0].when", "refers to `output`"),
        ([for_each("l", step("b", when="failure.code"))], "steps[0].for_each.steps[0].when", "refers to `failure`"),
        ([{"name": "w", "until": "steps.w.output"}], "steps[0].until", UNSURE),
        ([{"name": "w", "saga": {"definition": "d", "input": "${steps.w.output}"}}], "steps[0].saga.input", UNSURE),
        (
            [OTHERWISE | {"name": "s"}],
            "steps[0].switch.otherwise.steps[0].action.input",
            f"`b`, {IN_BLOCK}",
        ),
    ],
)  # fmt: skip
def test_what_is_out_of_scope_is_told_with_what_can_be_read(
    steps: list[Any], path: str, message: str
) -> None:
    assert message in faults(*steps)[path]


# Limits.


def nested(levels: int) -> dict[str, Any]:
    inner = step("s0")
    for level in range(1, levels + 1):
        inner = (switch, for_each, repeat)[level % 3](f"s{level}", inner)
    return inner


def test_blocks_are_nested_and_not_endlessly() -> None:
    deepest = DEFAULT_LIMITS.block_nesting
    assert len(list(all_steps(parsed(nested(deepest)).block))) == deepest + 1
    for levels in (deepest + 1, 300):
        [(path, description)] = faults(nested(levels)).items()
        assert path.endswith("steps")
        assert "is nested deeper than 8 blocks; make the inner part a saga of its own" in description


def test_steps_in_blocks_count_towards_the_limit() -> None:
    full = [
        for_each(f"l{n}", *(step(f"l{n}_{m}") for m in range(19))) for n in range(DEFAULT_LIMITS.steps // 20)
    ]
    assert len(parsed(*full).steps) == DEFAULT_LIMITS.steps // 20
    found = faults(*full, step("more"))
    assert found == {"steps": "has 201 steps with those in blocks; a definition has at most 200"}
