"""The store's parts, each on a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import pytest

from saga_coordinator.store.database import Database
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.lists import AT_ONCE, Lists
from saga_coordinator.store.log_writer import PostgresLog
from saga_coordinator.store.ownership import OwnershipRows
from saga_coordinator.store.pages import Page
from tests.integration.proxy import Proxy, proxy_to
from tests.integration.store.appends import HERE

_T = TypeVar("_T")

Query = Callable[..., Awaitable[list[tuple[Any, ...]]]]
StartJournal = Callable[..., Awaitable[Journal]]


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    opened = Database(database_dsn)
    yield opened
    await opened.stop()


@pytest.fixture
async def lists(database_dsn: str) -> AsyncIterator[Lists]:
    opened = Lists(Database(database_dsn, pool_size=AT_ONCE))
    yield opened
    await opened.stop()


def items_of(page: Page[_T]) -> list[_T]:
    """For lists that are wanted as they were read."""
    return page.items


@pytest.fixture
async def query(database_dsn: str) -> AsyncIterator[Query]:
    """Runs a statement beside the store, and returns its rows."""
    async with await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as connection:

        async def run(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
async def start_journal(database: Database) -> AsyncIterator[StartJournal]:
    """Journals of coordinators, `HERE` unless told otherwise, stopped with the test."""
    started: list[Journal] = []

    async def start(coordinator_id: str = HERE, on: Database = database) -> Journal:
        journal = Journal(PostgresLog(on, coordinator_id), coordinator_id)
        await journal.start()
        started.append(journal)
        return journal

    yield start
    for journal in started:
        await journal.stop()


@pytest.fixture
async def journal(start_journal: StartJournal) -> Journal:
    return await start_journal()


@pytest.fixture
def ownership(database: Database) -> Callable[[str], OwnershipRows]:
    """The ownership of the coordinator with that identity."""
    return lambda coordinator_id: OwnershipRows(
        database, coordinator_id, address="here:7242", version="1.2.3"
    )


@pytest.fixture
async def proxy(database_dsn: str) -> AsyncIterator[Proxy]:
    """The way to the test's database that can fail."""
    async with proxy_to(database_dsn) as opened:
        yield opened


@pytest.fixture
async def fragile(proxy: Proxy) -> AsyncIterator[Database]:
    """The test's database by that way."""
    opened = Database(proxy.dsn)
    yield opened
    proxy.thaw()
    await opened.stop()
