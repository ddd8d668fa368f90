"""What is read of sagas, on real Postgres."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from saga_coordinator.saga.machine.entries import (
    AttemptStarted,
    AttemptSucceeded,
    Entry,
    OutcomeLate,
    SagaAdopted,
    SagaFailed,
    SagaParked,
    SagaStarted,
    UndoUnparked,
)
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import NotFound
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.store import sagas as stored_sagas
from saga_coordinator.store.appends import Append, Start
from saga_coordinator.store.database import Database
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.pages import Page
from saga_coordinator.store.sagas import SagaFilter, SagaRecord, SagaRows
from tests.integration.store.appends import ACTION, HERE, a_move, a_start, an_attempt, an_end, saga_id

RUNNING, COMPLETED, COMPENSATED, NEEDS_ATTENTION = (
    SagaStatus.RUNNING,
    SagaStatus.COMPLETED,
    SagaStatus.COMPENSATED,
    SagaStatus.NEEDS_ATTENTION,
)


@pytest.fixture
def sagas(database: Database) -> SagaRows:
    return SagaRows(database)


async def test_a_saga_is_found_by_its_identity_and_by_its_start_key(
    sagas: SagaRows, journal: Journal
) -> None:
    saga, deadline = saga_id(), datetime.now(UTC) + timedelta(minutes=5)
    start = Start("order 7", b"", "order", 3, {"tenant": "acme"}, deadline.timestamp())
    await journal.append(
        Append(saga, DEFAULT_NAMESPACE, 1, (SagaStarted("order", 3, {"n": 1}),), start, a_move(RUNNING))
    )
    await journal.append(an_attempt(saga, 2))
    record = await sagas.get(DEFAULT_NAMESPACE, saga)
    assert record == await sagas.by_start_key(DEFAULT_NAMESPACE, "order 7")
    assert (record.saga_id, record.start_key, record.definition, record.version) == (
        saga,
        "order 7",
        "order",
        3,
    )
    assert (record.status, record.input, record.labels) == (RUNNING, {"n": 1}, {"tenant": "acme"})
    assert (record.failure, record.remaining, record.owner, record.sequence) == (None, (), HERE, 2)
    assert record.deadline_at is not None
    assert abs(record.deadline_at - deadline) < timedelta(milliseconds=1)
    assert record.started_at.tzinfo is not None
    assert record.ended_at is None
    assert await sagas.status(saga) is RUNNING


async def test_what_does_not_exist_is_not_found(sagas: SagaRows) -> None:
    saga = saga_id()
    with pytest.raises(NotFound, match=f"there is no saga {saga}"):
        await sagas.get(DEFAULT_NAMESPACE, saga)
    with pytest.raises(NotFound, match=f"there is no saga {saga}"):
        await sagas.status(saga)
    with pytest.raises(NotFound, match="there is no saga with start key 'order 7'"):
        await sagas.by_start_key(DEFAULT_NAMESPACE, "order 7")


async def test_a_log_is_read_in_pages(sagas: SagaRows, journal: Journal) -> None:
    saga = saga_id()
    await journal.append(a_start(saga))
    for sequence in range(2, 8):
        await journal.append(an_attempt(saga, sequence, sequence))
    await journal.append(a_start(saga_id()))
    page = await sagas.log(saga, limit=3)
    assert [entry.sequence for entry in page] == [1, 2, 3]
    page += await sagas.log(saga, after=3, limit=3)
    page += await sagas.log(saga, after=6, limit=3)
    assert [entry.sequence for entry in page] == [1, 2, 3, 4, 5, 6, 7]
    assert await sagas.log(saga, after=7, limit=3) == []
    last = page[-1]
    assert (last.entry.type, last.entry.step, last.entry.operation) == ("attempt_started", "charge", "action")
    assert (last.entry.attempt, last.entry.body, last.recorded_by) == (7, {}, HERE)
    assert all(earlier.recorded_at <= later.recorded_at for earlier, later in itertools.pairwise(page))


async def test_whole_logs_are_decoded_as_they_were_written(sagas: SagaRows, journal: Journal) -> None:
    saga, other, unknown = saga_id(), saga_id(), saga_id()
    more = (AttemptStarted("charge", ACTION, 1), SagaAdopted(HERE))
    await journal.append(a_start(saga, *more, given={"n": [1, None]}, labels={"tenant": "ü"}))
    await journal.append(a_start(other))
    stored = await whole_logs(sagas, [saga, other, unknown])
    assert [list(map(decode, log)) for log in stored] == [
        [SagaStarted("order", 1, {"n": [1, None]}, {"tenant": "ü"}), *more],
        [SagaStarted("order", 1)],
        [],
    ]


async def whole_logs(sagas: SagaRows, saga_ids: list[str]) -> list[list[StoredEntry]]:
    """By pages, as coordinators read them."""
    logs: list[list[StoredEntry]] = [[] for _ in saga_ids]
    first, after = 0, 0
    while first < len(saga_ids):
        page = await sagas.page(saga_ids[first:], after)
        begun_with = first
        for each in page.entries:
            first, after = begun_with + each.place, each.sequence
            logs[first].append(each.entry)
        if not page.has_more:
            first, after = first + 1, 0
    return logs


@pytest.mark.parametrize(
    ("entries_max", "bytes_max"), [(1, 10**6), (2, 10**6), (3, 10**6), (7, 10**6), (500, 1), (500, 60_000)]
)
async def test_p11_logs_are_read_by_pages_of_so_many_entries_and_bytes(
    sagas: SagaRows, journal: Journal, monkeypatch: pytest.MonkeyPatch, entries_max: int, bytes_max: int
) -> None:
    """Whatever the bounds, what is read is the same; and a page has no more than one entry beyond them."""
    monkeypatch.setattr(stored_sagas, "PAGE_ENTRIES", entries_max)
    monkeypatch.setattr(stored_sagas, "PAGE_BYTES", bytes_max)
    ids = [saga_id() for _ in range(4)]
    for number, saga in enumerate(ids):
        outputs = [AttemptSucceeded("charge", ACTION, 1, "x" * 20_000 * number)] * number
        await journal.append(a_start(saga, AttemptStarted("charge", ACTION, 1), *outputs))
    pages = [await sagas.page(ids)]
    assert len(pages[0].entries) <= entries_max
    assert sum(each.size_bytes for each in pages[0].entries[:-1]) < bytes_max
    logs = await whole_logs(sagas, [*ids[:2], saga_id(), *ids[2:]])
    assert [len(log) for log in logs] == [2, 3, 0, 4, 5]
    assert logs[3] == [entry.entry for entry in await sagas.log(ids[2])]


async def test_a_parked_saga_says_what_blocks_it_beside_why_it_failed(
    sagas: SagaRows, lists: Lists, journal: Journal
) -> None:
    saga, failure = saga_id(1), Cause("CANCELLED", "changed my mind")
    first, second = Cause("NO_PROGRESS", "nul: \x00"), Cause("UNAVAILABLE", "refunds are closed", "charge")
    await journal.append(a_start(saga))
    begun: tuple[Entry, ...] = (SagaFailed(failure), UndoUnparked())
    for entry, sequence, cause in zip(begun, (2, 5), (first, second), strict=True):
        parked, move = (
            SagaParked(cause, ("charge",)),
            a_move(NEEDS_ATTENTION, remaining=("charge",), failure=failure),
        )
        await journal.append(Append(saga, DEFAULT_NAMESPACE, sequence, (entry, parked), move=move))
        late = OutcomeLate("charge", ACTION, 1, "UNKNOWN", cause)
        await journal.append(Append(saga, DEFAULT_NAMESPACE, sequence + 2, (late,)))
        record = await sagas.get(DEFAULT_NAMESPACE, saga)
        assert (record.failure, record.blocked_by) == (failure, cause)
        assert (await lists.sagas(DEFAULT_NAMESPACE, SagaFilter(), None, 10, _as_it_is)).items == [record]
    goes_on = replace(a_move(SagaStatus.COMPENSATING, 1.0, failure=failure), settled_as=NEEDS_ATTENTION)
    await journal.append(Append(saga, DEFAULT_NAMESPACE, 8, (UndoUnparked(),), move=goes_on))
    assert (await sagas.get(DEFAULT_NAMESPACE, saga)).blocked_by is None


@pytest.fixture
async def five(journal: Journal) -> None:
    """Sagas 1 to 5, of several kinds."""
    acme, euro = {"tenant": "acme"}, {"tenant": "acme", "currency": "EUR"}
    await asyncio.gather(
        journal.append(a_start(saga_id(1))),
        journal.append(a_start(saga_id(2), labels=acme)),
        journal.append(a_start(saga_id(3), labels=euro, definition="refund")),
        journal.append(a_start(saga_id(4), labels=euro, status=NEEDS_ATTENTION, remaining=("charge",))),
        journal.append(a_start(saga_id(5), definition="refund")),
    )
    await journal.append(an_end(saga_id(5), 2))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (SagaFilter(), [5, 4, 3, 2, 1]),
        (SagaFilter(statuses=(RUNNING,)), [3, 2, 1]),
        (SagaFilter(statuses=(COMPLETED, NEEDS_ATTENTION)), [5, 4]),
        (SagaFilter(statuses=(COMPENSATED,)), []),
        (SagaFilter(definition="refund"), [5, 3]),
        (SagaFilter(definition="ref"), []),
        (SagaFilter(labels={"tenant": "acme"}), [4, 3, 2]),
        (SagaFilter(labels={"currency": "EUR", "tenant": "acme"}), [4, 3]),
        (SagaFilter(labels={"currency": "acme"}), []),
        (SagaFilter((RUNNING,), "refund", {"tenant": "acme"}), [3]),
    ],
)
async def test_lists_are_filtered_and_newest_first(
    wanted: SagaFilter, expected: list[int], lists: Lists, five: None
) -> None:
    whole = await lists.sagas(DEFAULT_NAMESPACE, wanted, None, 10, _as_it_is)
    assert [record.saga_id for record in whole.items] == list(map(saga_id, expected))
    assert not whole.has_more
    # Page by page it is the same, and the sagas that begin meanwhile do not move what follows.
    seen: list[str] = []
    has_more = True
    while has_more:
        page = await lists.sagas(DEFAULT_NAMESPACE, wanted, seen[-1] if seen else None, 2, _as_it_is)
        assert len(page.items) <= 2
        seen += [record.saga_id for record in page.items]
        has_more = page.has_more
    assert seen == list(map(saga_id, expected))


def _as_it_is(page: Page[SagaRecord]) -> Page[SagaRecord]:
    return page


async def test_a_summary_tells_what_the_log_has_settled(sagas: SagaRows, five: None) -> None:
    parked, completed = (
        await sagas.get(DEFAULT_NAMESPACE, saga_id(4)),
        await sagas.get(DEFAULT_NAMESPACE, saga_id(5)),
    )
    assert (parked.status, parked.remaining, parked.ended_at, parked.owner) == (
        NEEDS_ATTENTION,
        ("charge",),
        None,
        None,
    )
    assert (completed.status, completed.owner, completed.sequence) == (COMPLETED, None, 3)
    assert completed.ended_at is not None


async def test_texts_and_numbers_come_back_as_they_were_given(sagas: SagaRows, journal: Journal) -> None:
    given = {
        "text": "ü 😀 \u2028 \ufffd",
        "whole": 2**53,
        "small": 5e-324,
        "deep": [[[[{}]]]],
        "": None,
        "no": False,
    }
    await journal.append(a_start(saga_id(1), given=given, key="ü 😀"))
    assert (await sagas.by_start_key(DEFAULT_NAMESPACE, "ü 😀")).input == given
