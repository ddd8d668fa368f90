"""The directory's rows: what is put is read, once, and what changed is noticed."""

from __future__ import annotations

import pytest

from saga_coordinator.saga.words.errors import QuotaReached
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store import participants as module
from saga_coordinator.store.database import Database
from saga_coordinator.store.participants import ParticipantRows
from tests.acts import an_act
from tests.integration.store.conftest import Query

SPEC = {"target": "dns:///inventory:50051", "limits": {"concurrency": 64}}


@pytest.fixture
def participants(database: Database) -> ParticipantRows:
    return ParticipantRows(database)


async def test_what_was_put_is_read_by_name(participants: ParticipantRows) -> None:
    assert (await participants.put(an_act(), "inventory", SPEC, b"described")).created
    assert (await participants.put(an_act(), "a-worker", {"worker": True}, None)).created
    read = await participants.read(DEFAULT_NAMESPACE)
    assert [(each.name, each.spec, each.descriptor_set) for each in read] == [
        ("a-worker", {"worker": True}, None),
        ("inventory", SPEC, b"described"),
    ]


async def test_only_what_is_new_is_read_again(participants: ParticipantRows) -> None:
    await participants.put(an_act(), "inventory", SPEC, b"described")
    await participants.put(an_act(), "payments", SPEC, None)
    known = [each.revision for each in await participants.read(DEFAULT_NAMESPACE)]
    assert not (await participants.put(an_act(), "payments", {"target": "elsewhere:1"}, None)).created
    inventory, payments = await participants.read(DEFAULT_NAMESPACE, known)
    assert (inventory.spec, inventory.descriptor_set) == (None, None)
    assert payments.spec == {"target": "elsewhere:1"}


async def test_one_deleted_and_put_again_is_another(participants: ParticipantRows) -> None:
    await participants.put(an_act(), "inventory", SPEC, None)
    (before,) = await participants.read(DEFAULT_NAMESPACE)
    assert await participants.delete(an_act(), "inventory")
    assert not await participants.delete(an_act(), "inventory")
    assert (await participants.put(an_act(), "inventory", SPEC, None)).created
    (after,) = await participants.read(DEFAULT_NAMESPACE, [before.revision])
    assert after.spec == SPEC


async def test_the_last_decision_about_a_breaker_counts(participants: ParticipantRows) -> None:
    await participants.set_breaker(an_act(declared_by="ana", reason="maintenance"), "inventory", "OPEN")
    last = await participants.set_breaker(an_act(declared_by="ben", reason="done"), "inventory", "AUTOMATIC")
    assert await participants.breakers(DEFAULT_NAMESPACE) == [last]
    assert (last.control, last.requested_by, last.reason) == ("AUTOMATIC", "ben", "done")


@pytest.mark.parametrize(
    ("controls", "results"),
    [(("AUTOMATIC",), ["nothing"]), (("OPEN", "OPEN", "CLOSED"), ["done", "nothing", "done"])],
)
async def test_a_decision_that_changes_nothing_is_recorded_as_such(
    controls: tuple[str, ...], results: list[str], participants: ParticipantRows, query: Query
) -> None:
    for control in controls:
        await participants.set_breaker(an_act(), "inventory", control)
    rows = await query("SELECT result FROM saga.operator_acts ORDER BY recorded_at")
    assert [result for (result,) in rows] == results


async def test_what_was_put_need_not_be_read_again(participants: ParticipantRows) -> None:
    put = await participants.put(an_act(), "inventory", SPEC, b"described")
    (read,) = await participants.read(DEFAULT_NAMESPACE, [put.revision])
    assert (read.revision, read.updated_at, read.spec) == (put.revision, put.updated_at, None)


async def test_there_are_so_many_and_no_more(
    participants: ParticipantRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PARTICIPANTS_MAX", 3)
    for name in ("a", "b", "c"):
        await participants.put(an_act(), name, SPEC, None)
    with pytest.raises(QuotaReached, match="3 participants were put into the directory, and 3 is the limit"):
        await participants.put(an_act(), "d", SPEC, None)
    assert not (await participants.put(an_act(), "c", {"target": "elsewhere:1"}, None)).created
    await participants.delete(an_act(), "a")
    assert (await participants.put(an_act(), "d", SPEC, None)).created


async def test_descriptor_sets_have_so_many_bytes_together_and_no_more(
    participants: ParticipantRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DESCRIPTOR_SETS_BYTES_MAX", 100)
    await participants.put(an_act(), "a", SPEC, b"x" * 60)
    await participants.put(an_act(), "b", SPEC, b"x" * 40)
    with pytest.raises(QuotaReached, match="are 100 bytes, and 100 is the limit for all"):
        await participants.put(an_act(), "c", SPEC, b"x")
    with pytest.raises(QuotaReached):
        await participants.put(an_act(), "b", SPEC, b"x" * 41)
    assert not (await participants.put(an_act(), "b", SPEC, b"y" * 40)).created
    assert (await participants.put(an_act(), "c", SPEC, None)).created


async def test_breakers_are_set_of_so_many_participants_and_no_more(
    participants: ParticipantRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PARTICIPANTS_MAX", 1)
    await participants.set_breaker(an_act(declared_by="ana", reason="maintenance"), "inventory", "OPEN")
    with pytest.raises(QuotaReached, match="breakers of 1 participants"):
        await participants.set_breaker(an_act(declared_by="ana", reason="maintenance"), "payments", "OPEN")
    await participants.set_breaker(an_act(declared_by="ana", reason="done"), "inventory", "AUTOMATIC")
