"""Writes `did you mean` into the core's messages. The budget of work pays for the search for the name."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from saga_coordinator.nearest import CHARACTERS_MAX, NAMES_MAX, suggestion
from saga_coordinator.saga.words.work import spend

_NAME_PRICE = 20
_PAIRS_PER_UNIT = 13
"""The units of work for comparing with one name, and the number of pairs of characters that are compared for one more unit."""


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the end of a message, if one of `known` is like `written`; else an empty text."""
    names = list(islice(known, NAMES_MAX))
    characters = min(len(written), CHARACTERS_MAX)
    spend(sum(_NAME_PRICE + characters * len(name) // _PAIRS_PER_UNIT for name in names))
    return suggestion(written, names)
