"""Definitions to test with: short to write down, and random ones."""

from __future__ import annotations

from random import Random
from typing import Any

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.parsing import parse_definition


def step(name: str, **fields: Any) -> dict[str, Any]:
    """A step of participant `p`; it has a compensation unless a field says why not."""
    source: dict[str, Any] = {"name": name, "action": {"participant": "p"}, **fields}
    if not any(source.get(excuse) for excuse in ("pivot", "read_only", "irreversible", "late")):
        source.setdefault("compensation", {"participant": "p"})
    source.pop("late", None)
    return source


def definition(*steps: dict[str, Any], **fields: Any) -> Definition:
    return parse_definition({"name": "order", "steps": list(steps), **fields})


COMPENSATION_INPUTS = [None, None, None, "${output.id}", "${output.id}", "${failure.code}", "${output.gone}"]
"""The last one cannot be computed once the output is known."""


def random_source(random: Random) -> dict[str, Any]:
    """A valid definition in its JSON form: linear or not, with small budgets and short times."""
    count = random.choice([1, 2, 2, 3, 3, 4, 5])
    pivot = random.randrange(count) if random.random() < 0.45 else None
    is_linear = random.random() < 0.4
    steps = []
    ancestors: list[set[int]] = []
    for index in range(count):
        if is_linear:
            after = [index - 1] if index else []
        elif pivot is not None and index >= pivot:
            after = list(range(index)) if index == pivot else sorted({pivot, *_some(random, index)})
        else:
            after = _some(random, index)
        ancestors.append(set(after).union(*(ancestors[other] for other in after)))
        steps.append(_step(random, index, after, ancestors[index], pivot, is_linear=is_linear))
    source: dict[str, Any] = {"name": "random", "steps": steps}
    if random.random() < 0.35:
        source["deadline"] = f"{random.randint(1, 30)}s"
    return source


def _some(random: Random, below: int) -> list[int]:
    return [other for other in range(below) if random.random() < 0.5]


def _step(
    random: Random, index: int, after: list[int], ancestors: set[int], pivot: int | None, *, is_linear: bool
) -> dict[str, Any]:
    source: dict[str, Any] = {
        "name": f"s{index}",
        "action": random_operation(random, _action_input(random, ancestors)),
    }
    if not is_linear:
        source["after"] = [f"s{other}" for other in after]
    if index == pivot:
        source["pivot"] = True
    elif pivot is not None and pivot in ancestors:
        source["read_only"] = random.random() < 0.2
    else:
        excuse = random.choice([None] * 5 + ["read_only", "irreversible"])
        if excuse:
            source[excuse] = True
        else:
            source["compensation"] = random_operation(random, random.choice(COMPENSATION_INPUTS))
            source["compensate_on_refusal"] = random.random() < 0.15
    return source


def _action_input(random: Random, ancestors: set[int]) -> Any:
    if ancestors and random.random() < 0.5:
        return {"id": f"${{steps.s{random.choice(sorted(ancestors))}.output.id}}"}
    return random.choice(
        [None, None, {"n": "${input.n}"}] + [{"gone": "${input.gone}"}] * (random.random() < 0.1)
    )


def random_operation(random: Random, payload: Any) -> dict[str, Any]:
    source: dict[str, Any] = {
        "participant": "p",
        "timeout": f"{random.choice([1, 2, 4])}s",
        "pending_timeout": f"{random.choice([3, 8])}s",
        "retry": {
            "max_attempts": random.randint(1, 3),
            "initial_backoff": "0.5s",
            "max_backoff": random.choice(["1s", "4s"]),
        },
    }
    if payload is not None:
        source["input"] = payload
    return source
