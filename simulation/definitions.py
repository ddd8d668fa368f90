"""Definitions made up at random: linear and not, with and without a pivot, patient and impatient."""

from __future__ import annotations

import random
from typing import Any

from simulation.participants import GUARDED, UNGUARDED


def random_definition(name: str, dice: random.Random) -> dict[str, Any]:
    """The canonical JSON form of a definition, valid whatever the dice say."""
    count = dice.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6))
    names = [f"s{index}" for index in range(count)]
    pivot = dice.randrange(count) if dice.random() < 0.45 else None
    after = _order(names, pivot, dice)
    if all(not others for others in after.values()) and count > 1:
        after = {step: names[index - 1 : index] for index, step in enumerate(names)}
        is_written_out = False
    else:
        is_written_out = True
    steps = []
    for index, step in enumerate(names):
        is_late = pivot is not None and index > pivot
        steps.append(_step(step, after, dice, is_pivot=index == pivot, is_late=is_late))
        if is_written_out and after[step]:
            steps[-1]["after"] = after[step]
    definition: dict[str, Any] = {"name": name, "steps": steps}
    if dice.random() < 0.35:
        definition["deadline"] = f"{dice.choice((0.5, 2, 5, 12, 40))}s"
    return definition


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
    name: str, after: dict[str, list[str]], dice: random.Random, *, is_pivot: bool, is_late: bool
) -> dict[str, Any]:
    given: dict[str, Any] = {"n": "${input.n}"}
    if after[name]:
        given["ref"] = f"${{steps.{dice.choice(after[name])}.output.ref}}"
    if dice.random() < 0.1:
        given["maybe"] = "${input.maybe}"
    participant = dice.choice(GUARDED) if dice.random() < 0.8 else dice.choice(UNGUARDED)
    step: dict[str, Any] = {"name": name, "action": _operation(participant, given, dice, patience=1)}
    if is_pivot:
        step["pivot"] = True
    kind = dice.random()
    if kind < 0.1:
        step["read_only"] = True
    elif kind < 0.2:
        step["irreversible"] = True
    elif not is_pivot and not is_late:
        undo: dict[str, Any] = {"ref": "${output.ref}", "why": "${failure.code}"}
        if dice.random() < 0.05:
            undo["maybe"] = "${input.maybe}"
        step["compensation"] = _operation(participant, undo, dice, patience=3)
        step["compensate_on_refusal"] = dice.random() < 0.1
    return step


def _operation(participant: str, given: dict[str, Any], dice: random.Random, patience: int) -> dict[str, Any]:
    initial = dice.choice((0.01, 0.1, 0.1, 1, 8))
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
    }
