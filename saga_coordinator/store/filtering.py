"""Compiles filters to SQL. What a caller wrote becomes parameters and nothing else.

SQL has a third truth value, which a filter has not. A comparison with a null is null, and where no `NOT` stands around it, a null
is as good as false. So `NOT` is moved inwards to the comparisons, and each of these says for itself what it is where the field is
null. Comparisons without `NOT` stay as indexes know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Interval,
    Text,
    and_,
    any_,
    case,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from saga_coordinator.filters.conditions import (
    All,
    AnyOf,
    BeginsWith,
    Compared,
    Condition,
    FromNow,
    Instant,
    Not,
    OneOf,
    Order,
    Present,
    Remains,
)
from saga_coordinator.filters.fields import FIELDS, LAST_ENTRY_AT, REMAINING, Kind, Label, Subject
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.sagas import PARKING, SagaFilter
from saga_coordinator.store.tables import log, sagas, start_keys

Predicate = ColumnElement[bool]

INDEXED_VALUES_MAX = 20
"""The most values of one label that are looked up in the index, each by a condition of its own; more are compared row by row."""

_INSTANT = DateTime(timezone=True)
_SQL_ORDERS: Mapping[Order, str] = {order: order.value for order in Order}


def _part(cause: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """A part of a cause; an empty one means nothing."""
    return func.nullif(cause.op("->>")(name), "", type_=Text())


FAILURE = case(
    (
        sagas.c.key_id.is_(None),
        func.coalesce(sagas.c.failure, cast(func.convert_from(sagas.c.cause, "UTF8"), JSONB)),
    ),
    else_=sagas.c.failure,
)
"""The cause of a saga's failure as JSON."""

BLOCKED_BY = cast(func.convert_from(PARKING, "UTF8"), JSONB).op("->")("cause")
"""Why a saga needs a person, as JSON; null for a saga that needs none."""

LAST_ENTRY = (
    select(log.c.recorded_at)
    .where(log.c.saga_id == sagas.c.saga_id)
    .order_by(log.c.sequence.desc())
    .limit(1)
    .scalar_subquery()
)
"""When the last entry of a saga's log was written."""

_COLUMNS: Mapping[str, ColumnElement[Any]] = {
    **{name: sagas.c[name] for name in FIELDS if name in sagas.c},
    REMAINING.name: func.cardinality(sagas.c.remaining),
    LAST_ENTRY_AT.name: LAST_ENTRY,
    "failure.code": _part(FAILURE, "code"),
    "failure.step": _part(FAILURE, "step"),
    "blocked_by.code": _part(BLOCKED_BY, "code"),
    "blocked_by.step": _part(BLOCKED_BY, "step"),
}


def compiled(condition: Condition, namespace: Namespace, now: ColumnElement[Any] | None = None) -> Predicate:
    """The condition on rows of `sagas` in the namespace. `now` is the moment of the query unless it is given."""
    return _Compiling(namespace, func.now() if now is None else now).sql(condition, is_wanted=True)


def saga_conditions(namespace: Namespace, wanted: SagaFilter) -> list[Predicate]:
    """The conditions on rows of `sagas` that are in the namespace and pass the filter: of a list, and of its count."""
    conditions: list[Predicate] = [sagas.c.namespace == namespace]
    if wanted.statuses:
        conditions.append(sagas.c.status.in_(wanted.statuses))
    if wanted.definition:
        conditions.append(sagas.c.definition == wanted.definition)
    if wanted.labels:
        # The second condition lets the planner use the partial index.
        conditions += [sagas.c.labels.contains(wanted.labels), sagas.c.labels != {}]
    if wanted.condition is not None:
        conditions.append(compiled(wanted.condition, namespace))
    return conditions


