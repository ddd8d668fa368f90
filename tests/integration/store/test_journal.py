"""The journal on real Postgres: what it writes, how much of it at once, and who is told of what cannot be written."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from psycopg import errors

from saga_coordinator.saga.machine.entries import AttemptStarted, SagaFailed, SagaParked, UndoUnparked
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.act import ActRecord, ActResult, SubjectKind
from saga_coordinator.saga.words.errors import OwnershipLost, Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.store.append_queue import APPENDS_PER_FLUSH_MAX
from saga_coordinator.store.appends import Append, Start
from saga_coordinator.store.database import Database
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.records import StartKeyTaken
from tests.acts import an_act
from tests.integration.proxy import Proxy
from tests.integration.store.appends import (
    ACTION,
    HERE,
    THERE,
    a_move,
    a_start,
    an_attempt,
    an_end,
    saga_id,
)
from tests.integration.store.conftest import Query, StartJournal


async def transactions(query: Query) -> int:
    """How many transactions wrote the log."""
    return int((await query("SELECT count(DISTINCT xmin::text) FROM saga.log"))[0][0])


def is_done(result: object) -> bool:
    """Whether an append, gathered with others, was committed."""
    return not isinstance(result, BaseException)


async def written(query: Query, saga: str) -> list[tuple[Any, ...]]:
    return await query(
        "SELECT sequence, type, recorded_by::text FROM saga.log WHERE saga_id = %s ORDER BY 1", saga
    )


async def test_a_start_is_a_row_a_key_and_the_first_entries(journal: Journal, query: Query) -> None:
    saga, given, labels = saga_id(), {"cart": ["ü", 1.5, None, True]}, {"tenant": "acme"}
    first = a_start(saga, AttemptStarted("charge", ACTION, 1), key="order 7", labels=labels, given=given)
    assert first.start is not None
    late = 2_000_000_000.25
    start = Start("order 7", b"\x00\xff digest", "order", 3, labels, deadline_at=late)
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 1, first.entries, start, first.move))
    assert await query(
        """SELECT saga_id::text, start_key, definition, version, status, input, labels, failure, cause, remaining, owner::text,
        wake_at, extract(epoch FROM deadline_at)::float8, started_at > now() - interval '1 minute', ended_at FROM saga.sagas"""
    ) == [
        (saga, "order 7", "order", 3, "RUNNING", None, labels, None, None, [], HERE, None, late, True, None)
    ]
    assert await query("SELECT namespace, start_key, saga_id::text, request_digest FROM saga.start_keys") == [
        ("default", "order 7", saga, b"\x00\xff digest")
    ]
    assert await query(
        """SELECT sequence, namespace, type, step, operation, attempt, body, facts, payload, recorded_by::text,
        recorded_at <= now() FROM saga.log"""
    ) == [
        (
            1,
            "default",
            "saga_started",
            None,
            None,
            0,
            None,
            b'{"definition":"order","labels":{"tenant":"acme"},"version":1}',
            '{"input":{"cart":["ü",1.5,null,true]}}'.encode(),
            HERE,
            True,
        ),
        (2, "default", "attempt_started", "charge", "action", 1, None, b"{}", None, HERE, True),
    ]


async def test_a_move_changes_the_row_with_the_entries_that_say_why(journal: Journal, query: Query) -> None:
    row = "SELECT status, cause, remaining, owner::text, extract(epoch FROM wake_at)::float8, ended_at FROM saga.sagas"
    saga, cause = saga_id(), Cause("FAILED_PRECONDITION", "card declined", "charge")
    await journal.append(a_start(saga))
    move = a_move(SagaStatus.COMPENSATING, failure=cause)
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 2, (SagaFailed(cause),), move=move))
    failure = b'{"code":"FAILED_PRECONDITION","message":"card declined","requested_by":"","step":"charge"}'
    assert await query(row) == [("COMPENSATING", failure, [], HERE, None, None)]
    parked, steps = Cause("UNAVAILABLE", "refunds are closed"), ("reserve", "charge")
    move = a_move(SagaStatus.NEEDS_ATTENTION, remaining=steps, failure=cause)
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 3, (SagaParked(parked, steps),), move=move))
    assert await query(row) == [("NEEDS_ATTENTION", failure, ["reserve", "charge"], None, None, None)]


async def test_an_end_has_its_time_and_no_owner(journal: Journal, query: Query) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    recorded_at = await journal.append(an_end(saga, 2))
    assert await query("SELECT extract(epoch FROM ended_at)::float8 FROM saga.sagas") == [(recorded_at,)]
    assert await query(
        """SELECT status, owner, ended_at = (SELECT recorded_at FROM saga.log WHERE type = 'saga_completed')
        FROM saga.sagas"""
    ) == [("COMPLETED", None, True)]


async def test_a_saga_that_sleeps_has_no_owner_but_a_time_to_wake(journal: Journal, query: Query) -> None:
    saga = saga_id()
    await journal.append(a_start(saga, wake_at=2_000_000_000.5))
    asleep = "SELECT owner, extract(epoch FROM wake_at)::float8 FROM saga.sagas"
    assert await query(asleep) == [(None, 2_000_000_000.5)]
    await query("UPDATE saga.sagas SET owner = %s, wake_at = NULL", HERE)
    for _ in range(2):  # and it sleeps on when that is repeated, as after a lost answer: it says nothing new
        await journal.append(
            Append(saga, DEFAULT_NAMESPACE, 2, (), move=a_move(SagaStatus.RUNNING, 2_100_000_000.0))
        )
        assert await query(asleep) == [(None, 2_100_000_000.0)]
    assert await written(query, saga) == [(1, "saga_started", HERE)]


async def test_the_row_of_a_saga_that_was_taken_over_is_left_to_its_new_owner(
    journal: Journal, query: Query
) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    await query("UPDATE saga.sagas SET owner = %s", THERE)
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 2, (), move=a_move(SagaStatus.RUNNING, 1.0)))
    assert await query("SELECT owner::text, wake_at FROM saga.sagas") == [(THERE, None)]


async def test_a_settled_saga_is_moved_from_the_status_that_it_was_decided_in(
    journal: Journal, query: Query
) -> None:
    saga, cause = saga_id(), Cause("UNAVAILABLE", "refunds are closed")
    parked = a_move(SagaStatus.NEEDS_ATTENTION, remaining=("reserve",), failure=cause)
    await journal.append(a_start(saga))
    await journal.append(
        Append(saga, DEFAULT_NAMESPACE, 2, (SagaFailed(cause), SagaParked(cause, ("reserve",))), move=parked)
    )
    goes_on = a_move(SagaStatus.COMPENSATING, wake_at=1.0, failure=cause)
    row = "SELECT status, remaining, owner, wake_at IS NULL FROM saga.sagas"
    for wrong in (None, SagaStatus.COMPLETED):
        await journal.append(Append(saga, DEFAULT_NAMESPACE, 4, (), move=replace(goes_on, settled_as=wrong)))
        assert await query(row) == [("NEEDS_ATTENTION", ["reserve"], None, True)]
    right = replace(goes_on, settled_as=SagaStatus.NEEDS_ATTENTION)
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 4, (UndoUnparked(),), move=right))
    assert await query(row) == [("COMPENSATING", [], None, False)]


async def test_appends_that_come_together_share_a_transaction(journal: Journal, query: Query) -> None:
    sagas = [saga_id() for _ in range(300)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    assert await transactions(query) == 1
    await asyncio.gather(*(journal.append(an_attempt(saga, 2)) for saga in sagas))
    assert await transactions(query) == 2
    assert await query("SELECT count(*) FROM saga.log") == [(600,)]


async def test_appends_that_come_during_a_flush_share_the_next(journal: Journal, query: Query) -> None:
    async def live() -> None:
        saga = saga_id()
        await journal.append(a_start(saga))
        for sequence in range(2, 12):
            await journal.append(an_attempt(saga, sequence, sequence))

    await asyncio.gather(*(live() for _ in range(50)))
    assert await query("SELECT count(*) FROM saga.log") == [(550,)]
    assert await transactions(query) <= 2 * 11


async def test_a_flush_is_bounded(journal: Journal, query: Query) -> None:
    sagas = 2 * APPENDS_PER_FLUSH_MAX + 1
    await asyncio.gather(*(journal.append(a_start(saga_id())) for _ in range(sagas)))
    assert await transactions(query) == math.ceil(sagas / APPENDS_PER_FLUSH_MAX)
    written_at_once = await query("SELECT count(*) FROM saga.log GROUP BY xmin::text ORDER BY 1")
    assert written_at_once == [(1,), (APPENDS_PER_FLUSH_MAX,), (APPENDS_PER_FLUSH_MAX,)]


async def test_an_append_is_one_round_trip(
    fragile: Database, proxy: Proxy, start_journal: StartJournal
) -> None:
    journal = await start_journal(on=fragile)
    saga = saga_id()
    await journal.append(a_start(saga))
    await journal.append(an_attempt(saga, 2))
    before = proxy.answers
    for sequence in range(3, 13):
        await journal.append(an_attempt(saga, sequence, sequence))
    assert proxy.answers - before == 10
    await asyncio.gather(*(journal.append(a_start(saga_id())) for _ in range(100)))
    assert proxy.answers - before == 11


async def test_p8_of_two_writers_the_later_loses(
    journal: Journal, start_journal: StartJournal, query: Query
) -> None:
    other = await start_journal(THERE)
    saga = saga_id()
    await journal.append(a_start(saga))
    await other.append(an_attempt(saga, 2))
    with pytest.raises(OwnershipLost, match=f"another coordinator has written entry 2 of saga {saga}"):
        await journal.append(an_end(saga, 2))
    assert await written(query, saga) == [(1, "saga_started", HERE), (2, "attempt_started", THERE)]
    assert await query("SELECT status FROM saga.sagas") == [("RUNNING",)]


async def test_p8_only_the_loser_of_a_shared_flush_is_told(
    journal: Journal, start_journal: StartJournal, query: Query
) -> None:
    other = await start_journal(THERE)
    sagas = [saga_id() for _ in range(20)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    taken = {sagas[3], sagas[11]}
    await asyncio.gather(*(other.append(an_attempt(saga, 2)) for saga in taken))
    results = await asyncio.gather(
        *(journal.append(an_end(saga, 2)) for saga in sagas), return_exceptions=True
    )
    lost = {saga for saga, result in zip(sagas, results, strict=True) if isinstance(result, OwnershipLost)}
    assert lost == taken
    assert sum(map(is_done, results)) == 18
    ended = await query("SELECT saga_id::text FROM saga.sagas WHERE status = 'COMPLETED'")
    assert {saga for (saga,) in ended} == set(sagas) - taken


async def test_p12_an_act_is_recorded_with_the_entries_that_it_caused_or_not_at_all(
    journal: Journal, query: Query
) -> None:
    saga, act = saga_id(), an_act(kind=SubjectKind.SAGA)

    async def results() -> list[str]:
        rows = await query(
            "SELECT result FROM saga.operator_acts WHERE act_id = %s ORDER BY result", act.act_id
        )
        return [result for (result,) in rows]

    await journal.append(a_start(saga))
    await journal.append(an_attempt(saga, 2))
    too_late = replace(an_attempt(saga, 2), acts=(ActRecord(act, ActResult.REFUSED),))
    with pytest.raises(OwnershipLost):
        await journal.append(too_late)
    assert await results() == []
    nothing = Append(saga, DEFAULT_NAMESPACE, 1, (), acts=(ActRecord(act, ActResult.NOTHING),))
    refused = replace(nothing, acts=(ActRecord(act, ActResult.REFUSED),))
    done = replace(an_attempt(saga, 3), acts=(ActRecord(act, ActResult.DONE),))
    await journal.append(refused)
    await journal.append(refused)
    assert await results() == ["refused"]
    await journal.append(done)
    await journal.append(nothing)
    assert await results() == ["done", "refused"]


async def test_p8_two_writers_at_once_never_both_win(
    journal: Journal, start_journal: StartJournal, query: Query
) -> None:
    other = await start_journal(THERE)
    sagas = [saga_id() for _ in range(40)]
    await asyncio.gather(*(journal.append(a_start(saga)) for saga in sagas))
    rivals = [(writer, saga) for saga in sagas for writer in (journal, other)]
    results = await asyncio.gather(
        *(writer.append(an_attempt(saga, 2)) for writer, saga in rivals), return_exceptions=True
    )
    winners = Counter(saga for (_, saga), result in zip(rivals, results, strict=True) if is_done(result))
    assert winners == Counter(sagas)
    assert await query("SELECT count(*) FROM saga.log WHERE sequence = 2") == [(40,)]


async def test_p9_a_start_key_belongs_to_one_saga(journal: Journal, query: Query) -> None:
    first, second = saga_id(), saga_id()
    await journal.append(a_start(first, key="order 7", digest=b"one"))
    with pytest.raises(StartKeyTaken, match="start key 'order 7' belongs to saga") as taken:
        await journal.append(a_start(second, key="order 7", digest=b"two"))
    assert (taken.value.saga_id, taken.value.request_digest) == (first, b"one")
    assert await query("SELECT saga_id::text FROM saga.sagas") == [(first,)]
    assert await written(query, second) == []


async def test_p9_many_starts_with_one_key_make_one_saga(
    journal: Journal, start_journal: StartJournal, query: Query
) -> None:
    journals = [journal, await start_journal(THERE)]
    sagas = [saga_id() for _ in range(60)]
    results = await asyncio.gather(
        *(journals[n % 2].append(a_start(saga, key=f"key {n % 3}")) for n, saga in enumerate(sagas)),
        return_exceptions=True,
    )
    started = {saga for saga, result in zip(sagas, results, strict=True) if is_done(result)}
    assert len(started) == 3
    told = [result.saga_id for result in results if isinstance(result, StartKeyTaken)]
    assert len(told) == 57
    assert set(told) == started
    assert {saga for (saga,) in await query("SELECT saga_id::text FROM saga.sagas")} == started


class NotJson:
    """Something that only a defect would hand over."""


@pytest.mark.parametrize(
    ("poison", "error"),
    [
        (a_start(saga_id(3), labels={"text": "\0"}), errors.DataError),
        (an_end(saga_id(1), 2, NotJson()), TypeError),
        (
            Append(
                saga_id(1), DEFAULT_NAMESPACE, 2, (), move=a_move(SagaStatus.COMPLETED, remaining=("charge",))
            ),
            errors.CheckViolation,
        ),
        (
            a_start(saga_id(2), key="k" * 3000 + "".join(map(chr, range(0x4E00, 0x8E00)))),
            errors.OperationalError,
        ),
    ],
    ids=["not storable", "not JSON", "against an invariant", "over a limit"],
)
async def test_an_append_that_cannot_be_stored_fails_alone(
    poison: Append, error: type[Exception], journal: Journal, query: Query
) -> None:
    await journal.append(a_start(saga_id(1)))
    healthy = [saga_id() for _ in range(6)]
    appends = [a_start(saga) for saga in healthy]
    appends.insert(3, poison)
    results = await asyncio.gather(*(journal.append(append) for append in appends), return_exceptions=True)
    assert isinstance(results.pop(3), error)
    assert all(map(is_done, results))
    assert journal.is_available
    assert await query("SELECT count(*) FROM saga.log") == [(7,)]
    await journal.append(an_end(saga_id(1), 2))


async def test_who_stops_waiting_for_an_append_takes_nothing_back(journal: Journal, query: Query) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    leaving = asyncio.create_task(journal.append(an_attempt(saga, 2)))
    staying = asyncio.create_task(journal.append(a_start(saga_id())))
    await asyncio.sleep(0)  # both are on their way
    leaving.cancel()
    await staying
    assert [sequence for sequence, *_ in await written(query, saga)] == [1, 2]


async def test_stopping_commits_what_waits_and_takes_no_more(journal: Journal, query: Query) -> None:
    appends = [asyncio.create_task(journal.append(a_start(saga_id()))) for _ in range(700)]
    await asyncio.sleep(0)  # all are on their way
    await journal.stop()
    await asyncio.gather(*appends)
    assert await query("SELECT count(*) FROM saga.sagas") == [(700,)]
    with pytest.raises(Unavailable, match="stopping"):
        await journal.append(a_start(saga_id()))
