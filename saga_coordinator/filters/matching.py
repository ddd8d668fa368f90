"""Evaluates filters in memory, with the same results as the database."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, assert_never

from saga_coordinator.filters.conditions import (
    All,
    AnyOf,
    BeginsWith,
    Compared,
    Condition,
    FromNow,
    Not,
    OneOf,
    Order,
    Present,
    Remains,
)
from saga_coordinator.filters.fields import Label, Subject
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause

_ORDERS: Mapping[Order, Callable[[Any, Any], bool]] = {
    Order.LESS: operator.lt,
    Order.LESS_OR_EQUAL: operator.le,
    Order.GREATER: operator.gt,
    Order.GREATER_OR_EQUAL: operator.ge,
}


@immutable
class SagaFacts:
    """What filters compare of one saga. Instants have their offset from UTC."""

    saga_id: str
    status: SagaStatus
    definition: str
    version: int
    start_key: str
    claim_group: str
    labels: Mapping[str, str]
    remaining: tuple[str, ...]
    started_at: datetime
    last_entry_at: datetime
    ended_at: datetime | None = None
    deadline_at: datetime | None = None
    owner: str | None = None
    failure: Cause | None = None
    blocked_by: Cause | None = None


def matches(condition: Condition, facts: SagaFacts, now: datetime) -> bool:
    """Tells whether the condition holds for the saga at the moment `now`."""
    match condition:
        case OneOf(subject, values):
            return _value(subject, facts) in values
        case Compared(subject, order, value):
            found = _value(subject, facts)
            constant = now + value.delay if isinstance(value, FromNow) else value
            return found is not None and _ORDERS[order](found, constant)
        case BeginsWith(subject, prefix):
            found = _value(subject, facts)
            return found is not None and found.startswith(prefix)
        case Present(subject):
            return _value(subject, facts) is not None
        case Remains(step):
            return step in facts.remaining
        case Not(inner):
            return not matches(inner, facts, now)
        case All(conditions):
            return all(matches(each, facts, now) for each in conditions)
        case AnyOf(conditions):
            return any(matches(each, facts, now) for each in conditions)
        case _:
            assert_never(condition)


def _value(subject: Subject, facts: SagaFacts) -> Any:
    """The value of the field, None if the saga does not have it."""
    if isinstance(subject, Label):
        return facts.labels.get(subject.key)
    holder, _, part = subject.name.partition(".")
    found = getattr(facts, holder)
    if part:
        # An empty step of a cause means nothing.
        return None if found is None else getattr(found, part) or None
    return len(found) if holder == "remaining" else found
