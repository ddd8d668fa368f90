"""The name that somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from saga_coordinator.saga.words.work import spend

_CHARACTERS_MAX = 100
_NAMES_MAX = 200
"""More of either would cost time for names that nobody mistyped."""
_NAME_PRICE = 20
_PAIRS_PER_UNIT = 13
"""Units of work for comparing with one name, and pairs of characters that are looked at for one more."""


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the end of a message, where one of `known` is close to what was written; else nothing."""
    names = [name for name, _ in zip(known, range(_NAMES_MAX), strict=False)]
    asked = written[:_CHARACTERS_MAX]
    spend(sum(_NAME_PRICE + len(asked) * len(name) // _PAIRS_PER_UNIT for name in names))
    found = get_close_matches(asked, names, n=1, cutoff=0.7)
    return f"; did you mean `{found[0]}`?" if found else ""
