"""Filters select the same sagas in the database and in memory."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import orjson
import psycopg
import pytest
from sqlalchemy import literal, select

from saga_coordinator.filters.matching import SagaFacts, matches
from saga_coordinator.filters.parsing import parse_filter
from saga_coordinator.saga.machine.transitions import ENDS, SagaStatus
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.store.database import Database
from saga_coordinator.store.filtering import compiled
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.sagas import SagaFilter
from saga_coordinator.store.tables import sagas
from tests.integration.store.appends import HERE, THERE, saga_id
from tests.integration.store.conftest import items_of

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ROWS, FILTERS, SEED = 150, 400, 16
TEXTS = ("a", "ab", "A", "ä", "%", "_", "a%", "'; DROP TABLE saga.sagas; --", "")
KEYS = ("tenant", "k", "it's", '"', "ü")
STEPS = ("reserve", "charge", "")
CODES = ("UNAVAILABLE", "CANCELLED")


def instants(chance: random.Random) -> datetime:
    return NOW + timedelta(minutes=chance.randint(-5, 5))


def some_facts(chance: random.Random, number: int) -> SagaFacts:
    status = chance.choice(list(SagaStatus))
    is_unfinished = status in {SagaStatus.NEEDS_ATTENTION, SagaStatus.ABANDONED}

    def cause() -> Cause | None:
        return chance.choice([None, Cause(chance.choice(CODES), "why", chance.choice(STEPS))])

    parked = Cause(chance.choice(CODES), "parked", chance.choice(STEPS))
    keys = chance.sample(KEYS, chance.randint(0, 2))
    return SagaFacts(
        saga_id=saga_id(number),
        status=status,
        definition=chance.choice(TEXTS),
        version=chance.randint(1, 3),
        start_key=f"{chance.choice(TEXTS)} {number}",
        claim_group=chance.choice(TEXTS),
        labels={key: chance.choice(TEXTS) for key in keys}
        | ({"parent_saga_id": saga_id(number % 7 + 1)} if number % 5 == 0 else {}),
        remaining=tuple(chance.sample(STEPS, chance.randint(0, 3))) if is_unfinished else (),
        started_at=instants(chance),
        last_entry_at=instants(chance),
        ended_at=instants(chance) if status in ENDS else None,
        deadline_at=chance.choice([None, instants(chance)]),
        owner=chance.choice([HERE, THERE, None])
        if status in {SagaStatus.RUNNING, SagaStatus.COMPENSATING}
        else None,
        failure=cause(),
        blocked_by=parked if status is SagaStatus.NEEDS_ATTENTION else None,
    )


class SomeFilter:
    """Writes random filters, some of them with what is nowhere."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def text(self, depth: int = 3) -> str:
        kind = self._chance.randint(0, 5) if depth else 0
        if kind < 2:
            return self._comparison()
        if kind == 2:
            return f"!({self.text(depth - 1)})"
        joint = self._chance.choice(["&&", "||"])
        return f"({self.text(depth - 1)} {joint} {self.text(depth - 1)})"

    def _comparison(self) -> str:
        chance = self._chance
        order = chance.choice(["==", "!=", "<", "<=", ">", ">="])
        equality = chance.choice(["==", "!="])
        minutes = f'duration("{chance.randint(-6, 6)}m")'
        instant = chance.choice(
            [f'timestamp("2026-01-31T12:0{chance.randint(0, 5)}:00Z")', "now", f"now - {minutes}"]
        )
        text = orjson.dumps(chance.choice(TEXTS)).decode()
        field = chance.choice(["definition", "start_key", "claim_group", f"labels[{orjson.dumps(chance.choice(KEYS)).decode()}]",
                               "failure.code", "failure.step", "blocked_by.code", "blocked_by.step"])  # fmt: skip
        cause = orjson.dumps(chance.choice([*CODES, *STEPS, *TEXTS])).decode()
        optional = chance.choice(
            ["owner", "ended_at", "deadline_at", "failure.code", "failure.step", "blocked_by.step", "parent"]
        )
        return chance.choice(
            [
                f'status {equality} "{chance.choice(list(SagaStatus))}"',
                f'status in ["{chance.choice(list(SagaStatus))}", "{chance.choice(list(SagaStatus))}"]',
                f"{field} {equality} {cause}",
                f"{cause} {equality} {field}",
                f"{field} in [{text}, {cause}]",
                f"{field}.startsWith({text})",
                f"start_key == {orjson.dumps(f'{chance.choice(TEXTS)} {chance.randint(0, 20)}').decode()}",
                f"version {order} {chance.randint(0, 4)}",
                f"version in [{chance.randint(0, 4)}, 9223372036854775807]",
                f"size(remaining) {order} {chance.randint(0, 3)}",
                f'"{chance.choice(STEPS)}" in remaining',
                f"{orjson.dumps(chance.choice(KEYS)).decode()} in labels",
                f"{chance.choice(['started_at', 'last_entry_at', 'ended_at', 'deadline_at'])} {order} {instant}",
                f"{chance.choice(['age', 'idle'])} {order} {minutes}",
                f"{optional} {equality} null",
                f'owner {equality} "{chance.choice([HERE, THERE])}"',
                f'parent {equality} "{saga_id(chance.randint(1, 9))}"',
                f'saga_id in ["{saga_id(chance.randint(1, ROWS))}", "{saga_id(chance.randint(1, ROWS))}"]',
            ]
        )


