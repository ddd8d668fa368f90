"""The journal when the database goes away, comes back, or leaves open whether it has committed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from saga_coordinator.saga.words.errors import OwnershipLost, Unavailable
from saga_coordinator.store.database import Database
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.records import StartKeyTaken
from tests.eventually import eventually
from tests.integration.proxy import Proxy, answers_append
from tests.integration.store.appends import HERE, THERE, a_start, an_attempt, an_end, saga_id
from tests.integration.store.conftest import Query, StartJournal

Break = Callable[[], Awaitable[None]]


@pytest.fixture
async def journal(fragile: Database, start_journal: StartJournal) -> Journal:
    """One whose way to the database can fail."""
    return await start_journal(HERE, fragile)


async def is_down(journal: Journal) -> None:
    await eventually(lambda: not journal.is_available, "the journal to notice the outage")


async def log_of(query: Query, saga: str) -> list[tuple[int, str, str]]:
    rows = await query(
        "SELECT sequence, type, recorded_by::text FROM saga.log WHERE saga_id = %s ORDER BY 1", saga
    )
    return [(sequence, kind, writer) for sequence, kind, writer in rows]


async def test_what_is_accepted_waits_for_the_database_and_what_is_not_is_refused(
    journal: Journal, proxy: Proxy, query: Query
) -> None:
    recovered = asyncio.Event()
    journal._health._on_recovered = recovered.set
    sagas = [saga_id() for _ in range(5)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    await proxy.shut()
    waiting = [asyncio.create_task(journal.append(an_attempt(saga, 2))) for saga in sagas]
    await asyncio.sleep(0)  # they are on their way, and none has failed yet
    with pytest.raises(Unavailable, match="the database is away"):
        await journal.append(a_start(saga_id()))
    await is_down(journal)
    with pytest.raises(Unavailable, match="the database is away"):
        await journal.append(a_start(saga_id()))
    late = asyncio.create_task(journal.append(an_attempt(saga_id(), 7)))
    done, _ = await asyncio.wait([*waiting, late], timeout=0.3)
    assert not done
    assert not recovered.is_set()
    proxy.open()
    await asyncio.gather(*waiting, late)
    assert recovered.is_set()
    assert journal.is_available
    await journal.append(a_start(saga_id()))
    assert await query("SELECT count(*) FROM saga.log WHERE sequence > 1") == [(6,)]


async def test_an_outage_ends_without_anything_to_write(journal: Journal, proxy: Proxy) -> None:
    recovered = asyncio.Event()
    journal._health._on_recovered = recovered.set
    await proxy.shut()
    with pytest.raises(Unavailable):
        await journal.append(a_start(saga_id()))
    proxy.open()
    await asyncio.wait_for(recovered.wait(), 120)
    assert journal.is_available


async def test_a_connection_lost_between_two_appends_is_nobodys_outage(
    journal: Journal, proxy: Proxy, query: Query
) -> None:
    outages: list[None] = []
    journal._health._on_recovered = lambda: outages.append(None)
    await journal.append(a_start(saga_id()))
    for _ in range(3):
        await proxy.shut()
        proxy.open()
        await journal.append(a_start(saga_id()))
    assert await query("SELECT count(*) FROM saga.sagas") == [(4,)]
    assert not outages


async def test_an_append_in_doubt_is_recognised_and_applied_once(
    journal: Journal, proxy: Proxy, query: Query
) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    proxy.cut_instead_of_answer(answers_append)
    await journal.append(an_end(saga, 2))
    assert proxy.cuts == 1
    assert await log_of(query, saga) == [
        (1, "saga_started", HERE),
        (2, "attempt_succeeded", HERE),
        (3, "saga_completed", HERE),
    ]
    assert await query("SELECT status, owner FROM saga.sagas") == [("COMPLETED", None)]


async def test_a_start_in_doubt_is_recognised_by_its_key(
    journal: Journal, proxy: Proxy, query: Query
) -> None:
    saga = saga_id()
    proxy.cut_instead_of_answer(answers_append)
    await journal.append(a_start(saga))
    assert proxy.cuts == 1
    assert await log_of(query, saga) == [(1, "saga_started", HERE)]


async def test_a_start_refused_in_doubt_may_stand_all_the_same(
    journal: Journal, proxy: Proxy, query: Query
) -> None:
    """Unavailable says "repeat": the same key then finds what the first request started."""
    saga = saga_id()
    starting = asyncio.create_task(journal.append(a_start(saga, key="order 7")))
    await proxy.cut_and_shut_instead_of_answer(answers_append)
    with pytest.raises(Unavailable):
        await starting
    proxy.open()
    await eventually(lambda: journal.is_available, "the journal to recover")
    with pytest.raises(StartKeyTaken) as taken:
        await journal.append(a_start(saga_id(), key="order 7"))
    assert taken.value.saga_id == saga


async def test_a_flush_in_doubt_is_sorted_out_append_by_append(
    journal: Journal, proxy: Proxy, start_journal: StartJournal, database: Database, query: Query
) -> None:
    sagas = [saga_id() for _ in range(10)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    await (await start_journal(THERE, database)).append(an_attempt(sagas[4], 2))
    proxy.cut_instead_of_answer(lambda answer: b"log_pkey" in answer or answers_append(answer))
    results = await asyncio.gather(
        *(journal.append(an_end(saga, 2)) for saga in sagas), return_exceptions=True
    )
    assert proxy.cuts == 1
    assert isinstance(results.pop(4), OwnershipLost)
    assert not [result for result in results if isinstance(result, BaseException)]
    assert await query("SELECT count(*) FROM saga.log WHERE sequence = 3") == [(9,)]


async def test_p8_another_coordinators_entry_is_not_taken_for_ones_own(
    journal: Journal, proxy: Proxy, start_journal: StartJournal, database: Database, query: Query
) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    await proxy.shut()
    in_doubt = asyncio.create_task(journal.append(an_attempt(saga, 2)))
    await is_down(journal)
    await (await start_journal(THERE, database)).append(an_attempt(saga, 2))
    proxy.open()
    with pytest.raises(OwnershipLost):
        await in_doubt
    assert await log_of(query, saga) == [(1, "saga_started", HERE), (2, "attempt_started", THERE)]


async def test_p9_another_sagas_start_key_is_not_taken_for_ones_own(
    journal: Journal, proxy: Proxy, start_journal: StartJournal, database: Database
) -> None:
    first = saga_id()
    await (await start_journal(THERE, database)).append(a_start(first, key="order 7", digest=b"theirs"))
    proxy.cut_instead_of_answer(lambda answer: b"start_keys_pkey" in answer)
    with pytest.raises(StartKeyTaken) as taken:
        await journal.append(a_start(saga_id(), key="order 7"))
    assert proxy.cuts == 1
    assert (taken.value.saga_id, taken.value.request_digest) == (first, b"theirs")


async def test_the_order_of_one_sagas_entries_survives_an_outage(
    journal: Journal, proxy: Proxy, query: Query
) -> None:
    async def live(saga: str) -> None:
        for sequence in range(2, 22):
            await journal.append(an_attempt(saga, sequence, sequence))

    sagas = [saga_id() for _ in range(10)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    lives = asyncio.gather(*(live(saga) for saga in sagas))
    for _ in range(3):
        await eventually(
            lambda: not journal._queue.waiting or journal._health.failures == 0, "the journal to go on"
        )
        await proxy.shut()
        proxy.open()
    await lives
    misplaced = "SELECT count(*) FROM saga.log WHERE sequence > 1 AND attempt <> sequence"
    assert await query(misplaced) == [(0,)]
    assert await query("SELECT count(*) FROM saga.log") == [(10 * 21,)]


async def test_a_backend_that_is_ended_in_mid_statement_is_only_a_delay(
    journal: Journal, database_dsn: str, query: Query
) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    blocked = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with await psycopg.AsyncConnection.connect(database_dsn) as lock:
        await lock.execute("SELECT FROM saga.sagas FOR UPDATE")
        ending = asyncio.create_task(journal.append(an_end(saga, 2)))
        ((backend,),) = await eventually(lambda: query(blocked), "the append to wait for the lock")
        await query("SELECT pg_terminate_backend(%s)", backend)
        await eventually(lambda: query(f"{blocked} AND pid <> %s", backend), "the append to be tried again")
    await ending
    assert [sequence for sequence, *_ in await log_of(query, saga)] == [1, 2, 3]


async def test_stopping_while_the_database_is_away_ends(journal: Journal, proxy: Proxy) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    await proxy.shut()
    waiting = asyncio.create_task(journal.append(an_attempt(saga, 2)))
    await is_down(journal)
    await asyncio.wait_for(journal.stop(), 120)
    with pytest.raises(Unavailable):
        await waiting
