"""Leases and claims on real Postgres: a saga is never claimed twice, and never by nobody."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest

from saga_coordinator.saga.machine.entries import SagaAdopted
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.database import Database
from saga_coordinator.store.groups import GroupStanding, LivingCoordinator
from saga_coordinator.store.journal import Journal
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.ownership import OwnershipRows
from saga_coordinator.store.pages import Page
from saga_coordinator.store.records import Claim, Driver
from tests.eventually import eventually
from tests.integration.store.appends import HERE, THERE, a_start, an_attempt, an_end, saga_id
from tests.integration.store.conftest import Query, StartJournal

Of = Callable[[str], OwnershipRows]

PAST, FUTURE = 1.0, 4_000_000_000.0
EXPIRE = (
    "UPDATE saga.coordinators SET lease_until = now() - interval '1 millisecond' WHERE coordinator_id = %s"
)


@pytest.fixture
async def here(ownership: Of) -> OwnershipRows:
    """The coordinator `HERE`, with a lease."""
    here = ownership(HERE)
    await here.renew(60)
    return here


@pytest.fixture
async def there(ownership: Of) -> OwnershipRows:
    there = ownership(THERE)
    await there.renew(60)
    return there


async def owners(query: Query) -> dict[str, str | None]:
    return dict(await query("SELECT saga_id::text, owner::text FROM saga.sagas"))


# The lease.


async def test_p10_a_lease_is_counted_by_the_databases_clock(ownership: Of, query: Query) -> None:
    here = ownership(HERE)
    (((before,),), now, ((after,),)) = (
        await query("SELECT extract(epoch FROM clock_timestamp())::float8"),
        await here.renew(3.5),
        await query("SELECT extract(epoch FROM clock_timestamp())::float8"),
    )
    assert before <= now <= after
    row = "SELECT coordinator_id::text, address, version, extract(epoch FROM lease_until)::float8 FROM saga.coordinators"
    ((coordinator, address, version, until),) = await query(row)
    assert (coordinator, address, version) == (HERE, "here:7242", "1.2.3")
    assert before + 3.5 <= until <= now + 3.5


async def test_p10_the_clock_of_this_machine_means_nothing(
    ownership: Of, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 7 * 3600)
    now = await ownership(HERE).renew(3)
    assert abs(now - wall()) < 60
    assert await query(
        "SELECT lease_until BETWEEN now() AND now() + interval '3 s' FROM saga.coordinators"
    ) == [(True,)]


async def test_renewing_again_extends_the_lease_and_nothing_else(here: OwnershipRows, query: Query) -> None:
    row = "SELECT lease_until, started_at FROM saga.coordinators"
    ((until, started),) = await query(row)
    await here.renew(120)
    ((later, same),) = await query(row)
    assert later > until
    assert same == started


# What is due.


async def test_what_is_due_is_claimed_in_its_order(
    here: OwnershipRows, journal: Journal, query: Query
) -> None:
    for number, wake_at in ((1, 30.0), (2, 10.0), (3, 20.0), (4, FUTURE)):
        await journal.append(a_start(saga_id(number), wake_at=wake_at))
    await journal.append(a_start(saga_id(5)))  # has an owner
    assert sorted(claim.saga_id for claim in await here.claim(2)) == [saga_id(2), saga_id(3)]
    assert await here.claim(10) == [Claim(saga_id(1), DEFAULT_NAMESPACE, None)]
    assert await here.claim(10) == []
    assert await query("SELECT saga_id::text FROM saga.sagas WHERE owner IS NULL") == [(saga_id(4),)]
    assert await query("SELECT count(*) FROM saga.sagas WHERE owner = %s AND wake_at IS NULL", HERE) == [(4,)]


async def test_definitions_that_have_enough_are_passed_over(here: OwnershipRows, journal: Journal) -> None:
    for number, definition in enumerate(("order", "refund", "order", "return"), 1):
        await journal.append(a_start(saga_id(number), definition=definition, wake_at=PAST))
    assert sorted(claim.saga_id for claim in await here.claim(10, ["order", "return"])) == [saga_id(2)]
    assert len(await here.claim(10)) == 3


async def test_no_saga_is_claimed_twice_by_many_at_once(
    ownership: Of, here: OwnershipRows, there: OwnershipRows, journal: Journal, query: Query
) -> None:
    sagas = [saga_id(number) for number in range(1, 301)]
    await asyncio.gather(*(journal.append(a_start(saga, wake_at=PAST)) for saga in sagas))
    claimed: Counter[str] = Counter()

    async def claim_all(coordinator: OwnershipRows) -> None:
        while claims := await coordinator.claim(7):
            assert len(claims) <= 7
            claimed.update(claim.saga_id for claim in claims)

    await asyncio.gather(*(claim_all(coordinator) for coordinator in (here, there, here, there)))
    assert claimed == Counter(sagas)
    assert await query("SELECT count(*) FROM saga.sagas WHERE owner IS NULL") == [(0,)]


async def test_a_claim_takes_no_more_than_it_asked_for(here: OwnershipRows, query: Query) -> None:
    """Also where Postgres knows nothing of the table yet and plans accordingly."""
    await query(
        """INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, wake_at)
        SELECT gen_random_uuid(), 'key ' || n, 'order', 1, 'RUNNING', '{}', now() FROM generate_series(1, 3000) n"""
    )
    assert len(await here.claim(10)) == 10
    assert await query("SELECT count(*) FROM saga.sagas WHERE owner = %s", HERE) == [(10,)]


async def test_a_claim_does_not_wait_for_another(
    here: OwnershipRows, journal: Journal, database_dsn: str
) -> None:
    await journal.append(a_start(saga_id(1), wake_at=PAST))
    await journal.append(a_start(saga_id(2), wake_at=PAST))
    async with await psycopg.AsyncConnection.connect(database_dsn) as lock:
        await lock.execute("SELECT FROM saga.sagas WHERE saga_id = %s FOR UPDATE", (saga_id(1),))
        claims = await asyncio.wait_for(here.claim(10), 120)
    assert claims == [Claim(saga_id(2), DEFAULT_NAMESPACE, None)]


# What is orphaned.


async def test_the_sagas_of_the_dead_are_claimed_those_of_the_living_are_not(
    here: OwnershipRows, there: OwnershipRows, start_journal: StartJournal, query: Query
) -> None:
    theirs = await start_journal(THERE)
    for number in (1, 2, 3):
        await theirs.append(a_start(saga_id(number)))
    assert await here.claim(10) == []
    await query(EXPIRE, THERE)
    assert await here.claim(2) == [
        Claim(saga_id(1), DEFAULT_NAMESPACE, THERE),
        Claim(saga_id(2), DEFAULT_NAMESPACE, THERE),
    ]
    assert await here.claim(2) == [Claim(saga_id(3), DEFAULT_NAMESPACE, THERE)]
    assert set((await owners(query)).values()) == {HERE}


async def test_orphans_are_claimed_once_by_many_at_once(
    ownership: Of, here: OwnershipRows, there: OwnershipRows, start_journal: StartJournal, query: Query
) -> None:
    dead = saga_id(99)
    await ownership(dead).renew(60)
    theirs = await start_journal(dead)
    sagas = [saga_id(number) for number in range(1, 201)]
    await asyncio.gather(*(theirs.append(a_start(saga)) for saga in sagas))
    await query(EXPIRE, dead)
    claimed: Counter[str] = Counter()

    async def claim_all(coordinator: OwnershipRows) -> None:
        while claims := await coordinator.claim(9):
            assert {claim.previous_owner for claim in claims} == {dead}
            claimed.update(claim.saga_id for claim in claims)

    await asyncio.gather(*(claim_all(coordinator) for coordinator in (here, there, here)))
    assert claimed == Counter(sagas)


async def test_orphans_of_definitions_that_have_enough_are_passed_over(
    here: OwnershipRows, there: OwnershipRows, start_journal: StartJournal, query: Query
) -> None:
    theirs = await start_journal(THERE)
    await theirs.append(a_start(saga_id(1), definition="hangs"))
    await theirs.append(a_start(saga_id(2), definition="order"))
    await query(EXPIRE, THERE)
    assert await here.claim(10, ["hangs"]) == [Claim(saga_id(2), DEFAULT_NAMESPACE, THERE)]
    assert await here.claim(10) == [Claim(saga_id(1), DEFAULT_NAMESPACE, THERE)]


async def test_p1_what_belongs_to_a_coordinator_that_nobody_knows_is_claimed(
    here: OwnershipRows, start_journal: StartJournal
) -> None:
    """One that wrote after its lease row had been removed: however that came about, nobody else would ever look."""
    await (await start_journal(THERE)).append(a_start(saga_id(1)))
    await here.tidy()
    assert await here.claim(10) == [Claim(saga_id(1), DEFAULT_NAMESPACE, THERE)]


async def test_who_has_no_lease_claims_nothing(
    here: OwnershipRows, ownership: Of, journal: Journal, query: Query
) -> None:
    await journal.append(a_start(saga_id(1), wake_at=PAST))
    assert await ownership(THERE).claim(10) == []
    assert await ownership(THERE).claim_one(saga_id(1)) is None
    await ownership(THERE).renew(60)
    await query(EXPIRE, THERE)
    assert await ownership(THERE).claim(10) == []
    assert await ownership(THERE).claim_one(saga_id(1)) is None
    assert await owners(query) == {saga_id(1): None}


# One saga.


async def test_one_saga_is_claimed_if_nobody_drives_it(
    here: OwnershipRows, there: OwnershipRows, start_journal: StartJournal, query: Query
) -> None:
    theirs = await start_journal(THERE)
    await theirs.append(a_start(saga_id(1), wake_at=FUTURE))
    await theirs.append(a_start(saga_id(2)))
    await theirs.append(a_start(saga_id(3)))
    await theirs.append(an_end(saga_id(3), 2))
    assert await here.claim_one(saga_id(1)) == Claim(saga_id(1), DEFAULT_NAMESPACE, None)
    assert await here.claim_one(saga_id(1)) is None
    assert await here.claim_one(saga_id(2)) is None
    await query(EXPIRE, THERE)
    assert await here.claim_one(saga_id(2)) == Claim(saga_id(2), DEFAULT_NAMESPACE, THERE)
    assert await here.claim_one(saga_id(3)) is None
    assert await here.claim_one(saga_id(4)) is None


async def test_one_saga_is_claimed_once_by_many_at_once(
    here: OwnershipRows, there: OwnershipRows, journal: Journal, query: Query
) -> None:
    await journal.append(a_start(saga_id(1), wake_at=FUTURE))
    claims = await asyncio.gather(*(each.claim_one(saga_id(1)) for each in (here, there) * 5))
    assert sum(claim is not None for claim in claims) == 1


# Letting go.


async def test_what_is_released_can_be_claimed_after_its_time(
    here: OwnershipRows, there: OwnershipRows, journal: Journal, query: Query
) -> None:
    for number in (1, 2, 3):
        await journal.append(a_start(saga_id(number)))
    await here.release([saga_id(1)], 0)
    await here.release([saga_id(2)], 3600)
    await there.release([saga_id(3)], 0)  # not theirs to release
    assert await there.claim(10) == [Claim(saga_id(1), DEFAULT_NAMESPACE, None)]
    assert await owners(query) == {saga_id(1): THERE, saga_id(2): None, saga_id(3): HERE}


async def test_who_retires_lets_everything_go_at_once(
    here: OwnershipRows, there: OwnershipRows, journal: Journal, query: Query
) -> None:
    for number in (1, 2):
        await journal.append(a_start(saga_id(number)))
    await journal.append(a_start(saga_id(3), status=SagaStatus.NEEDS_ATTENTION))
    assert await here.retire() == 2
    assert await here.claim(10) == []
    claims = await there.claim(10)
    assert sorted(claim.saga_id for claim in claims) == [saga_id(1), saga_id(2)]
    assert {claim.previous_owner for claim in claims} == {None}


async def test_p1_what_a_retired_coordinator_still_writes_is_claimed(
    here: OwnershipRows, there: OwnershipRows, journal: Journal
) -> None:
    await here.retire()
    await journal.append(a_start(saga_id(1)))
    assert await there.claim(10) == [Claim(saga_id(1), DEFAULT_NAMESPACE, HERE)]


async def test_p1_a_saga_that_sleeps_is_looked_at_once_a_former_owner_has_written_to_it(
    here: OwnershipRows, there: OwnershipRows, start_journal: StartJournal, query: Query
) -> None:
    """Who let it go had not seen the entry, and a day may be too late."""
    journal, theirs = await start_journal(), await start_journal(THERE)
    for number in (1, 2):
        await journal.append(a_start(saga_id(number)))
    await query("UPDATE saga.sagas SET owner = NULL, wake_at = now() + interval '1 day'")
    await theirs.append(a_start(saga_id(3)))
    for number in (1, 3):
        await journal.append(an_attempt(saga_id(number), 2))
    assert await here.claim(10) == [Claim(saga_id(1), DEFAULT_NAMESPACE, None)]
    assert (await owners(query))[saga_id(3)] == THERE
    await here.wake([saga_id(2), saga_id(3)])
    assert await here.claim(10) == [Claim(saga_id(2), DEFAULT_NAMESPACE, None)]
    assert (await owners(query))[saga_id(3)] == THERE


async def test_all_that_is_owned_is_known(here: OwnershipRows, journal: Journal, query: Query) -> None:
    for number in (1, 2):
        await journal.append(a_start(saga_id(number)))
    await journal.append(a_start(saga_id(3), wake_at=FUTURE))
    await query("UPDATE saga.sagas SET owner = %s WHERE saga_id = %s", THERE, saga_id(2))
    assert await here.owned() == {saga_id(1): DEFAULT_NAMESPACE}


async def test_the_backlog_is_what_is_due_and_has_no_owner(here: OwnershipRows, journal: Journal) -> None:
    for number in range(1, 6):
        await journal.append(a_start(saga_id(number), wake_at=PAST))
    await journal.append(a_start(saga_id(6), wake_at=FUTURE))
    await journal.append(a_start(saga_id(7)))
    assert await here.backlog(100) == 5
    assert await here.backlog(3) == 3


async def test_the_long_dead_are_forgotten_unless_they_own_something(
    here: OwnershipRows, ownership: Of, journal: Journal, query: Query
) -> None:
    owner, idle, recent = saga_id(11), saga_id(12), saga_id(13)
    for coordinator, ended in ((owner, "2 hours"), (idle, "2 hours"), (recent, "10 minutes")):
        await ownership(coordinator).renew(1)
        await query(
            "UPDATE saga.coordinators SET lease_until = now() - %s::interval WHERE coordinator_id = %s",
            ended,
            coordinator,
        )
    await journal.append(a_start(saga_id(1)))
    await query("UPDATE saga.sagas SET owner = %s", owner)
    await here.tidy()
    known = {
        coordinator for (coordinator,) in await query("SELECT coordinator_id::text FROM saga.coordinators")
    }
    assert known == {HERE, owner, recent}


async def test_a_claim_survives_an_owner_who_moves_the_saga_at_the_same_moment(
    here: OwnershipRows, journal: Journal, database_dsn: str, query: Query
) -> None:
    """The claim looks at the row again once the other has committed."""
    await journal.append(a_start(saga_id(1), wake_at=FUTURE))
    blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with await psycopg.AsyncConnection.connect(database_dsn) as other:
        await other.execute("UPDATE saga.sagas SET owner = %s, wake_at = NULL", (THERE,))
        claiming = asyncio.create_task(here.claim_one(saga_id(1)))
        await eventually(lambda: query(blocked), "the claim to wait")
        await other.commit()
    assert await claiming is None


async def test_p11_a_claim_is_bounded_by_the_entries_of_logs_and_takes_short_ones_first(
    here: OwnershipRows, journal: Journal, query: Query
) -> None:
    """But for the saga that has waited longest, which is not passed over for ever because its log is long."""
    await here.renew(60)
    for number, entries in ((1, 50), (2, 40), (3, 3), (4, 2)):
        await journal.append(a_start(saga_id(number), *[SagaAdopted(HERE)] * (entries - 1)))
        await query(
            "UPDATE saga.sagas SET owner = NULL, wake_at = now() - interval '1 hour' + %s * interval '1 s' WHERE saga_id = %s",
            number,
            saga_id(number),
        )
    first = await here.claim(10, entries_max=10)
    assert {(claim.saga_id, claim.entries) for claim in first} == {
        (saga_id(1), 50),
        (saga_id(3), 3),
        (saga_id(4), 2),
    }
    assert [claim.saga_id for claim in await here.claim(10, entries_max=10)] == [saga_id(2)]
    assert await here.claim(10, entries_max=10) == []


async def test_a_claim_is_for_the_sagas_of_its_own_group(
    database: Database, journal: Journal, query: Query
) -> None:
    ours = OwnershipRows(database, HERE, address="", version="")
    others = OwnershipRows(database, THERE, address="", version="", claim_group="other")
    await ours.renew(60)
    await others.renew(60)
    for number in (1, 2, 3):
        await journal.append(a_start(saga_id(number)))
    await query("UPDATE saga.sagas SET owner = NULL, wake_at = now()")
    await query("UPDATE saga.sagas SET claim_group = 'other' WHERE saga_id <> %s", saga_id(1))
    assert (await ours.backlog(10), await others.backlog(10)) == (1, 2)
    assert await ours.claim_one(saga_id(2)) is None
    assert await ours.claim(10) == [Claim(saga_id(1), DEFAULT_NAMESPACE, None)]
    assert await others.claim_one(saga_id(2)) == Claim(saga_id(2), DEFAULT_NAMESPACE, None)
    await others.renew(-1)
    assert await ours.claim(10) == []
    assert [(each.name, each.coordinators, each.waiting) for each in await ours.groups()] == [
        ("default", 1, 0),
        ("other", 0, 2),
    ]
    driver = await ours.driver_of(saga_id(2))
    assert driver == Driver(THERE, "other", is_owner_alive=False, is_group_alive=False)


async def test_p11_room_wakes_the_sagas_of_its_own_group(
    database: Database, journal: Journal, query: Query
) -> None:
    """The others would find no room by it, and the first of them would take the places of those that would."""
    ours = OwnershipRows(database, HERE, address="", version="")
    for number, seconds in ((1, 10), (2, 20), (3, 40)):
        await journal.append(a_start(saga_id(number)))
        await query(
            "UPDATE saga.sagas SET owner = NULL, wake_at = now() + %s * interval '1 s' WHERE saga_id = %s",
            seconds,
            saga_id(number),
        )
    await query("UPDATE saga.sagas SET claim_group = 'other' WHERE saga_id = %s", saga_id(1))
    await ours.wake_within(30, 1)
    assert await query("SELECT saga_id::text FROM saga.sagas WHERE wake_at <= now()") == [(saga_id(2),)]


async def test_groups_say_who_drives_their_sagas_and_how_long_they_have_waited(
    database: Database, journal: Journal, query: Query
) -> None:
    ours = OwnershipRows(database, HERE, address="here:7243", version="1.2.3")
    others = OwnershipRows(database, THERE, address="", version="", claim_group="other")
    await ours.renew(60)
    await others.renew(60)
    for number in (1, 2, 3, 4):
        await journal.append(a_start(saga_id(number)))
    await query("UPDATE saga.sagas SET owner = NULL, wake_at = now() + interval '1 day'")
    groups = "UPDATE saga.sagas SET claim_group = %s, owner = %s, wake_at = %s WHERE saga_id = %s"
    await query(groups, "other", THERE, None, saga_id(2))
    await query(groups, "nobody's", None, "2026-01-02 03:04:05+00", saga_id(3))
    await query(groups, "nobody's", None, "2026-01-02 03:05:00+00", saga_id(4))
    await query(
        "UPDATE saga.coordinators SET lease_until = '2026-02-03 04:05:06+00' WHERE coordinator_id = %s", THERE
    )
    lists = Lists(database)

    async def page(after: str, limit: int) -> Page[GroupStanding]:
        return await lists.groups(after, limit, lambda found: found)

    default = GroupStanding("default", 1, (LivingCoordinator(HERE, "here:7243", "1.2.3"),), 0, None)
    unserved = GroupStanding("nobody's", 0, (), 2, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    left = GroupStanding("other", 0, (), 1, datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert await page("", 10) == Page([default, unserved, left], has_more=False)
    assert await page("", 2) == Page([default, unserved], has_more=True)
    assert await page("nobody's", 2) == Page([left], has_more=False)