async def written(dsn: str, facts: list[SagaFacts]) -> None:
    """The rows of the sagas. Half of the causes are in the form of 0.1.0."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        for number, each in enumerate(facts):
            cause = (
                None
                if each.failure is None
                else orjson.dumps({"code": each.failure.code, "message": "why", "step": each.failure.step})
            )
            is_old = number % 2 == 0
            await connection.execute(
                """
                INSERT INTO saga.sagas (saga_id, start_key, definition, version, status, labels, failure, cause, remaining, owner,
                    wake_at, deadline_at, started_at, ended_at, claim_group)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                """,
                (each.saga_id, each.start_key, each.definition, each.version, each.status, orjson.dumps(each.labels).decode(),
                 cause.decode() if cause and is_old else None, cause if cause and not is_old else None, list(each.remaining),
                 each.owner, NOW if each.status in {"RUNNING", "COMPENSATING"} and not each.owner else None,
                 each.deadline_at, each.started_at, each.ended_at, each.claim_group),
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO saga.start_keys VALUES ('default', %s, %s, '')", (each.start_key, each.saga_id)
            )
            parking = (
                {}
                if each.blocked_by is None
                else {
                    "cause": {
                        "code": each.blocked_by.code,
                        "message": "parked",
                        "step": each.blocked_by.step,
                    },
                    "remaining": [],
                }
            )
            kind = "saga_parked" if each.blocked_by else "saga_adopted"
            for sequence, of_type, said, at in (
                (1, "saga_started", {}, NOW),
                (2, kind, parking, each.last_entry_at),
            ):
                await connection.execute(
                    "INSERT INTO saga.log (saga_id, sequence, type, attempt, facts, recorded_by, recorded_at)"
                    " VALUES (%s, %s, %s, 0, %s, %s, %s)",
                    (each.saga_id, sequence, of_type, orjson.dumps(said), HERE, at),
                )


@pytest.fixture
async def facts(database_dsn: str) -> list[SagaFacts]:
    chance = random.Random(SEED)
    made = [some_facts(chance, number) for number in range(1, ROWS + 1)]
    await written(database_dsn, made)
    return made


async def selected(database: Database, text: str) -> set[str]:
    condition = parse_filter(text, "filter", [])
    assert condition is not None
    query = select(sagas.c.saga_id).where(compiled(condition, DEFAULT_NAMESPACE, literal(NOW)))
    async with database.connection() as connection:
        return set((await connection.execute(query)).scalars())


async def test_random_filters_select_the_same_sagas_in_the_database_and_in_memory(
    facts: list[SagaFacts], database: Database
) -> None:
    chance = random.Random(SEED)
    writing, found_some = SomeFilter(chance), 0
    for _ in range(FILTERS):
        text = writing.text()
        condition = parse_filter(text, "filter", [])
        assert condition is not None, text
        expected = {each.saga_id for each in facts if matches(condition, each, NOW)}
        assert await selected(database, text) == expected, text
        found_some += 0 < len(expected) < ROWS
    assert found_some > FILTERS / 2


async def test_a_list_has_the_sagas_of_its_filter_and_namespace_page_by_page(
    facts: list[SagaFacts], lists: Lists
) -> None:
    condition = parse_filter("has(labels.parent_saga_id) && version != 2", "filter", [])
    assert condition is not None
    expected = sorted((each.saga_id for each in facts if matches(condition, each, NOW)), reverse=True)
    assert len(expected) > 6
    listed: list[str] = []
    while len(listed) < len(expected):
        before = listed[-1] if listed else None
        page = await lists.sagas(DEFAULT_NAMESPACE, SagaFilter(condition=condition), before, 3, items_of)
        listed += [record.saga_id for record in page]
        assert page
    assert listed == expected
    assert await lists.sagas(Namespace("other"), SagaFilter(condition=condition), None, 3, items_of) == []
