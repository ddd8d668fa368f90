"""Where workers are connected, as coordinators tell each other through Postgres."""

from __future__ import annotations

import pytest

from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.database import Database
from saga_coordinator.store.ownership import OwnershipRows
from saga_coordinator.store.workers import WorkerRows, WorkersElsewhere
from tests.integration.store.appends import HERE, THERE
from tests.integration.store.conftest import Query

ALL: frozenset[str] = frozenset()


@pytest.fixture
async def here(database: Database) -> WorkerRows:
    return WorkerRows(database, HERE)


@pytest.fixture
async def there(database: Database) -> WorkerRows:
    """Those of a coordinator that lives, at `there:7243`."""
    await OwnershipRows(database, THERE, address="there:7243", version="1").renew(60)
    return WorkerRows(database, THERE)


async def test_what_is_performed_here_is_seen_elsewhere_and_only_there(
    here: WorkerRows, there: WorkerRows
) -> None:
    await there.publish(DEFAULT_NAMESPACE, {"payments": frozenset({"Charge", "Refund"}), "shipping": ALL})
    assert sorted(await here.elsewhere(DEFAULT_NAMESPACE), key=lambda found: found.participant) == [
        WorkersElsewhere("payments", frozenset({"Charge", "Refund"}), THERE, "there:7243"),
        WorkersElsewhere("shipping", ALL, THERE, "there:7243"),
    ]
    assert await there.elsewhere(DEFAULT_NAMESPACE) == []


async def test_what_is_said_replaces_what_was_said_before(here: WorkerRows, there: WorkerRows) -> None:
    await there.publish(DEFAULT_NAMESPACE, {"payments": ALL, "shipping": ALL})
    await there.publish(DEFAULT_NAMESPACE, {"payments": frozenset({"Charge"})})
    assert await here.elsewhere(DEFAULT_NAMESPACE) == [
        WorkersElsewhere("payments", frozenset({"Charge"}), THERE, "there:7243")
    ]
    await there.publish(DEFAULT_NAMESPACE, {})
    assert await here.elsewhere(DEFAULT_NAMESPACE) == []


async def test_one_that_speaks_for_itself_leaves_the_others_alone(
    here: WorkerRows, there: WorkerRows
) -> None:
    await there.publish(DEFAULT_NAMESPACE, {"payments": ALL})
    await here.publish(DEFAULT_NAMESPACE, {})
    assert [found.participant for found in await here.elsewhere(DEFAULT_NAMESPACE)] == ["payments"]


async def test_a_coordinator_whose_lease_is_over_has_no_workers(
    here: WorkerRows, there: WorkerRows, query: Query
) -> None:
    await there.publish(DEFAULT_NAMESPACE, {"payments": ALL})
    await query("UPDATE saga.coordinators SET lease_until = clock_timestamp() - interval '1 millisecond'")
    assert await here.elsewhere(DEFAULT_NAMESPACE) == []


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_the_dead_have_left_is_removed_an_hour_later(
    is_known: bool, here: WorkerRows, there: WorkerRows, query: Query
) -> None:
    await there.publish(DEFAULT_NAMESPACE, {"payments": ALL})
    await query("UPDATE saga.workers SET published_at = now() - interval '61 minutes'")
    await here.publish(DEFAULT_NAMESPACE, {"shipping": ALL})
    assert await query("SELECT count(*) FROM saga.workers") == [(2,)], "it lives"
    if is_known:
        await query("UPDATE saga.coordinators SET lease_until = now() - interval '61 minutes'")
    else:
        await query("DELETE FROM saga.coordinators")
    await here.publish(DEFAULT_NAMESPACE, {"shipping": ALL})
    assert await query("SELECT participant FROM saga.workers") == [("shipping",)]


async def test_an_outage_is_said_to_be_one() -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Unavailable):
        await WorkerRows(nowhere, HERE).elsewhere(DEFAULT_NAMESPACE)
    with pytest.raises(Unavailable):
        await WorkerRows(nowhere, HERE).publish(DEFAULT_NAMESPACE, {"payments": ALL})
    await nowhere.stop()
