"""Payloads that are hard to keep: every kind of number, keys in every order, text in every script."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# What Postgres cannot keep, NUL and lone surrogates, is refused where it comes in.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
keys = texts | st.sampled_from(["a", "b", "zeta", "id", "aa", "Z", "é", "1.0", "e", ""])
SMALL, LARGE = [0.0, -0.0, 1.0, 0.1, 1e-7, 5e-324], [1e15, 1e16, 1e21, 1e23, 1.2345678901234568e18]
EDGES = [2.0**53, 2.0**63, -(2.0**63), 2.0**64]
doubles = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([*SMALL, *LARGE, *EDGES])
whole = st.integers(-(2**63), 2**64 - 1) | st.integers(-(10**30), 10**30)


def payloads() -> st.SearchStrategy[Any]:
    """Any JSON value, with whole numbers of up to a hundred bits."""
    scalars = st.none() | st.booleans() | texts | doubles | whole
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=6),
        max_leaves=25,
    )
