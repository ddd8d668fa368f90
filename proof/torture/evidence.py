"""What is to be seen after the violence: the clients' answers, the rows, the logs, and the participants' books."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from proof.torture.load import Wish
from saga_coordinator.saga.machine.rows import body_of
from saga_coordinator.store.stored_form import FACTS, WHOLE_PAYLOAD


@dataclass(frozen=True, slots=True)
class Row:
    saga_id: str
    start_key: str
    definition: str
    status: str
    remaining: tuple[str, ...]
    owner: str | None
    has_wake_at: bool
    has_ended_at: bool
    failure_code: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """Instants are seconds since the epoch by Postgres' clock."""

    sequence: int
    type: str
    step: str | None
    operation: str | None
    attempt: int
    body: Mapping[str, Any]
    recorded_at: float
    recorded_by: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a participant saw. `arrived_at` and `ended_at` are of the machine's monotonic clock."""

    participant: str
    key: str
    header_key: str
    action_key: str | None
    saga_id: str
    step: str
    operation: str
    attempt: int
    receipt: str | None
    arrived_at: float
    arrived_wall: float
    trouble: str
    ended_at: float | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that a participant did, and perhaps undid."""

    participant: str
    key: str
    saga_id: str
    step: str
    applied_at: float
    undone_by: str | None
    undone_at: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """`before`: of each definition, the steps that each step comes after. `living` are coordinators with a lease."""

    wishes: Sequence[Wish]
    before: Mapping[str, Mapping[str, frozenset[str]]]
    rows: Mapping[str, Row]
    logs: Mapping[str, Sequence[Entry]]
    calls: Mapping[str, Sequence[Call]]
    effects: Mapping[str, Sequence[Effect]]
    mixed_inputs: Sequence[str] = field(default_factory=tuple)
    living: frozenset[str] = frozenset()


_ROWS = """
SELECT saga_id::text, start_key, definition, status, remaining, owner::text, wake_at IS NOT NULL, ended_at IS NOT NULL,
    convert_from(cause, 'UTF8')::jsonb ->> 'code'
FROM saga.sagas
"""
_LOG = f"""
SELECT saga_id::text, sequence, type, step, operation, attempt, {FACTS}, {WHOLE_PAYLOAD},
    extract(epoch FROM recorded_at)::float8, recorded_by::text
FROM saga.log ORDER BY saga_id, sequence
"""  # noqa: S608  # nothing in it comes from outside
_LIVING = "SELECT coordinator_id::text FROM saga.coordinators WHERE lease_until > clock_timestamp()"
_CALLS = """
select key, header_key, action_key, saga_id, step, operation, attempt, receipt, arrived_at, arrived_wall, trouble,
    ended_at, answer
from calls order by call
"""
_EFFECTS = "select key, saga_id, step, applied_at, undone_by, undone_at from effects order by effect"
_MIXED = "select distinct key from calls where answer = 'ALREADY_EXISTS'"


def gather(
    database_url: str,
    books: Mapping[str, Path],
    wishes: Sequence[Wish],
    before: Mapping[str, Mapping[str, frozenset[str]]],
) -> Evidence:
    """Reads everything. `books` are the participants' files by name."""
    rows: dict[str, Row] = {}
    logs: dict[str, list[Entry]] = {}
    with psycopg.connect(database_url) as connection:
        for row in connection.execute(_ROWS):
            saga_id, start_key, definition, status, remaining, *rest = row
            rows[saga_id] = Row(saga_id, start_key, definition, status, tuple(remaining), *rest)
        for row in connection.execute(_LOG.encode()):
            saga_id, sequence, kind, step, operation, attempt, facts, payload, *recorded = row
            body = body_of(facts, payload)
            logs.setdefault(saga_id, []).append(
                Entry(sequence, kind, step, operation, attempt, body, *recorded)
            )
        living = frozenset(coordinator_id for (coordinator_id,) in connection.execute(_LIVING))
    calls: dict[str, list[Call]] = {}
    effects: dict[str, list[Effect]] = {}
    mixed: list[str] = []
    for name, path in books.items():
        with sqlite3.connect(path) as book:
            for found in book.execute(_CALLS):
                call = Call(name, *found)
                calls.setdefault(call.saga_id, []).append(call)
            for found in book.execute(_EFFECTS):
                effect = Effect(name, *found)
                effects.setdefault(effect.saga_id, []).append(effect)
            mixed += [f"{name}: {key}" for (key,) in book.execute(_MIXED)]
        book.close()
    return Evidence(wishes, before, rows, logs, calls, effects, mixed, living)
