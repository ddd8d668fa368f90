"""Groups failed sagas by what they have in common."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    Interval,
    Row,
    Select,
    case,
    desc,
    func,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from saga_coordinator.saga.machine.entries import SagaFailed, SagaParked
from saga_coordinator.saga.machine.stored_entry import entry_type
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.filtering import BLOCKED_BY, FAILURE, Predicate, saga_conditions
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.sagas import SagaFilter
from saga_coordinator.store.tables import log, sagas

FAILURES_MAX = 10_000
"""The most sagas of each kind that are looked at, the newest: one takes some 30 us."""

MESSAGE_CHARACTERS_MAX = 300
"""Of a cause's message, what counts for its fingerprint."""

_WORD_WITH_DIGIT = r"[[:alnum:]_-]*[0-9][[:alnum:]_-]*"
_NUMBERS = r"#([.,:/]#)+"


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Sagas that failed alike. `step` is a name without the indexes of loops, and may be empty. `version` is the one that the
    example, the newest of them, runs.
    """

    definition: str
    step: str
    operation: OperationKind
    code: str
    fingerprint: str
    needs_attention: bool
    count: int
    first_at: datetime
    last_at: datetime
    example: str
    version: int


@dataclass(frozen=True, slots=True)
class FailureGroups:
    """The largest groups first. `has_more`: there are smaller ones. `is_whole`: no saga was left out."""

    groups: list[FailureGroup]
    has_more: bool
    is_whole: bool


async def group_failures(
    lists: Lists, namespace: Namespace, wanted: SagaFilter, within: timedelta | None, limit: int
) -> FailureGroups:
    """Groups the sagas that need a person, and with `within` those that were turned back in the last so much time.

    Raises as `Lists` does.
    """
    query = _grouped(namespace, wanted, within, limit)

    async def read(connection: AsyncConnection) -> list[Row[Any]]:
        return list(await connection.execute(query))

    def made(rows: list[Row[Any]]) -> FailureGroups:
        groups = [_group(row) for row in rows[:limit]]
        return FailureGroups(groups, len(rows) > limit, all(row.is_whole for row in rows[:1]))

    return await lists.read(read, made)


def _group(row: Row[Any]) -> FailureGroup:
    return FailureGroup(
        row.definition,
        row.step,
        OperationKind(row.operation),
        row.code,
        row.fingerprint,
        row.needs_attention,
        row.number,
        row.first_at,
        row.last_at,
        row.example,
        row.version,
    )


def _grouped(namespace: Namespace, wanted: SagaFilter, within: timedelta | None, limit: int) -> Select[Any]:
    """The groups, the largest first: one more than `limit` where there are more."""
    conditions = saga_conditions(namespace, wanted)
    kinds = [_need_a_person(conditions)]
    if within is not None:
        since = func.now() - literal(within, Interval)
        kinds += [_are_turned_back(conditions, since), _were_turned_back(conditions, since)]
    some = [each.limit(FAILURES_MAX).subquery() for each in kinds]
    failures = union_all(*(select(each) for each in some)).cte("failures")
    return _by_group(failures, limit)


def _need_a_person(conditions: list[Predicate]) -> Select[Any]:
    # A saga that has failed was parked on its way back.
    operation = case(
        (FAILURE.is_not(None), OperationKind.COMPENSATION.value), else_=OperationKind.ACTION.value
    )
    return (
        _failures(BLOCKED_BY, _last_entry_at(entry_type(SagaParked)), operation, needs_attention=True)
        .where(*conditions, sagas.c.status == SagaStatus.NEEDS_ATTENTION)
        .order_by(sagas.c.saga_id.desc())
    )


def _are_turned_back(conditions: list[Predicate], since: ColumnElement[Any]) -> Select[Any]:
    failed_at = _last_entry_at(entry_type(SagaFailed))
    return (
        _failures(FAILURE, failed_at, literal(OperationKind.ACTION.value), needs_attention=False)
        .where(*conditions, sagas.c.status == SagaStatus.COMPENSATING, failed_at >= since)
        .order_by(sagas.c.saga_id.desc())
    )


def _were_turned_back(conditions: list[Predicate], since: ColumnElement[Any]) -> Select[Any]:
    ends = (SagaStatus.COMPENSATED, SagaStatus.ABANDONED)
    return (
        _failures(FAILURE, sagas.c.ended_at, literal(OperationKind.ACTION.value), needs_attention=False)
        .where(*conditions, sagas.c.status.in_(ends), sagas.c.ended_at >= since)
        .order_by(sagas.c.ended_at.desc())
    )


def _last_entry_at(kind: str) -> ColumnElement[Any]:
    """When the last entry of this type was written into a saga's log."""
    return (
        select(log.c.recorded_at)
        .where(log.c.saga_id == sagas.c.saga_id, log.c.type == kind)
        .order_by(log.c.sequence.desc())
        .limit(1)
        .scalar_subquery()
    )


def _failures(
    cause: ColumnElement[Any], at: ColumnElement[Any], operation: ColumnElement[Any], *, needs_attention: bool
) -> Select[Any]:
    return select(
        sagas.c.saga_id,
        sagas.c.definition,
        sagas.c.version,
        sagas.c.status,
        cause.label("cause"),
        at.label("failed_at"),
        operation.label("operation"),
        literal(needs_attention, Boolean).label("needs_attention"),
    )


def _by_group(failures: CTE, limit: int) -> Select[Any]:
    """`is_whole` is false where as many sagas of a status were looked at as may be."""
    said = failures.c.cause
    key = {
        "definition": failures.c.definition,
        # The name of a step is what follows the last dot of an instance's key (`step_name`).
        "step": func.regexp_replace(func.coalesce(said.op("->>")("step"), ""), r"^.*\.", ""),
        "operation": failures.c.operation,
        "code": func.coalesce(said.op("->>")("code"), ""),
        "fingerprint": _fingerprint(func.coalesce(said.op("->>")("message"), "")),
        "needs_attention": failures.c.needs_attention,
    }
    newest = desc(failures.c.failed_at)

    def of_newest(column: ColumnElement[Any]) -> ColumnElement[Any]:
        ordered = func.array_agg(aggregate_order_by(column, newest), type_=ARRAY(column.type))
        return ordered[1]

    number = func.count().label("number")
    most = select(func.count().label("number")).select_from(failures).group_by(failures.c.status).subquery()
    last_at = func.max(failures.c.failed_at).label("last_at")
    names = [column.label(name) for name, column in key.items()]
    return (
        select(
            *names,
            number,
            func.min(failures.c.failed_at).label("first_at"),
            last_at,
            of_newest(failures.c.saga_id).label("example"),
            of_newest(failures.c.version).label("version"),
            select(func.max(most.c.number) < FAILURES_MAX).scalar_subquery().label("is_whole"),
        )
        .group_by(*(text(str(place)) for place in range(1, len(names) + 1)))
        .order_by(number.desc(), last_at.desc(), *(text(str(place)) for place in range(1, len(names) + 1)))
        .limit(limit + 1)
    )


def _fingerprint(message: ColumnElement[Any]) -> ColumnElement[Any]:
    """The message with `#` for each word that has a digit, such as a number or an identity."""
    begun = func.left(message, MESSAGE_CHARACTERS_MAX)
    return func.regexp_replace(func.regexp_replace(begun, _WORD_WITH_DIGIT, "#", "g"), _NUMBERS, "#", "g")
