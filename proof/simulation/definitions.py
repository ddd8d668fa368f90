"""Definitions made up at random: linear and not, with and without a pivot, patient and impatient; half of them flat.

The others have conditions, branches, loops, delays, waits for events and people, and sagas within sagas.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from proof.simulation.conditions import ANYWHERE, IN_FOR_EACH, UNTILS
from proof.simulation.directory import GUARDED, STATUS_METHOD, UNGUARDED, WORKER_METHODS, WORKERS

EVENTS = ("paid", "packed")
APPROVERS = ("ann", "bob")
SAID = "for ${input.obj} of ${input.id}"
"""What a text says of a payload depends on the order of its keys and the form of its numbers, which Postgres does not keep."""
OBJ = {"zeta": 1.0, "longer": 2.5, "b": 1e23}
ID = 1234567890123456789.0
SAYS = 'for {"b":1e+23,"longer":2.5,"zeta":1} of 1234567890123456800'

_DEPTH_MAX = 2


@dataclass(frozen=True, slots=True)
class Focus:
    """What a batch is mostly about, where a rare fault is sought.

    `kinds` of steps are most of them, calls go to `participants`, and a saga shares its order with the one before with the
    probability `sharing`. As many of the calls are `pending` as that says, or as the climate has it.
    """

    kinds: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    sharing: float = 0.15
    pending: float | None = None


_EVERYTHING = Focus()


@dataclass(slots=True)
class _Sketch:
    """A definition in the making. `children` may be run as sagas of their own; steps are mostly of the `focus`."""

    dice: random.Random
    children: Sequence[str] = ()
    is_flat: bool = True
    focus: Focus = _EVERYTHING
    names: int = 0
    plain: set[str] = field(default_factory=set)
    """Steps that are sure to have an output once they are over."""

    def name(self) -> str:
        self.names += 1
        return f"s{self.names - 1}"


def random_definition(
    name: str, dice: random.Random, children: Sequence[str] = (), focus: Focus = _EVERYTHING
) -> dict[str, Any]:
    """The canonical JSON form of a definition, valid whatever the dice say."""
    sketch = _Sketch(dice, children, is_flat=dice.random() < 0.5 and not focus.kinds, focus=focus)
    count = dice.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6))
    pivot = dice.randrange(count) if dice.random() < 0.45 else None
    definition: dict[str, Any] = {
        "name": name,
        "steps": _steps(sketch, count, pivot=pivot, is_late=False, depth=0, variables=()),
        "output": {"ref": "${saga.id}", "n": "${input.n}"},
        "labels": {"order": "${input.order}"},
    }
    if dice.random() < 0.35:
        definition["deadline"] = f"{dice.choice((0.5, 2, 5, 12, 40))}s"
    if dice.random() < 0.2:
        definition["max_parallel"] = dice.choice((1, 1, 2, 3))
    return definition


def _steps(
    sketch: _Sketch, count: int, *, pivot: int | None, is_late: bool, depth: int, variables: tuple[str, ...]
) -> list[dict[str, Any]]:
    dice = sketch.dice
    names = [sketch.name() for _ in range(count)]
    after = _order(names, pivot, dice)
    is_written_out = any(after.values())
    if not is_written_out:
        after = {step: names[max(0, index - 1) : index] for index, step in enumerate(names)}
    steps = []
    for index, name in enumerate(names):
        is_after_pivot = is_late or (pivot is not None and index > pivot)
        step = _step(
            sketch,
            name,
            [other for other in after[name] if other in sketch.plain],
            is_pivot=index == pivot,
            is_late=is_after_pivot,
            depth=depth,
            variables=variables,
        )
        if is_written_out and after[name]:
            step["after"] = after[name]
        steps.append(step)
    return steps


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
            after[step] = sorted(dice.sample(names[:index], dice.randint(0, min(index, 2))))
    return after


def _step(
    sketch: _Sketch,
    name: str,
    readable: list[str],
    *,
    is_pivot: bool,
    is_late: bool,
    depth: int,
    variables: tuple[str, ...],
) -> dict[str, Any]:
    dice = sketch.dice
    kind = "call"
    if not sketch.is_flat:
        kinds = ["call"] * 6 + ["saga"] * 2 * bool(sketch.children)
        if not is_pivot:
            kinds += ["delay", "event", "approval"]
            if depth < _DEPTH_MAX:
                kinds += ["switch", "for_each", "repeat"]
        kind = dice.choice(kinds)
        if sought := [each for each in sketch.focus.kinds if each in kinds]:
            kind = dice.choice((kind, *sought * 2))
    match kind:
        case "call":
            step = _call(sketch, name, readable, is_pivot=is_pivot, is_late=is_late, variables=variables)
        case "saga":
            step = _child(sketch, name, is_pivot=is_pivot)
        case "delay" | "event" | "approval":
            step = {"name": name, **_wait(kind, dice)}
        case _:
            step = {
                "name": name,
                kind: _blocks(sketch, kind, is_late=is_late, depth=depth + 1, outer=variables),
            }
    if not sketch.is_flat and not is_pivot and dice.random() < 0.15:
        step["when"] = _condition(dice, variables)
    goes_on = ("action" in step and "on_failure" in step["action"]) or "on_failure" in step
    if kind in ("call", "saga") and "when" not in step and not goes_on:
        sketch.plain.add(name)
    return step


def _condition(dice: random.Random, variables: tuple[str, ...]) -> str:
    if "index" in variables and dice.random() < 0.6:
        return dice.choice(IN_FOR_EACH)
    return dice.choice(ANYWHERE[:3] if dice.random() < 0.95 else ANYWHERE)


# Calls and children.


def _call(
    sketch: _Sketch,
    name: str,
    readable: list[str],
    *,
    is_pivot: bool,
    is_late: bool,
    variables: tuple[str, ...],
) -> dict[str, Any]:
    dice = sketch.dice
    given: dict[str, Any] = {"n": "${input.n}", "said": SAID}
    if readable:
        given["ref"] = f"${{steps.{dice.choice(readable)}.output.ref}}"
    for variable in variables:
        given[variable] = f"${{{variable}}}"
    if dice.random() < 0.1:
        given["maybe"] = "${input.maybe}"
    participant = dice.choice(GUARDED) if dice.random() < 0.8 else dice.choice(UNGUARDED)
    if sketch.focus.participants:
        participant = dice.choice(sketch.focus.participants)
    step: dict[str, Any] = {"name": name, "action": _operation(participant, given, dice, patience=1)}
    if is_pivot:
        step["pivot"] = True
    kind = dice.random()
    if kind < 0.1:
        step["read_only"] = True
    elif kind < 0.2:
        step["irreversible"] = True
    elif not is_pivot and not is_late:
        undo: dict[str, Any] = {"ref": "${output.ref}", "why": "${failure.code}", "said": SAID}
        if dice.random() < 0.05:
            undo["maybe"] = "${input.maybe}"
        step["compensation"] = _operation(participant, undo, dice, patience=3)
        step["compensate_on_refusal"] = dice.random() < 0.1
        if not sketch.is_flat and dice.random() < 0.1:
            step["compensation"]["on_failure"] = "continue"
    if not sketch.is_flat and not is_pivot and dice.random() < 0.15:
        step["action"]["on_failure"] = dice.choice(("continue", "continue", "pause"))
    if not sketch.is_flat and dice.random() < 0.1:
        step["deadline"] = f"{dice.choice((0.3, 1, 3, 8))}s"
    return step


def _operation(participant: str, given: dict[str, Any], dice: random.Random, patience: int) -> dict[str, Any]:
    initial = dice.choice((0.01, 0.1, 0.1, 1, 8))
    more: dict[str, Any] = {}
    if participant in WORKERS:
        more["method"] = dice.choice(WORKER_METHODS)
    if dice.random() < 0.2:
        more["status"] = {"method": STATUS_METHOD, "interval": f"{dice.choice((1, 3))}s"}
    if dice.random() < 0.3:
        more["pending_timeout"] = f"{dice.choice((4, 15, 15))}s"
        more["heartbeat_timeout"] = f"{dice.choice((1, 3, 8))}s"
    return {
        "participant": participant,
        "input": given,
        "timeout": f"{dice.choice((0.05, 0.2, 0.5, 1, 3))}s",
        "pending_timeout": f"{dice.choice((0.1, 1, 4, 15))}s",
        "retry": {
            "max_attempts": patience * dice.choice((1, 2, 3, 5)),
            "initial_backoff": f"{initial}s",
            "max_backoff": f"{max(initial, dice.choice((0.5, 2, 12)))}s",
        },
        **more,
    }


def _child(sketch: _Sketch, name: str, *, is_pivot: bool) -> dict[str, Any]:
    dice = sketch.dice
    step: dict[str, Any] = {
        "name": name,
        "saga": {"definition": dice.choice(sketch.children), "input": "${input}"},
    }
    if is_pivot:
        step["pivot"] = True
    elif dice.random() < 0.1:
        step[dice.choice(("read_only", "irreversible"))] = True
    if not is_pivot and dice.random() < 0.1:
        step["on_failure"] = "continue"
    if dice.random() < 0.2:
        step["deadline"] = f"{dice.choice((1, 3, 8))}s"
    return step


# Waits.


def _wait(kind: str, dice: random.Random) -> dict[str, Any]:
    if kind == "delay":
        if dice.random() < 0.2:
            return {"until": "input.at"}
        return {"delay": f"{dice.choice((0.05, 0.5, 2, 7))}s"}
    wait: dict[str, Any] = {}
    if dice.random() < 0.6:
        wait["timeout"] = f"{dice.choice((0.5, 2, 8, 8, 40, 40))}s"
        wait["on_timeout"] = dice.choice(("fail", "continue"))
    if kind == "approval":
        if dice.random() < 0.7:
            wait["approvers"] = list(APPROVERS)
        return {"approval": {**wait, "show": {"n": "${input.n}"}}}
    wait["event"] = dice.choice(EVENTS)
    if dice.random() < 0.8:
        wait["correlation"] = "${input.order}"
        if dice.random() < 0.4:
            wait["look_back"] = dice.choice(("2s", "60s"))
    return {"await_event": wait}


# Blocks.


def _blocks(
    sketch: _Sketch, kind: str, *, is_late: bool, depth: int, outer: tuple[str, ...]
) -> dict[str, Any]:
    dice = sketch.dice

    def block(variables: tuple[str, ...]) -> dict[str, Any]:
        count = dice.choice((1, 1, 2, 2, 3))
        steps = _steps(sketch, count, pivot=None, is_late=is_late, depth=depth, variables=variables)
        sketch.plain -= {step["name"] for step in steps}  # from outside of the block they cannot be read
        return {"steps": steps}

    if kind == "switch":
        count = dice.choice((1, 1, 2))
        cases = [{"when": _condition(dice, outer), **block(outer)} for _ in range(count)]
        return {"cases": cases, **({"otherwise": block(outer)} if dice.random() < 0.6 else {})}
    if kind == "for_each":
        # An inner loop's item hides the outer one's, so each loop shows its own variables only.
        loop: dict[str, Any] = {"items": "input.items", **block(("item", "index"))}
        if dice.random() < 0.5:
            loop["max_parallel"] = dice.choice((1, 2))
        return loop
    until = dice.choice(UNTILS)
    return {"until": until, "max_passes": 3, **block(("number",))}
