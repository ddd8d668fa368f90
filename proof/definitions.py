"""Definitions made up at random: linear and not, with and without a pivot, patient and impatient; half of them flat.

The others have conditions, branches, loops, delays, waits for events and people, and sagas within sagas. Whoever plays them says
by a `Taste` whom they call and how; their inputs are made here too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proof.conditions import ANYWHERE, IN_FOR_EACH, UNTILS

EVENTS = ("paid", "packed")
APPROVERS = ("ann", "bob")
SAID = "for ${input.obj} of ${input.id}"
"""What a text says of a payload depends on the order of its keys and the form of its numbers, which Postgres does not keep."""
OBJ = {"zeta": 1.0, "longer": 2.5, "b": 1e23}
ID = 1234567890123456789.0
SAYS = 'for {"b":1e+23,"longer":2.5,"zeta":1} of 1234567890123456800'

_DEPTH_MAX = 2


@dataclass(frozen=True, slots=True)
class Taste:
    """How those who play the definitions want them.

    `operation` writes one down, for a participant, with an input, by somebody so patient. `deadlines` are of sagas, in seconds.
    No block begins behind `steps_max` steps, and so many of the definitions as `flat_share` says have none at all.
    As many as `limited_share` says have few operations under way at once.
    """

    operation: Callable[[random.Random, str, Any, int], dict[str, Any]]
    participant: Callable[[random.Random], str]
    deadlines: Sequence[float]
    correlations: Sequence[str] = ("${input.order}",)
    steps_max: int = 1000
    flat_share: float = 0.5
    limited_share: float = 0.3
    looks_back: bool = False
    """Whether steps read what became of earlier ones whose failure does not matter."""


@dataclass(frozen=True, slots=True)
class Focus:
    """What many definitions are mostly about, where a rare fault is sought.

    `kinds` of steps are most of them, calls go to `participants`, and a saga shares its order with the one before with the
    probability `sharing`. As many of the calls are `pending` as that says, or as the climate has it.
    """

    kinds: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    sharing: float = 0.15
    pending: float | None = None


EVERYTHING = Focus()


@dataclass(slots=True)
class _Sketch:
    """A definition in the making. `children` may be run as sagas of their own; steps are mostly of the `focus`."""

    dice: random.Random
    taste: Taste
    children: Sequence[str] = ()
    is_flat: bool = True
    focus: Focus = EVERYTHING
    names: int = 0
    plain: set[str] = field(default_factory=set)
    """Steps that are sure to have an output once they are over."""

    def name(self) -> str:
        self.names += 1
        return f"s{self.names - 1}"


def random_input(
    number: int, dice: random.Random, *, begins_at: float, sharing: float = 0.0
) -> dict[str, Any]:
    """What a saga of any of the definitions is started with."""
    given: dict[str, Any] = {
        "n": number,
        "flag": dice.random() < 0.5,
        "items": ["a", "b", "c", "d"][: dice.choice((0, 1, 2, 3, 4))],
        "order": f"order-{number - (dice.random() < sharing)}",
        "at": begins_at + dice.uniform(0, 20),
        "obj": OBJ,
        "id": ID,
    }
    return {**given, "maybe": "yes"} if dice.random() < 0.9 else given


def random_definition(
    name: str, dice: random.Random, taste: Taste, children: Sequence[str] = (), focus: Focus = EVERYTHING
) -> dict[str, Any]:
    """The canonical JSON form of a definition, valid whatever the dice say."""
    is_flat = dice.random() < taste.flat_share and not focus.kinds
    sketch = _Sketch(dice, taste, children, is_flat=is_flat, focus=focus)
    count = dice.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6))
    pivot = dice.randrange(count) if dice.random() < 0.45 else None
    definition: dict[str, Any] = {
        "name": name,
        "steps": _steps(sketch, count, _Spot(), pivot),
        "output": {"ref": "${saga.id}", "n": "${input.n}"},
        "labels": {"order": "${input.order}"},
    }
    if dice.random() < 0.35:
        definition["deadline"] = f"{dice.choice(taste.deadlines)}s"
    if dice.random() < taste.limited_share:
        definition["max_parallel"] = dice.choice((1, 1, 2, 3))
    return definition


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where in a definition a step stands. It may read the outputs of the steps `readable`, and the loops' `variables`."""

    depth: int = 0
    variables: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    is_pivot: bool = False
    is_late: bool = False


