"""Finds the known name that somebody probably meant who wrote another one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

CHARACTERS_MAX = 100
NAMES_MAX = 200
"""Beyond these, comparing costs time and finds only names that nobody mistyped."""


def nearest(written: str, known: Iterable[str]) -> str | None:
    """The one of `known` that is most like `written`, if any is like it at all."""
    found = get_close_matches(written[:CHARACTERS_MAX], list(islice(known, NAMES_MAX)), n=1, cutoff=0.7)
    return found[0] if found else None


def suggestion(written: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the end of a message, if one of `known` is like `written`; else an empty text."""
    found = nearest(written, known)
    return f"; did you mean `{found}`?" if found else ""
