"""Letters that are left in the database for a saga's owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.store.database import Database
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.mail import CHANNEL, LETTERS_BYTES_MAX, Listener, MailRows
from saga_coordinator.store.records import Letter
from tests.eventually import eventually
from tests.integration.proxy import Proxy
from tests.integration.store.appends import HERE, THERE, a_start, saga_id
from tests.integration.store.conftest import Query


@pytest.fixture
def mail(database: Database) -> MailRows:
    return MailRows(database)


def a_letter(number: int, saga: int = 1) -> Letter:
    return Letter(saga_id(saga), saga_id(100 + number), {"kind": "cancel", "number": number})


async def test_a_request_is_seen_by_the_owner_until_it_is_answered(mail: MailRows, journal: Journal) -> None:
    await journal.append(a_start(saga_id(1)))
    letter = a_letter(1)
    await mail.put(letter)
    assert await mail.unanswered(HERE, 10) == [letter]
    assert await mail.unanswered(THERE, 10) == []
    assert await mail.answer_to(letter) is None
    await mail.answer(letter, {"refusal": None})
    assert await mail.unanswered(HERE, 10) == []
    assert await mail.answer_to(letter) == {"refusal": None}
    await mail.delete(letter)
    assert await mail.answer_to(letter) is None


async def test_the_next_owner_sees_it_too(mail: MailRows, journal: Journal, query: Query) -> None:
    await journal.append(a_start(saga_id(1)))
    await mail.put(a_letter(1))
    await query("UPDATE saga.sagas SET owner = %s", THERE)
    assert await mail.unanswered(THERE, 10) == [a_letter(1)]


async def test_the_oldest_come_first(mail: MailRows, journal: Journal) -> None:
    await journal.append(a_start(saga_id(1)))
    await journal.append(a_start(saga_id(2)))
    for number, saga in ((3, 2), (1, 1), (2, 1)):
        await mail.put(a_letter(number, saga))
    assert await mail.unanswered(HERE, 2) == [a_letter(3, 2), a_letter(1, 1)]


@pytest.mark.parametrize(
    ("sizes", "read"),
    [
        ([LETTERS_BYTES_MAX // 2, LETTERS_BYTES_MAX // 4, LETTERS_BYTES_MAX // 2, 1], 2),
        ([LETTERS_BYTES_MAX + 1, 1], 1),
        ([1, LETTERS_BYTES_MAX + 1, 1], 1),
    ],
)
async def test_large_letters_are_read_a_few_at_a_time(
    mail: MailRows, journal: Journal, sizes: list[int], read: int
) -> None:
    await journal.append(a_start(saga_id(1)))
    letters = [
        Letter(saga_id(1), saga_id(100 + number), {"kind": "x" * size}) for number, size in enumerate(sizes)
    ]
    for letter in letters:
        await mail.put(letter)
    assert await mail.unanswered(HERE, 10) == letters[:read]
    for letter in letters[:read]:
        await mail.answer(letter, {})
    assert (await mail.unanswered(HERE, 10))[0] == letters[read]


async def test_an_answer_to_a_request_that_was_taken_back_goes_nowhere(
    mail: MailRows, journal: Journal, query: Query
) -> None:
    await journal.append(a_start(saga_id(1)))
    await mail.put(a_letter(1))
    await mail.delete(a_letter(1))
    await mail.answer(a_letter(1), {})
    assert await query("SELECT count(*) FROM saga.requests") == [(0,)]


async def test_what_was_abandoned_is_removed_after_an_hour(mail: MailRows, query: Query) -> None:
    await mail.put(a_letter(1))
    await mail.put(a_letter(2))
    await query(
        "UPDATE saga.requests SET requested_at = now() - interval '61 minutes' WHERE request_id = %s",
        saga_id(101),
    )
    await mail.delete_abandoned()
    assert await query("SELECT request_id::text FROM saga.requests") == [(saga_id(102),)]


@pytest.fixture
async def heard(database: Database, query: Query) -> AsyncIterator[list[None]]:
    """What the listener of `HERE` was told."""
    told: list[None] = []
    listening = asyncio.create_task(Listener(database).listen(HERE, lambda: told.append(None)))
    listens = "SELECT 1 FROM pg_stat_activity WHERE query = %s AND datname = current_database()"
    await eventually(lambda: query(listens, f"LISTEN {CHANNEL}"), "the listener to listen")
    yield told
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_the_owner_hears_of_it_and_nobody_else(
    mail: MailRows, journal: Journal, heard: list[None], query: Query, database_dsn: str
) -> None:
    for number in (1, 2):
        await journal.append(a_start(saga_id(number)))
    await query("UPDATE saga.sagas SET owner = %s WHERE saga_id = %s", THERE, saga_id(2))
    await mail.put(a_letter(2, saga=2))
    await mail.put(a_letter(1, saga=1))
    await eventually(lambda: heard, "the letter to be heard of")
    await mail.put(a_letter(3, saga=1))
    await eventually(lambda: len(heard) > 1, "the next one to be heard of")
    assert len(heard) == 2


async def test_a_listener_whose_connection_fails_says_so(
    fragile: Database, proxy: Proxy, query: Query
) -> None:
    listening = asyncio.create_task(Listener(fragile).listen(HERE, lambda: None))
    listens = "SELECT 1 FROM pg_stat_activity WHERE query = %s AND datname = current_database()"
    await eventually(lambda: query(listens, f"LISTEN {CHANNEL}"), "the listener to listen")
    await proxy.shut()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(listening, 120)


async def test_a_connection_that_listened_is_as_good_as_any(database_dsn: str, query: Query) -> None:
    database = Database(database_dsn, pool_size=1)
    listening = asyncio.create_task(Listener(database).listen(HERE, lambda: None))
    await asyncio.wait({listening}, timeout=0.1)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    async with database.driver_connection() as connection:
        cursor = await connection.execute("SELECT pg_listening_channels()")
        assert isinstance(connection, psycopg.AsyncConnection)
        assert await cursor.fetchall() == []
    await database.stop()