def _steps(sketch: _Sketch, count: int, spot: _Spot, pivot: int | None = None) -> list[dict[str, Any]]:
    dice = sketch.dice
    names = [sketch.name() for _ in range(count)]
    after = _order(names, pivot, dice)
    is_written_out = any(after.values())
    if not is_written_out:
        after = {step: names[max(0, index - 1) : index] for index, step in enumerate(names)}
    steps: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        is_late = spot.is_late or (pivot is not None and index > pivot)
        readable = tuple(other for other in after[name] if other in sketch.plain)
        here = replace(spot, readable=readable, is_pivot=index == pivot, is_late=is_late)
        step = _step(sketch, name, here)
        if is_written_out and after[name]:
            step["after"] = after[name]
        elif sketch.taste.looks_back and "action" in step and not (is_written_out or here.is_pivot):
            _look_back(dice, step, [each["name"] for each in steps if _goes_on(each)])
        steps.append(step)
    return steps


def _goes_on(step: dict[str, Any]) -> bool:
    return "continue" in (step.get("on_failure"), step.get("action", {}).get("on_failure"))


def _look_back(dice: random.Random, step: dict[str, Any], ignored: list[str]) -> None:
    """Lets the step depend on what became of one whose failure does not matter."""
    if not ignored:
        return
    name = dice.choice(ignored)
    match dice.randrange(4):
        case 0:
            step["when"] = f"steps.{name}.status == 'FAILED'"
        case 1:
            step["action"]["input"] = {"seen": f"${{steps.{name}.output}}"}
        case 2 if "compensation" in step:
            step["compensation"]["input"] = {"seen": f"${{steps.{name}.output}}"}
        case _:
            pass


def _order(names: list[str], pivot: int | None, dice: random.Random) -> dict[str, list[str]]:
    """Each step's direct dependencies; everything is before or after the pivot."""
    if dice.random() < 0.5:
        return {step: [] for step in names}
    after: dict[str, list[str]] = {}
    for index, step in enumerate(names):
        if pivot is not None and index == pivot:
            after[step] = names[:index]
        elif pivot is not None and index > pivot:
            earlier = names[pivot:index]
            after[step] = sorted({names[pivot], dice.choice(earlier)})
        else:
            after[step] = sorted(dice.sample(names[:index], min(index, dice.choice((0, 0, 1, 2)))))
    return after


def _step(sketch: _Sketch, name: str, spot: _Spot) -> dict[str, Any]:
    dice = sketch.dice
    kind = "call"
    if not sketch.is_flat:
        kinds = ["call"] * 6 + ["saga"] * 2 * bool(sketch.children)
        if not spot.is_pivot:
            kinds += ["delay", "event", "approval"]
            if spot.depth < _DEPTH_MAX and sketch.names < sketch.taste.steps_max:
                kinds += ["switch", "for_each", "repeat"]
        kind = dice.choice(kinds)
        if sought := [each for each in sketch.focus.kinds if each in kinds]:
            kind = dice.choice((kind, *sought * 2))
    match kind:
        case "call":
            step = _call(sketch, spot)
        case "saga":
            step = _child(sketch, spot)
        case "delay" | "event" | "approval":
            step = _wait(sketch, kind, spot)
        case _:
            step = {kind: _blocks(sketch, kind, replace(spot, depth=spot.depth + 1, is_pivot=False))}
    if not sketch.is_flat and not spot.is_pivot and dice.random() < 0.15:
        step["when"] = _condition(dice, spot.variables)
    if kind in ("call", "saga") and "when" not in step and not _goes_on(step):
        sketch.plain.add(name)
    return {"name": name, **step}


def _condition(dice: random.Random, variables: tuple[str, ...]) -> str:
    if "index" in variables and dice.random() < 0.6:
        return dice.choice(IN_FOR_EACH)
    return dice.choice(ANYWHERE[:3] if dice.random() < 0.95 else ANYWHERE)


# Calls and children.


