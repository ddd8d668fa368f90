"""Claim groups as operators see them: the living coordinators of each, and the sagas that wait for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, text

COORDINATORS_LISTED_MAX = 20
WAITING_COUNTED_MAX = 1000


@dataclass(frozen=True, slots=True)
class LivingCoordinator:
    """A coordinator whose lease has not ended. The other coordinators reach it at `address`."""

    coordinator_id: str
    address: str
    version: str


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """The state of one claim group.

    `coordinators` counts the living ones, and `listed` has the first of them. `waiting` counts the sagas that are due, or have
    lost their coordinator, and that no coordinator has taken up yet; up to `WAITING_COUNTED_MAX` of each kind are counted. The
    first has waited since `waiting_since`; None if no saga waits.
    """

    name: str
    coordinators: int
    listed: tuple[LivingCoordinator, ...]
    waiting: int
    waiting_since: datetime | None


# Groups are found by skipping from one to the next in the index of sleeping sagas, so the price is that of the page.
GROUPS = text("""
    WITH RECURSIVE sleeping AS (
        SELECT min(claim_group) AS claim_group FROM saga.sagas
        WHERE owner IS NULL AND wake_at IS NOT NULL AND claim_group > :after
        UNION ALL
        SELECT (
            SELECT min(claim_group) FROM saga.sagas
            WHERE owner IS NULL AND wake_at IS NOT NULL AND claim_group > sleeping.claim_group
        ) FROM sleeping WHERE sleeping.claim_group IS NOT NULL
    ), known AS (
        SELECT claim_group FROM (SELECT claim_group FROM sleeping LIMIT :limit) AS next WHERE claim_group IS NOT NULL
        UNION SELECT claim_group FROM saga.coordinators WHERE claim_group > :after
        ORDER BY claim_group LIMIT :limit
    )
    SELECT known.claim_group, living.coordinators, listed.coordinators AS listed,
        due.waiting + orphaned.waiting AS waiting, least(due.since, orphaned.since) AS waiting_since
    FROM known
    CROSS JOIN LATERAL (
        SELECT count(*) AS coordinators FROM saga.coordinators
        WHERE coordinators.claim_group = known.claim_group AND lease_until >= clock_timestamp()
    ) AS living
    CROSS JOIN LATERAL (
        SELECT CAST(coalesce(jsonb_agg(jsonb_build_array(coordinator_id, address, version)), '[]') AS text) AS coordinators
        FROM (
            SELECT coordinator_id, address, version FROM saga.coordinators
            WHERE coordinators.claim_group = known.claim_group AND lease_until >= clock_timestamp()
            ORDER BY started_at, coordinator_id LIMIT :listed_max
        ) AS earliest
    ) AS listed
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting, min(wake_at) AS since FROM (
            SELECT wake_at FROM saga.sagas
            WHERE sagas.claim_group = known.claim_group AND owner IS NULL AND wake_at <= now()
            ORDER BY wake_at LIMIT :counted_max
        ) AS earliest
    ) AS due
    CROSS JOIN LATERAL (
        SELECT count(*) AS waiting, min(lease_until) AS since FROM (
            SELECT lease_until FROM saga.coordinators JOIN saga.sagas ON owner = coordinator_id
            WHERE coordinators.claim_group = known.claim_group AND lease_until < clock_timestamp()
            LIMIT :counted_max
        ) AS left_behind
    ) AS orphaned
    ORDER BY known.claim_group
""").bindparams(listed_max=COORDINATORS_LISTED_MAX, counted_max=WAITING_COUNTED_MAX)


def standings(rows: Sequence[Row[Any]]) -> list[GroupStanding]:
    """The claim groups in rows of `GROUPS`."""
    return [
        GroupStanding(
            row.claim_group,
            row.coordinators,
            tuple(LivingCoordinator(*each) for each in orjson.loads(row.listed)),
            row.waiting,
            row.waiting_since,
        )
        for row in rows
    ]
