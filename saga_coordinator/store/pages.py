"""Pages that are bounded in bytes before they are read: Postgres walks the rows in the page's order and stops in time.

If a limit counted rows alone, a page of a thousand sagas could be a gigabyte. A payload's size is not known before it is
unpacked, so a window over the whole page would unpack every row. The walk unpacks only the rows that fit, and one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Row,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

PAGE_BYTES_MAX = 3 * 1024 * 1024
"""Of a page's payloads, as JSON: less than the 4 MiB that gRPC clients take by default."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """The items of a page, in order, and whether the list goes on behind it."""

    items: list[_T]
    has_more: bool


def page_of(rows: Sequence[Row[Any]], items: list[_T]) -> Page[_T]:
    """The page of `items`, which were made of `rows` of a `bounded` query."""
    return Page(items, bool(rows) and len(rows) < rows[0].found)


def bounded(
    keys: Select[Any],
    table: FromClause,
    sizes: Sequence[ColumnElement[int]],
    columns: Sequence[ColumnElement[Any]],
    limit: int,
    bytes_max: int = PAGE_BYTES_MAX,
) -> Select[Any]:
    """Selects `columns` of at most `limit` rows of `table`: fewer if their `sizes` exceed `bytes_max` together.

    Args:
        keys: selects the columns of a unique key, without a limit, in the order of the page.
        sizes: what rows are measured by, in bytes; see `text_bytes`. The first row is on the page whatever its size: see `shown`.

    Each row also has `found`: more than there are rows where the list goes on.
    """
    ordered = keys.limit(limit + 1).subquery("ordered")
    arrays = [func.array_agg(key, type_=ARRAY(key.type)).label(key.name) for key in ordered.c]
    found = select(func.count().label("found"), *arrays).select_from(ordered).cte("found")
    size = sum((func.coalesce(each, 0) for each in sizes), start=literal(0, BigInteger))
    begin = select(literal(0, Integer).label("place"), literal(0, BigInteger).label("bytes"))
    walk = begin.cte("walk", recursive=True)
    place = walk.c.place + 1
    walk = walk.union_all(
        select(place, walk.c.bytes + size)
        .select_from(walk.join(found, walk.c.place < func.least(found.c.found, limit)))
        .join(table, and_(*(table.c[key.name] == found.c[key.name][place] for key in ordered.c)))
        .where(walk.c.bytes <= bytes_max)
    )
    fits = or_(walk.c.place == 1, and_(walk.c.place > 1, walk.c.bytes <= bytes_max))
    return (
        select(*columns, found.c.found)
        .select_from(walk.join(found, true()))
        .join(table, and_(*(table.c[key.name] == found.c[key.name][walk.c.place] for key in ordered.c)))
        .where(fits)
        .order_by(walk.c.place)
    )


def text_bytes(value: ColumnElement[Any]) -> ColumnElement[int]:
    """The size of a value as text."""
    return func.octet_length(cast(value, Text))


def shown(payload: ColumnElement[Any], bytes_max: int = PAGE_BYTES_MAX) -> ColumnElement[Any]:
    """The payload as text, to be parsed later; null if the payload alone is larger than a page."""
    text = cast(payload, Text)
    return case((func.octet_length(text) <= bytes_max, text))
