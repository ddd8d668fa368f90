"""The directory's rows: what is put is read, once, and what changed is noticed."""

from __future__ import annotations

import pytest

from saga_coordinator.store.database import Database
from saga_coordinator.store.participants import Participants

SPEC = {"target": "dns:///inventory:50051", "limits": {"concurrency": 64}}


@pytest.fixture
def participants(database: Database) -> Participants:
    return Participants(database)


async def test_what_was_put_is_read_by_name(participants: Participants) -> None:
    assert await participants.put("inventory", SPEC, b"described")
    assert await participants.put("a-worker", {"worker": True}, None)
    read = await participants.read()
    assert [(each.name, each.spec, each.descriptor_set) for each in read] == [
        ("a-worker", {"worker": True}, None),
        ("inventory", SPEC, b"described"),
    ]


async def test_only_what_is_new_is_read_again(participants: Participants) -> None:
    await participants.put("inventory", SPEC, b"described")
    await participants.put("payments", SPEC, None)
    known = [each.revision for each in await participants.read()]
    assert not await participants.put("payments", {"target": "elsewhere:1"}, None)
    inventory, payments = await participants.read(known)
    assert (inventory.spec, inventory.descriptor_set) == (None, None)
    assert payments.spec == {"target": "elsewhere:1"}


async def test_one_deleted_and_put_again_is_another(participants: Participants) -> None:
    await participants.put("inventory", SPEC, None)
    (before,) = await participants.read()
    assert await participants.delete("inventory")
    assert not await participants.delete("inventory")
    assert await participants.put("inventory", SPEC, None)
    (after,) = await participants.read([before.revision])
    assert after.spec == SPEC


async def test_the_last_decision_about_a_breaker_counts(participants: Participants) -> None:
    await participants.set_breaker("inventory", "OPEN", "ana", "maintenance")
    last = await participants.set_breaker("inventory", "AUTOMATIC", "ben", "done")
    assert await participants.breakers() == [last]
    assert (last.control, last.requested_by, last.reason) == ("AUTOMATIC", "ben", "done")
