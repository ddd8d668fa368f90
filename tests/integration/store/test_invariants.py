"""What the DDL itself refuses, whoever writes: each invariant by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from saga_coordinator.saga.machine.transitions import ENDS, SETTLED, SagaStatus
from saga_coordinator.store.embedded import EmbeddedPostgres
from tests.conftest import new_database
from tests.integration.store.appends import HERE, saga_id

SAGA = {
    "saga_id": saga_id(1),
    "start_key": "key",
    "definition": "order",
    "version": 1,
    "status": "RUNNING",
    "labels": "{}",
    "owner": HERE,
}
ENTRY = {
    "saga_id": saga_id(1),
    "sequence": 1,
    "type": "saga_started",
    "attempt": 0,
    "body": "{}",
    "recorded_by": HERE,
}
DEFINITION = {"namespace": "default", "name": "order", "version": 1, "digest": "", "spec": "{}"}
EVENT = {"event_id": "e1", "name": "paid", "correlation": "order 1"}
BREAKER = {"participant": "shop", "control": "OPEN", "requested_by": "ann", "reason": "it is being mended"}
ACT = {
    "act_id": saga_id(1),
    "verb": "cancel_saga",
    "subject_kind": "saga",
    "subject": saga_id(1),
    "detail": "",
    "principal": "anonymous",
    "declared_by": "ann",
    "reason": "ordered twice",
    "result": "done",
    "why": "",
    "state_before": "RUNNING",
    "state_after": "COMPENSATING",
}
AT_REST = {"owner": None}
ENDED = {**AT_REST, "ended_at": "now"}
LATER: dict[str, Any] = {
    "sequence": 2,
    "type": "attempt_started",
    "step": "charge",
    "operation": "action",
    "attempt": 1,
}


@pytest.fixture(scope="module")
def one_database(postgres_server: EmbeddedPostgres, template_database: str) -> Iterator[str]:
    """The connection URL of a migrated database in which every test of this module takes back what it did."""
    yield from new_database(postgres_server, template_database)


@pytest.fixture
def connection(one_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(one_database) as connection:
        yield connection
        connection.rollback()


def insert(connection: psycopg.Connection, table: str, row: dict[str, Any]) -> None:
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier("saga", table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    connection.execute(statement, tuple(row.values()))


@pytest.mark.parametrize(
    ("table", "row", "constraint"),
    [
        ("definitions", DEFINITION | {"version": 0}, "definitions_version_positive"),
        (
            "definitions",
            DEFINITION | {"default_since": "now", "deprecated": True},
            "definitions_default_can_be_started",
        ),
        (
            "definitions",
            DEFINITION | {"default_since": "now", "deleted_at": "now"},
            "definitions_default_can_be_started",
        ),
        ("events", EVENT | {"taken_by": saga_id(1)}, "events_taken_some_time"),
        ("events", EVENT | {"payload": "{}", "content": b"{}"}, "events_payload_has_one_form"),
        ("breakers", BREAKER | {"control": "AJAR"}, "breakers_control_known"),
        ("operator_acts", ACT | {"result": "undone"}, "operator_acts_result_known"),
        ("sagas", SAGA | AT_REST | {"status": "DONE"}, "sagas_status_known"),
        ("sagas", SAGA | AT_REST | {"status": "running"}, "sagas_status_known"),
        ("sagas", SAGA | {"owner": None}, "sagas_moving_is_driven"),
        ("sagas", SAGA | {"owner": None, "status": "COMPENSATING"}, "sagas_moving_is_driven"),
        ("sagas", SAGA | {"status": "NEEDS_ATTENTION"}, "sagas_settled_is_at_rest"),
        ("sagas", SAGA | ENDED | {"status": "COMPLETED", "owner": HERE}, "sagas_settled_is_at_rest"),
        ("sagas", SAGA | ENDED | {"status": "COMPLETED", "wake_at": "now"}, "sagas_settled_is_at_rest"),
        ("sagas", SAGA | AT_REST | {"status": "COMPENSATED"}, "sagas_ended_has_time"),
        ("sagas", SAGA | {"ended_at": "now"}, "sagas_ended_has_time"),
        ("sagas", SAGA | ENDED | {"status": "NEEDS_ATTENTION"}, "sagas_ended_has_time"),
        (
            "sagas",
            SAGA | ENDED | {"status": "COMPLETED", "remaining": ["charge"]},
            "sagas_only_the_unfinished_leave_effects",
        ),
        (
            "sagas",
            SAGA | ENDED | {"status": "COMPENSATED", "remaining": ["charge"]},
            "sagas_only_the_unfinished_leave_effects",
        ),
        ("sagas", SAGA | {"failure": "{}", "cause": b"{}"}, "sagas_failure_has_one_form"),
        ("log", ENTRY | {"facts": b"{}"}, "log_has_one_form"),
        ("log", ENTRY | {"body": None}, "log_has_one_form"),
        ("log", ENTRY | {"sequence": 0, "type": "saga_failed"}, "log_sequence_positive"),
        ("log", ENTRY | {"type": "saga_completed"}, "log_begins_with_start"),
        ("log", ENTRY | {"sequence": 2}, "log_begins_with_start"),
        ("log", ENTRY | LATER | {"operation": "undo"}, "log_operation_known"),
        ("log", ENTRY | LATER | {"operation": None}, "log_step_has_operation"),
        ("log", ENTRY | LATER | {"step": None}, "log_step_has_operation"),
    ],
)
def test_a_row_that_cannot_be_true_is_refused(
    table: str, row: dict[str, Any], constraint: str, connection: psycopg.Connection
) -> None:
    with pytest.raises(errors.CheckViolation) as refused:
        insert(connection, table, row)
    assert refused.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("table", "row", "constraint"),
    [
        ("definitions", DEFINITION, "definitions_pkey"),
        ("sagas", SAGA, "sagas_pkey"),
        ("log", ENTRY, "log_pkey"),
        (
            "start_keys",
            {"namespace": "default", "start_key": "key", "saga_id": saga_id(1), "request_digest": b""},
            "start_keys_pkey",
        ),
        (
            "coordinators",
            {
                "coordinator_id": HERE,
                "lease_until": "now",
                "address": "",
                "version": "",
                "schema_revision": "",
            },
            "coordinators_pkey",
        ),
        ("requests", {"saga_id": saga_id(1), "request_id": saga_id(2), "input": "{}"}, "requests_pkey"),
        ("workers", {"coordinator_id": HERE, "participant": "shop", "methods": []}, "workers_pkey"),
        ("events", EVENT, "events_pkey"),
        ("breakers", BREAKER, "breakers_pkey"),
    ],
)
def test_what_there_can_be_only_one_of_is_refused_twice(
    table: str, row: dict[str, Any], constraint: str, connection: psycopg.Connection
) -> None:
    insert(connection, table, row)
    with pytest.raises(errors.UniqueViolation) as refused:
        insert(connection, table, row)
    assert refused.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    "row",
    [
        SAGA,
        SAGA | {"status": "COMPENSATING", "owner": None, "wake_at": "now"},
        SAGA | ENDED | {"status": "COMPLETED"},
        SAGA | ENDED | {"status": "COMPENSATED"},
        SAGA | AT_REST | {"status": "NEEDS_ATTENTION", "remaining": ["charge"]},
        SAGA | ENDED | {"status": "ABANDONED", "remaining": ["charge"]},
    ],
    ids=["owned", "asleep", "completed", "compensated", "parked", "abandoned"],
)
def test_a_row_that_can_be_true_is_taken(row: dict[str, Any], connection: psycopg.Connection) -> None:
    insert(connection, "sagas", row)


def test_p7_entries_are_never_changed(connection: psycopg.Connection) -> None:
    insert(connection, "log", ENTRY)
    for statement in ("UPDATE saga.log SET body = '{}'", "UPDATE saga.log SET body = '{}' WHERE false"):
        with (
            pytest.raises(errors.RestrictViolation, match=r"entries of saga\.log are never changed"),
            connection.transaction(),
        ):
            connection.execute(statement)


@pytest.mark.parametrize(
    ("constraint", "statuses"),
    [
        ("sagas_status_known", set(SagaStatus)),
        ("sagas_moving_is_driven", set(SagaStatus) - SETTLED),
        ("sagas_settled_is_at_rest", set(SagaStatus) - SETTLED),
        ("sagas_ended_has_time", ENDS),
    ],
)
def test_the_schema_names_the_statuses_that_the_transitions_do(
    constraint: str, statuses: set[SagaStatus], connection: psycopg.Connection
) -> None:
    row = connection.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", [constraint]
    )
    (definition,) = row.fetchone() or ("",)
    assert set(re.findall(r"'([A-Z_]+)'", definition)) == statuses


def test_every_refusal_in_the_schema_is_tested(connection: psycopg.Connection) -> None:
    """A check that is added to the schema needs a row above."""
    marks: Any = getattr(test_a_row_that_cannot_be_true_is_refused, "pytestmark")  # noqa: B009
    found = connection.execute(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'saga'::regnamespace"
    )
    assert {name for (name,) in found} == {case[2] for case in marks[0].args[1]}
