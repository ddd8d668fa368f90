"""The records of acts. They are only ever added: the table refuses any change, whoever asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from saga_coordinator.saga.words.act import Act, ActRecord, ActResult, Subject, SubjectKind, Verb
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.database import Database

RECORD_ACTS = f"""
INSERT INTO saga.operator_acts (namespace, act_id, verb, subject_kind, subject, detail, principal, declared_by, reason,
    result, why, state_before, state_after)
SELECT namespace, act_id, verb, subject_kind, subject, detail, principal, declared_by, reason,
    result, why, state_before, state_after
FROM jsonb_to_recordset(CAST({{records}} AS jsonb)) AS r (
    namespace text, act_id uuid, verb text, subject_kind text, subject text, detail text, principal text,
    declared_by text, reason text, result text, why text, state_before text, state_after text)
WHERE NOT EXISTS (
    SELECT FROM saga.operator_acts AS done
    WHERE done.namespace = r.namespace AND done.act_id = r.act_id AND done.result = '{ActResult.DONE}'
)
ON CONFLICT DO NOTHING
"""  # noqa: S608  # nothing in it comes from outside
"""Adds the records of the JSON array `{records}`.

An act may be decided twice, because the first answer was lost. A second decision adds a record if it says something else, so
that an act which was refused first and done later is not told as refused. Nothing is added to an act that was done.
"""

_RECORD = text(RECORD_ACTS.format(records=":records"))
_ASKED = text(
    "SELECT verb, subject_kind, subject, detail FROM saga.operator_acts "
    "WHERE namespace = :namespace AND act_id = CAST(:act_id AS uuid) LIMIT 1"
)


def act_rows(records: Iterable[ActRecord]) -> list[dict[str, Any]]:
    """The records as `RECORD_ACTS` takes them."""
    return [
        {
            "namespace": record.act.namespace,
            "act_id": record.act.act_id,
            "verb": record.act.verb.value,
            "subject_kind": record.act.subject.kind.value,
            "subject": record.act.subject.name,
            "detail": record.act.subject.detail,
            "principal": record.act.principal,
            "declared_by": record.act.declared_by,
            "reason": record.act.reason,
            "result": record.result.value,
            "why": record.why,
            "state_before": record.before,
            "state_after": record.after,
        }
        for record in records
    ]


@dataclass(frozen=True, slots=True)
class ListedAct:
    """An act as it was recorded."""

    record: ActRecord
    recorded_at: datetime


def listed_act(row: Row[Any]) -> ListedAct:
    subject = Subject(SubjectKind(row.subject_kind), row.subject, row.detail)
    act = Act(
        row.act_id,
        Verb(row.verb),
        subject,
        row.namespace,
        row.principal,
        row.declared_by,
        row.reason,
    )
    record = ActRecord(act, ActResult(row.result), row.why, row.state_before, row.state_after)
    return ListedAct(record, row.recorded_at)


async def record_act(connection: AsyncConnection, record: ActRecord) -> None:
    """Adds the record within the transaction of what the act does."""
    await connection.execute(_RECORD, {"records": orjson.dumps(act_rows([record])).decode()})


class ActRows:
    """Adds records of acts that changed nothing, such as refused ones, and finds what was asked under an identity. Raises
    Unavailable when the database is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, record: ActRecord) -> None:
        async with self._database.connection() as connection:
            await record_act(connection, record)

    async def asked_as(self, namespace: Namespace, act_id: str) -> tuple[Verb, Subject] | None:
        """What was asked under that identity; None if nothing was recorded."""
        async with self._database.connection() as connection:
            row = (await connection.execute(_ASKED, {"namespace": namespace, "act_id": act_id})).first()
        return row and (Verb(row.verb), Subject(SubjectKind(row.subject_kind), row.subject, row.detail))