class _Compiling:
    def __init__(self, namespace: Namespace, now: ColumnElement[Any]) -> None:
        self._namespace = namespace
        self._now = now

    def sql(self, condition: Condition, *, is_wanted: bool) -> Predicate:
        """True where the condition holds, if that `is_wanted`, and else where it does not hold."""
        match condition:
            case Not(inner):
                return self.sql(inner, is_wanted=not is_wanted)
            case All(conditions) | AnyOf(conditions):
                parts = [self.sql(each, is_wanted=is_wanted) for each in conditions]
                return and_(*parts) if isinstance(condition, All) is is_wanted else or_(*parts)
            case Remains(step):
                remains = literal(step, Text) == any_(sagas.c.remaining)
                return remains if is_wanted else not_(remains)
            case Present(subject):
                return self._present(subject, is_wanted=is_wanted)
            case OneOf() | Compared() | BeginsWith():
                return self._holds(condition) if is_wanted else self._fails(condition)
            case _:
                assert_never(condition)

    def _present(self, subject: Subject, *, is_wanted: bool) -> Predicate:
        if isinstance(subject, Label):
            has = sagas.c.labels.op("?", return_type=Boolean())(literal(subject.key, Text))
            return has if is_wanted else not_(has)
        column = _COLUMNS[subject.name]
        return column.is_not(None) if is_wanted else column.is_(None)

    def _holds(self, condition: OneOf | Compared | BeginsWith) -> Predicate:
        """The comparison, with what lets the planner use an index."""
        compared = self._compared(condition)
        match condition:
            case OneOf(Label(key), values) if len(values) <= INDEXED_VALUES_MAX:
                # The second condition lets the planner use the partial index.
                return and_(
                    or_(*(sagas.c.labels.contains({key: value}) for value in values)), sagas.c.labels != {}
                )
            case OneOf(subject, values) if subject.name == "start_key":
                return and_(sagas.c.saga_id.in_(self._started_by(values)), compared)
            case OneOf(subject) | Compared(subject) | BeginsWith(subject) if subject.name.startswith(
                "blocked_by."
            ):
                return and_(sagas.c.status == SagaStatus.NEEDS_ATTENTION, compared)
            case _:
                return compared

    def _fails(self, condition: OneOf | Compared | BeginsWith) -> Predicate:
        fails = not_(self._compared(condition))
        if not condition.subject.is_optional:
            return fails
        return or_(_value(condition.subject).is_(None), fails)

    def _compared(self, condition: OneOf | Compared | BeginsWith) -> Predicate:
        value = _value(condition.subject)
        match condition:
            case OneOf(subject, (single,)):
                # An index keeps its order below an equation, and not below a list.
                return value == literal(single, _type(subject))
            case OneOf(subject, values):
                constants = literal(list(values), ARRAY(_type(subject)))
                return value == any_(constants)
            case BeginsWith(_, prefix):
                return func.starts_with(value, literal(prefix, Text), type_=Boolean())
            case Compared(_, order, int(constant)):
                return value.op(_SQL_ORDERS[order], is_comparison=True, return_type=Boolean())(
                    literal(constant, BigInteger)
                )
            case Compared(_, order, constant):
                instant = self._instant(constant)  # type: ignore[arg-type]
                return value.op(_SQL_ORDERS[order], is_comparison=True, return_type=Boolean())(instant)
            case _:
                assert_never(condition)

    def _instant(self, constant: Instant) -> ColumnElement[Any]:
        if isinstance(constant, FromNow):
            return self._now + literal(constant.delay, Interval) if constant.delay else self._now
        return literal(constant, _INSTANT)

    def _started_by(self, keys: tuple[str | int, ...]) -> Any:
        return select(start_keys.c.saga_id).where(
            start_keys.c.namespace == self._namespace,
            start_keys.c.start_key == any_(literal(list(keys), ARRAY(Text))),
        )


def _value(subject: Subject) -> ColumnElement[Any]:
    if isinstance(subject, Label):
        return sagas.c.labels.op("->>", return_type=Text())(literal(subject.key, Text))
    return _COLUMNS[subject.name]


def _type(subject: Subject) -> Any:
    match subject.kind:
        case Kind.NUMBER:
            return BigInteger()
        case Kind.IDENTITY:
            return UUID(as_uuid=False)
        case _:
            return Text()
