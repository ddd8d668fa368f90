"""The name that somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_CHARACTERS_MAX = 100
_NAMES_MAX = 200
"""More of either would cost time for names that nobody mistyped."""


def did_you_mean(written: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the end of a message, where one of `known` is close to what was written; else nothing."""
    names = [name for name, _ in zip(known, range(_NAMES_MAX), strict=False)]
    found = get_close_matches(written[:_CHARACTERS_MAX], names, n=1, cutoff=0.7)
    return f"; did you mean `{found[0]}`?" if found else ""
