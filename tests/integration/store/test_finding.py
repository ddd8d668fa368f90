"""Counts and groups of sagas, on real Postgres."""

from __future__ import annotations

from datetime import timedelta

import pytest

from saga_coordinator.filters.parsing import parse_filter
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.store import counts, failures
from saga_coordinator.store.counts import Count, count_sagas
from saga_coordinator.store.failures import FailureGroup, group_failures
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.sagas import SagaFilter
from tests.integration.store.appends import saga_id
from tests.integration.store.conftest import Query

# Of each three sagas one needs a person because of a loop's step, one is being turned back, and one was turned back.
FILL = """
INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, wake_at, ended_at, cause)
SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, 'key ' || n, 'order', 1 + n %% 2,
    (ARRAY['NEEDS_ATTENTION', 'COMPENSATING', 'COMPENSATED'])[1 + n %% 3], '{}',
    CASE WHEN n %% 3 = 1 THEN now() END, CASE WHEN n %% 3 = 2 THEN now() - n * interval '1 min' END,
    convert_to(jsonb_build_object('code', 'OUT_OF_RANGE', 'step', 'charge',
        'message', 'card ' || n || ' of ' || gen_random_uuid() || ': only ' || n || '.50 of 1,000.00 left')::text, 'UTF8')
FROM generate_series(1, %s) n
"""
LOG = """
INSERT INTO saga.log (saga_id, sequence, type, attempt, facts, recorded_by, recorded_at)
SELECT saga_id, sequence,
    CASE WHEN sequence = 1 THEN 'saga_started' WHEN status = 'NEEDS_ATTENTION' THEN 'saga_parked' ELSE 'saga_failed' END,
    0, convert_to(jsonb_build_object('remaining', '[]'::jsonb, 'cause', jsonb_build_object('code', 'UNAVAILABLE',
        'step', 'parcels[' || version || '].send', 'message', 'no answer from 10.0.0.' || version || ':50051'))::text, 'UTF8'),
    saga_id, now() - version * interval '1 min'
FROM saga.sagas, generate_series(1, 2) sequence
"""


@pytest.fixture
async def filled(query: Query) -> None:
    await query(FILL, 30)
    await query(LOG)


async def groups_of(lists: Lists, minutes: int | None, text: str = "") -> list[FailureGroup]:
    within = None if minutes is None else timedelta(minutes=minutes)
    wanted = SagaFilter(condition=parse_filter(text, "filter", []))
    found = await group_failures(lists, DEFAULT_NAMESPACE, wanted, within, 10)
    assert (found.has_more, found.is_whole) == (False, True)
    return found.groups


async def test_sagas_that_need_a_person_are_one_group_whatever_the_numbers_in_their_messages(
    lists: Lists, filled: None
) -> None:
    (group,) = await groups_of(lists, None)
    assert (group.definition, group.step, group.code) == ("order", "send", "UNAVAILABLE")
    assert (group.fingerprint, group.count) == ("no answer from #", 10)
    assert (group.operation, group.needs_attention) == (OperationKind.COMPENSATION, True)
    assert group.last_at - group.first_at == timedelta(minutes=1)
    assert group.version == 1


async def test_what_was_turned_back_counts_within_its_time(lists: Lists, filled: None) -> None:
    """Ten sagas are being turned back since a minute or two, and ten ended 2, 5, ... 29 minutes ago."""
    for minutes, number in ((1, 0), (3, 11), (9, 13), (60, 20)):
        groups = [group for group in await groups_of(lists, minutes) if not group.needs_attention]
        assert sum(group.count for group in groups) == number
        assert {group.fingerprint for group in groups} <= {"card # of #: only # of # left"}
        assert {(group.step, group.operation) for group in groups} <= {("charge", OperationKind.ACTION)}
    (group,) = await groups_of(lists, 60, 'status == "COMPENSATED" && version == 1')
    assert (group.count, group.version) == (5, 1)
    assert group.example == saga_id(2)


async def test_more_failures_than_are_looked_at_and_more_groups_than_are_wanted_are_told(
    lists: Lists, filled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = timedelta(hours=1)
    found = await group_failures(lists, DEFAULT_NAMESPACE, SagaFilter(), hour, 1)
    assert (len(found.groups), found.has_more, found.is_whole) == (1, True, True)
    monkeypatch.setattr(failures, "FAILURES_MAX", 9)
    found = await group_failures(lists, DEFAULT_NAMESPACE, SagaFilter(), hour, 10)
    assert not found.is_whole
    assert sum(group.count for group in found.groups) == 27
    assert (await group_failures(lists, Namespace("other"), SagaFilter(), hour, 10)).groups == []


async def test_a_count_that_would_take_too_long_says_at_least(
    lists: Lists, filled: None, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another transaction holds the table for the tries that are made, which is as slow as a table can be."""
    assert await count_sagas(lists, DEFAULT_NAMESPACE, SagaFilter()) == Count(30, is_exact=True)
    monkeypatch.setattr(counts, "_TRIES", ((7, 10_000),))
    assert await count_sagas(lists, DEFAULT_NAMESPACE, SagaFilter()) == Count(7, is_exact=False)
    monkeypatch.setattr(counts, "_TRIES", ((None, 20), (7, 20)))
    await query("BEGIN")
    await query("LOCK TABLE saga.sagas IN ACCESS EXCLUSIVE MODE")
    assert await count_sagas(lists, DEFAULT_NAMESPACE, SagaFilter()) == Count(0, is_exact=False)
    await query("ROLLBACK")
    monkeypatch.undo()
    monkeypatch.setattr(counts, "_TRIES", ((None, 60_000),))
    assert await count_sagas(lists, DEFAULT_NAMESPACE, SagaFilter()) == Count(30, is_exact=True)
