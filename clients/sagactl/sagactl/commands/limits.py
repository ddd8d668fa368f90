"""How many rows a list writes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import click

from sagactl.invocation import Invocation, note

LIMIT_FOR_PEOPLE = 100

Plain = dict[str, Any]


def limited(
    invocation: Invocation, rows: Iterator[Plain], limit: int | None, *, is_all: bool
) -> Iterator[Plain]:
    """At most `limit` rows. Without a limit, people get the first hundred and are told so; programs get all."""
    chosen = (
        limit
        if limit is not None
        else LIMIT_FOR_PEOPLE
        if invocation.output.is_for_people and not is_all
        else None
    )
    yield from itertools.islice(rows, chosen)
    if limit is None and chosen is not None and next(rows, None) is not None:
        note(f"These are the first {chosen}. More: --limit N, or --all.")


limit_option = click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="N",
    help="How many at most. [default: 100 for table and wide, else all]",
)
all_option = click.option("--all", "is_all", is_flag=True, help="All, however many there are.")