def _call(sketch: _Sketch, spot: _Spot) -> dict[str, Any]:
    dice = sketch.dice
    given: dict[str, Any] = {"n": "${input.n}", "said": SAID}
    if spot.readable:
        given["ref"] = f"${{steps.{dice.choice(spot.readable)}.output.ref}}"
    given |= {variable: f"${{{variable}}}" for variable in spot.variables}
    participant = dice.choice(sketch.focus.participants or (sketch.taste.participant(dice),))
    step: dict[str, Any] = {"action": _operation(sketch, participant, given, 1)}
    if spot.is_pivot:
        step["pivot"] = True
    kind = dice.random()
    if kind < 0.3:
        step["read_only" if kind < 0.15 else "irreversible"] = True
    elif not spot.is_pivot and not spot.is_late:
        undo = {"ref": "${output.ref}", "why": "${failure.code}", "said": SAID}
        step["compensation"] = _operation(sketch, participant, undo, 3)
        step["compensate_on_refusal"] = dice.random() < 0.1
        if not sketch.is_flat and dice.random() < 0.2:
            step["compensation"]["on_failure"] = "continue"
    if not sketch.is_flat:
        _fail_otherwise(dice, step, is_pivot=spot.is_pivot)
    return step


def _operation(sketch: _Sketch, participant: str, given: dict[str, Any], patience: int) -> dict[str, Any]:
    """Sometimes it is handed what there is, and sometimes what may not be there."""
    chance = sketch.dice.random()
    if chance < 0.1:
        given = {**given, "maybe": "${input.maybe}"}
    return sketch.taste.operation(sketch.dice, participant, None if chance > 0.9 else given, patience)


def _fail_otherwise(dice: random.Random, step: dict[str, Any], *, is_pivot: bool) -> None:
    if not is_pivot and dice.random() < 0.15:
        step["action"]["on_failure"] = dice.choice(("continue", "continue", "pause"))
    elif not is_pivot and dice.random() < 0.05:
        step["recovery"] = "forward"
    if dice.random() < 0.1:
        step["deadline"] = f"{dice.choice((0.3, 1, 3, 8))}s"


def _child(sketch: _Sketch, spot: _Spot) -> dict[str, Any]:
    dice = sketch.dice
    step: dict[str, Any] = {"saga": {"definition": dice.choice(sketch.children), "input": "${input}"}}
    if spot.is_pivot:
        step["pivot"] = True
    elif dice.random() < 0.1:
        step[dice.choice(("read_only", "irreversible"))] = True
    if not spot.is_pivot and dice.random() < 0.1:
        step["on_failure"] = "continue"
    if dice.random() < 0.2:
        step["deadline"] = f"{dice.choice((1, 3, 8))}s"
    return step


# Waits.


def _wait(sketch: _Sketch, kind: str, spot: _Spot) -> dict[str, Any]:
    dice = sketch.dice
    if kind == "delay":
        if dice.random() < 0.2:
            return {"until": "input.at"}
        return {"delay": f"{dice.choice((0.05, 0.5, 2, 7))}s"}
    wait: dict[str, Any] = {}
    failing = {"on_failure": dice.choice(("continue", "pause"))} if dice.random() < 0.3 else {}
    if dice.random() < 0.6:
        wait["timeout"] = f"{dice.choice((0.5, 2, 8, 8, 40, 40))}s"
        wait["on_timeout"] = dice.choice(("fail", "continue"))
    if kind == "approval":
        if dice.random() < 0.7:
            wait["approvers"] = list(APPROVERS)
        return {"approval": {**wait, "show": {"n": "${input.n}"}}, **failing}
    wait["event"] = dice.choice(EVENTS)
    if dice.random() < 0.8:
        has_index = "index" in spot.variables
        texts = [each for each in sketch.taste.correlations if has_index or "index" not in each]
        wait["correlation"] = dice.choice(texts)
        if dice.random() < 0.4:
            wait["look_back"] = dice.choice(("2s", "60s"))
    return {"await_event": wait, **failing}


# Blocks.


def _blocks(sketch: _Sketch, kind: str, spot: _Spot) -> dict[str, Any]:
    dice = sketch.dice

    def block(*variables: str) -> dict[str, Any]:
        """An inner loop's item hides the outer one's, so each loop shows its own variables only."""
        inside = replace(spot, variables=variables or spot.variables)
        steps = _steps(sketch, dice.choice((1, 1, 2, 2, 3)), inside)
        sketch.plain -= {step["name"] for step in steps}  # from outside of the block they cannot be read
        return {"steps": steps}

    if kind == "switch":
        cases = [{"when": _condition(dice, spot.variables), **block()} for _ in range(dice.choice((1, 1, 2)))]
        return {"cases": cases, **({"otherwise": block()} if dice.random() < 0.6 else {})}
    if kind == "for_each":
        limit = {"max_parallel": dice.choice((1, 2))} if dice.random() < 0.5 else {}
        return {"items": "input.items", **block("item", "index"), **limit}
    return {"until": dice.choice(UNTILS), "max_passes": 3, **block("number")}
