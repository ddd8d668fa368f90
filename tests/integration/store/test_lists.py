"""Lists, on real Postgres: what a page costs is bounded by its bytes and not by its rows."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import orjson
import pytest
from sqlalchemy import event

from saga_coordinator.saga.words.errors import Overloaded
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.database import Database
from saga_coordinator.store.lists import AT_ONCE, WAITING_MAX, Lists
from saga_coordinator.store.pages import PAGE_BYTES_MAX
from saga_coordinator.store.sagas import SagaFilter, SagaRecord
from tests.integration.store.conftest import Query, items_of

MEGABYTE = 1_000_000
FILL = """
INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, ended_at)
SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, 'key ' || n, 'order', 1, 'COMPLETED', '{}', now()
FROM generate_series(1, %s) n
"""
LOG = """
INSERT INTO saga.log (saga_id, sequence, type, attempt, facts, payload, recorded_by)
SELECT saga_id, 1, 'saga_started', 0, '{}',
    convert_to(jsonb_build_object('input', jsonb_build_object('text', TEXT))::text, 'UTF8'), saga_id
FROM saga.sagas
"""


class Fill(Protocol):
    async def __call__(self, sagas: int, input_bytes: int, text: str = "repeat('x', %s)") -> None: ...


@pytest.fixture
def fill(query: Query) -> Fill:
    """So many sagas with inputs of so many bytes; they are easily packed, so that Postgres keeps them in a fraction of that."""

    async def insert(sagas: int, input_bytes: int, text: str = "repeat('x', %s)") -> None:
        await query(FILL, sagas)
        await query(LOG.replace("TEXT", text), input_bytes)

    return insert


async def all_pages(lists: Lists, limit: int) -> list[list[SagaRecord]]:
    pages: list[list[SagaRecord]] = []
    has_more = True
    while has_more:
        before = pages[-1][-1].saga_id if pages else None
        page = await lists.sagas(DEFAULT_NAMESPACE, SagaFilter(), before, limit, lambda page: page)
        pages.append(page.items)
        has_more = page.has_more
    return pages


async def test_a_page_has_no_more_bytes_than_it_may_and_the_next_goes_on_behind_it(
    lists: Lists, fill: Fill
) -> None:
    await fill(10, MEGABYTE)
    pages = await all_pages(lists, 1000)
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    ids = [record.saga_id for page in pages for record in page]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 10
    assert all(len(orjson.dumps([record.input for record in page])) <= PAGE_BYTES_MAX for page in pages)


async def test_pages_of_small_sagas_are_as_long_as_asked_for(lists: Lists, fill: Fill) -> None:
    await fill(25, 100)
    assert [len(page) for page in await all_pages(lists, 10)] == [10, 10, 5]
    assert [len(page) for page in await all_pages(lists, 25)] == [25]


async def test_an_input_that_is_larger_than_a_page_is_left_out_and_the_saga_listed(
    lists: Lists, fill: Fill
) -> None:
    await fill(3, PAGE_BYTES_MAX, "CASE start_key WHEN 'key 2' THEN repeat('x', %s) ELSE '' END")
    pages = await all_pages(lists, 1000)
    listed = [record for page in pages for record in page]
    assert [record.start_key for record in listed] == ["key 3", "key 2", "key 1"]
    assert [record.is_input_omitted for record in listed] == [False, True, False]


async def test_postgres_unpacks_the_rows_of_a_page_and_no_others(lists: Lists, fill: Fill) -> None:
    """Counted in the blocks of 8 KiB that it touches: the payloads that were never asked for lie in thousands more."""
    await fill(60, 31_250, "(SELECT string_agg(md5(start_key || n), '') FROM generate_series(1, %s) n)")
    statements: list[tuple[str, Any]] = []

    def sent(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    engine = lists._database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", sent)
    assert len(await lists.sagas(DEFAULT_NAMESPACE, SagaFilter(), None, 1000, items_of)) == 3
    event.remove(engine, "before_cursor_execute", sent)
    ((statement, parameters),) = statements

    async def blocks(asked: str, given: Any) -> int:
        async with Database.driver_connection(lists._database) as connection:
            cursor = await connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {asked}", given)
            row = await cursor.fetchone()
        assert row is not None
        plan = row[0][0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    whole = await blocks("SELECT md5(payload) FROM saga.log", None)
    assert whole > 60 * MEGABYTE / 8192
    # Four inputs are measured, the last of which is too much, and three are measured again and sent.
    assert await blocks(statement, parameters) < whole / 60 * 12


async def test_lists_wait_for_each_other_and_not_too_many_of_them(lists: Lists, fill: Fill) -> None:
    await fill(1, 10)
    pages = [
        asyncio.ensure_future(lists.sagas(DEFAULT_NAMESPACE, SagaFilter(), None, 10, items_of))
        for _ in range(AT_ONCE + WAITING_MAX + 3)
    ]
    ended = await asyncio.gather(*pages, return_exceptions=True)
    refused = [each for each in ended if isinstance(each, Overloaded)]
    assert len(refused) == 3
    assert all(error.retry_after_seconds > 0 for error in refused)
    assert sum(isinstance(each, list) for each in ended) == AT_ONCE + WAITING_MAX
    assert len(await lists.sagas(DEFAULT_NAMESPACE, SagaFilter(), None, 10, items_of)) == 1
