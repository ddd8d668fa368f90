"""Definitions to test the core with: short to write down, and random ones with small budgets and short times."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from proof.definitions import Focus, Taste, random_definition
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


def _operation(dice: Random, participant: str, given: Any, patience: int) -> dict[str, Any]:
    retry = {
        "max_attempts": dice.randint(1, 3),
        "initial_backoff": "0.5s",
        "max_backoff": dice.choice(("1s", "4s")),
    }
    state: Any = dice.getstate()  # a number, where hypothesis draws
    seed = sum(state[1][-3:]) if isinstance(state, tuple) else state
    aside = Random(seed)  # so that the other stories of a seed stay what they were
    if aside.random() < 0.03:
        retry = {"max_attempts": retry["max_attempts"], "pauses": ["1s", "3s"][: aside.randint(1, 2)]}
    if aside.random() < 0.03:
        retry["retry_on"] = aside.sample(
            ["DEADLINE_EXCEEDED", "PENDING_TIMEOUT", "UNAVAILABLE", "UNKNOWN"], 2
        )
    return {
        "participant": participant,
        "timeout": f"{dice.choice((1, 2, 4))}s",
        "pending_timeout": f"{dice.choice((1, 3, 8))}s",
        "retry": retry,
        **({} if given is None else {"input": given}),
    }


TASTE = Taste(
    _operation,
    lambda _: "p",
    deadlines=(1, 2, 4, 8, 12, 20, 30),
    correlations=("${input.order}", "order-2", "item-${index}"),
    steps_max=7,
    limited_share=0.5,
    looks_back=True,
)


def random_source(random: Random, *, flat_share: float = 0.5, about: tuple[str, ...] = ()) -> dict[str, Any]:
    """A valid definition in its JSON form, most of it steps of the kinds that it is `about`.

    So many of all as `flat_share` says have neither blocks nor waits nor children.
    """
    taste = replace(TASTE, flat_share=flat_share)
    return random_definition("random", random, taste, ("child",), Focus(about))
